"""Runs as their ledgers tell them, and which of them may be compared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from alloop.budget.prices import BOXES, CostModel, RoundCharges
from alloop.errors import ConfigError
from alloop.ledger.store import RoundRecord, read_ledger, run_folders
from alloop.results.names import Metric

_UNCOMPARED = {"checkpoint_seconds", "cache_gib", "rounds"}  # may differ between runs that are compared


@dataclass(frozen=True, slots=True)
class Run:
    """One finished or unfinished run, as its ledger tells it, priced by a cost model."""

    name: str
    strategy: str
    random_seed: int
    label_using: bool
    full_label: bool
    rounds: tuple[RoundRecord, ...]
    facts: dict[str, str]
    pool_images: int
    charged: tuple[RoundCharges, ...] = ()
    folder: Path = Path()
    cost: CostModel = field(default=BOXES)

    @property
    def replicate(self) -> int:
        """0 for a run, 1, 2, ... for its repetitions."""
        return int(self.facts.get("replay", 0))

    @property
    def paid(self) -> tuple[float, ...]:
        """What the images that each round trained on cost in all."""
        if self.cost == BOXES:
            return tuple(float(record.boxes) for record in self.rounds)
        spent = np.cumsum([self.cost.cost(charged) for charged in self.charged])
        return tuple(float(value) for value in spent[: len(self.rounds)])

    @property
    def predicted_boxes(self) -> tuple[float | None, ...]:
        """The boxes that each round was expected to have paid in all, when its images were chosen."""
        paid = np.cumsum([0, *(charged.boxes for charged in self.charged)])
        ahead = [charged.predicted_boxes for charged in self.charged[: len(self.rounds)]]
        return tuple(None if more is None else float(before) + more for before, more in zip(paid, ahead, strict=False))

    def curve(self, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """What was paid, and AP, of the rounds that have one."""
        points = [
            (p, value) for p, r in zip(self.paid, self.rounds, strict=True) if (value := r.metrics[metric]) is not None
        ]
        return np.array([p for p, _ in points], dtype=np.float64), np.array([a for _, a in points], dtype=np.float64)


def find_runs(folders: Iterable[Path], cost: CostModel = BOXES) -> list[Run]:
    """All runs in the given folders, studies and replays included, by strategy and seed.

    A strategy that was run with several settings appears once for each, named with its parameters.

    Raises:
        ConfigError: a folder without a run, the same strategy, setting and seed twice, or a cost in
            recorded seconds where none are recorded.
    """
    places = [path for folder in folders for path in run_folders(folder)]
    begun = [replace(run, cost=cost) for path in places if (run := read_run(path)).facts.get("config")]
    if not begun:
        msg = f"{places[0]}: this run never began; start it again to see why"
        raise ConfigError(msg)
    runs = _told_apart(begun)
    unmeasured = [run.name for run in runs if not any(charged.seconds for charged in run.charged)]
    if cost.second and unmeasured:
        msg = f"--cost {cost}: {unmeasured[0]} has no recorded seconds (labels were simulated); name a price a box"
        raise ConfigError(f"{msg}, for example --cost draw")
    return sorted(
        runs, key=lambda run: (run.full_label, run.strategy != "random", run.strategy, run.random_seed, run.replicate)
    )


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """Runs of one strategy under several settings get names of their own; twins are refused."""
    settings: dict[str, set[str]] = {}
    for run in runs:
        settings.setdefault(run.strategy, set()).add(_setting(run))
    named: dict[tuple[str, int, int], Run] = {}
    for run in runs:
        several = len(settings[run.strategy]) > 1 and not run.full_label
        name = f"{run.strategy} ({_setting(run)})" if several else run.strategy
        twin = named.get((name, run.random_seed, run.replicate))
        if twin is not None:
            msg = f"{twin.name} and {run.name}: both are {name} under seed {run.random_seed}; give one of them"
            raise ConfigError(msg)
        named[name, run.random_seed, run.replicate] = replace(run, strategy=name)
    return list(named.values())


def _setting(run: Run) -> str:
    parameters = [f"{key}={value}" for key, value in config_of(run).get("strategy", {}).items() if key != "name"]
    return ", ".join(parameters) or "defaults"


def config_of(run: Run) -> dict[str, Any]:
    """The config of a run as plain values."""
    return _parsed(run.facts.get("config", "{}"))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  both safe
    return tree


def read_run(folder: Path) -> Run:
    """One run from its ledger."""
    with read_ledger(folder) as ledger:
        facts, rounds, pool, charged = ledger.facts(), ledger.rounds(), ledger.pool_size(), ledger.charged()
    strategy = facts.get("strategy", "unknown")
    full = pool > 0 and bool(charged) and charged[0].images == pool
    return Run(
        name=folder.name,
        strategy="full_label" if full else strategy,
        random_seed=int(facts.get("random_seed", 0)),
        label_using=facts.get("label_using") == "true",
        full_label=full,
        rounds=tuple(rounds),
        facts=facts,
        pool_images=pool,
        charged=tuple(charged),
        folder=folder,
    )


def refuse_unlike(runs: Sequence[Run]) -> None:
    """Only runs on the same data, recipe and seed sets can be compared.

    Raises:
        ConfigError: naming the two runs and the key that differs.
    """
    fair = [run for run in runs if not run.full_label]
    for run in fair[1:]:
        first = fair[0]
        for key, before, now in (("data", first.facts.get("data"), run.facts.get("data")), *_recipes(first, run)):
            if before != now:
                values = f"{_short(before)} and {_short(now)}"
                msg = f"{first.name} and {run.name} cannot be compared: {key} differs ({values})"
                raise ConfigError(msg)
    by_seed: dict[int, Run] = {}
    for run in fair:
        twin = by_seed.setdefault(run.random_seed, run)
        if twin.facts.get("seed_set_sha256") != run.facts.get("seed_set_sha256"):
            msg = f"{twin.name} and {run.name} cannot be compared: their seed sets differ under seed {run.random_seed}"
            raise ConfigError(msg)


def _recipes(a: Run, b: Run) -> Iterable[tuple[str, Any, Any]]:
    first, second = config_of(a), config_of(b)
    for block in ("detector", "training", "loop"):
        for key in sorted({*first.get(block, {}), *second.get(block, {})} - _UNCOMPARED):
            yield f"{block}.{key}", first.get(block, {}).get(key), second.get(block, {}).get(key)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:24]}…"
