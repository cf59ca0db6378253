"""What people have answered so far, and what booking it would cost. Nothing is booked, sent or changed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from alloop.config.reading import ExperimentConfig, parse_config
from alloop.data.splits import Split, load_splits
from alloop.errors import ConfigError
from alloop.files import refuse_missing
from alloop.ledger.facts import RunFacts
from alloop.ledger.image_audit import data_of
from alloop.ledger.requests import AnnotationRequest, AnnotationRequests
from alloop.ledger.store import read_ledger
from alloop.loop.parts import make_oracle
from alloop.oracles.oracle import CLOSED, Answer, HumanOracle, edits
from alloop.tables import Table

MANY_TIMES = 3  # boxes compared with those predicted, from which an image is worth a look
SHOWN = 10  # images that a line names


@dataclass(frozen=True, slots=True, eq=False)
class ReviewedImage:
    """One image that people are asked about: the request, the answer of now, and what booking that would cost."""

    file_name: str
    request: AnnotationRequest
    answer: Answer
    cost: float

    @property
    def boxes(self) -> int | None:
        """The number of boxes that came back; None where none did."""
        return None if self.answer.annotations is None else len(self.answer.annotations)

    @property
    def differs(self) -> bool:
        """Whether far more or far fewer boxes came back than the detector predicts."""
        predicted = self.request.predicted_boxes
        if self.boxes is None or not predicted:
            return False
        return max(self.boxes + 1, predicted + 1) > MANY_TIMES * min(self.boxes + 1, predicted + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Review:
    """The answers to the open request of a run.

    Attributes:
        round: the round that waits.
        class_names: in label order.
        images: the images in the order in which they were chosen.
        pool: the pool, for pictures.
    """

    round: int
    class_names: Sequence[str]
    images: Sequence[ReviewedImage]
    pool: Split

    @property
    def done(self) -> list[ReviewedImage]:
        """The images whose answers can be booked."""
        return [image for image in self.images if image.answer.annotations is not None]

    def table(self) -> Table:
        """Return a row for each image."""
        columns = ["image", "state", "remark", "utility", "predicted", "boxes", "kept", "moved", "deleted", "added"]
        return Table(columns, [_row(image) for image in self.images], left=3)

    def lines(self) -> list[str]:
        """Return what came back, by class, what is worth a look, and what the next command does."""
        states: Counter[str] = Counter(image.answer.state for image in self.images)
        counted = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        return [
            f"round {self.round} waits for people: {len(self.images)} images, {counted}",
            *self._classes(),
            *self._unusual(),
            self._next(states),
        ]

    def _classes(self) -> Iterator[str]:
        labels: Counter[int] = Counter()
        for image in self.done:
            if image.answer.annotations is not None:
                labels.update(image.answer.annotations.labels.tolist())
        if labels:
            counts = [f"{name} {labels[label]}" for label, name in enumerate(self.class_names)]
            yield f"boxes    {', '.join(counts)}"

    def _unusual(self) -> Iterator[str]:
        names = [image.file_name for image in self.images if image.differs]
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"look at  {', '.join(names[:SHOWN])}{more}: far more or fewer boxes than predicted"

    def _next(self, states: Counter[str]) -> str:
        boxes, cost = sum(image.boxes or 0 for image in self.done), sum(image.cost for image in self.done)
        booked = f"{len(self.done)} images, {boxes} boxes, cost {cost:.2f}"
        if not self.done:
            return "nothing can be booked yet"
        if all(state in CLOSED for state in states):
            return f"the next `alloop run` books {booked}"
        return f"`alloop run --accept-partial` would book {booked}; without it the round goes on waiting"


def _row(image: ReviewedImage) -> list[str]:
    shown, annotations = image.request.pre_annotations, image.answer.annotations
    changes = ["", "", "", ""]
    if shown is not None and annotations is not None:
        found = edits(shown, annotations)
        changes = [f"{number}" for number in (found.accepted, found.moved, found.deleted, found.added)]
    boxes = "" if image.boxes is None else f"{image.boxes}"
    predicted = f"{image.request.predicted_boxes:.0f}"
    remark = image.answer.remark
    return [image.file_name, image.answer.state, remark, f"{image.request.utility:.3g}", predicted, boxes, *changes]


def read_review(folder: Path) -> Review:
    """Read the answers to the open request of a run.

    Raises:
        ConfigError: the run waits for nobody, or what its config names is not there.
        DataError: answers that cannot be read.
        UnreachableError: a server that does not answer.
    """
    with read_ledger(folder) as ledger:
        facts, requests = ledger.facts(), AnnotationRequests(ledger)
        round_ = requests.pending()
        if facts is None or round_ is None:
            msg = (
                f"{folder}: this run waits for nobody, so there is nothing to review; `alloop status` says where it is"
            )
            raise ConfigError(msg)
        config, pool, oracle = _connected(facts, folder)
        asked, images = requests.of_round(round_), pool.dataset.images
        answers = oracle.pull(round_, [images[request.image_id] for request in asked])
        prices, cap = config.oracle.rates, config.oracle.seconds_cap
        reviewed = [
            ReviewedImage(
                images[request.image_id].file_name,
                request,
                answers[request.image_id],
                requests.cost_of(request, answers[request.image_id], prices, cap),
            )
            for request in asked
        ]
        return Review(round_, pool.dataset.class_names, reviewed, pool)


def _connected(facts: RunFacts, folder: Path) -> tuple[ExperimentConfig, Split, HumanOracle]:
    """Return the config of a run, its pool and its oracle, where data and answers lie now."""
    config, data = parse_config(yaml.safe_load(facts.config)), data_of(facts, folder)
    block = config.oracle
    for key in block.path_keys(block.used()):
        refuse_missing(Path(str(block.used()[key])), f"oracle.{key}")
    pool = load_splits(data or config.data, for_people=True).train
    oracle = make_oracle(config).connect(pool)
    if not isinstance(oracle, HumanOracle):
        msg = f"{folder}: its oracle knows the labels and asks nobody"
        raise ConfigError(msg)
    return config, pool, oracle
