"""The beginning of a run: hash the pool, choose the seed set, book both; and whether a run may go on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from alloop.budget.amounts import buy
from alloop.class_values import Truth
from alloop.config import ExperimentConfig, parse_config
from alloop.config.plugin_blocks import DETECTOR_CHANGES_NO_RESULT
from alloop.config.reading import changed
from alloop.config.training import BEFORE_THE_KEY, CHANGES_NO_RESULT
from alloop.detectors.loaded_weights import InitializedDetector
from alloop.errors import ConfigError
from alloop.evaluation.coco_ap import COCO_LIMIT
from alloop.files import sha256_of
from alloop.ledger.facts import Environment, RunFacts
from alloop.ledger.image_sizes import record_image_sizes
from alloop.ledger.perceptual_hashes import record_perceptual_hashes
from alloop.ledger.requests import AnnotationRequests
from alloop.loop.checks import first_strategy
from alloop.loop.context import RunContext
from alloop.loop.experiment import Experiment, environment
from alloop.loop.first_batch import FirstBatch
from alloop.loop.first_embeddings import embeddings_from_file
from alloop.loop.people import first_requests
from alloop.loop.pool import seed_set_named
from alloop.loop.recorded_data import contents_of, record_splits, splits_by_name
from alloop.loop.split_leaks import checked_images, leak_warnings
from alloop.oracles.oracle import RevealingOracle
from alloop.strategy import uses_labels
from alloop.training.schedule import long_warmup
from alloop.values import ImageId

FCOS_SCORE = "product"  # what FCOS's score is today; see decision 0019
FREE_KEYS = frozenset(
    {
        "trackers",
        *(f"training.{key}" for key in CHANGES_NO_RESULT),
        *(f"detector.{key}" for key in DETECTOR_CHANGES_NO_RESULT),
    }
)


def begin_run(context: RunContext, table: Mapping[str, str], replicate: int, *, report_warnings: bool = True) -> None:
    """Book the images with the seed set, or with the request to people for one, in one transaction.

    Args:
        context: the run.
        table: strategies by name.
        replicate: 0, or 1, 2, ... for a run that repeats another.
        report_warnings: report the warnings about the data; they are recorded in any case.

    Raises:
        ConfigError: the budget does not pay for the first image of the seed set, no strategy can pick one as wanted, or
            the file of `detector.weights` does not fit the detector.
        DataError: the file of `loop.embeddings` cannot be used.
    """
    ledger = context.ledger
    first_by = first_strategy(context.experiment.config, table)
    seen, loaded = embeddings_from_file(context), _loaded_weights(context.experiment)
    if loaded and report_warnings:
        context.progress.say(f"detector.weights: {loaded}")
    images = checked_images(splits_by_name(context.experiment.splits), context.progress, context.kept)
    people = context.experiment.oracle.asks_people
    contents = contents_of(context.experiment.config, table)
    loop = context.experiment.config.loop
    batch = FirstBatch(context, first_by, images.perceptual, at_first=loop.seed_set.number, seen=seen)
    if isinstance(context.oracle, RevealingOracle) or loop.seed_images:
        order = batch if loop.seed_images is None else _named_seed_set(context, loop.seed_images)
        seed_set, requests = _affordable(context, order), None
        answers = _known_labels(context, seed_set)
        first = seed_set
    else:
        answers, seed_set, requests = {}, (), first_requests(context, batch)
        first = requests.selection.image_ids
    warnings = (
        *leak_warnings(images.leaks),
        *context.experiment.task.notes(splits_by_name(context.experiment.splits), labels_are_known=not people),
        *long_warmup(context.experiment.config.training, len(first)),
    )
    for warning in warnings if report_warnings else ():
        context.progress.say(f"warning: {warning}")
    with ledger.transaction():
        record_splits(ledger, images.hashed)
        record_perceptual_hashes(ledger, images.perceptual)
        record_image_sizes(ledger, context.experiment.splits.train.dataset.images.values())
        facts = replace(_facts(context, replicate, first), contents=contents, warnings=warnings, leaks=images.leaks)
        facts = replace(facts, initial_weights=loaded)
        ledger.begin(facts, images.hashed["train"], seed_set, answers)
        if requests is not None:
            AnnotationRequests(ledger).ask(0, requests.selection, requests.predicted_boxes, requests.pre_annotations)


def _loaded_weights(experiment: Experiment) -> str:
    """Return what a detector takes from the file of `detector.weights`, so that it is known before anything is paid.

    It is built for that; empty where `detector.weights` is no file.
    """
    block = experiment.config.detector
    if "weights" not in block.path_keys(block.used()):
        return ""
    network = experiment.new_detector(0)
    loaded = network.loaded_weights if isinstance(network, InitializedDetector) else None
    return str(loaded or "")


def refuse_other_config(
    out: Path, recorded: str, config: ExperimentConfig, by_content: frozenset[str] = frozenset()
) -> None:
    """Refuse to go on under another config than the run began with.

    Args:
        out: the run folder.
        recorded: the config that the run began with, as YAML.
        config: the config of now.
        by_content: keys that are paths and may differ, since what lies behind them is compared instead.

    Raises:
        ConfigError: naming each key that differs.
    """
    free = FREE_KEYS | by_content
    # parsing gives keys that this version added their defaults in a config that was recorded before
    before, now = (_flat(c.used()) for c in (parse_config(yaml.safe_load(recorded)), config))
    differing = sorted(key for key in (before.keys() | now.keys()) - free if before.get(key) != now.get(key))
    if differing:
        key = differing[0]
        msg = (
            f"{out}: this run began with {key} = {before.get(key)!r}, the config now says {now.get(key)!r} "
            f"({_count(len(differing), 'key differs', 'keys differ')}: {', '.join(differing[:5])}). "
            "Another experiment needs another --out."
        )
        raise ConfigError(msg)


def scored_otherwise(facts: RunFacts, config: ExperimentConfig) -> str:
    """Return a warning where the first rounds of a run were scored by an older version in another way; else nothing."""
    if config.detector.name != "fcos" or facts.fcos_score == FCOS_SCORE:
        return ""
    return (
        "warning: this run was begun by an older version, whose score of FCOS was the root of class probability times "
        "centerness; from now on it is the product, so its strategy chooses otherwise than before. A new run is the "
        "same in all rounds"
    )


def as_measured_before(recorded: str, config: ExperimentConfig) -> ExperimentConfig:
    """Return the config of a run that goes on: one curve counts detections, and decodes images, in one way.

    A run of an older version whose config has no block `evaluation` counted 100 detections per image and class; one
    without `training.decoding` decoded every image at its whole size.
    """
    begun = yaml.safe_load(recorded)
    before: dict[str, Any] = {}
    if "evaluation" not in begun and config.evaluation.max_detections is None:
        before["evaluation.max_detections"] = COCO_LIMIT
    absent = BEFORE_THE_KEY.keys() - begun.get("training", {}).keys()
    before |= {f"training.{key}": BEFORE_THE_KEY[key] for key in absent}
    return changed(config, before) if before else config


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {k: v for key, value in tree.items() for k, v in _flat(value, f"{prefix}{key}.").items()}


def _named_seed_set(context: RunContext, named: Path) -> Iterable[ImageId]:
    """Return the images that a file names, all of which somebody has annotated."""
    pool = context.experiment.splits.train.dataset
    order = seed_set_named(named, pool.images)
    unlabeled = pool.unlabeled
    first = next((image_id for image_id in order if image_id in unlabeled), None)
    if first is not None:
        msg = f"loop.seed_images: {named}: image {first} is not labeled; name images that somebody has annotated"
        raise ConfigError(msg)
    return order


def _known_labels(context: RunContext, image_ids: Sequence[ImageId]) -> Mapping[ImageId, Truth]:
    """Return the labels of a seed set: as the oracle reveals them, else as the pool's file has them."""
    if isinstance(context.oracle, RevealingOracle):
        return context.oracle.annotate(image_ids)
    return context.experiment.splits.train.dataset.annotations


