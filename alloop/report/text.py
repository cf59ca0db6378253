"""A comparison as tables and sentences for a terminal."""

from collections.abc import Sequence

import numpy as np

from alloop.budget.prices import BOXES, IMAGES, CostModel
from alloop.report.numbers import amount, counted, mean_rows, priced_columns
from alloop.results.class_balance import ClassBalance
from alloop.results.compare import Comparison, Versus, compared, flips, mean_curve
from alloop.results.curves import ap_at, boxes_to_reach
from alloop.results.gaps import with_unequal_single_purchases
from alloop.results.names import columns, metric_title
from alloop.results.older_versions import decoded_whole, scored_by_root
from alloop.results.study_limits import study_limits
from alloop.tables import Table, figure, plain


def to_table(comparison: Comparison, target_ap: float | None = None, at_paid: float | None = None) -> str:
    """Return `comparison_blocks` as plain text."""
    return plain(*comparison_blocks(comparison, target_ap, at_paid))


def comparison_blocks(
    comparison: Comparison, target_ap: float | None = None, at_paid: float | None = None
) -> list[str | Table]:
    """Return a table with one row for each round and strategy (means over seeds), and then the verdicts.

    Args:
        comparison: what to show.
        target_ap: also show the boxes (or other cost) that each strategy needs for this AP.
        at_paid: also show the AP of each strategy after this many boxes (or at another cost).
    """
    blocks: list[str | Table] = [_rounds_table(comparison), "", *_verdict_lines(comparison), *_flip_lines(comparison)]
    if comparison.replicate_noise is not None:
        blocks.append(noise_sentence(comparison))
    if comparison.areas:
        blocks += ["", _areas_sentence(comparison)]
    if target_ap is not None:
        blocks += ["", *_reach_lines(comparison, target_ap)]
    if at_paid is not None:
        blocks += ["", *_at_lines(comparison, at_paid)]
    older = decoded_whole(comparison.runs)
    if older:
        blocks.append(
            f"{len(older)} of the runs are of an older version, {older[0].name} is one: they decoded JPEG files of "
            "more than 2 megapixels whole, and the others see other pixels of such files (training.decoding)."
        )
    by_root = scored_by_root(comparison.runs)
    if by_root:
        blocks.append(
            f"{len(by_root)} of the runs are of an older version, {by_root[0].name} is one: their score of FCOS was "
            "the root of class probability times centerness, and their strategies compared that with thresholds."
        )
    blocks += [*one_purchase_lines(comparison), *limit_lines(comparison)]
    if any(run.facts.reference_is_test for run in comparison.runs):
        blocks.append("The reference split is the test split: a strategy that looks at it has seen the test labels.")
    return blocks


def _rounds_table(comparison: Comparison) -> Table:
    priced, metrics = priced_columns(comparison), columns(comparison.metric)
    rows = [
        [
            f"{row['strategy']}{' (uses labels)' if row['label_using'] else ''}",
            *(f"{row[key]:.0f}" for key in ("round", "seeds", "images", "boxes")),
            *(figure(row[key]) for key in metrics),
            *(f"{row['paid']:.6g}" for _ in priced),
        ]
        for row in mean_rows(comparison.runs, metrics)
    ]
    return Table(
        ["strategy", "round", "seeds", "images", comparison.runs[0].unit, *map(metric_title, metrics), *priced], rows
    )


def _verdict_lines(comparison: Comparison) -> list[str]:
    sentences = [sentence(versus, comparison.cost) for versus in comparison.versus]
    return sentences or ["No strategy to compare with random yet."]


def _flip_lines(comparison: Comparison) -> list[str]:
    """Return one line for each verdict that changes when cost is counted in images instead (or in boxes)."""
    instead = IMAGES if comparison.cost == BOXES else BOXES
    other = compared((*comparison.runs, *comparison.replicates), comparison.metric, comparison.test, instead)
    return [
        f"Counted in {counted(instead)}, {b.strategy} would be {b.difference:+.3f}: {b.verdict} "
        f"(in {counted(comparison.cost)} {a.difference:+.3f}: {a.verdict})"
        for a, b in flips(comparison, other)
    ]


def one_purchase_lines(comparison: Comparison) -> list[str]:
    """Say what differences rest on where runs bought once, and not equally much; nothing where they did not."""
    if not with_unequal_single_purchases(comparison.runs, comparison.metric):
        return []
    line = "a curve between its two points is taken for a straight line in the logarithm of the cost"
    advice = "Differences are as true as that is; more rounds, or a query_size in boxes, avoid it."
    return [f"Runs bought once, and not equally much: {line}. {advice}"]


def limit_lines(comparison: Comparison) -> list[str]:
    """Say what keeps a study from an answer."""
    return study_limits(comparison.runs, comparison.metric)


def noise_sentence(comparison: Comparison) -> str:
    """Return the difference between a run and its replicate in words."""
    name = metric_title(comparison.metric)
    noise = f"{comparison.replicate_noise:.4f} {name} ({len(comparison.replicates)} replicates)"
    return f"Replicate noise: a run and its replicate differ by up to {noise}"


