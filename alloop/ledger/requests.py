"""What people were asked and what came of it, in tables of `run.db` that a simulated run does not have.

A question is recorded before it is handed over, so that a stop in between loses nothing and asks nothing
twice. Its round is the one that will train on the answer. The boxes that a person is shown are recorded
with it. Work is charged by its increase: a piece of work that is reported again costs what was added.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alloop.data.annotation_json import annotation_sha256, annotations_to_json
from alloop.errors import AlloopError
from alloop.ledger.store import Ledger
from alloop.oracles.oracle import Answer, PreAnnotations, edits
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


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices of what people do, in whatever money. Without prices of edits every box that came back costs `box`."""

    image: float = 0.0
    box: float = 1.0
    second: float = 0.0
    accepted: float | None = None
    moved: float | None = None
    added: float | None = None
    deleted: float = 0.0

    def cost(self, boxes: int, seconds: float, done: tuple[int, int, int, int] | None) -> float:
        """Of one image; `done` are boxes accepted, moved, deleted and added where boxes were shown."""
        drawn = self.box * boxes
        if done is not None:
            accepted, moved, deleted, added = done
            prices = [self.box if price is None else price for price in (self.accepted, self.moved, self.added)]
            drawn = prices[0] * accepted + prices[1] * moved + prices[2] * added + self.deleted * deleted
        return self.image + drawn + self.second * seconds


@dataclass(frozen=True, slots=True, eq=False)
class AnnotationRequest:
    """One image that people were asked about."""

    rank: int
    image_id: ImageId
    utility: float
    predicted_boxes: float
    shown: PreAnnotations | None
    state: str
    remark: str


@dataclass(frozen=True, slots=True)
class RoundAnswers:
    """What came of the questions of one round."""

    round: int
    states: Mapping[str, int]
    predicted_boxes: float
    boxes: int
    seconds: float
    cost: float
    set_aside_seconds: float
    accepted: int
    moved: int
    deleted: int
    added: int


