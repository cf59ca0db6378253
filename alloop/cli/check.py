"""What `alloop check-data` does with the config of an experiment."""

import json
from pathlib import Path

from alloop.cli.options import names_of
from alloop.cli.strategies import strategy_table
from alloop.errors import ConfigError

_KEYS = {"detector", "strategy", "loop"}  # of a config; the YAML file of a YOLO data set has none of them


def is_config(path: Path) -> bool:
    """Whether a file is the config of an experiment, and not annotations."""
    import yaml  # noqa: PLC0415  slow to import

    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        return False
    try:
        tree = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(tree, dict) and not _KEYS.isdisjoint(tree)


def check_experiment(path: Path, strategies: str, *, as_json: bool) -> None:
    """Check a config and its data, and print what was found.

    Args:
        path: the config.
        strategies: names, comma-separated, or `all`; empty for the strategy of the config.
        as_json: print an object instead of text.

    Raises:
        AlloopError: something keeps a run from beginning.
    """
    from alloop.config.reading import load_config  # noqa: PLC0415
    from alloop.studies.config_check import checked_config  # noqa: PLC0415
    from alloop.tables import show  # noqa: PLC0415

    config, table = load_config(path), strategy_table()
    names = list(table) if strategies == "all" else names_of(strategies) or [config.strategy.name]
    check = checked_config(config, table, names)
    if as_json:
        print(json.dumps({"splits": check.splits, "problems": check.problems, "lines": check.lines}, indent=2))
    else:
        show(check.table, *check.lines)
    if check.problems and strategies != "all":
        msg = f"{path}: {', '.join(check.problems)} cannot run; the reasons stand above"
        raise ConfigError(msg)
