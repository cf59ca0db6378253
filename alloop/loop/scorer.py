"""The detector by which images are chosen in pruning: trained on the whole set, or read from a file of weights."""

from collections.abc import Mapping
from pathlib import Path

from alloop.config import ExperimentConfig
from alloop.config.reading import refuse_classification, refuse_people, scorer_of, with_all_labels
from alloop.data.splits import load_splits
from alloop.detectors.torchvision.weight_files import load_weights
from alloop.ledger.store import open_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.fitting import fitted, restored
from alloop.loop.opening import run_context
from alloop.loop.parts import CACHE
from alloop.loop.recorded_data import expect_recorded_images
from alloop.progress import Progress
from alloop.query import FittedDetector


def scoring_detector(
    config: ExperimentConfig,
    out: Path,
    table: Mapping[str, str],
    *,
    shared: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> FittedDetector:
    """Return the detector of `scorer` in a config, or of the experiment where there is none, for pruning.

    Args:
        config: the experiment.
        out: folder of the run that trains it, or, where it is read from a file, of what can be computed again.
        table: strategies by name.
        shared: folder of models that several runs share.
        cache: folder of what can be computed again; by default it lies in `out`.
        progress: where to report.

    Raises:
        AlloopError: as `run_experiment`; ConfigError where the file of weights is of another detector.
    """
    refuse_people(config, "pruning")
    refuse_classification(config, "pruning")
    progress, cache = progress or Progress(quiet=True), cache or out / CACHE
    if config.scorer is not None and config.scorer.weights is not None:
        return _read(scorer_of(config), config.scorer.weights, out, table, cache, progress)
    config = with_all_labels(scorer_of(config), len(load_splits(config.data).train.dataset.images))
    run_experiment(config, out, table, shared=shared, cache=cache, progress=progress)
    with open_ledger(out) as ledger:
        context = run_context(config, table, ledger, (None, cache), progress)
        expect_recorded_images(ledger, context.experiment.splits)
        return fitted(context, context.experiment.splits.train, context.caches.pool, restored(context, 0), 0)


def _read(
    config: ExperimentConfig, weights: Path, out: Path, table: Mapping[str, str], cache: Path, progress: Progress
) -> FittedDetector:
    """Return the detector with weights from a file; nothing is trained."""
    out.mkdir(parents=True, exist_ok=True)
    with open_ledger(out) as ledger:
        context = run_context(config, table, ledger, (None, cache), progress)
        detector = context.experiment.new_detector(0)
        load_weights(detector.module, weights, "scorer.weights")
        detector.module.to(context.experiment.device)
        return fitted(context, context.experiment.splits.train, context.caches.pool, detector)
