"""The page: one offline HTML file about a comparison. Everything but the pictures comes from the ledgers."""

from collections.abc import Mapping
from pathlib import Path

from alloop.budget.prices import BOXES, IMAGES
from alloop.files import atomic_write
from alloop.report.numbers import classes_json, dumps, to_csv, to_json
from alloop.report.panel import PageData, Panel, anchored
from alloop.report.panels import (
    against_random,
    ap_by_class,
    bought_by_class,
    boxes_per_image,
    curves,
    curves_by_part,
    detections,
    diagnostics,
    gallery,
    notes,
    people,
    pseudo_labels,
    repeated_images,
    rounds,
    run_card,
    settings,
    summary,
    timings,
    training,
    who_beats_whom,
)
from alloop.report.style import png
from alloop.results.compare import Comparison, compared

PANELS: tuple[Panel, ...] = (
    summary.PANEL,
    notes.PANEL,
    curves.PANEL,
    against_random.PANEL,
    who_beats_whom.PANEL,
    boxes_per_image.PANEL,
    people.PANEL,
    bought_by_class.PANEL,
    curves_by_part.PANEL,
    ap_by_class.PANEL,
    training.PANEL,
    pseudo_labels.PANEL,
    gallery.PANEL,
    detections.PANEL,
    repeated_images.PANEL,
    rounds.PANEL,
    diagnostics.PANEL,
    timings.PANEL,
    settings.PANEL,
    run_card.PANEL,
)


def write_report(
    comparison: Comparison, path: Path, title: str, strategies: Mapping[str, str] | None = None
) -> list[Path]:
    """Write the page, and beside it the same numbers as CSV and JSON and the curve as PNG; return the files.

    Args:
        comparison: what the page is about.
        path: the HTML file.
        title: its title.
        strategies: the built-in strategies by name, as import paths; without them the page lacks their defaults.
    """
    data = PageData(comparison, _counted_otherwise(comparison), strategies or {})
    numbers = to_json(comparison) | {
        "classes": classes_json(data.balance) if data.balance else None,
        "counted_otherwise": to_json(data.other)["comparisons"],
    }
    files = {
        path: render(data, title).encode(errors="backslashreplace"),  # a folder may have any name
        path.with_suffix(".csv"): to_csv(comparison).encode(),
        path.with_suffix(".json"): dumps(numbers).encode(),
        path.with_suffix(".png"): png(data.curve),
    }
    for file, content in files.items():
        atomic_write(file, content)
    return list(files)


def _counted_otherwise(comparison: Comparison) -> Comparison:
    """Compare the same runs by images where the page is about boxes, else by boxes."""
    runs = (*comparison.runs, *comparison.replicates)
    return compared(runs, comparison.metric, comparison.test, IMAGES if comparison.cost == BOXES else BOXES)


def render(data: PageData, title: str) -> str:
    """Return the HTML of the page."""
    import jinja2  # noqa: PLC0415  slow to import

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
    return page.render(
        title=title,
        runs=_runs(data.comparison),
        sections=anchored(section for panel in PANELS for section in panel.render(data, environment)),
    )


def _runs(comparison: Comparison) -> str:
    """Return the number of runs, the strategies, the seeds and the size of the pool in one sentence."""
    seeds = sorted({run.random_seed for run in comparison.runs})
    names = dict.fromkeys(run.strategy for run in comparison.runs)
    pool = max((run.pool_images for run in comparison.runs), default=0)
    replicates = f" and {len(comparison.replicates)} replicates" if comparison.replicates else ""
    runs = f"{len(comparison.runs)} run{'s' if len(comparison.runs) > 1 else ''}{replicates}"
    seeds_text = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    return f"{runs}: {', '.join(names)}; {seeds_text}; a pool of {pool} images."
