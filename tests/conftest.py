"""Fixtures: real data where ALLOOP_DATA points at it, and a small experiment that runs in seconds."""

import json
import os
from pathlib import Path

import pytest
import torch

from alloop.config import parse_config
from alloop.data.digit_files import export_digit_scenes
from tests.support import small_tree

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


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
