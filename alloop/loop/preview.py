"""What a run would buy or ask for next, before that is recorded, booked or shown to anybody.

Answers that are complete are booked and the detector of the open round is trained, as the next `alloop run` would; the
run keeps both. Then the strategy is asked, and what it chose is returned and forgotten. The next `alloop run` finds the
trained detector and asks again, with the same outcome.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from alloop.budget.amounts import Spent
from alloop.config import ExperimentConfig, parse_config
from alloop.config.reading import refuse_classification
from alloop.data.splits import Split
from alloop.errors import ConfigError
from alloop.files import run_lock
from alloop.ledger.image_audit import data_of
from alloop.ledger.store import Bought, Ledger, open_ledger, read_ledger
from alloop.loop.context import RunContext, Timings
from alloop.loop.engine import choice
from alloop.loop.fitting import RoundDetector, fitted, restored, trained_and_evaluated
from alloop.loop.opening import gone_on, run_context
from alloop.loop.people import RequestBatch, collect_waiting
from alloop.progress import Progress
from alloop.values import Detections, ImageId


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """What the next round of a run would train on besides what is labeled.

    Attributes:
        round: the round that would train on it.
        chosen: the images with their utilities and predicted boxes; in a simulated run also the true boxes.
        detections: what the detector finds on each chosen image, confident or not.
        config: of the run.
        spent: what was paid before.
        pool: the images to choose from.
    """

    round: int
    chosen: Bought | RequestBatch
    detections: Mapping[ImageId, Detections]
    config: ExperimentConfig
    spent: Spent
    pool: Split


def preview(folder: Path, table: Mapping[str, str], progress: Progress | None = None) -> Preview:
    """Return what a run would buy or ask for next.

    Args:
        folder: of a run that has begun.
        table: strategies by name.
        progress: where to report.

    Raises:
        ConfigError: there is no run, nothing is left to ask for, or the data changed.
        WaitingError: people, or the program that trains, have not answered the round before.
    """
    progress = progress or Progress(quiet=True)
    with read_ledger(folder) as ledger:
        facts = ledger.facts()
    if facts is None:
        msg = f"{folder}: this run has not begun; `alloop run` begins it"
        raise ConfigError(msg)
    config = parse_config(yaml.safe_load(facts.config))
    refuse_classification(config, "a preview")
    config = config.model_copy(update={"data": data_of(facts, folder) or config.data})
    with run_lock(folder), open_ledger(folder) as ledger:
        context_of = partial(run_context, table=table, ledger=ledger, folders=(None, None), progress=progress)
        context = gone_on(ledger, facts, config, table, context_of, progress)
        found = None if context is None else _next(context, ledger)
    if found is None:
        msg = f"{folder}: nothing is left to ask for: the planned rounds, the pool or the budget are exhausted"
        raise ConfigError(msg)
    return found


def _next(context: RunContext, ledger: Ledger) -> Preview | None:
    collect_waiting(context)
    open_ = ledger.open_round()
    round_ = len(ledger.rounds()) - 1 if open_ is None else open_
    if round_ + 1 >= context.experiment.config.loop.rounds:
        return None
    labeled, timings = ledger.labeled(), Timings()
    if open_ is None:
        detector = restored(context, round_)
    else:
        detector, _ = trained_and_evaluated(context, round_, labeled, timings)
    chosen = choice(context, round_, labeled, detector, timings)
    return None if chosen is None else _preview(context, round_ + 1, chosen, detector)


def _preview(context: RunContext, round_: int, chosen: Bought | RequestBatch, detector: RoundDetector) -> Preview:
    experiment, image_ids = context.experiment, chosen.selection.image_ids
    pool = experiment.splits.train
    found = fitted(context, pool, context.caches.pool, detector).detections(image_ids)
    detections = dict(zip(image_ids, found, strict=True))
    return Preview(round_, chosen, detections, experiment.config, context.ledger.spent(), pool)
