"""The result in a few plain sentences, for readers who read nothing else of the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alloop.budget.prices import BOXES
from alloop.report.numbers import amount, counted, mean_rows, priced_columns
from alloop.report.text import detection, p_value, range_words, saving_words
from alloop.results.compare import Comparison, Versus
from alloop.results.forecasts import forecast_of
from alloop.results.names import columns, metric_title
from alloop.results.statistics import LEVEL

FINDS = "With a probability of 80 %, such a study finds a true difference of"
_ORDER = ("better", "worse", "inconclusive")
_FOLDED = 4  # inconclusive strategies from which one sentence names them all


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """What is to be said about one strategy, or about all those that are inconclusive.

    Attributes:
        strategy: its name, or how many they are.
        verdict: `better`, `worse` or `inconclusive`; empty where the strategy is not compared.
        text: the sentences that follow its name.
    """

    strategy: str
    verdict: str
    text: str


def headline(comparison: Comparison) -> str:
    """Return in a sentence how many strategies are better than random, or why none can be compared."""
    if not comparison.versus:
        return f"No strategy is compared here: {_why_uncompared(comparison)}."
    verdicts = [versus.verdict for versus in comparison.versus]
    if len(verdicts) == 1:
        name = comparison.versus[0].strategy
        is_open = f"It remains open whether {name} is better or worse than random."
        return is_open if verdicts == ["inconclusive"] else f"{name} is {verdicts[0]} than random."
    counts = [f"{count} {'is' if count == 1 else 'are'} {end}" for count, end in _counts(verdicts) if count]
    return f"Of {len(verdicts)} strategies, {_listed(counts)}."


def _counts(verdicts: Sequence[str]) -> Iterator[tuple[int, str]]:
    for verdict in ("better", "worse"):
        yield verdicts.count(verdict), f"{verdict} than random"
    yield verdicts.count("inconclusive"), "inconclusive"


def measure(comparison: Comparison) -> str:
    """Return how the differences of the results are measured; empty where nothing is compared."""
    if not comparison.versus:
        return ""
    name, unit = metric_title(comparison.metric), counted(comparison.cost)
    seeds = sorted({versus.seeds for versus in comparison.versus})
    text = (
        f"Differences are in {name} at equal {unit}, means over {range_words(comparison)} and over "
        f"{_listed([f'{number}' for number in seeds])} seed{'' if seeds == [1] else 's, with 95 % intervals'}."
    )
    comparisons = comparison_count(comparison)
    return f"{text} p is corrected by Holm for {comparisons} comparisons." if comparisons > 1 else text


def comparison_count(comparison: Comparison) -> int:
    """Return the number of comparisons that p-values are corrected for."""
    return sum(versus.p_holm is not None for versus in comparison.versus)


def _why_uncompared(comparison: Comparison) -> str:
    names = {run.strategy for run in comparison.runs if not run.full_label}
    if names <= {"random"}:
        return "there is no run of a strategy besides random"
    if "random" not in names:
        return "there is no run of random to compare with"
    return f"under no seed do the curves cover the same {counted(comparison.cost)}"


def results(comparison: Comparison) -> list[StrategyResult]:
    """Return what is known of each strategy against random, the best first; many inconclusive ones in one sentence."""
    ordered = sorted(comparison.versus, key=lambda versus: (_ORDER.index(versus.verdict), -versus.difference))
    unclear = [versus for versus in ordered if versus.verdict == "inconclusive" and versus.interval is not None]
    folded = unclear if len(unclear) >= _FOLDED else []
    one_by_one = [
        StrategyResult(versus.strategy, versus.verdict, _sentences(versus, comparison))
        for versus in ordered
        if versus not in folded
    ]
    return [
        *one_by_one,
        *([StrategyResult(f"{len(folded)} strategies", "inconclusive", _folded(folded))] * bool(folded)),
    ]


def _folded(unclear: Sequence[Versus]) -> str:
    """Return the differences of inconclusive strategies, and what such a study finds."""
    differences = ", ".join(f"{versus.strategy} {versus.difference:+.3f}" for versus in unclear)
    found = [versus.detectable for versus in unclear if versus.detectable]
    could_find = f" {FINDS} {min(found):.3f} to {max(found):.3f}, by strategy." if found else ""
    return f"inconclusive. {differences}.{could_find} Their intervals are in the table Against random."


def _sentences(versus: Versus, comparison: Comparison) -> str:
    """Return the verdict, and what it is worth or why there is none."""
    if versus.verdict == "inconclusive":
        reason = _why_inconclusive(versus, comparison.replicate_noise, comparison_count(comparison))
        return f"inconclusive, {_difference(versus)}. {reason}.{_could_find(versus)}"
    text = f"{versus.verdict} than random, {_difference(versus)}."
    if versus.saving is None:
        return text
    needs = saving_words(versus, comparison.cost)
    return f"{text} {needs[0].upper()}{needs[1:]}."


def _difference(versus: Versus) -> str:
    """Return the difference with what is known about how sure it is."""
    text = f"{versus.difference:+.3f} {metric_title(versus.metric)}"
    if versus.interval is None:
        return text
    p = "" if versus.p_holm is None else f"; p {p_value(versus.p_holm)}"
    return f"{text} ({versus.interval[0]:+.3f} to {versus.interval[1]:+.3f}{p}; {versus.seeds} seeds)"


def _why_inconclusive(versus: Versus, noise: float | None, comparisons: int) -> str:
    """Return why a difference has no verdict, by the same conditions as the verdict."""
    if versus.interval is None:
        return "One seed says nothing about chance" if versus.seeds == 1 else "The seeds do not differ"
    low, high = versus.interval
    if low <= 0 <= high:
        return "The interval contains 0"
    if versus.p_holm is None or versus.p_holm >= 1 - LEVEL:
        corrected = "the corrected p" if comparisons > 1 else "p"
        return f"The interval by itself excludes 0, but {corrected} is not below {1 - LEVEL:.2f}"
    return f"The difference is within the replicate noise of {noise or 0.0:.4f}"


def _could_find(versus: Versus) -> str:
    """Return the sentence about the smallest difference that such a study finds; empty where it is unknown."""
    none = " With {seeds} seeds this test gives no verdict, however large the difference."
    return detection(
        versus, none, f" {FINDS} {{found:.3f}} ({{low:.3f}} to {{high:.3f}}, as far as {{seeds}} seeds tell)."
    )


def ends(comparison: Comparison) -> Iterator[StrategyResult]:
    """Yield where each strategy without a comparison stands after its last round: metrics, images and cost."""
    compared = {versus.strategy for versus in comparison.versus}
    metrics = columns(comparison.metric)
    last = {row["strategy"]: row for row in mean_rows(comparison.runs, metrics)}
    for strategy, row in last.items():
        if strategy in compared:
            continue
        measured = [f"{metric_title(key)} {row[key]:.3f}" for key in metrics if row[key] is not None]
        paid = f"{row['images']:.0f} images with {row['boxes']:.0f} {comparison.runs[0].unit}"
        if priced_columns(comparison):
            paid += f", {counted(comparison.cost)} {amount(row['paid'])}"
        seeds = "" if row["seeds"] == 1 else f", mean over {row['seeds']} seeds"
        yield StrategyResult(
            strategy, "", f"{_listed(measured) or 'no AP'} after round {row['round']}, trained on {paid}{seeds}."
        )


def outlook(comparison: Comparison) -> str:
    """Return in a sentence how the curve of a single run is expected to go on; empty where that cannot be said."""
    if len(comparison.runs) != 1 or comparison.cost != BOXES:
        return ""
    expected = forecast_of(comparison.runs[0], comparison.metric)
    if expected is None or expected.curve is None:
        return ""
    return f"Forecast: {metric_title(comparison.metric)} {expected.after(None)}, twice the boxes paid."


def _listed(parts: list[str]) -> str:
    """Return words as a list with `and` before the last one."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
