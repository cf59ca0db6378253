"""The pool: which images are labeled, which are not. Derived from the charges, never stored twice."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from alloop import randomness
from alloop.errors import AlloopError
from alloop.values import ImageId


@dataclass(frozen=True, slots=True)
class Pool:
    """All image ids, ascending, and the labeled ones among them."""

    image_ids: tuple[ImageId, ...]
    labeled: frozenset[ImageId]

    @classmethod
    def of(cls, image_ids: Iterable[ImageId], labeled: Collection[ImageId]) -> "Pool":
        """Build a pool; raise AlloopError when a labeled image is not part of it."""
        ids = tuple(sorted(image_ids))
        unknown = set(labeled) - set(ids)
        if unknown:
            msg = f"image {min(unknown)} is labeled but not in the pool; was the annotation file changed?"
            raise AlloopError(msg)
        return cls(ids, frozenset(labeled))

    @property
    def unlabeled(self) -> tuple[ImageId, ...]:
        """What may still be bought, ascending."""
        return tuple(i for i in self.image_ids if i not in self.labeled)


def seed_set_order(image_ids: Iterable[ImageId], random_seed: int) -> list[ImageId]:
    """The order in which seed sets are drawn: a function of the pool and the seed, of no strategy.

    A larger seed set begins with the smaller one of the same seed.
    """
    ids = sorted(image_ids)
    order = randomness.rng(random_seed, "seed_set").permutation(len(ids))
    return [ids[row] for row in order]
