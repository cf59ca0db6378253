"""Which classes each strategy bought, and what became of their AP."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from alloop.ledger.store import read_ledger
from alloop.results.compare import Comparison
from alloop.results.curves import class_divergence, class_entropy
from alloop.results.runs import Run

RARE_SHARE = 1 / 3  # of the classes that the pool holds, those with the fewest boxes
# images of the pool that hold a class: the groups of LVIS (Gupta, Dollar and Girshick, CVPR 2019)
LVIS_GROUPS = {"rare (1 to 10 images)": (1, 10), "common (to 100)": (11, 100), "frequent": (101, 10**9)}


@dataclass(frozen=True, slots=True, eq=False)
class StrategyClasses:
    """One strategy, means over its seeds: boxes of each class by round, AP of each class at equal cost."""

    strategy: str
    bought: Float[np.ndarray, "rounds k"]  # up to and with each round
    ap: dict[str, float | None]

    def entropy(self) -> list[float]:
        """Of the class shares after each round, in nats."""
        return [class_entropy(counts) for counts in self.bought]

    def divergence(self, pool: Float[np.ndarray, " k"] | None) -> list[float | None]:
        """Kullback-Leibler divergence from the pool after each round, in nats; None where the pool is unknown."""
        return [None if pool is None else class_divergence(counts, pool) for counts in self.bought]

    def ap_of(self, names: Sequence[str]) -> float | None:
        """Mean AP of some classes, of those that have one."""
        known = [value for name in names if (value := self.ap.get(name)) is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True, slots=True, eq=False)
class ClassBalance:
    """The classes of a comparison."""

    names: tuple[str, ...]
    pool: Float[np.ndarray, " k"] | None  # boxes; None where people are asked
    strategies: tuple[StrategyClasses, ...]
    paid: float | None  # what AP was read at; None where the curves share no range
    pool_images: Float[np.ndarray, " k"] | None = None  # images that hold each class

    @property
    def known(self) -> Float[np.ndarray, " k"]:
        """Boxes of the pool, or of everything that was bought where the pool is unknown."""
        return np.sum([one.bought[-1] for one in self.strategies], axis=0) if self.pool is None else self.pool

    @property
    def rare(self) -> list[str]:
        """The third of the classes that are there which has the fewest boxes, one at least."""
        counts = self.known
        present = [k for k in np.argsort(counts, kind="stable") if counts[k] > 0]
        return [self.names[k] for k in sorted(present[: max(1, round(RARE_SHARE * len(present)))])]

    @property
    def groups(self) -> dict[str, list[str]]:
        """Classes by how many there are of them: the rarest third against the others, and as LVIS groups them."""
        present = [name for name, count in zip(self.names, self.known, strict=True) if count > 0]
        found = {"majority": [name for name in present if name not in self.rare], "minority (*)": self.rare}
        if self.pool_images is not None:
            for group, (low, high) in LVIS_GROUPS.items():
                of = zip(self.names, self.pool_images, strict=True)
                found[group] = [name for name, images in of if low <= images <= high]
        return {group: names for group, names in found.items() if names}


def class_balance(comparison: Comparison) -> ClassBalance | None:
    """Read what each run bought; None where the runs did not record their classes."""
    runs = [run for run in comparison.runs if run.rounds and not run.full_label and "classes" in run.facts]
    if not runs:
        return None
    names = tuple(json.loads(runs[0].facts["classes"]))
    pool = _parsed(runs[0], "pool_class_boxes")
    ends = [run.paid[-1] for run in runs]
    paid = min(ends) if min(ends) >= max(run.paid[0] for run in runs) else None
    return ClassBalance(
        names,
        None if pool is None else np.array(pool, dtype=np.float64),
        tuple(
            _of_strategy(name, [run for run in runs if run.strategy == name], names, paid)
            for name in dict.fromkeys(run.strategy for run in runs)
        ),
        paid,
        np.array(images, dtype=np.float64) if (images := _parsed(runs[0], "pool_class_images")) else None,
    )


def _parsed(run: Run, fact: str) -> list[float] | None:
    """A recorded list; None where nobody knew it, or where an older version did not record it."""
    found: list[float] | None = json.loads(run.facts.get(fact, "null"))
    return found


def _of_strategy(strategy: str, runs: Sequence[Run], names: Sequence[str], paid: float | None) -> StrategyClasses:
    rounds = min(len(run.rounds) for run in runs)
    bought = np.mean([_bought(run, len(names))[:rounds] for run in runs], axis=0)
    found = {name: [value for run in runs if (value := _class_ap(run, name, paid)) is not None] for name in names}
    return StrategyClasses(
        strategy, bought, {name: float(np.mean(values)) if values else None for name, values in found.items()}
    )


def _bought(run: Run, classes: int) -> Float[np.ndarray, "rounds k"]:
    counts = np.zeros((len(run.charged), classes))
    with read_ledger(run.folder) as ledger:
        for round_, label, boxes in ledger.class_counts():
            counts[round_, label] = boxes
    return counts.cumsum(axis=0)


def _class_ap(run: Run, name: str, paid: float | None) -> float | None:
    """AP of one class, between the rounds that have one."""
    points = [(p, v) for p, r in zip(run.paid, run.rounds, strict=True) if (v := r.per_class.get(name)) is not None]
    if paid is None or not points:
        return None
    return float(np.interp(paid, [p for p, _ in points], [v for _, v in points]))
