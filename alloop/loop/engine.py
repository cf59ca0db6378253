"""The loop: train on what is labeled, evaluate, query the strategy, ask the oracle, book it."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from alloop.config import ExperimentConfig
from alloop.data.cache_folder import RecentFolder
from alloop.files import run_lock
from alloop.ledger.amendments import add_query
from alloop.ledger.facts import RunFacts
from alloop.ledger.passed_over import record_passed_over
from alloop.ledger.requests import AnnotationRequests
from alloop.ledger.store import Bought, Ledger, RoundRecord, open_ledger
from alloop.loop.amending import amended, is_at_rest, record, wants_more
from alloop.loop.beginning import as_measured_before, begin_run, refuse_other_config, scored_otherwise
from alloop.loop.buying import purchase
from alloop.loop.context import RunContext, Timings, pixel_caches
from alloop.loop.experiment import prepare
from alloop.loop.fitting import RoundDetector, restored, trained_and_evaluated
from alloop.loop.new_images import take_in_new_images
from alloop.loop.parts import CACHE, kept_values
from alloop.loop.people import RequestBatch, collect, next_requests, note_revisions
from alloop.loop.purchase_rules import passed_over_lines, rules_of_round
from alloop.loop.querying import open_query
from alloop.loop.recorded_data import (
    compared_by_content,
    expect_recorded_images,
    refuse_changed_contents,
    refuse_other_data,
    refuse_other_data_of_finished,
    refuse_other_seed_images,
)
from alloop.loop.round_files import drop_older_models, model_sha256
from alloop.loop.round_progress import RoundProgress
from alloop.loop.shared_models import SharedModels
from alloop.loop.time_left import time_left
from alloop.loop.tracking import tracked, tracker_plugins
from alloop.oracles.oracle import HumanOracle, RevealingOracle
from alloop.progress import LOG, Progress
from alloop.values import Annotations, ImageId


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
    out = Path(out)
    progress = progress or Progress(quiet=True)
    with run_lock(out), open_ledger(out) as ledger:
        facts, plugins = ledger.facts(), tracker_plugins(config)
        amendment = None
        if facts is not None:
            facts, amendment = amended(ledger, facts, config)
            _refuse_other_experiment(ledger, facts, config, table)
            if is_at_rest(ledger) and not (accept_new_images or wants_more(ledger, facts, amendment)):
                unchecked = refuse_other_data_of_finished(ledger, facts, config)
                with tracked(plugins, config, ledger, progress):  # a killed process may not have shown the last round
                    pass
                progress.say(f"{out}: finished, {len(ledger.rounds())} rounds; nothing to do{unchecked}")
                return ledger.rounds()
            config = as_measured_before(facts.config, config)
        progress = progress.logged(out / LOG)
        models = SharedModels(Path(shared)) if shared else None
        context = run_context(config, table, ledger, models, Path(cache or out / CACHE), progress)
        if facts is None:
            begin_run(context, table, replicate, report_warnings=report_warnings)
            expect_recorded_images(ledger, context.experiment.splits)
        else:
            if accept_new_images:
                facts = take_in_new_images(ledger, facts, context.experiment.splits, progress, context.kept)
            refuse_other_data(ledger, facts, config, context.experiment.splits)
            if warning := scored_otherwise(facts, config):
                progress.say(warning)
        if facts is not None and amendment is not None:
            record(ledger, facts, amendment)
            progress.say(f"{out}: amended {amendment}")
        with tracked(plugins, config, ledger, progress) as trackers:
            if facts is not None and is_at_rest(ledger) and wants_more(ledger, facts):
                ask_for_more(context, len(ledger.rounds()) - 1)
            while True:
                if isinstance(context.oracle, HumanOracle):
                    accepted = {"accept_partial": accept_partial, "accept_revisions": accept_revisions}
                    _collect_pending(context, context.oracle, **accepted)
                    accept_partial = False
                if (round_ := ledger.open_round()) is None:
                    return ledger.rounds()
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
        chosen = _chosen(context, round_, labeled, detector, timings)
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
    chosen = _chosen(context, round_, ledger.labeled(), restored(context, round_), timings)
    if chosen is not None:
        with ledger.transaction():
            add_query(ledger, round_, timings.seconds, chosen.selection.diagnostics)
            _book(ledger, round_, chosen)


def _chosen(
    context: RunContext,
    round_: int,
    labeled: Mapping[ImageId, Annotations],
    detector: RoundDetector,
    timings: Timings,
) -> Bought | RequestBatch | None:
    """Return what a round buys, or asks people for; None when the pool or the budget is exhausted."""
    with timings.of("query"):
        if isinstance(context.oracle, RevealingOracle):
            return query_and_reveal(context, context.oracle, round_, labeled, detector)
        return next_requests(context, round_, labeled, detector)


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
    labeled: Mapping[ImageId, Annotations],
    detector: RoundDetector,
) -> Bought | None:
    """Ask the strategy, then the oracle; return None when the pool or the budget is exhausted."""
    session = open_query(context, round_, labeled, detector)
    if session is None:
        return None
    answers: dict[ImageId, Annotations] = {}

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
    return Bought(chosen, session.predicted_boxes(chosen), paid, bought.passed_over)


def run_context(
    config: ExperimentConfig,
    table: Mapping[str, str],
    ledger: Ledger,
    shared: SharedModels | None,
    cache: Path,
    progress: Progress,
) -> RunContext:
    """Return what the steps of a run work with; data, device and threads are as the run began with them."""
    facts = ledger.facts()
    kept = kept_values(config, cache, progress.say)
    scores = RecentFolder(cache / "scores", int(config.training.cache_gib * 2**30) // 4, progress.say)
    experiment = prepare(config, table, asdict(facts.environment) if facts else None, kept)
    oracle = experiment.oracle.connect(experiment.splits.train)
    return RunContext(experiment, ledger, oracle, pixel_caches(experiment, kept), kept, scores, shared, progress)


def _refuse_other_experiment(
    ledger: Ledger, facts: RunFacts, config: ExperimentConfig, table: Mapping[str, str]
) -> None:
    by_content = compared_by_content(ledger, facts, config, table)
    refuse_other_config(ledger.folder, facts.config, config, by_content)
    refuse_changed_contents(facts, config, table)
    refuse_other_seed_images(ledger, facts, config)


def _collect_pending(context: RunContext, oracle: HumanOracle, *, accept_partial: bool, accept_revisions: bool) -> None:
    """Look for the answers that the run waits for, if it does, and for changes of earlier ones."""
    waiting = AnnotationRequests(context.ledger).pending()
    if waiting is not None:
        note_revisions(context, oracle, waiting, accept=accept_revisions)
        collect(context, oracle, waiting, accept_partial=accept_partial)


def _report(context: RunContext, record: RoundRecord) -> None:
    figures = ((key, record.metrics[key]) for key in ("ap", "ap50"))
    shown = "  ".join(f"{key.upper()} {value:.3f}" for key, value in figures if value is not None)
    ledger, planned = context.ledger, context.experiment.config.loop.rounds
    left = time_left(ledger.rounds(), ledger.spent().images, planned) if ledger.open_round() is not None else None
    context.progress.say(
        f"round {record.round} of 0 to {planned - 1}: {record.images} images, {record.boxes} boxes, {shown} "
        f"({sum(record.timings.values()):.0f} s{'' if left is None else f'; {left} left in this run'})"
    )
