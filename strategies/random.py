"""Random: every subset of the pool is as likely as any other. The baseline of every comparison."""

from dataclasses import dataclass
from typing import ClassVar

from alloop.query import Need, Query
from alloop.values import Selection


@dataclass(frozen=True)
class Random:
    """Images in random order."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    source: ClassVar[str] = "baseline"

    def select(self, query: Query) -> Selection:
        """Draw `count` images without replacement; utilities are random numbers."""
        ids = sorted(query.unlabeled)
        return query.top(ids, query.rng.random(len(ids)))
