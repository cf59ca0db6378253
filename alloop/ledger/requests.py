"""Annotation requests: what people were asked to annotate, and what came of it.

The tables stand in `run.db`; a simulated run does not have them. A request is recorded before it is handed over, so
that a stop in between loses nothing and asks nothing twice. Its round is the one that will train on the answer. The
boxes that a person is shown are recorded with it. Work is charged by its increase: a piece of work that is reported
again costs only what was added.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alloop.budget.charges import Edits
from alloop.budget.prices import PriceList
from alloop.data.annotation_json import annotation_sha256, annotations_to_json
from alloop.errors import AlloopError
from alloop.ledger.store import Ledger
from alloop.oracles.oracle import CLOSED, Answer, PreAnnotations, edits
from alloop.values import Annotations, ImageId, Selection

_SCHEMA = """
CREATE TABLE IF NOT EXISTS question (
    round INTEGER NOT NULL, rank INTEGER NOT NULL, image_id INTEGER NOT NULL REFERENCES image,
    utility REAL NOT NULL, predicted_boxes REAL NOT NULL, shown TEXT,
    state TEXT NOT NULL DEFAULT 'todo', remark TEXT NOT NULL DEFAULT '',
    accepted INTEGER, moved INTEGER, deleted INTEGER, added INTEGER,
    PRIMARY KEY (round, image_id), UNIQUE (round, rank));
CREATE TABLE IF NOT EXISTS work (
    name TEXT PRIMARY KEY, image_id INTEGER NOT NULL REFERENCES image, round INTEGER NOT NULL,
    seconds REAL NOT NULL CHECK (seconds >= 0));
CREATE TABLE IF NOT EXISTS revision (
    image_id INTEGER NOT NULL REFERENCES image, round INTEGER NOT NULL,
    annotation TEXT NOT NULL, annotation_sha256 TEXT NOT NULL, PRIMARY KEY (image_id, annotation_sha256))