def _affordable(context: RunContext, order: Iterable[ImageId]) -> tuple[ImageId, ...]:
    """Return the seed set: the head of an order that meets its quota within the budget."""
    loop = context.experiment.config.loop
    ranking = ((image_id, len(_known_labels(context, [image_id])[image_id])) for image_id in order)
    head = buy(ranking, loop.seed_set, context.ledger.spent(), loop.budget)
    if not head.image_ids:
        msg = f"loop.budget: {loop.budget} does not pay for the first image of the seed set; raise it"
        raise ConfigError(msg)
    return head.image_ids


def _facts(context: RunContext, replicate: int, seed_set: tuple[ImageId, ...]) -> RunFacts:
    experiment = context.experiment
    config, pool, text = experiment.config, experiment.splits.train.dataset, experiment.config.to_yaml()
    people = experiment.oracle.asks_people  # nobody knows the classes of a pool that people are still to annotate
    return RunFacts(
        config=text,
        config_sha256=sha256_of(text.encode()),
        data=experiment.splits.fingerprint(),
        classes=pool.class_names,
        category_ids=pool.category_ids,
        pool_class_boxes=None if people else tuple(pool.class_counts()),
        pool_class_images=None if people else tuple(pool.class_images()),
        replicate=replicate,
        task=config.task,
        strategy=config.strategy.name,
        random_seed=config.random_seed,
        seed_set_sha256=sha256_of(repr(seed_set).encode()),
        oracle=config.oracle.name,
        fcos_score=FCOS_SCORE,
        asks_people=people,
        budget=config.loop.budget,
        rounds_planned=config.loop.rounds,
        label_using=uses_labels(experiment.strategy),
        reference_is_test=experiment.splits.shared,
        environment=Environment(**environment(experiment)),
        folder=str(context.ledger.folder.resolve()),
    )
