"""The pool: which images are labeled and which are not, derived from the charges; and the order of seed sets."""

import re
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from alloop import randomness
from alloop.errors import AlloopError, ConfigError
from alloop.values import ImageId


@dataclass(frozen=True, slots=True)
class Pool:
    """All image ids, ascending, and the labeled ones among them."""

    image_ids: tuple[ImageId, ...]
    labeled: frozenset[ImageId]

    @classmethod
    def of(cls, image_ids: Iterable[ImageId], labeled: Collection[ImageId]) -> "Pool":
        """Return a pool; raise AlloopError when a labeled image is not part of it."""
        ids = tuple(sorted(image_ids))
        unknown = set(labeled) - set(ids)
        if unknown:
            msg = f"image {min(unknown)} is labeled but not in the pool; was the annotation file changed?"
            raise AlloopError(msg)
        return cls(ids, frozenset(labeled))

    @property
    def unlabeled(self) -> tuple[ImageId, ...]:
        """The images that may still be bought, ascending."""
        return tuple(i for i in self.image_ids if i not in self.labeled)


def seed_set_named(path: Path, image_ids: Container[ImageId]) -> list[ImageId]:
    """Return the image ids that a file names, in its order: one id per line; lines that begin with # are remarks.

    Raises:
        ConfigError: the file cannot be read, or a line is no id of the pool, or names an image again.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"loop.seed_images: {path} cannot be read ({error})"
        raise ConfigError(msg) from error
    named: dict[ImageId, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        where = f"loop.seed_images: {path}, line {number}"
        if not re.fullmatch(r"-?\d+", text):
            raise ConfigError(f"{where}: expected an image id, found {text[:40]!r}")
        image_id = ImageId(int(text))
        if image_id in named:
            raise ConfigError(f"{where}: image {text} stands on line {named[image_id]} already; name it once")
        if image_id not in image_ids:
            raise ConfigError(f"{where}: image {text} is not in the pool")
        named[image_id] = number
    if not named:
        raise ConfigError(f"loop.seed_images: {path} names no image; write one id a line")
    return list(named)


def seed_set_order(
    image_ids: Iterable[ImageId], random_seed: int, groups: Mapping[ImageId, str] = MappingProxyType({})
) -> list[ImageId]:
    """Return all images in the order in which seed sets are drawn, which depends on the pool and the random seed alone.

    A larger seed set begins with the smaller one of the same seed. Where images have groups, the groups are drawn: one
    image of each group comes first, in random order of the groups, then a second one of each, and so on.
    """
    ids = sorted(image_ids)
    order = [ids[row] for row in randomness.rng(random_seed, "seed_set").permutation(len(ids))]
    if not groups:
        return order
    names = sorted({groups[image_id] for image_id in ids})
    turns = randomness.rng(random_seed, "seed_set", "groups").permutation(len(names)).tolist()
    turn = dict(zip(names, turns, strict=True))
    drawn: Counter[str] = Counter()
    places = {}
    for image_id in order:
        group = groups[image_id]
        places[image_id] = (drawn[group], turn[group])
        drawn[group] += 1
    return sorted(order, key=places.__getitem__)
