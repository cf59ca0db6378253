"""The page: a comparison rendered through one template. All but the pictures comes from the ledgers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alloop.budget.prices import BOXES, IMAGES
from alloop.files import atomic_write
from alloop.ledger.requests import AnnotationRequests, RoundAnswers
from alloop.ledger.store import read_ledger
from alloop.report.curve import curve_png, draw, draw_boxes_per_image, svg
from alloop.report.gallery import galleries
from alloop.report.text import classes_json, counted, dumps, mean_rows, noise_sentence, sentence, to_csv, to_json
from alloop.report.training_log import course_of, has_course
from alloop.results.class_balance import ClassBalance, StrategyClasses, class_balance
from alloop.results.compare import Comparison, Versus, compared
from alloop.results.names import Metric
from alloop.results.runs import Run
from alloop.results.status import advice_for

MOST_CLASSES = 12  # columns of the class table; the others are added up
_CARD = (
    "alloop",
    "torch",
    "torchvision",
    "numpy",
    "python",
    "machine",
    "hardware",
    "device",
    "threads",
    "data",
    "config_sha256",
    "command",
)


def write_report(comparison: Comparison, path: Path, title: str) -> list[Path]:
    """Write the page, the same numbers beside it as CSV and JSON, and the curve as PNG; returns the files."""
    balance, other = class_balance(comparison), _counted_otherwise(comparison)
    numbers = to_json(comparison) | {
        "classes": classes_json(balance) if balance else None,
        "counted_otherwise": to_json(other)["comparisons"],
    }
    files = {
        path: render(comparison, other, balance, title),
        path.with_suffix(".csv"): to_csv(comparison),
        path.with_suffix(".json"): dumps(numbers),
    }
    for file, text in files.items():
        atomic_write(file, text.encode())
    picture = path.with_suffix(".png")
    atomic_write(picture, curve_png(comparison, comparison.metric))
    return [*files, picture]


def _counted_otherwise(comparison: Comparison) -> Comparison:
    """The same in images where the page is about boxes, else in boxes."""
    runs = (*comparison.runs, *comparison.replicates)
    return compared(runs, comparison.metric, comparison.test, IMAGES if comparison.cost == BOXES else BOXES)


def render(comparison: Comparison, other: Comparison, balance: ClassBalance | None, title: str) -> str:
    """The HTML text; all values are escaped but the drawings, which matplotlib escapes."""
    import jinja2  # noqa: PLC0415  slow to import

    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    )
    runs = [run for run in comparison.runs if run.rounds]
    first = runs[0] if runs else comparison.runs[0]
    pictures, reason = galleries(runs)
    metrics: list[Metric] = [comparison.metric, "ap50" if comparison.metric == "ap" else "ap"]
    return template.render(
        title=title,
        summary=_summary(comparison),
        warnings=_warnings(comparison),
        unit=counted(comparison.cost),
        other_unit=counted(other.cost),
        curves=[(m.upper(), svg(draw(comparison, m), m)) for m in metrics],
        boxes_per_image=svg(draw_boxes_per_image(comparison), "boxes"),
        sentences=[sentence(versus, comparison.cost) for versus in comparison.versus],
        verdicts=_verdict_rows(comparison, other),
        noise=noise_sentence(comparison) if comparison.noise is not None else "",
        matrix=comparison.penalty_matrix,
        rows=mean_rows(comparison.runs),
        people=_people_rows(runs),
        advice=[(run.name, advice_for(run.folder)) for run in runs if _asked_people(run)],
        classes=_class_table(balance) if balance else None,
        class_ap=_class_ap(balance) if balance and balance.paid is not None else None,
        galleries=pictures,
        no_gallery=reason,
        steps=_steps(runs),
        time_rows=_time_rows(runs),
        note_rows=_note_rows(runs),
        courses=[course_of(run) for run in {run.strategy: run for run in reversed(runs)}.values() if has_course(run)],
        card=[(name, first.facts.get(name, "")) for name in _CARD],
        config=first.facts.get("config", ""),
    )


def _summary(comparison: Comparison) -> str:
    seeds = sorted({run.random_seed for run in comparison.runs})
    names = dict.fromkeys(run.strategy for run in comparison.runs)
    pool = max((run.pool_images for run in comparison.runs), default=0)
    replicates = f" and {len(comparison.replicates)} repetitions" if comparison.replicates else ""
    runs = f"{len(comparison.runs)} run{'s' if len(comparison.runs) > 1 else ''}{replicates}"
    drawn = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    return f"{runs}: {', '.join(names)}; {drawn}; a pool of {pool} images."


def _warnings(comparison: Comparison) -> list[str]:
    found = []
    open_ = [run.name for run in comparison.runs if str(len(run.rounds)) != run.facts.get("rounds_planned", "")]
    if open_:
        found.append(
            f"fewer rounds than planned (still running, or the pool or the budget ran out): {', '.join(open_)}."
        )
    if any(run.label_using for run in comparison.runs):
        found.append(
            "runs marked “uses labels” chose images by their true annotations, which a real project does not have."
        )
    if any(run.facts.get("reference_is_test") == "true" for run in comparison.runs):
        found.append(
            "one split served as reference and as test split; a strategy that looks at it has seen the test labels."
        )
    drowned = [v.strategy for v in comparison.versus if comparison.noise and abs(v.difference) <= comparison.noise]
    if drowned:
        found.append(f"no farther from random than a run is from its own repetition: {', '.join(drowned)}.")
    return found


def _verdict_rows(comparison: Comparison, other: Comparison) -> list[tuple[Versus, float | None, Versus | None]]:
    """Each strategy's comparison, its area under the curve, and the comparison by the other way of counting."""
    of = {versus.strategy: versus for versus in other.versus}
    return [(v, comparison.areas.get(v.strategy), of.get(v.strategy)) for v in comparison.versus]


