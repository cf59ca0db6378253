"""Embeddings from a file for the first batch: another model may have made them, and the detector need not give any."""

from alloop.config import ExperimentConfig
from alloop.data.classification.data_set import ClassifiedDataSet
from alloop.data.data_set import DataSet
from alloop.data.notes import Notes
from alloop.errors import ConfigError, DataError
from alloop.loop.context import RunContext
from alloop.predictions.embeddings import Embeddings, read_embeddings
from alloop.predictions.fitted import PredictedDetector
from alloop.predictions.rows import KnownImages

IDS_KEY = "loop.embedding_ids"


def embeddings_from_file(context: RunContext) -> PredictedDetector | None:
    """Return what a strategy sees instead of the detector, before anything is trained; None where no file is given.

    What was read leniently is reported as a warning.

    Raises:
        ConfigError: rows without ids for a pool whose file gives its images no order.
        DataError: a file that cannot be read, numbers that are not finite, an image of the pool without a row, a row
            without an image of the pool.
    """
    config, pool, notes = context.experiment.config, context.experiment.splits.train.dataset, Notes()
    path, listed = config.loop.embeddings, config.loop.embedding_ids
    if path is None:
        return None
    if listed is None:
        _refuse_unordered(config)
    try:
        found = read_embeddings(path, listed, KnownImages(list(pool.images.values())), notes, IDS_KEY)
        _refuse_missing(found, pool)
    except DataError as error:
        key = IDS_KEY if listed is not None and str(error).startswith(str(listed)) else "loop.embeddings"
        msg = f"{key}: {error}"
        raise DataError(msg) from error
    for note in notes.listed():
        context.progress.say(f"warning: {IDS_KEY}: {note}")
    return PredictedDetector(pool.class_names, None, found)


def _refuse_unordered(config: ExperimentConfig) -> None:
    train = config.data.train
    if train is not None and train.format != "coco":
        msg = f"loop.embeddings: images in the format {train.format} have no order; name that of each row in {IDS_KEY}"
        raise ConfigError(msg)


def _refuse_missing(found: Embeddings, pool: DataSet | ClassifiedDataSet) -> None:
    missing = [image for image_id, image in pool.images.items() if image_id not in found.rows]
    if missing:
        first = f"{missing[0].image_id} ({missing[0].file_name})"
        msg = f"{found.place}: {len(missing)} images of the pool have no row, the first is {first}; add them"
        raise DataError(msg)
