"""Train, reference and test splits of annotated images: each class has its share, and no group is in two splits."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import msgspec
import numpy as np

from alloop.data.records import Box, Records
from alloop.data.stratification import Amounts, stratified
from alloop.errors import ConfigError, DataError, nearest
from alloop.randomness import rng
from alloop.values import ImageId

SPLITS = ("train", "reference", "test")
TOLERANCE = 2e-3  # three shares of 0.333 are meant to be everything


def parsed_shares(text: str, key: str = "--shares") -> dict[str, float]:
    """Return the shares of the splits, in the order train, reference, test, with the sum 1.

    Args:
        text: for example `train=0.8,test=0.2`.
        key: the option, for messages.

    Raises:
        ConfigError: it names other splits, one split twice or fewer than two, or the numbers are no shares.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        if name not in SPLITS:
            msg = (
                f"{key}: {name!r} is no split{nearest(name, SPLITS)}; give for example train=0.7,reference=0.1,test=0.2"
            )
            raise ConfigError(msg)
        if name in shares:
            msg = f"{key}: {name} stands twice; give each split one share"
            raise ConfigError(msg)
        shares[name] = _share(number, f"{key}: {name}")
    total = math.fsum(shares.values())
    if len(shares) < 2 or abs(total - 1) > TOLERANCE:
        msg = f"{key}: {text!r} gives {len(shares)} splits with the sum {total:g}; give two or three with the sum 1"
        raise ConfigError(msg)
    return {name: shares[name] / total for name in SPLITS if name in shares}


def _share(number: str, key: str) -> float:
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        msg = f"{key}: expected a share above 0 and below 1, found {number!r}"
        raise ConfigError(msg)
    return share


def split_records(records: Records, shares: Mapping[str, float], random_seed: int, name: str) -> dict[str, Records]:
    """Return the records of each split, by its name.

    The split of an image depends on file names, groups, classes and the random seed, and not on the order or the ids
    of the images. Images without an object count as a class of their own. A group goes as a whole. An image that nobody
    has finished annotating is of use in train alone: it is left out where its group is in another split, or where there
    is no train split. A group without any annotated image is in train.

    Args:
        records: validated records; where `groups` is empty, each image is a group of its own.
        shares: the wished share of each split.
        random_seed: another seed gives another division that is as good.
        name: how messages call the records.

    Returns:
        records with all categories, and with images and boxes in the order of the input.

    Raises:
        DataError: fewer groups with annotated images than splits.
    """
    group_of = {image.image_id: records.groups.get(image.image_id, image.file_name) for image in records.images}
    labeled = [image.image_id for image in records.images if image.image_id not in records.unlabeled]
    names = sorted({group_of[image_id] for image_id in labeled})
    if len(names) < len(shares):
        what = "groups with annotated images" if records.groups else "annotated images"
        msg = f"{name}: has {len(names)} {what} for {len(shares)} splits; give fewer splits, or smaller groups"
        raise DataError(msg)
    amounts = _amounts(records, labeled, group_of, names)
    positions = stratified(amounts, np.array(list(shares.values())), rng(random_seed, "split"))
    splits = dict(zip(names, (list(shares)[position] for position in positions), strict=True))
    split_of = {image_id: splits.get(group, "train") for image_id, group in group_of.items()}
    for image_id in records.unlabeled:
        if split_of[image_id] != "train":
            del split_of[image_id]
    return _parts(records, list(shares), split_of)


def _amounts(
    records: Records, labeled: Sequence[ImageId], group_of: Mapping[ImageId, str], names: Sequence[str]
) -> Amounts:
    """Count boxes of each class, then empty images, then images in each group."""
    rows = {group: row for row, group in enumerate(names)}
    row_of = {image_id: rows[group_of[image_id]] for image_id in labeled}
    columns = {category.id: column for column, category in enumerate(records.categories)}
    boxes = ((row_of[box.image_id], columns[box.category_id]) for box in records.annotations)
    with_boxes = {box.image_id for box in records.annotations}
    empty = ((row_of[image_id], len(columns)) for image_id in labeled if image_id not in with_boxes)
    images = ((row, len(columns) + 1) for row in row_of.values())
    units = np.fromiter(chain(boxes, empty, images), dtype=np.dtype((np.int64, 2)))
    return Amounts.counted(units[:, 0], units[:, 1], len(names), len(columns) + 2)


def _parts(records: Records, names: Sequence[str], split_of: Mapping[ImageId, str]) -> dict[str, Records]:
    """Return the images of each split with what belongs to them; images without a split are left out."""
    boxes: dict[str, list[Box]] = {name: [] for name in names}
    for box in records.annotations:
        boxes[split_of[box.image_id]].append(box)
    parts = {}
    for name in names:
        images = [image for image in records.images if split_of.get(image.image_id) == name]
        ids = {image.image_id for image in images}
        parts[name] = msgspec.structs.replace(
            records,
            images=images,
            annotations=boxes[name],
            unlabeled=records.unlabeled & ids,
            groups={image_id: group for image_id, group in records.groups.items() if image_id in ids},
            notes=(),
        )
    return parts
