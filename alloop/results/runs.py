"""Finished and unfinished runs as their ledgers record them, and which of them may be compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from alloop.budget.charges import RoundCharges
from alloop.budget.prices import BOXES, CostModel
from alloop.config.blocks import Block, LoopConfig
from alloop.config.plugin_blocks import DETECTOR_CHANGES_NO_RESULT
from alloop.config.tables import DETECTORS
from alloop.config.training import BEFORE_THE_KEY, CHANGES_NO_RESULT, SemiSupervisedConfig, TrainingConfig
from alloop.errors import ConfigError
from alloop.ledger.facts import RunFacts
from alloop.ledger.store import RoundRecord, read_ledger, run_folders
from alloop.plugins import load_class, plain_parameters, sibling_parameters
from alloop.results.limits import Limit, run_limits
from alloop.results.names import UNITS, Metric, measured

# may differ between runs that are compared; what `seed_images` names is compared as the seed set, a file of weights
# by its content
_UNCOMPARED = {*CHANGES_NO_RESULT, *DETECTOR_CHANGES_NO_RESULT, "rounds", "seed_images"}


@dataclass(frozen=True, slots=True)
class Run:
    """One run as its ledger records it, priced by a cost model.

    `strategy` is the name under which the run is compared: that of the strategy, with its parameters where one strategy
    was run with several settings, or `full_label` for a run on the whole pool. `limits` says what keeps the run from an
    answer.
    """

    name: str
    strategy: str
    random_seed: int
    label_using: bool
    full_label: bool
    rounds: tuple[RoundRecord, ...]
    facts: RunFacts
    pool_images: int
    charged: tuple[RoundCharges, ...] = ()
    folder: Path = Path()
    cost: CostModel = field(default=BOXES)
    limits: tuple[Limit, ...] = ()

    @property
    def replicate(self) -> int:
        """0 for a run, and 1, 2, ... for its repetitions."""
        return self.facts.replicate

    @property
    def unit(self) -> str:
        """What is paid for, in the plural: `boxes`, or `labels` of classification."""
        return UNITS[self.facts.task]

    @property
    def measured(self) -> tuple[Metric, ...]:
        """The metrics of its task; the first is the one that curves are drawn of."""
        return measured(self.facts.task)

    @property
    def paid(self) -> tuple[float, ...]:
        """The total cost of the images that each round trained on."""
        if self.cost == BOXES:
            return tuple(float(record.boxes) for record in self.rounds)
        spent = np.cumsum([self.cost.cost(charges) for charges in self.charged])
        return tuple(float(value) for value in spent[: len(self.rounds)])

    @property
    def predicted_boxes(self) -> tuple[float | None, ...]:
        """The total boxes that each round was expected to have paid when its images were chosen, None where unknown."""
        before = np.cumsum([0, *(charges.boxes for charges in self.charged)])
        predicted = [charges.predicted_boxes for charges in self.charged[: len(self.rounds)]]
        pairs = zip(before, predicted, strict=False)
        return tuple(None if boxes is None else float(paid) + boxes for paid, boxes in pairs)

    def curve(self, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """Return what was paid and the metric, of the rounds that have one."""
        points = [
            (paid, value)
            for paid, record in zip(self.paid, self.rounds, strict=True)
            if (value := record.metrics[metric]) is not None
        ]
        costs, values = [paid for paid, _ in points], [value for _, value in points]
        return np.array(costs, dtype=np.float64), np.array(values, dtype=np.float64)

    def plot(self, metric: Metric | None = None) -> Any:
        """Return a matplotlib figure of a metric against what was paid."""
        return self._alone().plot(metric)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each round; see `Comparison.to_frame`."""
        return self._alone().to_frame()

    def _alone(self) -> Any:
        import alloop  # noqa: PLC0415  a comparison is made of runs, so it is reached by its public name

        return alloop.compare_runs([self.folder], cost=self.cost)


def find_runs(folders: Iterable[Path], cost: CostModel = BOXES) -> list[Run]:
    """Return all runs in the given folders, studies and replicates included, by strategy and seed.

    A strategy that was run with several settings appears once for each, named with its parameters.

    Raises:
        ConfigError: a folder without a run, the same strategy, setting and seed twice, or a cost in
            recorded seconds where none are recorded.
    """
    paths = [path for folder in folders for path in run_folders(folder)]
    begun = [replace(run, cost=cost) for path in paths if (run := read_run(path)) is not None]
    if not begun:
        msg = f"{paths[0]}: this run never began; start it again to see why"
        raise ConfigError(msg)
    runs = _distinctly_named(begun)
    untimed = [run.name for run in runs if not any(charges.seconds for charges in run.charged)]
    if cost.needs_seconds and untimed:
        msg = f"--cost {cost}: {untimed[0]} has no recorded seconds (labels were simulated); name a price per box"
        raise ConfigError(f"{msg}, for example --cost draw")
    return sorted(
        runs, key=lambda run: (run.full_label, run.strategy != "random", run.strategy, run.random_seed, run.replicate)
    )


