"""Fixtures: real data where ALLOOP_DATA points at it, and a small experiment that runs in seconds."""

import io
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from alloop.config import parse_config
from alloop.data.digit_files import export_digit_scenes
from tests.support import small_tree

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
settings.register_profile("alloop", deadline=None)  # a slow example on a busy machine is no failure
settings.load_profile("alloop")

# The longest tests start first, so that no process is left alone with one of them at the end (docs/testing.md).
LONGEST_FIRST = (
    "test_sigkill_at_random_moments",
    "test_stopped_before_or_after_any_durable_action_it_ends_the_same",
    "test_the_tutorial_runs_from_images_to_a_verdict",
    "test_conversion_there_and_back_keeps_every_box_crowd_flag_and_empty_image",
    "test_precision_equals_pycocotools_on_thousands_of_random_cases",
    "test_a_full_disk_is_one_paragraph_and_the_run_goes_on_afterwards",
    "test_thousands_of_mutated_files_never_crash_and_never_change_the_box_count",
)


def pytest_collection_modifyitems(items):
    """Put the longest tests first."""
    rank = {name: position for position, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.name.partition("[")[0], len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand out test by test, but let one process have all tests of Label Studio, which share one server."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, _ = nodeid.partition("::")
            return file if file.endswith("test_label_studio.py") else nodeid

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Let each test draw the same random numbers, whichever tests ran before it in its process."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets; tests that need it say so when they are skipped."""
    root = os.environ.get("ALLOOP_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("ALLOOP_DATA is not set: this test needs the real data sets")
    return Path(root)


@pytest.fixture
def small_config():
    """Build a small config: `small_config(**{"loop.rounds": 2})`."""
    return lambda **changes: parse_config(small_tree(**changes))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The small digit set as image files with COCO annotations, and a copy of the pool without labels."""
    out = tmp_path_factory.mktemp("digits")
    export_digit_scenes(out, ["pool=24", "reference=4", "test=8", "max_digits=3"])
    tree = json.loads((out / "instances_pool.json").read_bytes())
    (out / "unlabeled.json").write_text(json.dumps(tree | {"annotations": []}))
    return out


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Two strategies, two seeds, the first repeated once, under two detectors: the folder, and the progress lines."""
    from alloop.progress import Progress
    from alloop.studies.grid import run_study
    from strategies import TABLE

    out = tmp_path_factory.mktemp("study")
    lines = io.StringIO()
    failures = run_study(
        parse_config(small_tree()),
        out,
        TABLE,
        strategies=["entropy"],
        seeds=[0, 1],
        replicates=1,
        vary={"detector.name": ["fcos", "retinanet"]},
        progress=Progress(stream=lines),
        quiet=True,
    )
    assert failures == []
    return out, lines.getvalue()
