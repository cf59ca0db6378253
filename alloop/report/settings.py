"""The settings of the strategies, and what differs between the configs and the environments of runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alloop.plugins import load_class
from alloop.results.runs import Run, config_of
from alloop.strategy import describe

_EXPECTED = {"random_seed"}  # what differs in every study; the block of the strategy is shown by itself


@dataclass(frozen=True, slots=True)
class StrategySettings:
    """The parameters of one strategy.

    Attributes:
        strategy: the name under which its runs are compared.
        given: the parameters that the config sets.
        defaults: the other parameters with their defaults; None where they are unknown, as of a strategy that is not
            built in.
    """

    strategy: str
    given: Mapping[str, Any]
    defaults: Mapping[str, Any] | None


def strategy_settings(runs: Sequence[Run], table: Mapping[str, str]) -> list[StrategySettings]:
    """Return the parameters of each strategy; configs record those that were given, `table` knows the defaults."""
    firsts = {run.strategy: run for run in reversed(runs) if not run.full_label}
    return [_settings(run, table) for run in reversed(firsts.values())]


def _settings(run: Run, table: Mapping[str, str]) -> StrategySettings:
    block = config_of(run).get("strategy", {})
    given = {key: value for key, value in block.items() if key != "name"}
    name = block.get("name", "")
    if name not in table:
        return StrategySettings(run.strategy, given, None)
    (row,) = describe({name: table[name]})
    defaults = {key: value for key, value in row["parameters"].items() if key not in given}
    return StrategySettings(run.strategy, given, defaults)


def purpose(run: Run, table: Mapping[str, str]) -> str:
    """Return in a sentence which images the strategy of a run chooses; empty for one that is not built in."""
    name = config_of(run).get("strategy", {}).get("name", "")
    if name not in table:
        return ""
    return (load_class("strategy", name, table).__doc__ or "").partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that not all runs share.

    Attributes:
        key: its name, with dots between block and key.
        values: each value as text, with the strategies or runs that have it.
    """

    key: str
    values: Mapping[str, Sequence[str]]


def differences(runs: Sequence[Run]) -> list[Difference]:
    """Return what differs between the configs and environments of runs, besides strategy and random seed."""
    settings = {run.name: dict(_flat(_recorded(run), "")) for run in runs}
    keys = dict.fromkeys(key for values in settings.values() for key in values)
    found = []
    for key in keys:
        by_value: dict[str, list[Run]] = {}
        for run in runs:
            by_value.setdefault(settings[run.name].get(key, "not recorded"), []).append(run)
        if len(by_value) > 1:
            found.append(Difference(key, {value: _names(having, runs) for value, having in by_value.items()}))
    return found


def _recorded(run: Run) -> dict[str, Any]:
    """Return the config and the environment of a run, without what is expected to differ."""
    config = {key: value for key, value in config_of(run).items() if key not in {*_EXPECTED, "strategy"}}
    environment = {key: value for key, value in asdict(run.facts.environment).items() if key != "command"}
    return {**config, "environment": environment}


def _flat(tree: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield every leaf of a tree with its key and its value as text."""
    if isinstance(tree, Mapping) and tree:
        for name, branch in tree.items():
            yield from _flat(branch, f"{key}.{name}" if key else f"{name}")
    else:
        yield key, value_text(tree)


def value_text(value: Any) -> str:
    """Return a value of a config as it is written there."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _names(having: Sequence[Run], runs: Sequence[Run]) -> list[str]:
    """Return the strategies of which all runs are among those given, and the other runs by their own names."""
    chosen = {run.name for run in having}
    whole = {run.strategy for run in having} - {run.strategy for run in runs if run.name not in chosen}
    return list(dict.fromkeys(run.strategy if run.strategy in whole else run.name for run in having))
