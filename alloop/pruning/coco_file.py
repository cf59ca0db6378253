"""Prune a COCO file into another one; what is kept keeps its bytes."""

import csv
import io
import time
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import msgspec

from alloop.config.overrides import parsed_override
from alloop.config.reading import ExperimentConfig, changed, load_config
from alloop.data.data_set import DataSet
from alloop.data.formats.coco import read_bytes, read_coco
from alloop.data.validation import validate
from alloop.errors import ConfigError, DataError, StrategyError
from alloop.files import atomic_write
from alloop.progress import Progress
from alloop.pruning.subset import Balance, Pruned, count_of, prune, pruning_parameters
from alloop.query import FittedDetector
from alloop.strategy import InstanceStrategy, Strategy, make_strategy
from alloop.values import ImageId


def prune_file(
    annotations: Path,
    name: str,
    overrides: Sequence[str],
    out: Path,
    table: Mapping[str, str],
    *,
    keep: float | None = None,
    number: int | None = None,
    scores: Path | None = None,
    config: Path | None = None,
    random_seed: int = 0,
    progress: Progress | None = None,
) -> list[str]:
    """Prune a COCO file into another one.

    Args:
        annotations: the whole set.
        name: of the strategy.
        overrides: its parameters, as `key=value`; `instances=FILE` writes the scores of the instances.
        out: the subset as COCO JSON.
        table: strategies by name.
        keep: share of the images to keep, or
        number: how many.
        scores: where to write a score for each image.
        config: experiment whose detector is trained on the whole set, for strategies that need one.
        random_seed: of all random choices.
        progress: where to tell how it goes.

    Returns:
        what to print.
    """
    if out.resolve() == annotations.resolve():
        msg = f"--out {out}: is the file that is read; give another name"
        raise ConfigError(msg)
    parameters = dict(parsed_override(text) for text in overrides)
    instances = parameters.pop("instances", None)
    parameters = pruning_parameters(name, parameters, table)
    strategy = _strategy(name, parameters, table, for_instances=instances is not None)
    started = time.monotonic()
    dataset = validate(read_coco(annotations), str(annotations))
    reading = time.monotonic() - started
    count = count_of(len(dataset.images), keep, number)
    detector = None
    if strategy.needs and config is not None:
        experiment = load_config(config, [f"data.train.annotations={annotations.resolve()}"])
        detector = detector_for(experiment, name, parameters, random_seed, out.with_suffix(".model"), table, progress)
    try:
        pruned = prune(dataset, strategy, count, random_seed, detector=detector, progress=progress, name=name)
    except (DataError, StrategyError) as error:
        raise type(error)(f"{annotations}: {error}") from error
    if scores is not None:
        atomic_write(scores, scores_csv(pruned).encode())
    if instances is not None:
        atomic_write(Path(str(instances)), instances_csv(pruned, dataset).encode())
    told = Balance.of(dataset, pruned.kept).lines()
    del dataset  # it holds the text of the file, which is about to be read once more
    atomic_write(out, subset_json(annotations, pruned.kept))
    times = [f"{what} {seconds:.2f} s" for what, seconds in {"reading": reading, **pruned.seconds}.items()]
    return [f"{out}: kept by {name}", *told, f"time: {', '.join(times)}"]


def _strategy(name: str, parameters: Mapping[str, Any], table: Mapping[str, str], *, for_instances: bool) -> Strategy:
    strategy = make_strategy(name, parameters, table)
    if for_instances and not isinstance(strategy, InstanceStrategy):
        msg = f"--set instances: {name} scores images, not instances; leave it out"
        raise ConfigError(msg)
    return strategy


def detector_for(
    config: ExperimentConfig,
    name: str,
    parameters: Mapping[str, Any],
    random_seed: int,
    folder: Path,
    table: Mapping[str, str],
    progress: Progress | None = None,
    shared: Path | None = None,
) -> FittedDetector:
    """The detector that a strategy prunes with: the config's, trained on the whole set in a folder of its own.

    A training that was stopped goes on.
    """
    from alloop.loop.engine import trained_on_everything  # noqa: PLC0415  torch is loaded only where it is needed

    config = changed(config, {"strategy": {"name": name, **parameters}, "random_seed": random_seed})
    return trained_on_everything(config, folder, table, shared=shared, progress=progress)


class _Named(msgspec.Struct, gc=False):
    id: int


class _OfImage(msgspec.Struct, gc=False):
    image_id: int


def subset_json(path: Path, kept: Collection[ImageId]) -> Iterator[bytes]:
    """A COCO file cut to some of its images, in parts; every record that stays keeps its bytes, all else as well.

    Other lists of the file whose records name an image are cut, too.
    """
    chosen = frozenset(kept)
    tree = msgspec.json.decode(read_bytes(path), type=dict[str, msgspec.Raw])
    opening = b"{"
    for key, text in tree.items():
        yield opening + msgspec.json.encode(key) + b": "
        yield from _kept_part(key, text, chosen)
        opening = b",\n"
    yield b"}\n"


def _kept_part(key: str, text: msgspec.Raw, chosen: Container[int]) -> Iterator[bytes]:
    """The records of a list that belong to the chosen images; anything but such a list as it is."""
    shape, name = (_Named, "id") if key == "images" else (_OfImage, "image_id")
    decode = msgspec.json.Decoder(shape).decode
    try:
        records = msgspec.json.decode(text, type=list[msgspec.Raw])
        keep = [getattr(decode(record), name) in chosen for record in records]
    except msgspec.MsgspecError:
        yield bytes(text)
        return
    opening = b"["
    for record in compress(records, keep):
        yield opening + bytes(record)
        opening = b",\n"
    yield b"]" if opening != b"[" else b"[]"


def scores_csv(pruned: Pruned) -> str:
    """`image_id, score, rank, kept` of every ranked image, best first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "score", "rank", "kept"])
    for rank, (image_id, score) in enumerate(zip(pruned.ranking.image_ids, pruned.scores, strict=True)):
        writer.writerow([image_id, repr(float(score)), rank + 1, int(rank < pruned.count)])
    return text.getvalue()


def instances_csv(pruned: Pruned, dataset: DataSet) -> str:
    """`image_id, annotation_id, category_id, score` of every scored instance."""
    assert pruned.instances is not None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "annotation_id", "category_id", "score"])
    found, truth, last = pruned.instances, None, None
    for image_id, row, label, score in zip(found.image_ids, found.rows, found.labels, found.scores, strict=True):
        if truth is None or image_id != last:
            truth, last = dataset.annotations[ImageId(int(image_id))], image_id
        writer.writerow([image_id, truth.ids[row], dataset.category_ids[label], repr(float(score))])
    return text.getvalue()
