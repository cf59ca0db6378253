"""The result in a few plain sentences, for readers who read nothing else of the page."""

from collections.abc import Iterator
from dataclasses import dataclass

from alloop.report.numbers import counted, mean_rows, priced_columns
from alloop.report.text import p_value, range_words, saving_words
from alloop.results.compare import Comparison, Versus
from alloop.results.names import columns, metric_title
from alloop.results.statistics import LEVEL

_ORDER = ("better", "worse", "inconclusive")


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """What is to be said about one strategy.

    Attributes:
        strategy: its name.
        verdict: `better`, `worse` or `inconclusive`; empty where the strategy is not compared.
        text: the sentences that follow its name.
    """

    strategy: str
    verdict: str
    text: str


def headline(comparison: Comparison) -> str:
    """Return in one or two sentences how many strategies are better than random, or why none can be compared."""
    if not comparison.versus:
        return f"No strategy is compared here: {_why_uncompared(comparison)}."
    verdicts = [versus.verdict for versus in comparison.versus]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in _ORDER if verdict in verdicts]
    strategies = "1 strategy" if len(verdicts) == 1 else f"{len(verdicts)} strategies"
    question = f"Compared with random in {metric_title(comparison.metric)} at equal {counted(comparison.cost)}"
    return f"{question}: of {strategies}, {_listed(counts)}. Curves are compared over {range_words(comparison)}."


def _why_uncompared(comparison: Comparison) -> str:
    names = {run.strategy for run in comparison.runs if not run.full_label}
    if names <= {"random"}:
        return "there is no run of a strategy besides random"
    if "random" not in names:
        return "there is no run of random to compare with"
    return f"under no seed do the curves cover the same {counted(comparison.cost)}"


def results(comparison: Comparison) -> list[StrategyResult]:
    """Return what is known of each strategy against random, the best first."""
    comparisons = sum(versus.p_holm is not None for versus in comparison.versus)
    ordered = sorted(comparison.versus, key=lambda versus: (_ORDER.index(versus.verdict), -versus.difference))
    return [
        StrategyResult(versus.strategy, versus.verdict, _sentences(versus, comparison, comparisons))
        for versus in ordered
    ]


def _sentences(versus: Versus, comparison: Comparison, comparisons: int) -> str:
    if versus.verdict == "inconclusive":
        reason = _why_inconclusive(versus, comparison.replicate_noise, comparisons)
        return f"inconclusive. {_measured(versus, comparisons)}. {reason}.{_could_find(versus)}"
    text = f"{versus.verdict} than random. {_measured(versus, comparisons)}."
    if versus.saving is None:
        return text
    needs = saving_words(versus, comparison.cost)
    return f"{text} {needs[0].upper()}{needs[1:]}."


def _measured(versus: Versus, comparisons: int) -> str:
    """Return the difference with everything that is known about how sure it is."""
    name = metric_title(versus.metric)
    known = [f"{versus.seeds} seed{'' if versus.seeds == 1 else 's'}"]
    if versus.interval is not None:
        known.append(f"95 % interval of the difference {versus.interval[0]:+.3f} to {versus.interval[1]:+.3f}")
    if versus.p_holm is not None:
        corrected = f", corrected by Holm for {comparisons} comparisons" if comparisons > 1 else ""
        known.append(f"p {p_value(versus.p_holm)}{corrected}")
    direction = "higher" if versus.difference >= 0 else "lower"
    return f"Its {name} is on average {abs(versus.difference):.3f} {direction} than random's ({'; '.join(known)})"


def _why_inconclusive(versus: Versus, noise: float | None, comparisons: int) -> str:
    """Return why a difference has no verdict, by the same conditions as the verdict."""
    if versus.interval is None:
        return "One seed says nothing about chance" if versus.seeds == 1 else "The seeds do not differ"
    low, high = versus.interval
    if low <= 0 <= high:
        return "The interval contains 0"
    if versus.p_holm is None or versus.p_holm >= 1 - LEVEL:
        among = f" after the correction for {comparisons} comparisons" if comparisons > 1 else ""
        return f"The interval by itself excludes 0, but p is not below {1 - LEVEL:.2f}{among}"
    return f"The difference is within the replicate noise of {noise or 0.0:.4f}"


def _could_find(versus: Versus) -> str:
    """Return the sentence about the smallest difference that such a study finds; empty where it is unknown."""
    if versus.interval is None:
        return ""
    if versus.detectable is None or versus.detectable_interval is None:
        return f" With {versus.seeds} seeds this test gives no verdict, however large the difference."
    if not versus.detectable:
        return ""
    low, high = versus.detectable_interval
    uncertain = f"{low:.3f} to {high:.3f}, since {versus.seeds} seeds leave the spread uncertain"
    return f" Such a study finds a true difference of {versus.detectable:.3f} with a probability of 80 % ({uncertain})."


def ends(comparison: Comparison) -> Iterator[StrategyResult]:
    """Yield where each strategy without a comparison stands after its last round: metrics, images and cost."""
    compared = {versus.strategy for versus in comparison.versus}
    metrics = columns(comparison.metric)
    last = {row["strategy"]: row for row in mean_rows(comparison.runs, metrics)}
    for strategy, row in last.items():
        if strategy in compared:
            continue
        measured = [f"{metric_title(key)} {row[key]:.3f}" for key in metrics if row[key] is not None]
        paid = f"{row['images']:.6g} images with {row['boxes']:.6g} boxes"
        if priced_columns(comparison):
            paid += f", {counted(comparison.cost)} {row['paid']:.6g}"
        seeds = "" if row["seeds"] == 1 else f", mean over {row['seeds']} seeds"
        yield StrategyResult(
            strategy, "", f"{_listed(measured) or 'no AP'} after round {row['round']}, trained on {paid}{seeds}."
        )


def _listed(parts: list[str]) -> str:
    """Return words as a list with `and` before the last one."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
