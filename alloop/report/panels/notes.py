"""What a reader has to know before the numbers are compared."""

from collections.abc import Iterator
from typing import Any

from alloop.report.panel import PageData, Panel
from alloop.report.text import limit_lines, one_purchase_lines
from alloop.results.compare import Comparison


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    found = notes(data.comparison)
    if found:
        yield {"notes": found}


def notes(comparison: Comparison) -> list[str]:
    """Return what a reader has to know before the numbers are compared, one sentence each."""
    warnings = []
    runs = comparison.runs
    noise = comparison.replicate_noise
    unfinished = [run.name for run in runs if len(run.rounds) != run.facts.rounds_planned]
    if unfinished:
        reasons = "still running, or the pool or the budget ran out"
        warnings.append(f"Fewer rounds than planned ({reasons}): {', '.join(unfinished)}.")
    if any(run.label_using for run in runs):
        chosen = "chose images by their true annotations, which a real project does not have"
        warnings.append(f"Runs marked “uses labels” {chosen}.")
    if any(run.facts.reference_is_test for run in runs):
        both = "One split served as reference and as test split"
        warnings.append(f"{both}; a strategy that looks at it has seen the test labels.")
    warnings += dict.fromkeys(f"{warning}." for run in runs for warning in run.facts.warnings)
    warnings += [*one_purchase_lines(comparison), *limit_lines(comparison)]
    close = [versus.strategy for versus in comparison.versus if noise and abs(versus.difference) <= noise]
    if close:
        warnings.append(f"No farther from random than a run is from its own replicate: {', '.join(close)}.")
    return warnings


PANEL = Panel("Notes", _sections, """{% for note in notes %}<p class="note">{{ note }}</p>{% endfor %}""")
