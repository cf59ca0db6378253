"""The test detections that runs kept, and whether their groups can be resampled together."""

import numpy as np

from alloop.errors import ConfigError
from alloop.evaluation.detections_file import detections_from_bytes
from alloop.evaluation.matching import MatchedDetections
from alloop.ledger.store import read_ledger
from alloop.loop.round_files import detections_path
from alloop.results.runs import Run


def kept_detections(run: Run, round_: int) -> MatchedDetections:
    """Return what a run kept after a round.

    Raises:
        ConfigError: it kept nothing, or its test images have no groups, or all are in one group.
        DamagedFileError: the file differs from its record.
    """
    kept = recorded_detections(run, round_)
    if kept is None:
        msg = (
            f"--over-groups: {run.name} kept no test detections after round {round_}; set evaluation.keep_detections: "
            "true and a rule under data.groups, and run it in another folder"
        )
        raise ConfigError(msg)
    if not kept.groups:
        msg = (
            f"--over-groups: the test images of {run.name} have no groups; set one of data.groups.field, "
            "data.groups.pattern, data.groups.folder and data.groups.csv, and run it in another folder; "
            "data.groups.pattern: '^.*$' makes each image its own group"
        )
        raise ConfigError(msg)
    if len(set(kept.groups)) == 1:
        msg = (
            f"--over-groups: all test images of {run.name} are in one group, {kept.groups[0]!r}; an interval needs more"
        )
        raise ConfigError(msg)
    return kept


def recorded_detections(run: Run, round_: int) -> MatchedDetections | None:
    """Return what a run kept after a round, with or without groups; None where it kept nothing.

    Raises:
        DamagedFileError: the file differs from its record.
    """
    with read_ledger(run.folder) as ledger:
        data = ledger.stored(detections_path(round_))
    return None if data is None else detections_from_bytes(data, run.folder / detections_path(round_))


def refuse_other_test_images(one: Run, first: MatchedDetections, other: Run, kept: MatchedDetections) -> None:
    """Refuse to resample two runs together that were not measured on the same images, groups and boxes.

    Raises:
        ConfigError: naming both runs.
    """
    same = (
        np.array_equal(first.image_ids, kept.image_ids)
        and first.groups == kept.groups
        and first.class_names == kept.class_names
        and np.array_equal(first.truth_images, kept.truth_images)
        and np.array_equal(first.truth_labels, kept.truth_labels)
    )
    if not same:
        msg = (
            f"--over-groups: {one.name} and {other.name} were not measured on the same test images, groups and boxes; "
            "compare runs of one test split"
        )
        raise ConfigError(msg)
