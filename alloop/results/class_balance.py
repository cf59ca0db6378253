"""How boxes are distributed over the classes: what each strategy bought of each class, and its AP there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from alloop.ledger.labeled_images import class_counts
from alloop.ledger.store import read_ledger
from alloop.results.compare import Comparison
from alloop.results.gaps import ap_between, distinct
from alloop.results.runs import Run

RARE_SHARE = 1 / 3  # of the classes that the pool contains, those with the fewest boxes
# number of pool images that contain a class: the groups of LVIS (Gupta, Dollar and Girshick, CVPR 2019)
LVIS_GROUPS = {"rare (1 to 10 images)": (1, 10), "common (to 100)": (11, 100), "frequent": (101, 10**9)}


def class_entropy(counts: Float[np.ndarray, " k"]) -> float:
    """Return the entropy in nats of the class shares: log k when all are equal, 0 when there is no box."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum() + 0.0)


def class_divergence(counts: Float[np.ndarray, " k"], full: Float[np.ndarray, " k"]) -> float:
    """Return the Kullback-Leibler divergence in nats of a subset's class shares from the full set's.

    It is 0 for an empty subset.
    """
    present = counts > 0
    if not present.any():
        return 0.0
    p, q = counts[present] / counts.sum(), full[present] / full.sum()
    return float((p * np.log(p / q)).sum())


@dataclass(frozen=True, slots=True, eq=False)
class StrategyClasses:
    """The boxes and the AP of each class under one strategy, as means over its seeds.

    Attributes:
        strategy: its name.
        bought: boxes of each class that were paid for up to and including each round.
        ap: AP of each class at equal cost; None where it is unknown.
    """

    strategy: str
    bought: Float[np.ndarray, "rounds k"]
    ap: dict[str, float | None]

    def entropy(self) -> list[float]:
        """Return the entropy of the class shares after each round, in nats."""
        return [class_entropy(counts) for counts in self.bought]

    def divergence(self, pool: Float[np.ndarray, " k"] | None) -> list[float | None]:
        """Return the divergence from the pool after each round, in nats; None where the pool is unknown."""
        return [None if pool is None else class_divergence(counts, pool) for counts in self.bought]

    def ap_of(self, names: Sequence[str]) -> float | None:
        """Return the mean AP of some classes, over those that have entry."""
        known = [value for name in names if (value := self.ap.get(name)) is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True, slots=True, eq=False)
class ClassBalance:
    """The classes of a comparison.

    Attributes:
        names: class names.
        pool: boxes of each class in the pool; None where people are asked.
        strategies: one entry for each strategy.
        paid: the cost at which AP was read; None where the curves have no common range.
        pool_images: number of pool images that contain each class.
    """

    names: tuple[str, ...]
    pool: Float[np.ndarray, " k"] | None
    strategies: tuple[StrategyClasses, ...]
    paid: float | None
    pool_images: Float[np.ndarray, " k"] | None = None

    @property
    def known(self) -> Float[np.ndarray, " k"]:
        """Boxes of the pool, or of everything that was bought where the pool is unknown."""
        return np.sum([entry.bought[-1] for entry in self.strategies], axis=0) if self.pool is None else self.pool

    @property
    def rare(self) -> list[str]:
        """The third of the present classes that has the fewest boxes, at least one class."""
        counts = self.known
        present = [k for k in np.argsort(counts, kind="stable") if counts[k] > 0]
        return [self.names[k] for k in sorted(present[: max(1, round(RARE_SHARE * len(present)))])]

    @property
    def groups(self) -> dict[str, list[str]]:
        """Classes grouped by frequency: the rarest third against the others, and the groups of LVIS."""
        present = [name for name, count in zip(self.names, self.known, strict=True) if count > 0]
        groups = {"majority": [name for name in present if name not in self.rare], "minority (*)": self.rare}
        if self.pool_images is not None:
            for group, (low, high) in LVIS_GROUPS.items():
                counted = zip(self.names, self.pool_images, strict=True)
                groups[group] = [name for name, images in counted if low <= images <= high]
        return {group: names for group, names in groups.items() if names}


def class_balance(comparison: Comparison) -> ClassBalance | None:
    """Read what each run bought of each class; return None where the runs did not record their classes."""
    runs = [run for run in comparison.runs if run.rounds and not run.full_label and run.facts.classes]
    if not runs:
        return None
    facts = runs[0].facts
    names = facts.classes or ()
    ends = [run.paid[-1] for run in runs]
    paid = min(ends) if min(ends) >= max(run.paid[0] for run in runs) else None
    return ClassBalance(
        names,
        _counts(facts.pool_class_boxes),
        tuple(
            _strategy_classes(name, [run for run in runs if run.strategy == name], names, paid)
            for name in dict.fromkeys(run.strategy for run in runs)
        ),
        paid,
        _counts(facts.pool_class_images),
    )


def _counts(counts: Sequence[int] | None) -> Float[np.ndarray, " k"] | None:
    return None if counts is None else np.array(counts, dtype=np.float64)


def _strategy_classes(strategy: str, runs: Sequence[Run], names: Sequence[str], paid: float | None) -> StrategyClasses:
    rounds = min(len(run.rounds) for run in runs)
    bought = np.mean([_bought(run, len(names))[:rounds] for run in runs], axis=0)
    return StrategyClasses(strategy, bought, {name: _mean_class_ap(runs, name, paid) for name in names})


def _bought(run: Run, classes: int) -> Float[np.ndarray, "rounds k"]:
    counts = np.zeros((len(run.charged), classes))
    with read_ledger(run.folder) as ledger:
        for round_, label, boxes in class_counts(ledger):
            counts[round_, label] = boxes
    return counts.cumsum(axis=0)


def _mean_class_ap(runs: Sequence[Run], name: str, paid: float | None) -> float | None:
    known = [value for run in runs if (value := _class_ap(run, name, paid)) is not None]
    return float(np.mean(known)) if known else None


def _class_ap(run: Run, name: str, paid: float | None) -> float | None:
    """Return the AP of one class, interpolated between the rounds that have entry."""
    points = [(p, v) for p, r in zip(run.paid, run.rounds, strict=True) if (v := r.per_class.get(name)) is not None]
    if paid is None or not points:
        return None
    curve = distinct(np.array([p for p, _ in points]), np.array([v for _, v in points]))
    return float(ap_between(curve, np.clip([paid], curve.cost[0], curve.cost[-1]))[0])
