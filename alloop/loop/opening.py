"""A run folder is opened: a run begins in it, or goes on with what its ledger holds."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from alloop.config import ExperimentConfig
from alloop.data.cache_folder import RecentFolder
from alloop.ledger.facts import RunFacts
from alloop.ledger.store import Ledger
from alloop.loop.amending import amended, is_at_rest, record, wants_more
from alloop.loop.beginning import as_measured_before, begin_run, refuse_other_config, scored_otherwise
from alloop.loop.context import RunContext, pixel_caches
from alloop.loop.experiment import prepare
from alloop.loop.new_images import take_in_new_images
from alloop.loop.parts import CACHE, kept_values
from alloop.loop.recorded_data import (
    compared_by_content,
    expect_recorded_images,
    refuse_changed_contents,
    refuse_other_data,
    refuse_other_data_of_finished,
    refuse_other_seed_images,
)
from alloop.loop.shared_models import SharedModels
from alloop.progress import LOG, Progress


def begun(context: RunContext, table: Mapping[str, str], replicate: int, *, report_warnings: bool) -> RunContext | None:
    """Begin a run in an empty folder; see `begin_run` for the arguments and errors."""
    begin_run(context, table, replicate, report_warnings=report_warnings)
    expect_recorded_images(context.ledger, context.experiment.splits)
    return context


def gone_on(
    ledger: Ledger,
    facts: RunFacts,
    config: ExperimentConfig,
    table: Mapping[str, str],
    context_of: Callable[[ExperimentConfig], RunContext],
    progress: Progress,
    *,
    accept_new_images: bool = False,
) -> RunContext | None:
    """Return what the steps of a run that has begun work with; None where nothing is left to do.

    An amendment of the config, and images that the pool gained, are recorded.

    Args:
        ledger: of the run.
        facts: what it began with.
        config: the config of now.
        table: strategies by name.
        context_of: `run_context` of a config.
        progress: where it is reported that nothing is left to do.
        accept_new_images: take in images that the pool gained since the run began.

    Raises:
        ConfigError: the config or the data are not those that the run began with.
    """
    facts, amendment = amended(ledger, facts, config)
    by_content = compared_by_content(ledger, facts, config, table)
    refuse_other_config(ledger.folder, facts.config, config, by_content)
    refuse_changed_contents(facts, config, table)
    refuse_other_seed_images(ledger, facts, config)
    if is_at_rest(ledger) and not (accept_new_images or wants_more(ledger, facts, amendment)):
        unchecked = refuse_other_data_of_finished(ledger, facts, config)
        progress.say(f"{ledger.folder}: finished, {len(ledger.rounds())} rounds; nothing to do{unchecked}")
        return None
    context = context_of(as_measured_before(facts.config, config))
    splits = context.experiment.splits
    if accept_new_images:
        facts = take_in_new_images(ledger, facts, splits, context.progress, context.kept)
    refuse_other_data(ledger, facts, context.experiment.config, splits)
    if warning := scored_otherwise(facts, context.experiment.config):
        context.progress.say(warning)
    if amendment is not None:
        record(ledger, facts, amendment)
        context.progress.say(f"{ledger.folder}: amended {amendment}")
    return context


def run_context(
    config: ExperimentConfig,
    table: Mapping[str, str],
    ledger: Ledger,
    folders: tuple[Path | None, Path | None],
    progress: Progress,
) -> RunContext:
    """Return what the steps of a run work with; data, device and threads are as the run began with them.

    `folders` are that of the models which several runs share, and that of what can be computed again (in the run folder
    by default).
    """
    shared, cache = folders
    facts, folder = ledger.facts(), cache or ledger.folder / CACHE
    progress = progress.logged(ledger.folder / LOG)
    kept = kept_values(config, folder, progress.say)
    scores = RecentFolder(folder / "scores", int(config.training.cache_gib * 2**30) // 4, progress.say)
    experiment = prepare(config, table, asdict(facts.environment) if facts else None, kept)
    oracle = experiment.oracle.connect(experiment.splits.train)
    models = SharedModels(shared) if shared else None
    return RunContext(experiment, ledger, oracle, pixel_caches(experiment, kept), kept, scores, models, progress)
