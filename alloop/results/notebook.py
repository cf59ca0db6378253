"""A comparison in a notebook: its rounds as a data frame, and its verdicts as HTML."""

import importlib
from typing import TYPE_CHECKING, Any

from alloop.errors import ConfigError
from alloop.results.names import columns, metric_title
from alloop.tables import Table, figure, html

if TYPE_CHECKING:
    from alloop.results.compare import Comparison, Versus
    from alloop.results.runs import Run


def rounds_frame(comparison: "Comparison") -> Any:
    """Return the rounds of all runs as a pandas DataFrame.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        msg = (
            f"to_frame: needs the package pandas, which cannot be imported ({error}); install it, for example with "
            "`pip install pandas`, or use alloop.report.numbers.to_csv"
        )
        raise ConfigError(msg) from error
    return pandas.DataFrame(rounds_columns(comparison))


def rounds_columns(comparison: "Comparison") -> dict[str, list[Any]]:
    """Return one value for each round of every run, by the name of the column; metrics are None where unknown."""
    rounds = [(run, record, paid) for run in comparison.runs for record, paid in zip(run.rounds, run.paid, strict=True)]
    metrics = dict.fromkeys([*columns(comparison.metric), *(name for _, r, _ in rounds for name in r.metrics)])
    return {
        "run": [run.name for run, _, _ in rounds],
        "strategy": [run.strategy for run, _, _ in rounds],
        "random_seed": [run.random_seed for run, _, _ in rounds],
        "label_using": [run.label_using for run, _, _ in rounds],
        "round": [record.round for _, record, _ in rounds],
        "images": [record.images for _, record, _ in rounds],
        "boxes": [record.boxes for _, record, _ in rounds],
        "paid": [float(paid) for _, _, paid in rounds],
        **{name: [record.metrics.get(name) for _, record, _ in rounds] for name in metrics},
    }


def comparison_html(comparison: "Comparison") -> str:
    """Return the verdicts and the last round of each run as HTML tables, without styles or scripts."""
    name = metric_title(comparison.metric)
    verdicts = Table(
        ["strategy against random", "seeds", f"difference in {name}", "95 % interval", "p (Holm)", "verdict", "saving"],
        [_verdict_row(versus) for versus in comparison.versus],
    )
    runs = Table(
        ["run", "strategy", "random seed", "rounds", "images", "boxes", name],
        [_run_row(run, comparison) for run in comparison.runs],
        left=2,
    )
    text = f"{len(comparison.runs)} runs, compared by {name} at equal {comparison.cost.name}"
    return html(text, *([verdicts] if verdicts.rows else ["No strategy to compare with random yet."]), runs)


def _verdict_row(versus: "Versus") -> list[str]:
    bounds = "-" if versus.interval is None else f"{versus.interval[0]:+.3f} to {versus.interval[1]:+.3f}"
    return [
        versus.strategy,
        f"{versus.seeds}",
        f"{versus.difference:+.3f}",
        bounds,
        figure(versus.p_holm),
        versus.verdict,
        figure(versus.saving, ".0%"),
    ]


def _run_row(run: "Run", comparison: "Comparison") -> list[str]:
    counts = ["-", "-", "-"]
    if run.rounds:
        last = run.rounds[-1]
        counts = [f"{last.images}", f"{last.boxes}", figure(last.metrics[comparison.metric])]
    return [run.name, run.strategy, f"{run.random_seed}", f"{len(run.rounds)}", *counts]