class AnnotationRequests:
    """The questions of a run."""

    def __init__(self, ledger: Ledger) -> None:
        """Nothing is written before the first question."""
        self._ledger = ledger

    def _exist(self) -> bool:
        return bool(self._ledger.read("SELECT name FROM sqlite_master WHERE name = 'question'"))

    def ask(
        self,
        round_: int,
        selection: Selection,
        predicted_boxes: Sequence[float],
        shown: Mapping[ImageId, PreAnnotations],
    ) -> None:
        """Record what a round will ask for, with the boxes that people will be shown."""
        with self._ledger.transaction():
            for table in _SCHEMA.split(";"):
                self._ledger.write(table)
            chosen = zip(selection.image_ids, selection.utilities, predicted_boxes, strict=True)
            for rank, (image_id, utility, boxes) in enumerate(chosen):
                self._ledger.write(
                    "INSERT INTO question (round, rank, image_id, utility, predicted_boxes, shown) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    *(round_, rank, image_id, float(utility), float(boxes), _to_json(shown.get(image_id))),
                )

    def pending(self) -> int | None:
        """The round whose answers are being waited for."""
        if not self._exist():
            return None
        asked = self._ledger.read("SELECT MAX(round) AS round FROM question")[0]["round"]
        closed = self._ledger.read("SELECT MAX(round) AS round FROM round")[0]["round"]
        return int(asked) if asked is not None and (closed is None or asked > closed) else None

    def of_round(self, round_: int) -> list[AnnotationRequest]:
        """Its questions by rank."""
        if not self._exist():
            return []
        rows = self._ledger.read("SELECT * FROM question WHERE round = ? ORDER BY rank", round_)
        return [
            AnnotationRequest(
                row["rank"],
                ImageId(row["image_id"]),
                row["utility"],
                row["predicted_boxes"],
                _from_json(row["shown"]),
                row["state"],
                row["remark"],
            )
            for row in rows
        ]

    def set_aside(self) -> set[ImageId]:
        """Images that people skipped; they are not asked about again."""
        if not self._exist():
            return set()
        rows = self._ledger.read("SELECT image_id FROM question WHERE state = 'skipped'")
        return {ImageId(row["image_id"]) for row in rows}

    def book(self, round_: int, answers: Mapping[ImageId, Answer], rates: Rates, cap: float) -> None:
        """Close a round's questions and open the round with what is done, in one transaction.

        Args:
            round_: the round that trains on the answers.
            answers: where each image stands; what is neither done nor skipped goes back to the pool.
            rates: prices.
            cap: most seconds that one piece of work may count.

        Raises:
            AlloopError: nothing is done.
        """
        questions = [q for q in self.of_round(round_) if q.image_id in answers]
        done = {q.image_id: answer for q in questions if (answer := answers[q.image_id]).annotations is not None}
        if not done:
            msg = (
                f"round {round_}: none of the {len(questions)} images came back with an annotation; nothing was booked"
            )
            raise AlloopError(msg)
        with self._ledger.transaction():
            paid = {}
            for question in questions:
                answer = answers[question.image_id]
                seconds = self._worked(question.image_id, round_, answer, cap)
                made = self._close(round_, question, answer)
                if answer.annotations is not None:
                    paid[question.image_id] = (seconds, rates.cost(len(answer.annotations), seconds, made))
            self._ledger.charge(round_, {i: _annotations(answer) for i, answer in done.items()}, paid)
            if round_ > 0:
                chosen = [(q.rank, q.image_id, q.utility, q.predicted_boxes) for q in questions if q.image_id in done]
                self._ledger.select(round_ - 1, chosen)

    def _worked(self, image_id: ImageId, round_: int, answer: Answer, cap: float) -> float:
        """Seconds of this image that were not charged before."""
        total = 0.0
        for name, reported in answer.work.items():
            seconds = min(max(reported, 0.0), cap)
            known = self._ledger.read("SELECT seconds FROM work WHERE name = ?", name)
            before = float(known[0]["seconds"]) if known else 0.0
            total += max(0.0, seconds - before)
            sql = "INSERT OR REPLACE INTO work VALUES (?, ?, ?, ?)"
            self._ledger.write(sql, name, image_id, round_, max(seconds, before))
        return total

    def _close(self, round_: int, question: AnnotationRequest, answer: Answer) -> tuple[int, int, int, int] | None:
        """Record where a question ended and what became of the boxes that were shown."""
        made = None
        if question.shown is not None and answer.annotations is not None:
            found = edits(question.shown, answer.annotations)
            made = (found.accepted, found.moved, found.deleted, found.added)
        state = answer.state if answer.state in ("done", "skipped") else "left"
        self._ledger.write(
            "UPDATE question SET state = ?, remark = ?, accepted = ?, moved = ?, deleted = ?, added = ? "
            "WHERE round = ? AND image_id = ?",
            *(state, answer.remark, *(made or (None,) * 4), round_, question.image_id),
        )
        return made

    def revise(self, round_: int, answers: Mapping[ImageId, Answer]) -> list[ImageId]:
        """Record annotations that people changed after they were booked; each version once, charging nothing."""
        changed = []
        with self._ledger.transaction():
            for image_id, answer in answers.items():
                if answer.annotations is None:
                    continue
                sha256 = annotation_sha256(answer.annotations)
                booked = self._ledger.read("SELECT annotation_sha256 FROM charge WHERE image_id = ?", image_id)
                if not booked or booked[0]["annotation_sha256"] == sha256:
                    continue
                known = self._ledger.read(
                    "SELECT round FROM revision WHERE image_id = ? AND annotation_sha256 = ?", image_id, sha256
                )
                if not known:
                    text = annotations_to_json(answer.annotations)
                    self._ledger.write("INSERT INTO revision VALUES (?, ?, ?, ?)", image_id, round_, text, sha256)
                    changed.append(image_id)
        return changed

    def revisions(self) -> int:
        """How many changed annotations were seen after booking."""
        return int(self._ledger.read("SELECT COUNT(*) AS n FROM revision")[0]["n"]) if self._exist() else 0

    def told(self) -> list[RoundAnswers]:
        """What came of each round that is booked."""
        if not self._exist():
            return []
        rounds = self._ledger.read("SELECT DISTINCT round FROM question WHERE state <> 'todo' ORDER BY round")
        return [self._told(int(row["round"])) for row in rounds]

    def _told(self, round_: int) -> RoundAnswers:
        states = self._ledger.read("SELECT state, COUNT(*) AS n FROM question WHERE round = ? GROUP BY state", round_)
        sums = self._ledger.read(
            "SELECT SUM(predicted_boxes) AS predicted, SUM(accepted) AS accepted, SUM(moved) AS moved, "
            "SUM(deleted) AS deleted, SUM(added) AS added FROM question WHERE round = ? AND state = 'done'",
            round_,
        )[0]
        paid = self._ledger.read(
            "SELECT SUM(boxes) AS boxes, SUM(seconds) AS seconds, SUM(cost) AS cost FROM charge WHERE round = ?", round_
        )[0]
        aside = self._ledger.read(
            "SELECT SUM(w.seconds) AS seconds FROM work w JOIN question q ON q.image_id = w.image_id "
            "AND q.round = w.round WHERE q.round = ? AND q.state <> 'done'",
            round_,
        )[0]
        return RoundAnswers(
            round_,
            {row["state"]: row["n"] for row in states},
            sums["predicted"] or 0.0,
            paid["boxes"] or 0,
            paid["seconds"] or 0.0,
            paid["cost"] or 0.0,
            aside["seconds"] or 0.0,
            *(sums[key] or 0 for key in ("accepted", "moved", "deleted", "added")),
        )


def _annotations(answer: Answer) -> Annotations:
    assert answer.annotations is not None
    return answer.annotations


def _to_json(shown: PreAnnotations | None) -> str | None:
    if shown is None:
        return None
    tree = {"boxes": shown.boxes.tolist(), "labels": shown.labels.tolist(), "scores": shown.scores.tolist()}
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
