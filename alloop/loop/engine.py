"""The loop: train on what is labeled, evaluate, query the strategy, ask the oracle, book it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from alloop.class_values import Truth
from alloop.config import ExperimentConfig
from alloop.files import run_lock
from alloop.ledger.amendments import add_query
from alloop.ledger.passed_over import record_passed_over
from alloop.ledger.requests import AnnotationRequests
from alloop.ledger.store import Bought, Ledger, RoundRecord, open_ledger
from alloop.loop.amending import is_at_rest, wants_more
from alloop.loop.buying import purchase
from alloop.loop.context import RunContext, Timings
from alloop.loop.fitting import RoundDetector, restored, trained_and_evaluated
from alloop.loop.opening import begun, gone_on, run_context
from alloop.loop.people import RequestBatch, collect_waiting, next_requests
from alloop.loop.purchase_rules import passed_over_lines, rules_of_round
from alloop.loop.querying import open_query
from alloop.loop.round_files import drop_older_models, model_sha256
from alloop.loop.round_progress import RoundProgress
from alloop.loop.time_left import time_left
from alloop.loop.tracking import Trackers, tracked, tracker_plugins
from alloop.oracles.oracle import RevealingOracle
from alloop.progress import Progress
from alloop.query import boxed
from alloop.values import ImageId


def run_experiment(
    config: ExperimentConfig,
    out: str | Path,
    table: Mapping[str, str],
    *,
    shared: str | Path | None = None,
    cache: str | Path | None = None,
    replicate: int = 0,
    accept_partial: bool = False,
    accept_revisions: bool = False,
    accept_new_images: bool = False,
    report_warnings: bool = True,
    progress: Progress | None = None,
) -> list[RoundRecord]:
    """Run one experiment in a folder, or go on with it; a finished one does nothing.

    Args:
        config: the experiment.
        out: the run folder.
        table: strategies by name, for example `strategies.TABLE`.
        shared: a folder of models shared with other runs.
        cache: a folder for what can be computed again, which other runs may share; `cache` in the run folder by
            default. It may be deleted at any time.
        replicate: 1, 2, ... for a run that repeats another, to measure by how much the two differ.
        accept_partial: where people are asked, close the waiting round with what came back.
        accept_revisions: where people are asked, train from the waiting round on what they corrected after it was
            booked, and charge the corrections.
        accept_new_images: take in images that the pool gained since the run began.
        report_warnings: report the warnings about the data when the run begins; they are recorded in any case.
        progress: where to report progress.

    Returns:
        the finished rounds.

    Raises:
        WaitingError: people, or the program that trains, have not answered yet.
        AlloopError: see `alloop.errors`; nothing booked is lost.
    """
    progress = progress or Progress(quiet=True)
    with run_lock(Path(out)), open_ledger(Path(out)) as ledger:
        folders = (Path(shared) if shared else None, Path(cache) if cache else None)
        context_of = partial(run_context, table=table, ledger=ledger, folders=folders, progress=progress)
        plugins = tracker_plugins(config)
        if (facts := ledger.facts()) is None:
            context = begun(context_of(config), table, replicate, report_warnings=report_warnings)
        else:
            context = gone_on(ledger, facts, config, table, context_of, progress, accept_new_images=accept_new_images)
        # where nothing is left to do, a killed process may not have shown the last round
        with tracked(plugins, config, ledger, context.progress if context else progress) as trackers:
            if context is not None:
                _run_rounds(context, trackers, accept_partial=accept_partial, accept_revisions=accept_revisions)
        return ledger.rounds()


def _run_rounds(context: RunContext, trackers: Trackers, *, accept_partial: bool, accept_revisions: bool) -> None:
    """Run one round after the other until the pool, the budget or the planned rounds are exhausted."""
    ledger, facts = context.ledger, context.ledger.facts()
    if facts is not None and is_at_rest(ledger) and wants_more(ledger, facts):
        ask_for_more(context, len(ledger.rounds()) - 1)
    while True:
        collect_waiting(context, accept_partial=accept_partial, accept_revisions=accept_revisions)
        accept_partial = False
        if (round_ := ledger.open_round()) is None:
            return
        run_round(context, round_)
        trackers.booked(ledger.rounds()[-1])


def run_round(context: RunContext, round_: int) -> None:
    """Run one round and book it in one transaction at its end. It may be stopped anywhere and run again."""
    ledger, planned = context.ledger, context.experiment.config.loop.rounds
    progress = RoundProgress(context.progress, ledger, round_, planned)
    context, timings = replace(context, progress=progress), Timings(progress.begin)
    labeled = ledger.labeled()
    detector, metrics = trained_and_evaluated(context, round_, labeled, timings)
    chosen = None
    if round_ + 1 < planned:
        chosen = choice(context, round_, labeled, detector, timings)
    with ledger.transaction():
        ledger.close_round(
            round_,
            metrics=metrics,
            timings=timings.seconds,
            model_sha256=model_sha256(ledger, round_),
            diagnostics=chosen.selection.diagnostics if chosen else {},
        )
        _book(ledger, round_, chosen)
    if context.experiment.config.training.keep_models == "last":
        drop_older_models(ledger, round_)
    _report(context, ledger.rounds()[-1])


def ask_for_more(context: RunContext, round_: int) -> None:
    """Ask the strategy after a round that was the last one until the run was amended, and book what it chose."""
    ledger, timings = context.ledger, Timings()
    chosen = choice(context, round_, ledger.labeled(), restored(context, round_), timings)
    if chosen is not None:
        with ledger.transaction():
            add_query(ledger, round_, timings.seconds, chosen.selection.diagnostics)
            _book(ledger, round_, chosen)


def choice(
    context: RunContext,
    round_: int,
    labeled: Mapping[ImageId, Truth],
    detector: RoundDetector,
    timings: Timings,
) -> Bought | RequestBatch | None:
    """Return what a round buys, or asks people for; None when the pool or the budget is exhausted."""
    with timings.of("query"):
        if isinstance(context.oracle, RevealingOracle):
            return query_and_reveal(context, context.oracle, round_, labeled, detector)
        return next_requests(context, round_, boxed(labeled), detector)


def _book(ledger: Ledger, round_: int, chosen: Bought | RequestBatch | None) -> None:
    """Book what a round bought, which opens the next one, or what it asks people for."""
    record_passed_over(ledger, round_ + 1, chosen.passed_over if chosen else ())
    if isinstance(chosen, Bought):
        ledger.buy(round_, chosen)
    elif chosen is not None:
        asked = (chosen.selection, chosen.predicted_boxes, chosen.pre_annotations)
        AnnotationRequests(ledger).ask(round_ + 1, *asked)


def query_and_reveal(
    context: RunContext,
    oracle: RevealingOracle,
    round_: int,
    labeled: Mapping[ImageId, Truth],
    detector: RoundDetector,
) -> Bought | None:
    """Ask the strategy, then the oracle; return None when the pool or the budget is exhausted."""
    session = open_query(context, round_, labeled, detector)
    if session is None:
        return None
    answers: dict[ImageId, Truth] = {}

    def true_boxes(image_ids: tuple[ImageId, ...]) -> list[int]:
        answers.update(oracle.annotate(image_ids))
        return [len(answers[image_id]) for image_id in image_ids]

    loop, spent = context.experiment.config.loop, context.ledger.spent()
    rules = rules_of_round(context, session)
    bought = purchase(session, loop, spent, lambda selection: true_boxes(selection.image_ids), rules)
    if bought is None:
        return None
    for line in passed_over_lines(bought.passed_over):
        context.progress.say(line)
    chosen = bought.selection
    paid = {image_id: answers[image_id] for image_id in chosen.image_ids}
    return Bought(chosen, session.recorded_boxes(chosen), paid, bought.passed_over)


def _report(context: RunContext, record: RoundRecord) -> None:
    task = context.experiment.task
    figures = ((name, record.metrics[key]) for key, name in task.reported.items())
    shown = "  ".join(f"{name} {value:.3f}" for name, value in figures if value is not None)
    ledger, planned = context.ledger, context.experiment.config.loop.rounds
    left = time_left(ledger.rounds(), ledger.spent().images, planned) if ledger.open_round() is not None else None
    context.progress.say(
        f"round {record.round} of 0 to {planned - 1}: {record.images} images, {record.boxes} {task.unit}, {shown} "
        f"({sum(record.timings.values()):.0f} s{'' if left is None else f'; {left} left in this run'})"
    )
