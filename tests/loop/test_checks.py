"""An experiment is checked before anything is trained, and before torch is loaded."""

import subprocess
import sys

import pytest

from alloop.config.reading import load_config, parse_config
from alloop.data.splits import load_splits, refuse_missing_files
from alloop.errors import ConfigError
from alloop.loop.checks import check_config
from strategies import TABLE
from tests.support import small_tree
from tests.support.commands import call
from tests.support.projects import write_project

WRONG = {
    "strategy.name": ("tfdp", "needs masks"),
    "loop.min_distance": ("0.1 cosine", None),
    "loop.first_batch": ("entropy", "nothing is trained yet"),
    "training.class_balance": ({"name": "logit_adjustment"}, "needs a two-stage detector"),
    "training.semi_supervised": ({"style": "soft_teacher"}, "which fcos has not"),
}


@pytest.mark.parametrize("key", WRONG)
def test_what_does_not_fit_is_refused_without_data(key):
    value, words = WRONG[key]
    config = parse_config(small_tree(**{key: value}))
    if words is None:
        check_config(config, TABLE)
    else:
        with pytest.raises(ConfigError, match=words):
            check_config(config, TABLE)


def test_torch_is_not_loaded_for_a_check():
    code = (
        "import sys; from alloop.config.reading import load_config; from alloop.loop.checks import check_config;"
        "from alloop.studies.grid import Grid; from strategies import TABLE;"
        "check_config(load_config('configs/digits_all.yaml'), TABLE); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def project(tmp_path):
    return write_project(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("instances_pool.json", "instances_pol.json", "data.train.annotations: .*did you mean 'instances_pool.json'"),
        ("data/instances_test", "dta/instances_test", "data.test.annotations: .*dta is not in .*did you mean 'data'"),
        ("images: data/images", "images: data/imges", "data.*.images: .*imges is not in .*did you mean 'images'"),
    ],
)
def test_a_path_that_is_not_there_is_wrong_usage(project, old, new, words):
    project.write_text(project.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=words):
        refuse_missing_files(load_config(project).data)
    told = call("run", project, "--out", project.parent / "run", code=2).output
    assert new.split("/")[-1].removeprefix("images: ") in told
    assert not (project.parent / "run").exists()


def test_annotations_that_are_not_there_are_wrong_usage_wherever_they_are_read(project):
    config = load_config(project).data
    (project.parent / "data" / "instances_test.json").unlink()
    with pytest.raises(ConfigError, match=r"data\.test\.annotations: there is no "):
        load_splits(config)