"""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotationRequest:
    """One image that people were asked to annotate."""

    rank: int
    image_id: ImageId
    utility: float
    predicted_boxes: float
    pre_annotations: PreAnnotations | None
    state: str
    remark: str


@dataclass(frozen=True, slots=True)
class RoundAnswers:
    """What came of the requests of one booked round.

    `predicted_boxes` and `edits` are sums over the images that are done, `boxes`, `seconds` and `cost` over what was
    charged. `set_aside_seconds` is the work on images that were not done.
    """

    round: int
    states: Mapping[str, int]
    predicted_boxes: float
    boxes: int
    seconds: float
    cost: float
    set_aside_seconds: float
    edits: Edits


class AnnotationRequests:
    """The annotation requests of a run."""

    def __init__(self, ledger: Ledger) -> None:
        """Write nothing before the first request."""
        self._ledger, self._database = ledger, ledger.database

    def _exist(self) -> bool:
        return bool(self._database.read("SELECT name FROM sqlite_master WHERE name = 'question'"))

    def ask(
        self,
        round_: int,
        selection: Selection,
        predicted_boxes: Sequence[float],
        pre_annotations: Mapping[ImageId, PreAnnotations],
    ) -> None:
        """Record what a round will ask for, with the boxes that people will be shown."""
        with self._ledger.transaction():
            for table in _SCHEMA.split(";"):
                self._database.write(table)
            chosen = zip(selection.image_ids, selection.utilities, predicted_boxes, strict=True)
            self._database.write_all(
                "INSERT INTO question (round, rank, image_id, utility, predicted_boxes, shown) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (round_, rank, image_id, float(utility), float(boxes), _to_json(pre_annotations.get(image_id)))
                    for rank, (image_id, utility, boxes) in enumerate(chosen)
                ],
            )

    def pending(self) -> int | None:
        """Return the round whose answers are awaited."""
        if not self._exist():
            return None
        asked = self._database.read("SELECT MAX(round) AS round FROM question")[0]["round"]
        opened = self._database.read("SELECT MAX(round) AS round FROM round")[0]["round"]
        return int(asked) if asked is not None and (opened is None or asked > opened) else None

    def of_round(self, round_: int) -> list[AnnotationRequest]:
        """Return the requests of a round by rank."""
        if not self._exist():
            return []
        rows = self._database.read("SELECT * FROM question WHERE round = ? ORDER BY rank", round_)
        return [
            AnnotationRequest(
                rank=row["rank"],
                image_id=ImageId(row["image_id"]),
                utility=row["utility"],
                predicted_boxes=row["predicted_boxes"],
                pre_annotations=_from_json(row["shown"]),
                state=row["state"],
                remark=row["remark"],
            )
            for row in rows
        ]

    def set_aside(self) -> set[ImageId]:
        """Return the images that people skipped; they are not asked for again."""
        if not self._exist():
            return set()
        rows = self._database.read("SELECT image_id FROM question WHERE state = 'skipped'")
        return {ImageId(row["image_id"]) for row in rows}

    def book(self, round_: int, answers: Mapping[ImageId, Answer], prices: PriceList, seconds_cap: float) -> None:
        """Close the requests of a round and open the round with what is done, in one transaction.

        Args:
            round_: the round that trains on the answers.
            answers: where each image stands; what is neither done nor skipped goes back to the pool.
            prices: what the work costs.
            seconds_cap: the most seconds that one piece of work counts.

        Raises:
            AlloopError: nothing is done.
        """
        requests = [request for request in self.of_round(round_) if request.image_id in answers]
        done = {r.image_id: truth for r in requests if (truth := answers[r.image_id].annotations) is not None}
        if not done:
            msg = f"round {round_}: none of the {len(requests)} images came back with an annotation"
            raise AlloopError(f"{msg}; nothing was booked")
        with self._ledger.transaction():
            paid = {}
            for request in requests:
                answer = answers[request.image_id]
                seconds = self._charged_seconds(request.image_id, round_, answer, seconds_cap)
                self._close(round_, request, answer)
                if answer.annotations is not None:
                    paid[request.image_id] = (seconds, _cost(request, answer.annotations, prices, seconds))
            self._ledger.charge(round_, done, paid)
            if round_ > 0:
                chosen = [(r.rank, r.image_id, r.utility, r.predicted_boxes) for r in requests if r.image_id in done]
                self._ledger.select(round_ - 1, chosen)

    def _charged_seconds(self, image_id: ImageId, round_: int, answer: Answer, cap: float) -> float:
        """Record the reported work of an image; return the seconds that were not charged before."""
        total = self._new_seconds(answer, cap)
        for name, reported in answer.work.items():
            seconds = max(min(max(reported, 0.0), cap), self._known_seconds(name))
            sql = "INSERT OR REPLACE INTO work VALUES (?, ?, ?, ?)"
            self._database.write(sql, name, image_id, round_, seconds)
        return total

    def _new_seconds(self, answer: Answer, cap: float) -> float:
        """Return the seconds of the reported work that were not charged before."""
        reported = ((min(max(seconds, 0.0), cap), self._known_seconds(name)) for name, seconds in answer.work.items())
        return sum((max(0.0, seconds - before) for seconds, before in reported), start=0.0)

    def _known_seconds(self, name: str) -> float:
        known = self._database.read("SELECT seconds FROM work WHERE name = ?", name)
        return float(known[0]["seconds"]) if known else 0.0

    def book_seconds(self, round_: int, answers: Mapping[ImageId, Answer], cap: float) -> dict[ImageId, float]:
        """Record the reported work of images; return for each its seconds that were not charged before."""
        return {image_id: self._charged_seconds(image_id, round_, answer, cap) for image_id, answer in answers.items()}

    def cost_of(self, request: AnnotationRequest, answer: Answer, prices: PriceList, seconds_cap: float) -> float:
        """Return what booking an answer now would cost; 0 for one that cannot be booked."""
        if answer.annotations is None:
            return 0.0
        return _cost(request, answer.annotations, prices, self._new_seconds(answer, seconds_cap))

    def _close(self, round_: int, request: AnnotationRequest, answer: Answer) -> None:
        """Record where a request ended, and what became of the boxes that were shown, if any were."""
        changes = None if answer.annotations is None else _changes(request, answer.annotations)
        counts = (None,) * 4 if changes is None else (changes.accepted, changes.moved, changes.deleted, changes.added)
        state = answer.state if answer.state in CLOSED else "left"
        self._database.write(
            "UPDATE question SET state = ?, remark = ?, accepted = ?, moved = ?, deleted = ?, added = ? "
            "WHERE round = ? AND image_id = ?",
            *(state, answer.remark, *counts, round_, request.image_id),
        )

    def revise(self, round_: int, answers: Mapping[ImageId, Answer]) -> list[ImageId]:
        """Record annotations that people changed after they were booked; each version once, charging nothing.

        Returns:
            the images of which a version was recorded now.
        """
        changed = []
        with self._ledger.transaction():
            for image_id, answer in answers.items():
                if answer.annotations is not None and self._is_new(image_id, annotation_sha256(answer.annotations)):
                    text, sha256 = annotations_to_json(answer.annotations), annotation_sha256(answer.annotations)
                    self._database.write("INSERT INTO revision VALUES (?, ?, ?, ?)", image_id, round_, text, sha256)
                    changed.append(image_id)
        return changed

    def _is_new(self, image_id: ImageId, sha256: str) -> bool:
        """Return whether this version of an annotation is neither the booked one nor a recorded revision."""
        booked = self._database.read("SELECT annotation_sha256 FROM charge WHERE image_id = ?", image_id)
        sql = "SELECT round FROM revision WHERE image_id = ? AND annotation_sha256 = ?"
        known = self._database.read(sql, image_id, sha256)
        return bool(booked) and booked[0]["annotation_sha256"] != sha256 and not known

    def answered(self) -> list[RoundAnswers]:
        """Return what came of each round that is booked."""
        if not self._exist():
            return []
        rounds = self._database.read("SELECT DISTINCT round FROM question WHERE state <> 'todo' ORDER BY round")
        return [self._answers_of(int(row["round"])) for row in rounds]

    def _answers_of(self, round_: int) -> RoundAnswers:
        states = self._database.read("SELECT state, COUNT(*) AS n FROM question WHERE round = ? GROUP BY state", round_)
        sums = self._database.read(
            "SELECT SUM(predicted_boxes) AS predicted, SUM(accepted) AS accepted, SUM(moved) AS moved, "
            "SUM(deleted) AS deleted, SUM(added) AS added FROM question WHERE round = ? AND state = 'done'",
            round_,
        )[0]
        paid = self._database.read(
            "SELECT SUM(boxes) AS boxes, SUM(seconds) AS seconds, SUM(cost) AS cost FROM charge WHERE round = ?", round_
        )[0]
        aside = self._database.read(
            "SELECT SUM(w.seconds) AS seconds FROM work w JOIN question q ON q.image_id = w.image_id "
            "AND q.round = w.round WHERE q.round = ? AND q.state <> 'done'",
            round_,
        )[0]
        return RoundAnswers(
            round=round_,
            states={row["state"]: row["n"] for row in states},
            predicted_boxes=sums["predicted"] or 0.0,
            boxes=paid["boxes"] or 0,
            seconds=paid["seconds"] or 0.0,
            cost=paid["cost"] or 0.0,
            set_aside_seconds=aside["seconds"] or 0.0,
            edits=Edits(*(sums[key] or 0 for key in ("accepted", "moved", "deleted", "added"))),
        )


def _changes(request: AnnotationRequest, answered: Annotations) -> Edits | None:
    """Return what became of the boxes that people were shown; None where none were."""
    return None if request.pre_annotations is None else edits(request.pre_annotations, answered)


def _cost(request: AnnotationRequest, answered: Annotations, prices: PriceList, seconds: float) -> float:
    boxes, changes = len(answered), _changes(request, answered)
    return prices.cost(boxes=boxes, empty=int(not boxes), seconds=seconds, edits=changes)


def _to_json(pre_annotations: PreAnnotations | None) -> str | None:
    if pre_annotations is None:
        return None
    tree = {key: getattr(pre_annotations, key).tolist() for key in ("boxes", "labels", "scores")}
    return json.dumps(tree, allow_nan=False)


def _from_json(text: str | None) -> PreAnnotations | None:
    if text is None:
        return None
    tree = json.loads(text)
    return PreAnnotations(
        np.array(tree["boxes"], dtype=np.float32).reshape(-1, 4),
        np.array(tree["labels"], dtype=np.int64),
        np.array(tree["scores"], dtype=np.float32),
    )
