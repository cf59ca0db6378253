"""What is checked about a study before its first run trains: every run, not the first one alone."""

from collections.abc import Mapping, Sequence

from alloop.data.cache_folder import CacheFolder
from alloop.data.splits import Splits, refuse_missing_files
from alloop.errors import AlloopError
from alloop.loop.checks import check_config, check_data
from alloop.loop.parts import parts_of
from alloop.studies.arms import Arm
from alloop.tasks.table import task_of


def check_arms(arms: Sequence[Arm], table: Mapping[str, str], kept: CacheFolder) -> None:
    """Check strategies, detectors and data of runs that have not begun; data that runs share are read once.

    Args:
        arms: the runs.
        table: strategies by name.
        kept: what can be computed again, and the runs will look for.

    Raises:
        ConfigError: a file that is not there, or a run that cannot begin, which is named.
        DataError: data that cannot be used.
    """
    for arm in arms:
        refuse_missing_files(arm.config.data)
        try:
            check_config(arm.config, table)
        except AlloopError as error:
            raise _of(arm, error) from error
    read: dict[str, Splits] = {}
    for arm in arms:
        people = arm.config.oracle.asks_people
        key = repr((arm.config.data, people))
        if key not in read:
            read = {
                key: task_of(arm.config).load_splits(arm.config.data, for_people=people, kept=kept)
            }  # one at a time in memory
        try:
            check_data(parts_of(arm.config, table, read[key]))
        except AlloopError as error:
            raise _of(arm, error) from error


def _of(arm: Arm, error: AlloopError) -> AlloopError:
    return type(error)(f"{arm.name}: {error}")
