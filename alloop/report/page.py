"""The page: a comparison rendered through one template. Everything in it comes from the ledgers."""

from pathlib import Path
from typing import Any

import numpy as np

from alloop.compare import Comparison
from alloop.files import atomic_write
from alloop.report.curve import curve_png, curve_svg
from alloop.report.text import dumps, mean_rows, sentence, to_csv, to_json
from alloop.runs import Run

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
    files = {
        path: render(comparison, title),
        path.with_suffix(".csv"): to_csv(comparison),
        path.with_suffix(".json"): dumps(to_json(comparison)),
    }
    for file, text in files.items():
        atomic_write(file, text.encode())
    picture = path.with_suffix(".png")
    atomic_write(picture, curve_png(comparison, "ap50"))
    return [*files, picture]


def render(comparison: Comparison, title: str) -> str:
    """The HTML text; all values are escaped but the two drawings, which matplotlib escapes."""
    import jinja2  # noqa: PLC0415  slow to import

    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    )
    runs = [run for run in comparison.runs if run.rounds]
    first = runs[0] if runs else comparison.runs[0]
    return template.render(
        title=title,
        summary=_summary(comparison),
        warnings=_warnings(comparison),
        svg_ap=curve_svg(comparison, "ap"),
        svg_ap50=curve_svg(comparison, "ap50"),
        sentences=[(versus, sentence(versus)) for versus in comparison.versus],
        rows=mean_rows(comparison.runs),
        classes=list(first.rounds[-1].per_class) if first.rounds else [],
        class_rows=_class_rows(runs),
        note_rows=[_note_rows(run) for run in runs if any(record.notes for record in run.rounds)],
        steps=_steps(runs),
        time_rows=[
            {"name": run.name, "seconds": [sum(r.timings.get(s, 0.0) for r in run.rounds) for s in _steps(runs)]}
            for run in runs
        ],
        card=[(name, first.facts.get(name, "")) for name in _CARD],
        config=first.facts.get("config", ""),
    )


def _summary(comparison: Comparison) -> str:
    seeds = sorted({run.random_seed for run in comparison.runs})
    names = dict.fromkeys(run.strategy for run in comparison.runs)
    pool = max((run.pool_images for run in comparison.runs), default=0)
    return (
        f"{len(comparison.runs)} runs: {', '.join(names)}; seeds {', '.join(map(str, seeds))}; a pool of {pool} images."
    )


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
    return found


def _class_rows(runs: list[Run]) -> list[dict[str, Any]]:
    rows = []
    for name in dict.fromkeys(run.strategy for run in runs):
        last = [run.rounds[-1].per_class for run in runs if run.strategy == name]
        values = []
        for label in last[0]:
            seen = [per_class[label] for per_class in last if per_class.get(label) is not None]
            values.append(float(np.mean([v for v in seen if v is not None])) if seen else None)
        rows.append({"strategy": name, "values_": values})
    return rows


def _note_rows(run: Run) -> tuple[str, list[str], list[tuple[int, list[float | None]]]]:
    """Name of a run, names of what its strategy told, and the figures of each round."""
    told = [record for record in run.rounds if record.notes]
    columns = list(dict.fromkeys(name for record in told for name in record.notes))
    return run.name, columns, [(record.round, [record.notes.get(name) for name in columns]) for record in told]


def _steps(runs: list[Run]) -> list[str]:
    return list(dict.fromkeys(step for run in runs for record in run.rounds for step in record.timings))
