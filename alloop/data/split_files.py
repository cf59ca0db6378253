"""From one annotation file to a folder with a file for each split, as `alloop split` makes it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alloop.config.blocks import GroupsConfig
from alloop.data.convert import is_one_file, write_checked
from alloop.data.data_set import DataSet
from alloop.data.formats.format import Format
from alloop.data.formats.table import annotation_format
from alloop.data.groups import refuse_straddling, with_groups
from alloop.data.image_index import index_of_folder
from alloop.data.reading import read_annotations, with_file_names
from alloop.data.records import Records
from alloop.data.split_counts import Counts, counted
from alloop.data.splitting import split_records
from alloop.data.validation import refuse_unusable, validate
from alloop.errors import DataError
from alloop.files import atomic_folder, atomic_write, refuse_missing
from alloop.tables import csv_text

GROUP_FIELD = GroupsConfig(field="group")  # the field that our COCO files have
TABLE = "groups.csv"
UNKNOWN_FOLDER = "FOLDER_OF_THE_IMAGES"


@dataclass(frozen=True, slots=True)
class FileSplit:
    """What was written.

    Attributes:
        dataset: everything that was read.
        splits: each split, by its name.
        whole: what there is of each class in everything.
        counts: the same in each split, by its name.
        config: the block `data` of a config that uses the splits.
        lost_masks: masks that the written format cannot hold.
    """

    dataset: DataSet
    splits: Mapping[str, DataSet]
    whole: Counts
    counts: Mapping[str, Counts]
    config: Mapping[str, Any]
    lost_masks: int

    @property
    def left_out(self) -> int:
        """The number of unlabeled images that are in no split."""
        return len(self.dataset.images) - sum(len(split.images) for split in self.splits.values())


@dataclass(frozen=True, kw_only=True)
class FileSplitting:
    """One splitting of a file or folder of annotations.

    Attributes:
        annotations: what to read.
        out: the folder to write; it does not exist, or is empty.
        shares: the wished share of each split.
        from_: the name of the format that is read.
        to: the name of the format that is written.
        images: folder of the images, where sizes are missing or names are not those of the files.
        groups: how the group of an image is found. By default it is the field `group` where the file has it, and
            else each image is a group of its own.
        random_seed: the seed of all random choices.
    """

    annotations: Path
    out: Path
    shares: Mapping[str, float]
    from_: str
    to: str
    images: Path | None = None
    groups: GroupsConfig | None = None
    random_seed: int = 0

    def run(self) -> FileSplit:
        """Read, validate, split, write, read again and compare.

        Raises:
            DataError: annotations that cannot be used or split, `out` has something in it, or the format that is
                written cannot hold a split without loss.
            ConfigError: an unknown format.
        """
        reader, writer = annotation_format(self.from_, "--from"), annotation_format(self.to, "--to")
        if self.out.exists() and not (self.out.is_dir() and not any(self.out.iterdir())):
            msg = f"{self.out}: exists already; give a new name, nothing is overwritten"
            raise DataError(msg)
        records, dataset = self._read(reader)
        parts = split_records(records, self.shares, self.random_seed, str(self.annotations))
        splits = {name: validate(part, name) for name, part in parts.items()}
        whole, counts = counted(records), {name: counted(part) for name, part in parts.items()}
        with atomic_folder(self.out) as folder:
            targets = {name: _target(writer, part, folder / name) for name, part in parts.items()}
            written = {
                name: write_checked(parts[name], splits[name], writer, target) for name, target in targets.items()
            }
            _require_partition(written, dataset)
            _require_all_boxes(counts, whole, dataset.name)
            rule = self._written_rule(parts, written, folder)
            _require_same_groups(parts, written, rule)
        places = {name: self.out / target.name for name, target in targets.items()}
        config = self._config(places, reader, rule, records)
        return FileSplit(dataset, splits, whole, counts, config, _masks(splits) - _masks(written))

    def _read(self, reader: Format) -> tuple[Records, DataSet]:
        if self.images:
            refuse_missing(self.images, "--images")
        index = index_of_folder(self.images) if self.images else None
        name = str(self.annotations)
        records = read_annotations(self.annotations, reader, index, groups=self.groups)
        if index is not None:
            refuse_unusable(records, name)
            records = with_file_names(records, index, name)
        dataset = validate(records, name)
        records = with_groups(records, self.groups or (GROUP_FIELD if records.groups else None), name)
        return records, replace(dataset, groups=records.groups)

    def _written_rule(
        self, parts: Mapping[str, Records], written: Mapping[str, DataSet], folder: Path
    ) -> GroupsConfig | None:
        """Return a rule that gives the written files their groups; a table is written where it takes one."""
        if not any(part.groups for part in parts.values()):
            return None
        if all(written[name].groups == part.groups for name, part in parts.items()):
            return GROUP_FIELD
        if self.groups is not None and self.groups.field is None:
            return self.groups
        rows = sorted(
            (image.file_name, part.groups[image.image_id]) for part in parts.values() for image in part.images
        )
        atomic_write(folder / TABLE, csv_text(("file_name", "group"), rows).encode())
        return GroupsConfig(csv=folder / TABLE)

    def _config(
        self, places: Mapping[str, Path], reader: Format, rule: GroupsConfig | None, records: Records
    ) -> dict[str, Any]:
        folder = self.images or reader.image_folder(self.annotations)
        images = str(folder) if (folder / records.images[0].file_name).is_file() else UNKNOWN_FOLDER
        format_ = {} if self.to == "coco" else {"format": self.to}
        blocks: dict[str, Any] = {
            name: {"annotations": str(place), "images": images, **format_} for name, place in places.items()
        }
        if rule is not None:
            tree = rule.model_dump(exclude_defaults=True, mode="json")
            blocks["groups"] = {"csv": str(self.out / TABLE)} if rule.csv and rule != self.groups else tree
        return {"data": blocks}


def _masks(splits: Mapping[str, DataSet]) -> int:
    return sum(mask is not None for split in splits.values() for mask in split.annotations.masks)


def _target(writer: Format, records: Records, path: Path) -> Path:
    """Return the path with `.json` where the format is one file, and the path itself where it is a folder."""
    return path.with_name(f"{path.name}.json") if is_one_file(writer, records) else path


def _require_partition(written: Mapping[str, DataSet], dataset: DataSet) -> None:
    """Check what was read again: each image is in one split, and only unlabeled ones may be in none."""
    found = Counter(image for split in written.values() for image in split.images.values())
    known = set(dataset.images.values())
    unlabeled = {dataset.images[image_id] for image_id in dataset.unlabeled}
    lost, foreign = known - unlabeled - found.keys(), found.keys() - known
    twice = [image for image, count in found.items() if count > 1]
    if lost or twice or foreign:
        wrong = f"{len(lost)} images in no split, {len(twice)} in several and {len(foreign)} that were not read"
        msg = f"{dataset.name}: the splits would have {wrong}; nothing is written, please report this"
        raise DataError(msg)


def _require_all_boxes(counts: Mapping[str, Counts], whole: Counts, name: str) -> None:
    """Check that no box and no crowd of a class is lost; each split has been compared with what was written."""
    boxes = tuple(map(sum, zip(*(own.boxes for own in counts.values()), strict=True)))
    crowds = sum(own.crowds for own in counts.values())
    if (boxes, crowds) != (whole.boxes, whole.crowds):
        msg = (
            f"{name}: the splits would have {boxes} boxes of the classes and {crowds} crowds instead of {whole.boxes} "
            f"and {whole.crowds}; nothing is written, please report this"
        )
        raise DataError(msg)


def _require_same_groups(
    parts: Mapping[str, Records], written: Mapping[str, DataSet], rule: GroupsConfig | None
) -> None:
    """Check that the rule gives the written files the groups that were kept together, and that none straddles."""
    read = {name: Records(list(own.images.values()), [], groups=own.groups) for name, own in written.items()}
    groups = {name: with_groups(own, rule, name).groups for name, own in read.items()}
    refuse_straddling(groups)
    for name, part in parts.items():
        if groups[name] != part.groups:
            image_id = next(key for key in part.groups if groups[name].get(key) != part.groups[key])
            wrong = f"{groups[name].get(image_id)!r} instead of {part.groups[image_id]!r}"
            msg = f"{name}: image {image_id} is in group {wrong} once it is written; give each image another file name"
            raise DataError(msg)