def _class_table(balance: ClassBalance) -> dict[str, Any]:
    """Boxes of each class up to each round; the most frequent classes, the others added up."""
    order = np.argsort(-balance.known, kind="stable")
    shown, others = order[:MOST_CLASSES], order[MOST_CLASSES:]
    rare = set(balance.rare)
    heads = [f"{balance.names[k]}{' *' if balance.names[k] in rare else ''}" for k in shown]

    def cells(counts: np.ndarray) -> list[tuple[float, float]]:
        values = [*counts[shown], *([counts[others].sum()] if len(others) else [])]
        return [(float(value), float(value / max(1, counts.sum()))) for value in values]

    def rounds(one: StrategyClasses) -> list[Any]:
        told = zip(one.bought, one.entropy(), one.divergence(balance.pool), strict=True)
        return [(number, cells(counts), h, d) for number, (counts, h, d) in enumerate(told)]

    return {
        "heads": [*heads, *([f"{len(others)} others"] if len(others) else [])],
        "pool": None if balance.pool is None else cells(balance.pool),
        "strategies": [(one.strategy, rounds(one)) for one in balance.strategies],
    }


def _class_ap(balance: ClassBalance) -> dict[str, Any]:
    order, rare = np.argsort(-balance.known, kind="stable"), set(balance.rare)
    names = [balance.names[k] for k in order]
    return {
        "paid": balance.paid,
        "heads": [f"{name} *" if name in rare else name for name in names],
        "rows": [
            (
                one.strategy,
                one.ap_of(names),
                [one.ap_of(members) for members in balance.groups.values()],
                [one.ap[name] for name in names],
            )
            for one in balance.strategies
        ],
        "groups": list(balance.groups),
    }


def _asked_people(run: Run) -> bool:
    return run.facts.get("oracle", "simulated") != "simulated"


def _people_rows(runs: Sequence[Run]) -> list[tuple[str, RoundAnswers]]:
    """What came of each round of questions, of the runs that asked people."""
    found = []
    for run in runs:
        if _asked_people(run):
            with read_ledger(run.folder) as ledger:
                found += [(run.name, told) for told in AnnotationRequests(ledger).told()]
    return found


def _steps(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(step for run in runs for record in run.rounds for step in record.timings))


def _time_rows(runs: Sequence[Run]) -> list[tuple[str, list[float]]]:
    """Seconds of a whole run by step, means over the seeds of each strategy."""
    rows = []
    for name in dict.fromkeys(run.strategy for run in runs):
        members = [run for run in runs if run.strategy == name]
        seconds = [sum(r.timings.get(step, 0.0) for run in members for r in run.rounds) for step in _steps(runs)]
        rows.append((name, [value / len(members) for value in seconds]))
    return rows


def _note_rows(runs: Sequence[Run]) -> list[tuple[str, list[str], list[tuple[int, list[float | None]]]]]:
    """What each strategy told of its queries in its first run: its name, the columns, the figures of each round."""
    found = []
    for run in {run.strategy: run for run in reversed(runs)}.values():
        told = [record for record in run.rounds if record.diagnostics]
        columns = list(dict.fromkeys(name for record in told for name in record.diagnostics))
        if told:
            found.append((run.name, columns, [(r.round, [r.diagnostics.get(name) for name in columns]) for r in told]))
    return found[::-1]
