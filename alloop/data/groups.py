"""Groups: images that belong together, such as the frames of a video or the pictures of a patient.

Two images of one group often look nearly alike. A group in the pool and in the test split makes AP measure what was
memorized, so no group may be in two splits.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from alloop.config.blocks import GroupsConfig
from alloop.data.image_index import match_names
from alloop.data.records import Records
from alloop.errors import ConfigError, DataError
from alloop.values import ImageId, ImageRecord

SHOWN = 3  # groups or images that a message names

GroupOf = Callable[[ImageRecord], str | None]


def group_rule(text: str, key: str = "--group") -> GroupsConfig:
    """Return the rule that a word of the command line names.

    Args:
        text: `folder`, `field:NAME`, `pattern:REGEX` or `csv:FILE`.
        key: the option, for messages.

    Raises:
        ConfigError: it is none of these, or the pattern is no regular expression.
    """
    kind, colon, value = text.partition(":")
    if text != "folder" and (kind not in {"field", "pattern", "csv"} or not colon or not value):
        msg = f"{key}: {text!r} is no rule; give folder, field:NAME, pattern:REGEX or csv:FILE"
        raise ConfigError(msg)
    try:
        return GroupsConfig.model_validate({kind: value} if colon else {"folder": True})
    except ValueError as error:
        msg = f"{key}: {text!r} cannot be used: {error}"
        raise ConfigError(msg) from error


def with_groups(records: Records, rule: GroupsConfig | None, name: str) -> Records:
    """Return records whose images have the groups that a rule gives them; none without a rule.

    Args:
        records: what was read, under the file names that the images really have.
        rule: the rule; its field was read with the annotations.
        name: how messages call the records.

    Raises:
        DataError: an image without a group, or a CSV file that cannot be used or whose names may mean several images.
    """
    groups = groups_of(records.images, rule, records.groups, name) if rule else {}
    return msgspec.structs.replace(records, groups=groups)


def groups_of(
    images: Sequence[ImageRecord], rule: GroupsConfig, fields: Mapping[ImageId, str], name: str
) -> dict[ImageId, str]:
    """Return the group of each image; `fields` are the values that the field of the rule has.

    Raises:
        DataError: as `with_groups`.
    """
    group_of = _group_of(images, rule, fields)
    found = {image.image_id: group_of(image) or "" for image in images}
    without = [image for image in images if not found[image.image_id]]
    if without:
        listed = ", ".join(f"{image.file_name!r} (image {image.image_id})" for image in without[:SHOWN])
        msg = f"{name}: {len(without)} images have no group, first: {listed}; {_help(rule)}"
        raise DataError(msg)
    return found


def _group_of(images: Sequence[ImageRecord], rule: GroupsConfig, fields: Mapping[ImageId, str]) -> GroupOf:
    if rule.field is not None:
        return lambda image: fields.get(image.image_id)
    if rule.pattern is not None:
        return _by_pattern(re.compile(rule.pattern))
    if rule.csv is not None:
        return _by_table(_table(rule.csv), images, rule.csv)
    return lambda image: str(PurePosixPath(image.file_name).parent)


def _by_pattern(pattern: re.Pattern[str]) -> GroupOf:
    """Return the first group that takes part in the match, or else the whole match."""

    def group_of(image: ImageRecord) -> str | None:
        match = pattern.search(image.file_name)
        return match and next((text for text in match.groups() if text is not None), match[0])

    return group_of


def _by_table(groups: Mapping[str, str], images: Sequence[ImageRecord], path: Path) -> GroupOf:
    matches = match_names(list(groups), images, str(path))
    of_image = {image.image_id: groups[name] for name, image in matches.by_name.items()}
    return lambda image: of_image.get(image.image_id)


def _table(path: Path) -> dict[str, str]:
    """Return the group of each file name of a CSV file with the columns `file_name` and `group`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: cannot be read as CSV in UTF-8 ({error})"
        raise DataError(msg) from error
    groups: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        name, group = (row.get("file_name") or "").strip(), (row.get("group") or "").strip()
        if not name or not group:
            msg = f"{path}, row {number}: expected a file name and a group under the head file_name,group"
            raise DataError(msg)
        if groups.setdefault(name, group) != group:
            msg = f"{path}, row {number}: {name!r} is in group {groups[name]!r} already; an image has one group"
            raise DataError(msg)
    return groups


def _help(rule: GroupsConfig) -> str:
    if rule.field is not None:
        return f"give each image the field {rule.field!r}; COCO and Label Studio have fields, other formats have none"
    if rule.pattern is not None:
        return f"the pattern {rule.pattern!r} does not match; add |^.*$ to make each such image its own group"
    return f"add them to {rule.csv}"


def straddling(splits: Mapping[str, Mapping[ImageId, str]]) -> dict[str, list[str]]:
    """Return the groups that are in more than one split, with the names of these splits, both in order."""
    where: dict[str, list[str]] = {}
    for name, groups in splits.items():
        for group in dict.fromkeys(groups.values()):
            where.setdefault(group, []).append(name)
    return {group: names for group, names in sorted(where.items()) if len(names) > 1}


def refuse_straddling(splits: Mapping[str, Mapping[ImageId, str]]) -> None:
    """Raise DataError when a group is in more than one split.

    Args:
        splits: the group of each image, by the name of the split.
    """
    found = straddling(splits)
    if found:
        listed = "; ".join(f"{group!r} in {' and '.join(names)}" for group, names in list(found.items())[:SHOWN])
        msg = (
            f"data.groups: {len(found)} groups are in more than one split, first: {listed}; `alloop split` makes "
            "splits that share no group"
        )
        raise DataError(msg)
