"""Contract checks for oracles: those that reveal labels, and those that ask people.

    from alloop.testing import OracleCase, fake_pool, human_oracle_checks

    @pytest.mark.parametrize("check", human_oracle_checks(), ids=lambda check: check.__name__)
    def test_contract(check, tmp_path):
        pool = fake_pool(tmp_path / "pool")
        check(OracleCase(MyOracle(tmp_path), pool, answer=my_annotator))

Each check needs a case of its own, since an oracle of people keeps what was handed over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alloop.data.data_set import DataSet
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.images import FolderImages
from alloop.data.splits import Split
from alloop.oracles.oracle import Answer, HumanOracle, OraclePlugin, PreAnnotations, RevealingOracle, Task
from alloop.query import boxed
from alloop.randomness import rng
from alloop.testing.fakes import fake_annotations
from alloop.values import Annotations, ImageId, ImageRecord

FAKE_CLASSES = ("cat", "dog", "bird")


@dataclass(frozen=True)
class OracleCase:
    """An oracle under test.

    Attributes:
        plugin: the dataclass that a config would name, with its parameters.
        pool: what it is connected to; `fake_pool` makes one.
        answer: plays the people: annotates some images of a round with these boxes. None for a revealing oracle.
    """

    plugin: OraclePlugin
    pool: Split
    answer: Callable[[int, Mapping[ImageId, Annotations]], None] | None = None

    def revealing(self) -> RevealingOracle:
        """Connect anew; raise AssertionError when the oracle asks people."""
        oracle = self.plugin.connect(self.pool)
        assert isinstance(oracle, RevealingOracle), f"expected a RevealingOracle, found {type(oracle).__name__}"
        return oracle

    def human(self) -> HumanOracle:
        """Connect anew, as after a stop; raise AssertionError when the oracle reveals labels."""
        oracle = self.plugin.connect(self.pool)
        assert isinstance(oracle, HumanOracle), f"expected a HumanOracle, found {type(oracle).__name__}"
        return oracle

    def people_answer(self, round_: int, image_ids: Sequence[ImageId]) -> dict[ImageId, Annotations]:
        """Let people annotate images with the boxes of the pool; return those boxes."""
        assert self.answer is not None, "an oracle that asks people needs `answer` in its OracleCase"
        boxes = boxed(self.pool.dataset.annotations)
        given = {image_id: boxes[image_id] for image_id in image_ids}
        self.answer(round_, given)
        return given

    @property
    def image_ids(self) -> list[ImageId]:
        """The ids of the pool, ascending."""
        return sorted(self.pool.dataset.images)

    def records(self, image_ids: Sequence[ImageId]) -> list[ImageRecord]:
        """Return the records of some images."""
        return [self.pool.dataset.images[image_id] for image_id in image_ids]

    def tasks(self, image_ids: Sequence[ImageId]) -> list[Task]:
        """Return a task for each image; the first shows one box of the detector, the others none."""
        box = PreAnnotations(
            np.array([[4, 4, 20, 20]], dtype=np.float32), np.array([0]), np.array([0.5], dtype=np.float32)
        )
        return [Task(record, None if number else box) for number, record in enumerate(self.records(image_ids))]


def fake_pool(folder: Path, images: int = 6) -> Split:
    """Write a pool of small image files and return it with its labels; one image has no box.

    Args:
        folder: where to write; it may not exist yet.
        images: how many.
    """
    from PIL import Image  # noqa: PLC0415  only this function needs it

    records, ids = {}, [ImageId(3 + 7 * number) for number in range(images)]
    for image_id in ids:
        path = folder / f"part{image_id % 2}" / f"{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng(0, "fake pool", image_id).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        records[image_id] = ImageRecord(image_id, path.relative_to(folder).as_posix(), 64, 64)
    truth = {image_id: fake_annotations(image_id) for image_id in ids}
    truth[ids[-1]] = Annotations(np.zeros((0, 4)), np.zeros(0), np.zeros(0), np.zeros(0))
    grouped = GroupedAnnotations.of_mapping(truth)
    dataset = DataSet("fake pool", records, grouped, FAKE_CLASSES, tuple(range(len(FAKE_CLASSES))))
    return Split(dataset, FolderImages(folder, records))


def check_asks_people_is_what_connects(case: OracleCase) -> None:
    """Refuse an `asks_people` that differs from the kind of oracle that `connect` returns."""
    oracle = case.plugin.connect(case.pool)
    assert isinstance(oracle, RevealingOracle) != isinstance(oracle, HumanOracle), "expected one of the two protocols"
    kind = type(oracle).__name__
    expected = isinstance(oracle, HumanOracle)
    assert case.plugin.asks_people is expected, f"asks_people should be {expected}: connect returns a {kind}"


def check_reveals_every_image(case: OracleCase) -> None:
    """Refuse an oracle that leaves out an image it was asked for, also an empty one, or adds another."""
    asked = case.image_ids[1:]
    answers = case.revealing().annotate(asked)
    assert set(answers) == set(asked), f"expected answers for {asked}, found {sorted(answers)}"


def check_reveals_the_same_again(case: OracleCase) -> None:
    """Refuse an oracle whose answer depends on the order, on earlier questions, or on what else is asked."""
    oracle, ids = case.revealing(), case.image_ids
    together = boxed(oracle.annotate(ids))
    for image_id in reversed(ids):
        alone = (boxed(asked.annotate([image_id]))[image_id] for asked in (case.revealing(), oracle))
        for answer in alone:
            _same(together[image_id], answer, f"image {image_id} was answered differently when asked alone or again")


def check_no_answer_before_people(case: OracleCase) -> None:
    """Refuse an oracle that reports an image as closed, or with boxes, before anybody answered."""
    oracle, ids = case.human(), case.image_ids
    oracle.push(0, case.tasks(ids))
    answers = oracle.pull(0, case.records(ids))
    for image_id in ids:
        answer = answers.get(image_id, Answer("todo"))
        assert answer.state in ("todo", "draft"), f"image {image_id} is {answer.state} before anybody answered"
        assert answer.annotations is None, f"image {image_id} has annotations before anybody answered"


def check_answers_come_back(case: OracleCase) -> None:
    """Refuse an oracle that loses or changes a box, a class, or the answer that an image is empty."""
    oracle, ids = case.human(), case.image_ids
    oracle.push(0, case.tasks(ids))
    given = case.people_answer(0, ids)
    answers = oracle.pull(0, case.records(ids))
    for image_id, truth in given.items():
        answer = answers[image_id]
        assert answer.state == "done", f"image {image_id}: expected done, found {answer.state} ({answer.remark})"
        assert answer.annotations is not None, f"image {image_id} is done and has no annotations"
        _same(truth, answer.annotations, f"image {image_id} came back changed")


def check_a_part_leaves_the_rest_open(case: OracleCase) -> None:
    """Refuse an oracle that closes images which nobody answered once others of the round are answered."""
    oracle, ids = case.human(), case.image_ids
    oracle.push(0, case.tasks(ids))
    case.people_answer(0, ids[:2])
    answers = oracle.pull(0, case.records(ids))
    states = {image_id: answers[image_id].state for image_id in ids}
    assert [states[image_id] for image_id in ids[:2]] == ["done", "done"], f"answered images are {states}"
    assert all(states[image_id] in ("todo", "draft") for image_id in ids[2:]), f"nobody answered the rest: {states}"


def check_pull_answers_for_each_image_it_is_asked(case: OracleCase) -> None:
    """Refuse an oracle that leaves out an image it was asked about, or tells of one it was not."""
    oracle, ids = case.human(), case.image_ids
    oracle.push(0, case.tasks(ids))
    case.people_answer(0, ids[:3])
    asked = ids[1:4]
    answers = oracle.pull(0, case.records(asked))
    assert set(answers) == set(asked), f"expected answers for {asked}, found {sorted(answers)}"


def check_nothing_is_kept_in_the_process(case: OracleCase) -> None:
    """Refuse an oracle that a new process cannot take over: pushed before a stop, answered, pulled after it."""
    ids = case.image_ids
    case.human().push(0, case.tasks(ids))
    case.people_answer(0, ids[:1])
    state = case.human().pull(0, case.records(ids))[ids[0]].state
    assert state == "done", f"image {ids[0]} is {state} for an oracle that was connected after the answer"


def check_push_again_changes_nothing(case: OracleCase) -> None:
    """Refuse an oracle that loses answers, or reports another place, when the same tasks are pushed again."""
    oracle, ids = case.human(), case.image_ids
    first = oracle.push(0, case.tasks(ids))
    given = case.people_answer(0, ids[:1])
    assert oracle.push(0, case.tasks(ids)) == first, "the place of the tasks changed"
    answer = oracle.pull(0, case.records(ids))[ids[0]]
    assert answer.annotations is not None, f"image {ids[0]} lost its answer when the tasks were pushed again"
    _same(given[ids[0]], answer.annotations, f"image {ids[0]} changed when the tasks were pushed again")


def revealing_oracle_checks() -> list[Callable[[OracleCase], None]]:
    """Return the checks of an oracle that reveals labels."""
    return [check_asks_people_is_what_connects, check_reveals_every_image, check_reveals_the_same_again]


def human_oracle_checks() -> list[Callable[[OracleCase], None]]:
    """Return the checks of an oracle that asks people."""
    return [
        check_asks_people_is_what_connects,
        check_no_answer_before_people,
        check_answers_come_back,
        check_a_part_leaves_the_rest_open,
        check_pull_answers_for_each_image_it_is_asked,
        check_nothing_is_kept_in_the_process,
        check_push_again_changes_nothing,
    ]


def _same(expected: Annotations, found: Annotations, message: str) -> None:
    """Compare boxes with their classes in any order, within a hundredth of a pixel."""
    assert len(expected) == len(found), f"{message}: expected {len(expected)} boxes, found {len(found)}"
    first, second = _sorted(expected), _sorted(found)
    assert np.allclose(first, second, atol=0.01), f"{message}: expected {first.tolist()}, found {second.tolist()}"


def _sorted(truth: Annotations) -> np.ndarray:
    rows = np.concatenate([truth.labels[:, None], truth.boxes], axis=1).round(2)
    ordered: np.ndarray = rows[np.lexsort(rows.T[::-1])]
    return ordered
