"""Whether a run that goes on has what it began with. A path is no part of an experiment; what lies behind it is.

Annotations are compared by the fingerprint of the data, images by their hashes, the file of a seed set by the images
that it names, and weights and other files that a run only reads by their hash. So a run, its config and its data may
be moved. Where an older version did not record the content, the path itself is compared.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from alloop.config import ExperimentConfig, parse_config
from alloop.data.images import FolderImages
from alloop.data.splits import Split, Splits
from alloop.data.threads import blocks, in_order
from alloop.errors import ConfigError, DamagedFileError
from alloop.files import sha256_file, sha256_of
from alloop.ledger.facts import RunFacts
from alloop.ledger.image_audit import changed_images, image_folders
from alloop.ledger.split_images import HashedImage, record_images, recorded_images
from alloop.ledger.store import Ledger
from alloop.loop.pool import seed_set_named
from alloop.plugins import path_parameters, plugin_class
from alloop.tasks.table import task_of
from alloop.values import ImageId


def splits_by_name(splits: Splits) -> dict[str, Split]:
    """Return the splits by name; one that serves as reference and as test appears as `test`."""
    by_name = {"train": splits.train, "test": splits.test}
    return by_name if splits.shared else {**by_name, "reference": splits.reference}


def record_splits(ledger: Ledger, images: Mapping[str, list[HashedImage]]) -> None:
    """Record the images of the reference and the test split."""
    for name, rows in images.items():
        if name != "train":
            record_images(ledger, name, rows)


def expect_recorded_images(ledger: Ledger, splits: Splits) -> None:
    """Let every image file be compared with its recorded hash whenever it is read."""
    recorded = recorded_images(ledger)
    for name, split in splits_by_name(splits).items():
        if isinstance(split.images, FolderImages):
            split.images.expected = {image_id: sha256 for image_id, _, sha256 in recorded.get(name, [])}


def refuse_changed_images(split: Split) -> None:
    """Hash every image file of a split, also those whose pixels are in memory already.

    Raises:
        DamagedFileError: one is gone or differs from its recorded hash.
    """
    if isinstance(split.images, FolderImages):
        source = split.images

        def verify(image_ids: Sequence[ImageId]) -> None:
            for image_id in image_ids:
                source.verified(image_id)

        for _ in in_order(verify, blocks(sorted(source.expected))):
            pass


def refuse_other_data(ledger: Ledger, facts: RunFacts, config: ExperimentConfig, splits: Splits) -> None:
    """Compare the data of a run that goes on with those that it began with, and expect its images from now on.

    The reference and test images are hashed, and those of the pool where they lie elsewhere now; else an image of the
    pool is compared when it is read.

    Raises:
        ConfigError: other annotations.
        DamagedFileError: an image that is gone or was changed.
    """
    if facts.data != splits.fingerprint():
        msg = (
            f"{ledger.folder}: the data differ from those this run began with; restore them, or start a new run. "
            "Where the pool only gained images, --accept-new-images takes them in"
        )
        raise ConfigError(msg)
    expect_recorded_images(ledger, splits)
    for name, split in splits_by_name(splits).items():
        if name != "train" or _data_moved(facts, config):
            refuse_changed_images(split)


def refuse_other_data_of_finished(ledger: Ledger, facts: RunFacts, config: ExperimentConfig) -> str:
    """Compare the data of a finished run, where they are there, and return in words which could not be compared.

    Data at the recorded paths are not read again: only the files of the reference and test images are hashed.

    Raises:
        ConfigError: other annotations.
        DamagedFileError: an image that is gone or was changed.
    """
    if config.data.is_embedded:
        return ""
    if _data_moved(facts, config):
        splits = task_of(config).load_splits(config.data, for_people=config.oracle.asks_people)
        refuse_other_data(ledger, facts, config, splits)
        return ""
    recorded, missing = recorded_images(ledger), []
    for name, folder in image_folders(config.data).items():
        if name == "train":
            continue
        if not folder.is_dir():
            missing.append(str(folder))
        elif findings := changed_images(folder, recorded.get(name, [])):
            raise DamagedFileError(findings[0])
    return f"; {', '.join(missing)} not there, so the images were not checked" if missing else ""


def contents_of(config: ExperimentConfig, table: Mapping[str, str]) -> dict[str, str]:
    """Return the sha256 of what lies behind each key that is a path and that the run only reads, by key.

    These are the paths of the detector and of the strategy, of the embeddings for the first batch, and of an oracle
    that asks nobody. What people are asked through changes while a run goes on.
    """
    contents = {}
    for key, value in _read_paths(config, table).items():
        if value.exists():
            contents[key] = sha256_of_path(value)
    return contents


def recorded_contents(ledger: Ledger) -> dict[str, str] | None:
    """Return what was recorded about the contents behind a run: a hash of each split's images, and its read files.

    None for a run of an older version, which did not record all of them.
    """
    facts, images = ledger.facts(), recorded_images(ledger)
    if facts is None or facts.contents is None:
        return None
    hashes = {f"images of {name}": sha256_of(repr(rows).encode()) for name, rows in images.items()}
    return {**hashes, **{key: sha256 for key, sha256 in facts.contents.items() if key.startswith("detector.")}}


def sha256_of_path(path: Path) -> str:
    """Return the sha256 of a file, or of a folder with the names and hashes of all files in it."""
    if not path.is_dir():
        return sha256_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_of(repr([(str(file.relative_to(path)), sha256_file(file)) for file in files]).encode())


def refuse_changed_contents(facts: RunFacts, config: ExperimentConfig, table: Mapping[str, str]) -> None:
    """Compare the files that a run only reads with those that it began with.

    Raises:
        DamagedFileError: one has another content, or is gone.
    """
    paths = _read_paths(config, table)
    for key, sha256 in (facts.contents or {}).items():
        path = paths.get(key)
        if path is None:
            continue  # no path any more: another value, which the comparison of the configs refuses
        found = sha256_of_path(path) if path.exists() else "nothing"
        if found != sha256:
            msg = (
                f"{key}: {path} differs from what this run began with: expected sha256 {sha256[:16]}…, found "
                f"{found[:16]}{'' if found == 'nothing' else '…'}. Restore it, or start a new run in another folder."
            )
            raise DamagedFileError(msg)


def refuse_other_seed_images(ledger: Ledger, facts: RunFacts, config: ExperimentConfig) -> None:
    """Compare the images that the file of a seed set names with the seed set that was booked.

    Raises:
        ConfigError: the file cannot be read, or it names other images.
    """
    path, charged = config.loop.seed_images, ledger.charged()
    if path is None or not charged:
        return
    named = seed_set_named(path, ledger.image_hashes())[: charged[0].images]
    if sha256_of(repr(tuple(named)).encode()) != facts.seed_set_sha256:
        msg = f"loop.seed_images: {path} names other images than those this run began with; restore it, or start anew"
        raise ConfigError(msg)


def compared_by_content(
    ledger: Ledger, facts: RunFacts, config: ExperimentConfig, table: Mapping[str, str]
) -> frozenset[str]:
    """Return the keys of a config whose paths may be others than the recorded ones."""
    hashed = recorded_images(ledger)
    free = {f"data.train.{key}" for key in ("annotations", "images")} | {"data.classes"}
    if "test" in hashed:
        free |= {f"data.{split}.{key}" for split in ("reference", "test") for key in ("annotations", "images")}
    free |= (facts.contents or {}).keys() & _read_paths(config, table).keys()
    if config.oracle.asks_people:
        free |= {f"oracle.{key}" for key in config.oracle.path_keys({"name": config.oracle.name})}
    begun = yaml.safe_load(facts.config).get("loop", {}).get("seed_images")
    if begun is not None and config.loop.seed_images is not None:
        free.add("loop.seed_images")
    return frozenset(free)


def _read_paths(config: ExperimentConfig, table: Mapping[str, str]) -> dict[str, Path]:
    """Return the paths of a config that the run only reads, without those of data and seed set, by key."""
    detector, strategy, oracle = config.detector, config.strategy, config.oracle
    strategy_class = plugin_class("strategy", strategy.name, table)
    blocks = [
        ("detector", detector.parameters, detector.path_keys(detector.used())),
        ("strategy", strategy.parameters, path_parameters(strategy_class)),
    ]
    first = {"embeddings": config.loop.embeddings, "embedding_ids": config.loop.embedding_ids}
    blocks.append(("loop", first, frozenset(first)))
    if not oracle.asks_people:
        blocks.append(("oracle", oracle.parameters, oracle.path_keys(oracle.used())))
    return {
        f"{block}.{key}": Path(value)
        for block, parameters, keys in blocks
        for key, value in parameters.items()
        if key in keys and isinstance(value, (str, Path))
    }


def _data_moved(facts: RunFacts, config: ExperimentConfig) -> bool:
    # parsing gives keys that this version added their defaults in a config that was recorded before
    return parse_config(yaml.safe_load(facts.config)).data != config.data
