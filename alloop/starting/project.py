"""From annotations to a folder with a config that can be run: what `alloop init` writes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alloop.config.blocks import DataConfig, GroupsConfig
from alloop.data.split_files import UNKNOWN_FOLDER, FileSplitting
from alloop.data.splits import load_splits, refuse_missing_files
from alloop.errors import ConfigError, DataError
from alloop.files import atomic_folder, atomic_write
from alloop.starting.settings import Device, Setting, first_settings
from alloop.tasks.detection import boxes_of

CONFIG, SPLITS, LABELED = "config.yaml", "splits", "labeled.txt"  # in the folder of the project
PATHS = {
    "train",
    "reference",
    "test",
    "groups",
    "annotations",
    "images",
    "csv",
}  # keys of the block data that hold paths
SHARES = {"train": 0.7, "reference": 0.1, "test": 0.2}
_HEAD = "# Made by `alloop init`. The settings are where to begin; the reason for each stands beside it."


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a project is made from.

    Attributes:
        annotations: file or folder of the pool, or of everything where `test` is not given.
        images: its image folder; the one that belongs to the annotations by default.
        format: the name of the format of all annotations.
        test: annotations of the test split, and their image folder or None for `images`.
        groups: how the group of an image is found.
        random_seed: the seed of the division into splits.
    """

    annotations: Path
    images: Path | None = None
    format: str = "coco"
    test: tuple[Path, Path | None] | None = None
    groups: GroupsConfig | None = None
    random_seed: int = 0


def start_project(source: Source, out: Path, device: Device) -> Sequence[Setting]:
    """Write a folder with a config, and with splits if no test split is given. Return the settings of the config.

    Args:
        source: the annotations and images.
        out: the folder; it does not exist, or is empty.
        device: what will be trained on; `alloop.starting.settings` says what follows from it.

    Raises:
        ConfigError: a path that is not there, an unknown format, or images that are not found.
        DataError: annotations that cannot be used, or `out` has something in it.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        msg = f"{out}: exists already; give a new name, nothing is overwritten"
        raise DataError(msg)
    with atomic_folder(out) as folder:
        data = _named_splits(source) if source.test else _new_splits(source, folder / SPLITS)
        config = DataConfig.model_validate(data)
        refuse_missing_files(config)
        splits = load_splits(config, for_people=True)
        pool = boxes_of(splits.train)
        others = [boxes_of(split) for split in ((splits.test,) if splits.shared else (splits.test, splits.reference))]
        settings = first_settings(pool, others, device)
        if any(setting.key == "loop.seed_images" for setting in settings):
            labeled = sorted(pool.images.keys() - pool.unlabeled)
            atomic_write(folder / LABELED, "".join(f"{image_id}\n" for image_id in labeled).encode())
        atomic_write(folder / CONFIG, config_text(_seen_from(folder, data), settings).encode())
    return settings


def _named_splits(source: Source) -> dict[str, Any]:
    """Return the block `data` of two annotations that are there already."""
    assert source.test is not None
    test, folder = source.test
    format_ = {} if source.format == "coco" else {"format": source.format}
    named = {"train": (source.annotations, source.images), "test": (test, folder or source.images)}
    blocks: dict[str, Any] = {
        name: {"annotations": path, **({"images": images} if images else {}), **format_}
        for name, (path, images) in named.items()
    }
    rule = source.groups.model_dump(exclude_defaults=True) if source.groups else None
    return blocks | ({"groups": rule} if rule else {})


def _new_splits(source: Source, out: Path) -> dict[str, Any]:
    """Divide the annotations into three splits, and return the block `data` that uses them."""
    splitting = FileSplitting(
        annotations=source.annotations,
        out=out,
        shares=SHARES,
        from_=source.format,
        to=source.format,
        images=source.images,
        groups=source.groups,
        random_seed=source.random_seed,
    )
    try:
        data: dict[str, Any] = splitting.run().config["data"]
    except DataError as error:
        msg = f"{error}. A test split that is there already can be named with --test."
        raise DataError(msg) from error
    if data["train"]["images"] == UNKNOWN_FOLDER:
        msg = f"{source.annotations}: its images are not beside it; give their folder with --images"
        raise ConfigError(msg)
    return data


def _seen_from(folder: Path, tree: Any) -> Any:
    """Return a tree whose relative paths are relative to a folder; absolute ones outside the folder stay."""
    if isinstance(tree, Mapping):
        return {key: _seen_from(folder, value) if key in PATHS else value for key, value in tree.items()}
    path = Path(tree)
    is_outside = path.is_absolute() and not path.is_relative_to(folder)
    return str(path) if is_outside else os.path.relpath(path, folder)


def config_text(data: Mapping[str, Any], settings: Sequence[Setting]) -> str:
    """Return a config as YAML, with the reason for a setting as a comment on its line.

    Args:
        data: the block `data`.
        settings: all other keys, `block.key` or `key`; those of a block stand together.
    """
    lines = [_HEAD, _yaml({"data": dict(data)})]
    block = ""
    for setting in settings:
        name, _, key = setting.key.rpartition(".")
        if name and name != block:
            lines.append(f"{name}:")
        block = name
        text = f"{'  ' if name else ''}{_yaml({key: setting.value})}"
        lines.append(f"{text:<28}  # {setting.reason}")
    return "\n".join(lines) + "\n"


def _yaml(tree: Mapping[str, Any]) -> str:
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=False, allow_unicode=True, width=10_000).rstrip()
