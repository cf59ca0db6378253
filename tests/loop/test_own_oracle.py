"""An oracle of one's own, named in the config by its import path, with parameters of its own."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from alloop.config import parse_config
from alloop.errors import ConfigError, WaitingError
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.oracles.oracle import Answer
from alloop.studies.grid import run_study
from strategies import TABLE
from tests.support import small_tree
from tests.support.people import tree_of

DESK = {}  # what people have done, by title


@dataclass(frozen=True)
class Generous:
    """Reveals labels, each box `times` times."""

    asks_people: ClassVar[bool] = False
    times: int = 2

    def connect(self, pool):
        return GenerousAnswers(pool.dataset.annotations, self.times)


class GenerousAnswers:
    def __init__(self, truth, times):
        self.truth, self.times = truth, times

    def annotate(self, image_ids):
        return {i: repeated(self.truth[i], self.times) for i in image_ids}


def repeated(truth, times):
    parts = (truth.boxes, truth.labels, truth.crowd, truth.trainable)
    return type(truth)(*(part.repeat(times, axis=0) for part in parts))


@dataclass(frozen=True)
class Desk:
    """People at a desk, known by its title."""

    title: str
    asks_people: ClassVar[bool] = True

    def connect(self, pool):
        return DeskAnswers(DESK.setdefault(self.title, set()), pool.dataset.annotations)


class DeskAnswers:
    def __init__(self, done, truth):
        self.done, self.truth = done, truth

    def push(self, _round, _tasks):
        return "the desk"

    def pull(self, _round, images):
        ids = [image.image_id for image in images]
        return {i: Answer("done", self.truth[i]) if i in self.done else Answer("todo") for i in ids}


def path_of(cls):
    return f"{__name__}:{cls.__name__}"


def test_labels_of_ones_own_are_charged_and_trained_on(tmp_path):
    tree = small_tree(oracle={"name": path_of(Generous), "times": 3})
    rounds = run_experiment(parse_config(tree), tmp_path / "own", TABLE)
    plain = run_experiment(parse_config(small_tree(oracle={"name": path_of(Generous), "times": 1})), tmp_path, TABLE)
    assert rounds[0].boxes == 3 * plain[0].boxes
    with read_ledger(tmp_path / "own") as ledger:
        facts = ledger.facts()
        assert (facts.oracle, facts.asks_people) == (path_of(Generous), False)
        assert audit(ledger) == []


def test_people_of_ones_own_are_waited_for(files, tmp_path):
    tree = tree_of(files, **{"loop.rounds": 2})
    config = parse_config(tree | {"oracle": {"name": path_of(Desk), "title": "mine"}})
    with pytest.raises(WaitingError, match="the desk"):
        run_experiment(config, tmp_path, TABLE)
    with read_ledger(tmp_path) as ledger:
        assert ledger.facts().asks_people
        pool = ledger.image_hashes()
    DESK["mine"] |= set(pool)
    rounds = run_experiment(config, tmp_path, TABLE)
    assert [record.images for record in rounds] == [6, 10]


def test_studies_refuse_people_of_ones_own(files, tmp_path):
    config = parse_config(tree_of(files) | {"oracle": {"name": path_of(Desk), "title": "study"}})
    with pytest.raises(ConfigError, match="labels that are there"):
        run_study(config, tmp_path, TABLE, strategies=["entropy"], seeds=[0])


def test_parameters_of_ones_own_are_checked():
    with pytest.raises(ConfigError, match="did you mean 'times'"):
        parse_config(small_tree(oracle={"name": path_of(Generous), "time": 3}))
    with pytest.raises(ConfigError, match="title"):
        parse_config(small_tree(oracle={"name": path_of(Desk)}))