def _areas_sentence(comparison: Comparison) -> str:
    areas = sorted(comparison.areas.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {area:.3f}" for name, area in areas)
    return f"Mean {metric_title(comparison.metric)} over {range_words(comparison)}: {listed}"


def range_words(comparison: Comparison) -> str:
    """Return the costs between which the curves are compared in words, as means over the seeds."""
    low, high = np.mean(list(comparison.ranges.values()), axis=0)
    seeds = "" if len(comparison.ranges) == 1 else f", means over {len(comparison.ranges)} seeds"
    return f"the {counted(comparison.cost)} that all strategies cover ({amount(low)} to {amount(high)}{seeds})"


def class_blocks(balance: ClassBalance | None) -> list[str | Table]:
    """Return the boxes bought of each class and the AP at equal cost, one pair of columns for each strategy."""
    if balance is None:
        return ["These runs did not record their classes."]
    paid = "where the curves share no range" if balance.paid is None else f"at {amount(balance.paid)} paid"
    pool = ["?" if balance.pool is None else f"{boxes:.0f}" for boxes in balance.known]
    rows = [
        [
            f"{name} *" if name in balance.rare else name,
            pool[k],
            *(cell for entry in balance.strategies for cell in (f"{entry.bought[-1][k]:.0f}", figure(entry.ap[name]))),
        ]
        for k, name in enumerate(balance.names)
    ]
    heads = [cell for entry in balance.strategies for cell in (entry.strategy, "AP")]
    return [
        f"Boxes bought and AP by class, AP {paid}; * marks the rarest third of the classes",
        Table(["class", "pool", *heads], [*rows, *_summary_rows(balance)]),
    ]


def _summary_rows(balance: ClassBalance) -> list[list[str]]:
    """Return rows for groups of classes, whose values stand in the second column of each strategy."""
    summaries = {
        f"AP, {group}": [figure(entry.ap_of(names)) for entry in balance.strategies]
        for group, names in balance.groups.items()
    }
    summaries["entropy"] = [figure(entry.entropy()[-1]) for entry in balance.strategies]
    summaries["KL from the pool"] = [figure(entry.divergence(balance.pool)[-1]) for entry in balance.strategies]
    return [[title, "", *(cell for value in values for cell in ("", value))] for title, values in summaries.items()]


def sentence(versus: Versus, cost: CostModel = BOXES) -> str:
    """Return one verdict in words."""
    text = (
        f"{versus.strategy} against random at equal {counted(cost)}: {versus.difference:+.3f} "
        f"{metric_title(versus.metric)} ({_spread(versus)}), at the end {versus.end_difference:+.3f}"
        f"{_bounds(versus.end_interval, '+.3f')}: {versus.verdict}"
    )
    if versus.saving is not None:
        return f"{text}; {saving_words(versus, cost)}"
    return f"{text}{_detection(versus)}"


def _spread(versus: Versus) -> str:
    if versus.interval is not None:
        return f"95 % interval {versus.interval[0]:+.3f} to {versus.interval[1]:+.3f}, {versus.seeds} seeds"
    if versus.seeds == 1:
        return "1 seed; an interval needs several seeds"
    return f"{versus.seeds} seeds that do not differ; an interval needs some spread"


def _detection(versus: Versus) -> str:
    """Return what difference would have got a verdict, with the range that so few seeds leave open."""
    none = " ({seeds} seeds are too few for a verdict of this test, however large the difference)"
    known = "{low:.3f} to {high:.3f}, as the spread is known from {seeds} seeds"
    return detection(versus, none, f" (a verdict needs a difference of about {{found:.3f}}; {known})")


def detection(versus: Versus, none: str, some: str) -> str:
    """Return in words what difference the study could have found; empty where that is unknown.

    Args:
        versus: a strategy against random.
        none: the words where no difference gets a verdict, with a place for `seeds`.
        some: the words with places for `found`, `low`, `high` and `seeds`.
    """
    if versus.interval is None:
        return ""
    if versus.detectable is None or versus.detectable_interval is None:
        return none.format(seeds=versus.seeds)
    if not versus.detectable:
        return ""
    low, high = versus.detectable_interval
    return some.format(found=versus.detectable, low=low, high=high, seeds=versus.seeds)


def p_value(value: float) -> str:
    """Return a p-value with its sign of comparison, `= 0.012` or `< 0.001`."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def saving_words(versus: Versus, cost: CostModel) -> str:
    """Return a saving in words: how much less, or more, the strategy needs for the AP that both reach."""
    share = versus.saving or 0.0
    low, high = versus.saving_interval or (share, share)
    if share < 0:
        share, low, high = -share, -high, -low
    kind = ("fewer", "more") if cost in (BOXES, IMAGES) else ("less", "more")
    unit = cost.name if cost in (BOXES, IMAGES) else "cost"
    amount = f"{share:.0%} {kind[(versus.saving or 0.0) < 0]} {unit}"
    return f"it needs {amount} ({low:.0%} to {high:.0%}) for the same {metric_title(versus.metric)}"


def _bounds(interval: tuple[float, float] | None, form: str) -> str:
    return "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"


def _reach_lines(comparison: Comparison, target: float) -> list[str]:
    lines = []
    for name in _strategies(comparison):
        needed = boxes_to_reach(*mean_curve(comparison.runs, name, comparison.metric), target)
        text = f"at {needed:.6g} {counted(comparison.cost)}" if needed else "not reached"
        lines.append(f"{name}: {comparison.metric} {target:g} {text}")
    return lines


def _at_lines(comparison: Comparison, paid: float) -> list[str]:
    lines = []
    for name in _strategies(comparison):
        ap = ap_at(*mean_curve(comparison.runs, name, comparison.metric), paid)
        text = "outside its curve" if ap is None else f"{ap:.3f}"
        lines.append(f"{name}: {comparison.metric} {text} at {paid:g} {counted(comparison.cost)}")
    return lines


def _strategies(comparison: Comparison) -> Sequence[str]:
    return list(dict.fromkeys(run.strategy for run in comparison.runs if run.rounds and not run.full_label))
