"""Random: every subset of the pool is as likely as any other. The baseline of every comparison."""

from dataclasses import dataclass
from typing import ClassVar

from alloop.query import Need, Query
from alloop.values import Selection


@dataclass(frozen=True)
class Random:
    """Choose images at random."""

    source: ClassVar[str] = "baseline"

    @property
    def needs(self) -> frozenset[Need]:
        """Need nothing."""
        return frozenset()

    def select(self, query: Query) -> Selection:
        """Draw `count` images without replacement; the utilities are random numbers."""
        image_ids = sorted(query.unlabeled)
        return query.top(image_ids, query.rng.random(len(image_ids)))
