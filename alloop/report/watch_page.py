"""What goes on in a run or a study, as a page that loads itself again. It is one file and loads nothing else."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from alloop.errors import AlloopError
from alloop.ledger.store import read_ledger
from alloop.progress import duration
from alloop.report.curve import draw
from alloop.report.losses import draw_losses, draw_terms
from alloop.report.numbers import UNKNOWN
from alloop.report.panel import Cell, HtmlTable, Section, anchored, drawing, number
from alloop.results.compare import Comparison
from alloop.results.losses import Losses, read_losses
from alloop.results.names import UNITS, measured, metric_title
from alloop.results.pairs import CurvesBySeed
from alloop.results.runs import Run, read_run
from alloop.results.watching import Watched, WatchedRun

LINES = 8  # of a log
_NOW = Markup("<p><strong>{}</strong></p>\n{}\n<pre>{}</pre>")
_QUIET = "Nothing was reported for {}. Perhaps the process was stopped; the command that started it goes on from there."
_FIGURE = Markup("<figure>{}</figure>")


@dataclass
class WatchPage:
    """The page about one folder. A drawing is drawn again when what it shows has changed."""

    _drawn: dict[str, tuple[Hashable, Markup]] = field(default_factory=dict)

    def render(self, watched: Watched, every: float) -> str:
        """Return the HTML; it loads itself again every few seconds, until all has ended."""
        import jinja2  # noqa: PLC0415  slow to import

        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
        page = environment.from_string((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
        again = {} if watched.ended else {"refresh": max(1, round(every))}
        often = f"; it loads itself again every {duration(again['refresh'])}" if again else ""
        written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
        return page.render(
            title=f"alloop watch: {watched.folder.resolve().name}",
            runs=f"{watched.state[:1].upper()}{watched.state[1:]}. This page was written at {written}{often}.",
            sections=anchored(self._sections(watched)),
            **again,
        )

    def _sections(self, watched: Watched) -> list[Section]:
        runs = [run for one in watched.runs if (run := _read(one)) is not None and not run.replicate]
        table = _runs_table(watched) if watched.is_study else _rounds_table(watched.runs[0])
        heading = "Runs" if watched.is_study else "Rounds"
        sections = [Section(Markup("Now"), _now(watched)), *self._curve(runs), *self._losses(watched.latest)]
        return [*sections, Section(Markup(heading), Markup(table.__html__()))]  # noqa: S704  it escapes its cells

    def _curve(self, runs: list[Run]) -> list[Section]:
        """Return the curve of AP over boxes so far; nothing before the first round is finished."""
        key = tuple((run.name, run.paid, tuple(run.curve(run.measured[0])[1])) for run in runs)
        if not any(values for _, _, values in key):
            return []
        metric = runs[0].measured[0]
        picture = self._picture("curve", key, lambda: draw(_without_verdicts(runs), metric))
        return [Section(Markup(f"{metric_title(metric)} over {runs[0].unit} so far"), picture, "half")]  # noqa: S704

    def _losses(self, one: WatchedRun) -> list[Section]:
        """Return the losses of the rounds that are trained, and those of the training that goes on."""
        status = one.status
        if status is None:
            return []
        kept = _kept(one)
        sections = []
        reported = [] if status.open_round is None else status.log.losses(status.open_round)
        if len(reported) > 1 and status.open_round not in [losses.round for losses in kept]:
            steps, values = zip(*reported, strict=True)
            now = Losses(status.open_round or 0, steps, values, {})
            picture = self._picture("loss now", (now.round, steps), lambda: draw_terms(now))
            sections.append(Section(_title(one, f"loss in round {now.round}, which is training"), picture, "half"))
        if kept:
            key = (one.folder, *(losses.round for losses in kept))
            picture = self._picture("losses", key, lambda: draw_losses({"": kept}))
            sections.append(Section(_title(one, "loss of each round"), picture, "half"))
        return sections

    def _picture(self, name: str, key: Hashable, draw_it: Callable[[], Any]) -> Markup:
        if name not in self._drawn or self._drawn[name][0] != key:
            self._drawn[name] = key, _FIGURE.format(drawing(draw_it(), f"watch {name}"))
        return self._drawn[name][1]


def _without_verdicts(runs: list[Run]) -> Comparison:
    metric = runs[0].measured[0]
    return Comparison(tuple(runs), (), metric, "t", CurvesBySeed.of_runs(runs, metric))


def _title(one: WatchedRun, text: str) -> Markup:
    return Markup("{}: {}").format(one.folder.resolve().name, text)


def _read(one: WatchedRun) -> Run | None:
    try:
        return None if one.status is None else read_run(one.folder)
    except AlloopError:  # what is wrong with it stands in the table
        return None


def _kept(one: WatchedRun) -> list[Losses]:
    """Return the losses that a run kept, those of the open round too where its training is finished."""
    try:
        with read_ledger(one.folder) as ledger:
            rounds = range(len(one.status.rounds) + 1) if one.status else ()
            return [losses for round_ in rounds if (losses := read_losses(ledger, round_)) is not None]
    except AlloopError:
        return []


def _now(watched: Watched) -> Markup:
    """Return what is being done, how long it still takes, and the last lines of the log."""
    log = watched.latest.status.log if watched.latest.status else watched.log
    doing = log.lines[-1].what if log.lines and not watched.ended else watched.state
    name = f"{watched.latest.folder.name}: " if watched.is_study and not watched.ended else ""
    left = f"{watched.left[:1].upper()}{watched.left[1:]} left." if watched.left else ""
    notes = [left, _QUIET.format(duration(log.age)) if log.lines and not (log.goes_on or watched.ended) else ""]
    text = Markup("\n").join(Markup("<p>{}</p>").format(note) for note in notes if note)
    last = [f"{line.time:%H:%M:%S}  {line.what}" for line in log.lines[-LINES:]]
    return _NOW.format(f"{name}{doing}", text, "\n".join(last) or "This run has no log yet.")


def _rounds_table(one: WatchedRun) -> HtmlTable:
    rounds, task = (one.status.rounds, one.status.task) if one.status else ((), "detection")
    rows = [
        [
            *(f"{value}" for value in (record.round, record.images, record.boxes)),
            *(number(record.metrics[metric]) for metric in measured(task)),
            duration(sum(record.timings.values())),
        ]
        for record in rounds
    ]
    return HtmlTable(["round", "images", UNITS[task], *map(metric_title, measured(task)), "time"], rows)


def _runs_table(watched: Watched) -> HtmlTable:
    rows: list[list[str | Cell]] = []
    for one in watched.runs:
        status = one.status
        ap = (
            next((record.metrics[measured(status.task)[0]] for record in reversed(status.rounds)), None)
            if status
            else None
        )
        log = status.log if status else None
        reports = log is not None and bool(log.lines) and status is not None and status.open_round is not None
        what = log.lines[-1].what if log and reports else ""
        left = f"{status.left}" if status and status.left else ""
        spent = [f"{status.spent.images}", f"{status.spent.boxes}"] if status else [UNKNOWN, UNKNOWN]
        done = f"{len(status.rounds)} of {one.planned}" if status else UNKNOWN
        rows.append([one.folder.name, one.state, done, *spent, number(ap), left, Cell(what, css="wide")])
    status = next((one.status for one in watched.runs if one.status), None)
    task = status.task if status else "detection"
    heads = ["run", "state", "rounds", "images", UNITS[task], metric_title(measured(task)[0]), "left", "last report"]
    return HtmlTable(heads, rows)