def open_run(folder: str | Path) -> Run:
    """Return one run: its rounds, what they cost, and what it began with. It may be under way.

    `run.rounds` has a record for each finished round with `images`, `boxes` and `metrics`, `run.curve("ap")` the boxes
    paid and AP as two arrays, `run.charged` what each round cost, and `run.facts` config, classes and versions.

    Args:
        folder: the `--out` folder of `alloop run`, or a run in the folder of a study.

    Raises:
        ConfigError: there is no run, or it never began.
        DamagedFileError: its ledger cannot be read.
    """
    run = read_run(Path(folder))
    if run is None:
        msg = f"{folder}: this run never began; start it again to see why"
        raise ConfigError(msg)
    return run


def read_run(folder: Path) -> Run | None:
    """Return one run from its ledger; None when it never began."""
    with read_ledger(folder) as ledger:
        facts, rounds, pool, charged = ledger.facts(), ledger.rounds(), ledger.pool_size(), ledger.charged()
        limits = run_limits(ledger, rounds)
    if facts is None:
        return None
    full = pool > 0 and bool(charged) and charged[0].images == pool
    return Run(
        name=folder.name,
        strategy="full_label" if full else facts.strategy,
        random_seed=facts.random_seed,
        label_using=facts.label_using,
        full_label=full,
        rounds=tuple(rounds),
        facts=facts,
        pool_images=pool,
        charged=tuple(charged),
        folder=folder,
        limits=tuple(limits),
    )


def _distinctly_named(runs: Sequence[Run]) -> list[Run]:
    """Name runs of one strategy under several settings with their parameters; refuse the same run twice."""
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
    """Return the config of a run as plain values."""
    return _parsed(run.facts.config)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  both safe
    except yaml.YAMLError:  # the fast one refuses names of files that are no text in UTF-8
        tree = yaml.safe_load(text)
    return tree


def refuse_unlike(runs: Sequence[Run]) -> None:
    """Refuse to compare runs that differ in data, detector, training, loop or seed set.

    Raises:
        ConfigError: naming the two runs and the key that differs.
    """
    fair = [run for run in runs if not run.full_label]
    for run in fair[1:]:
        first = fair[0]
        for key, before, now in (("data", first.facts.data, run.facts.data), *_recipes(first, run)):
            if before != now:
                values = f"{_short(before)} and {_short(now)}"
                msg = f"{first.name} and {run.name} cannot be compared: {key} differs ({values})"
                raise ConfigError(msg)
    by_seed: dict[int, Run] = {}
    for run in fair:
        twin = by_seed.setdefault(run.random_seed, run)
        if twin.facts.seed_set_sha256 != run.facts.seed_set_sha256:
            msg = f"{twin.name} and {run.name} cannot be compared: their seed sets differ under seed {run.random_seed}"
            raise ConfigError(msg)


def _recipes(a: Run, b: Run) -> Iterable[tuple[str, Any, Any]]:
    """Yield each key that runs must share, with both values."""
    first, second = config_of(a), config_of(b)
    yield "evaluation.max_detections", counted_detections(first), counted_detections(second)
    for block in ("detector", "training", "loop"):
        before, now = first.get(block, {}), second.get(block, {})
        detector = before.get("name", "") if block == "detector" else ""
        # a config of an older version lacks these; `decoded_whole` says which runs that are
        unknown = {key for key in BEFORE_THE_KEY if block == "training" and not (key in before and key in now)}
        for key in sorted({*before, *now} - _UNCOMPARED - _unused_parameters(detector) - unknown):
            default = _parameter_defaults(detector).get(key, _default(block, key))
            yield (
                f"{block}.{key}",
                _content(a, f"{block}.{key}", before.get(key, default)),
                _content(b, f"{block}.{key}", now.get(key, default)),
            )


def counted_detections(config: Mapping[str, Any]) -> int | None:
    """Return how many detections per image and class AP counts at most; None for no limit.

    A config of an older version has no block `evaluation`; it counted 100.
    """
    limits = (config.get("evaluation", {"max_detections": 100}), config.get("detector", {}))
    return min((limit for block in limits if (limit := block.get("max_detections")) is not None), default=None)


def _content(run: Run, key: str, value: Any) -> Any:
    """Return what a key stands for: of a path what lies behind it, where it is recorded, else the value itself."""
    if key == "training.semi_supervised" and isinstance(value, Mapping):
        return _in_full(value)
    return (run.facts.contents or {}).get(key, value)


def _in_full(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the block of semi-supervised training with the keys that an older version did not have."""
    return SemiSupervisedConfig.model_validate(value).model_dump(mode="json")


@cache
def _unused_parameters(detector: str) -> frozenset[str]:
    """Return the parameters of other detectors, which a config of an older version lists beside those of its own."""
    if detector not in DETECTORS:
        return frozenset()
    return frozenset(sibling_parameters("detector", load_class("detector", detector, DETECTORS), DETECTORS))


@cache
def _parameter_defaults(detector: str) -> Mapping[str, Any]:
    """Return what the config of an older version means by not having a parameter; only of built-in detectors."""
    return plain_parameters(load_class("detector", detector, DETECTORS)()) if detector in DETECTORS else {}


def _default(block: str, key: str) -> Any:
    """Return what the config of an older version means by not having a key of `training` or `loop`; else None."""
    blocks: dict[str, type[Block]] = {"training": TrainingConfig, "loop": LoopConfig}
    fields = blocks[block].model_fields if block in blocks else {}
    return fields[key].default if key in fields else None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:24]}…"
