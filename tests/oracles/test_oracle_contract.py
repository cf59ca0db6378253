"""The published checks of oracles: the built-in ones pass, and each check alone refuses its broken example."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from alloop.oracles.folder import Folder
from alloop.oracles.oracle import Answer
from alloop.oracles.simulated import Simulated
from alloop.testing import OracleCase, fake_pool, human_oracle_checks, revealing_oracle_checks
from alloop.values import Annotations
from tests.support.people import answer_in_folder

FORMATS = ("coco", "voc", "yolo", "label_studio")


def named(check):
    return check.__name__


@pytest.mark.parametrize("check", revealing_oracle_checks(), ids=named)
def test_the_simulated_oracle_keeps_the_contract(check, tmp_path):
    check(OracleCase(Simulated(), fake_pool(tmp_path)))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("check", human_oracle_checks(), ids=named)
def test_the_folder_oracle_keeps_the_contract(check, format_, tmp_path):
    pool, folder = fake_pool(tmp_path / "pool"), tmp_path / "people"

    def answer(round_, given):
        answer_in_folder(folder / f"round_{round_:03d}", format_, pool, given)

    check(OracleCase(Folder(folder, format_), pool, answer))


# an oracle of each kind that keeps the contract, and broken ones beside it


@dataclass(frozen=True)
class Revealing:
    asks_people: ClassVar[bool] = False
    asked: list = field(default_factory=list)

    def connect(self, pool):
        return RevealingAnswers(pool.dataset.annotations, self.asked)


class RevealingAnswers:
    def __init__(self, truth, asked):
        self.truth, self.asked = truth, asked

    def annotate(self, image_ids):
        return {image_id: self.truth[image_id] for image_id in image_ids}


class ForgetsEmptyImages(RevealingAnswers):
    def annotate(self, image_ids):
        return {i: truth for i, truth in super().annotate(image_ids).items() if len(image_ids) != 5 or len(truth)}


class ChangesItsMind(RevealingAnswers):
    def annotate(self, image_ids):
        self.asked += image_ids
        answers = super().annotate(image_ids)
        return {i: flipped(truth) if self.asked.count(i) > 1 else truth for i, truth in answers.items()}


def flipped(truth):
    return Annotations(truth.boxes, 2 - truth.labels, truth.crowd, truth.trainable)


@dataclass(frozen=True)
class Human:
    """People at a desk, which outlives the oracle as a server or a folder does."""

    asks_people: ClassVar[bool] = True
    desk: dict = field(default_factory=dict)

    def connect(self, _pool):
        return HumanAnswers(self.desk)


class HumanAnswers:
    def __init__(self, desk):
        self.desk, self.pushes = desk, 0

    def push(self, _round, _tasks):
        return "on the desk"

    def answer_for(self, image):
        truth = self.desk.get(image.image_id)
        return Answer("todo") if truth is None else Answer("done", truth)

    def pull(self, _round, images):
        return {image.image_id: self.answer_for(image) for image in images}


class TakesShownBoxesForAnswers(HumanAnswers):
    def push(self, _round, tasks):
        self.shown = {t.image.image_id for t in tasks if t.pre_annotations} if not self.desk else set()
        return "on the desk"

    def answer_for(self, image):
        shown = not self.desk and image.image_id in self.shown
        return Answer("done", empty()) if shown else super().answer_for(image)


def empty():
    return Annotations(np.zeros((0, 4)), np.zeros(0), np.zeros(0), np.zeros(0))


class LosesClasses(HumanAnswers):
    """It loses the classes of what comes late in a round."""

    def pull(self, round_, images):
        answers = super().pull(round_, images)
        complete = len(self.desk) > 3
        return {i: Answer("done", flipped(a.annotations)) if complete else a for i, a in answers.items()}


class ClosesWhatNobodyAnswered(HumanAnswers):
    def pull(self, round_, images):
        answers = super().pull(round_, images)
        last = images[-1].image_id
        if len(self.desk) == 2:
            answers[last] = Answer("skipped")
        return answers


class TellsOfOthers(HumanAnswers):
    def pull(self, round_, images):
        answers = super().pull(round_, images)
        if len(images) == 3:
            answers |= {i: Answer("done", truth) for i, truth in self.desk.items()}
        return answers


class RemembersItsPush(HumanAnswers):
    """It answers only for what this very object has pushed."""

    def push(self, _round, _tasks):
        self.pushes += 1
        return "on the desk"

    def answer_for(self, image):
        return super().answer_for(image) if self.pushes else Answer("todo")


class ClearsTheDesk(HumanAnswers):
    def push(self, _round, _tasks):
        self.desk.clear()
        return "on the desk"


def broken_plugin(kind, answers):
    """A plug-in of a kind whose oracle is replaced."""

    class Broken(kind):
        def connect(self, pool):
            return answers(pool.dataset.annotations, self.asked) if kind is Revealing else answers(self.desk)

    return Broken


class DeniesPeople(Human):
    asks_people = False


class ClaimsPeople(Revealing):
    asks_people = True


REVEALING = {
    "check_asks_people_is_what_connects": ClaimsPeople,
    "check_reveals_every_image": broken_plugin(Revealing, ForgetsEmptyImages),
    "check_reveals_the_same_again": broken_plugin(Revealing, ChangesItsMind),
}
HUMAN = {
    "check_asks_people_is_what_connects": DeniesPeople,
    "check_no_answer_before_people": broken_plugin(Human, TakesShownBoxesForAnswers),
    "check_answers_come_back": broken_plugin(Human, LosesClasses),
    "check_a_part_leaves_the_rest_open": broken_plugin(Human, ClosesWhatNobodyAnswered),
    "check_pull_answers_for_each_image_it_is_asked": broken_plugin(Human, TellsOfOthers),
    "check_nothing_is_kept_in_the_process": broken_plugin(Human, RemembersItsPush),
    "check_push_again_changes_nothing": broken_plugin(Human, ClearsTheDesk),
}


def refusals(checks, plugin, tmp_path):
    """Names of the checks that refuse an oracle."""
    names = []
    for number, check in enumerate(checks):
        oracle, pool = plugin(), fake_pool(tmp_path / str(number))
        try:
            check(OracleCase(oracle, pool, (lambda _round, given, o=oracle: o.desk.update(given))))
        except AssertionError:
            names.append(check.__name__)
    return names


@pytest.mark.parametrize("name", REVEALING)
def test_each_broken_revealing_oracle_is_refused_by_its_check_alone(name, tmp_path):
    assert refusals(revealing_oracle_checks(), REVEALING[name], tmp_path) == [name]


@pytest.mark.parametrize("name", HUMAN)
def test_each_broken_human_oracle_is_refused_by_its_check_alone(name, tmp_path):
    assert refusals(human_oracle_checks(), HUMAN[name], tmp_path) == [name]


def test_every_check_has_a_broken_example():
    assert list(REVEALING) == [check.__name__ for check in revealing_oracle_checks()]
    assert list(HUMAN) == [check.__name__ for check in human_oracle_checks()]


def test_the_oracles_that_the_broken_ones_vary_are_not_refused(tmp_path):
    assert refusals(revealing_oracle_checks(), Revealing, tmp_path / "r") == []
    assert refusals(human_oracle_checks(), Human, tmp_path / "h") == []
