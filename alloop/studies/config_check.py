"""What `alloop check-data CONFIG` says: the data of an experiment, which strategies can run, and what will be bought.

Nothing is trained and torch is not loaded, unless the config names a device other than the CPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alloop.budget.amounts import Amount
from alloop.config.reading import ExperimentConfig, changed
from alloop.data.same_files import same_files
from alloop.data.splits import Split, Splits
from alloop.errors import ConfigError
from alloop.loop.checks import check_config, check_data
from alloop.loop.parts import make_detector, parts_of
from alloop.loop.recorded_data import splits_by_name
from alloop.tables import Table
from alloop.tasks.table import task_of
from alloop.training.schedule import long_warmup, total_steps

FEW_PASSES = 5  # over the images of a round; fewer train too little to show what labels are worth
SHOWN = 5  # images in two splits that are named


@dataclass(frozen=True)
class ConfigCheck:
    """What was found.

    Attributes:
        splits: a row of figures in words for each split, by column.
        lines: notes for the user.
        problems: what keeps strategies from running, by name.
    """

    splits: Sequence[Mapping[str, str]]
    lines: Sequence[str]
    problems: Mapping[str, str]

    @property
    def table(self) -> Table:
        """The figures of the splits."""
        return Table(list(self.splits[0]), [list(row.values()) for row in self.splits])


def checked_config(config: ExperimentConfig, table: Mapping[str, str], strategies: Sequence[str]) -> ConfigCheck:
    """Check a config and its data as a run or a study would before it begins.

    Args:
        config: the experiment.
        table: strategies by name.
        strategies: the strategies to check.

    Raises:
        ConfigError: a file that is not there, or a device that this machine lacks.
        DataError: data that cannot be used, or an image file that is not there.
    """
    task_of(config).refuse_missing(config.data)
    _refuse_missing_device(config)
    splits = task_of(config).load_splits(config.data, for_people=config.oracle.asks_people)
    problems = {}
    for name in strategies:
        try:
            _check_strategy(config, table, name, splits)
        except ConfigError as error:
            problems[name] = str(error)
    by_name = splits_by_name(splits)
    served = [name for name in strategies if name not in problems]
    lines = [
        *(f"noted: {line}" for line in _notes(config, splits)),
        *_leak_lines(by_name),
        *_plan_lines(config, splits),
        f"can run: {', '.join(served) or 'no strategy'}",
        *(f"cannot run: {name}: {_brief(name, reason)}" for name, reason in problems.items()),
    ]
    return ConfigCheck([_row(config, name, split) for name, split in by_name.items()], lines, problems)


def _check_strategy(config: ExperimentConfig, table: Mapping[str, str], name: str, splits: Splits) -> None:
    """Check one strategy; the parameters in the config are those of the strategy that the config names."""
    parameters = config.strategy.parameters if name == config.strategy.name else {}
    own = changed(config, {"strategy": {"name": name, **parameters}})
    check_config(own, table)
    check_data(parts_of(own, table, splits))


def _brief(name: str, reason: str) -> str:
    return reason.removeprefix(f"strategy.name: {name!r} ")


def _refuse_missing_device(config: ExperimentConfig) -> None:
    if config.training.device in ("auto", "cpu"):
        return
    from alloop.loop.experiment import choose_device  # noqa: PLC0415  imports torch

    choose_device(config.training.device)


def _row(config: ExperimentConfig, name: str, split: Split) -> dict[str, str]:
    """Return counts and sizes of a split."""
    own, task = split.dataset, task_of(config)
    return {
        "split": name,
        "images": f"{len(own.images)}",
        task.unit: f"{own.boxes}",
        "classes": f"{sum(map(bool, own.class_counts()))}",
        **task.figures(split, _input_size(config)),
    }


def _input_size(config: ExperimentConfig) -> tuple[int, int] | None:
    """Return the short and the long side that a detector scales images to; None where another program decides."""
    detector = make_detector(config)
    return None if config.detector.is_external else (detector.short_side, detector.long_side)


def _notes(config: ExperimentConfig, splits: Splits) -> list[str]:
    """Return what was noted about the data, and what may be too small in them."""
    task = task_of(config)
    noted = task.notes(splits_by_name(splits), labels_are_known=not config.oracle.asks_people)
    return [*noted, *task.doubts(splits, _input_size(config))]


def _leak_lines(splits: Mapping[str, Split]) -> list[str]:
    """Say which image files are in two splits."""
    pairs = same_files(splits)
    if not pairs:
        return ["no image file is in two splits; whether images look alike is checked when a run begins"]
    named = [f"  {name}: {file}, and {other}: {other_file}" for name, file, other, other_file in pairs[:SHOWN]]
    more = [f"  and {len(pairs) - SHOWN} more"] if len(pairs) > SHOWN else []
    count = "1 image file is" if len(pairs) == 1 else f"{len(pairs)} image files are"
    return [f"warning: {count} in two splits, so AP would measure what was memorized", *named, *more]


def _plan_lines(config: ExperimentConfig, splits: Splits) -> list[str]:
    """Say what will be bought, and how often a training sees an image."""
    loop, pool = config.loop, splits.train.dataset
    density = pool.boxes / len(pool.images) if not config.oracle.asks_people and pool.images else 0.0
    first, later = (_images(amount, density) for amount in (loop.seed_set, loop.query_size))
    bought = f"{loop.seed_set} first" + (f", then {loop.rounds - 1} times {loop.query_size}" * (loop.rounds > 1))
    bought += f", at most {loop.budget}" if loop.budget else ""
    if first is None or later is None:
        return [f"plan: {bought}"]
    last = max(1, min(len(pool.images), round(first + (loop.rounds - 1) * later)))
    boxes = f" and about {last * density:.0f} of {pool.boxes} {task_of(config).unit}" if density else ""
    lines = [f"plan: {bought}: {last} of {len(pool.images)} images{boxes} in the last round"]
    if config.detector.is_external:
        return lines
    size = config.training.batch_size
    seen = [total_steps(config.training, n) * size / n for n in (max(1, round(first)), last)]
    steps = total_steps(config.training, last)
    often = f"an image is seen {seen[0]:.0f} times in round 0, {seen[1]:.0f} in the last"
    lines.append(f"training: {steps} steps of {size} images in the last round; {often}")
    warnings = long_warmup(config.training, max(1, round(first)))
    if seen[-1] < FEW_PASSES:
        change = "raise training.iterations, or give training.epochs"
        warnings.append(
            f"so few passes limit AP by steps and not by labels, which hides what strategies gain; {change}"
        )
    return [*lines, *(f"warning: {line}" for line in warnings)]


def _images(amount: Amount, density: float) -> float | None:
    """Return the images that an amount buys at a mean number of boxes; None where boxes are not known."""
    if amount.unit == "images":
        return float(amount.number)
    return amount.number / density if density else None
