"""A file may name the seed set."""

import pytest

from alloop.config import parse_config
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.errors import ConfigError
from alloop.ledger.store import read_ledger
from alloop.loop import opening
from alloop.loop.beginning import begin_run
from alloop.loop.engine import run_experiment
from strategies import TABLE
from tests.support import small_tree


def test_a_file_may_name_the_seed_set(tmp_path):
    pool = sorted(parse_pool())
    named = tmp_path / "seed.txt"
    named.write_text("# chosen by hand\n\n" + "\n".join(map(str, pool[5:9])) + "\n")
    tree = small_tree(**{"loop.seed_set": 3, "loop.seed_images": str(named), "loop.rounds": 1})
    run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    with read_ledger(tmp_path / "run") as ledger:
        assert sorted(ledger.labeled()) == pool[5:8]


def test_a_random_seed_set_makes_annotations_of_few_other_images(tmp_path, monkeypatch):
    """An object for each image of the pool would take longer than the rest of the beginning of a run."""
    made, cut_out = [], GroupedAnnotations.__getitem__
    monkeypatch.setattr(GroupedAnnotations, "__getitem__", lambda self, key: made.append(key) or cut_out(self, key))
    monkeypatch.setattr(opening, "begin_run", lambda *args, **kwargs: (begin_run(*args, **kwargs), made.append(None)))
    run = tmp_path / "run"
    run_experiment(parse_config(small_tree(**{"loop.seed_set": 3, "loop.rounds": 1})), run, TABLE)
    with read_ledger(run) as ledger:
        seed_set = set(ledger.labeled())
    before_training = set(made[: made.index(None)]) & set(parse_pool())
    assert len(seed_set) == 3
    assert len(before_training - seed_set) <= 2, "one image that the quota has no room for, and the first of the file"


def parse_pool():
    from alloop.data.splits import load_splits

    return load_splits(parse_config(small_tree()).data).train.dataset.images


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no image"),
        ("twelve\n", "line 1: expected an image id, found 'twelve'"),
        ("1000000\n1000000\n", "line 2: image 1000000 stands on line 1 already"),
        ("1000000\n77\n", "line 2: image 77 is not in the pool"),
        (None, "cannot be read"),
    ],
)
def test_a_seed_set_that_cannot_be_is_refused(tmp_path, text, words):
    named = tmp_path / "seed.txt"
    if text is not None:
        named.write_text(text)
    tree = small_tree(**{"loop.seed_images": str(named)})
    with pytest.raises(ConfigError, match=words):
        run_experiment(parse_config(tree), tmp_path / "run", TABLE)
