"""The ledger of a run: the truth about what was selected, paid, trained and measured.

A charge belongs to the first round that trains on its image: the seed set to round 0, what round r asked for to round
r+1. So the charges of rounds 0..r add up to what the AP of round r cost. Files are worth what their row here says: a
file without a row is rubbish, a file with another hash is an error.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alloop.budget.amounts import Spent
from alloop.budget.charges import Charge, PassedOver, RoundCharges
from alloop.class_values import Truth
from alloop.data.annotation_json import annotation_sha256, annotations_from_json, annotations_to_json
from alloop.errors import AlloopError
from alloop.evaluation.metrics import Metrics
from alloop.files import atomic_copy, atomic_write, read_verified
from alloop.ledger.database import FORMAT, NEVER, Database, damaged, opened, run_folders
from alloop.ledger.facts import RunFacts
from alloop.values import ImageId, Selection

__all__ = ["Bought", "Ledger", "RoundRecord", "open_ledger", "read_ledger", "run_folders"]


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One finished round.

    `images` and `boxes` count everything that was labeled when the round trained. `metrics` are fractions of 1, None
    where unknown. `diagnostics` are the strategy's figures about its query. `training_log` has one record per epoch of
    a semi-supervised training.
    """

    round: int
    images: int
    boxes: int
    metrics: Mapping[str, float | None]
    per_class: Mapping[str, float | None]
    timings: Mapping[str, float]
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    training_log: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Bought:
    """What is booked when a round closes: its selection, the answers that it paid for, what rules passed over."""

    selection: Selection
    predicted_boxes: Sequence[float | None]
    annotations: Mapping[ImageId, Truth]
    passed_over: Sequence[PassedOver] = ()


class Ledger:
    """The only way to what is recorded about a run. `database` is for the modules of this package."""

    def __init__(self, database: Database) -> None:
        """Use `open_ledger` or `read_ledger`."""
        self.folder, self.database = database.folder, database
        self.transaction = database.transaction

    def facts(self) -> RunFacts | None:
        """Return what was recorded when the run began; None when it never began.

        Raises:
            DamagedFileError: a fact does not hold what its name says.
        """
        try:
            return RunFacts.from_rows(self.database.facts())
        except (ValueError, TypeError, AlloopError) as error:
            raise damaged(self.folder, error) from error

    # booking

    def begin(
        self,
        facts: RunFacts,
        images: Sequence[tuple[ImageId, str, str]],
        seed_set: Sequence[ImageId],
        annotations: Mapping[ImageId, Truth],
    ) -> None:
        """Book the pool and the seed set, in one transaction.

        Args:
            facts: what never changes.
            images: id, file name and sha256 of every image of the pool.
            seed_set: what round 0 trains on; without one no round is opened yet.
            annotations: those of the seed set, at least.
        """
        with self.transaction():
            self.database.write_all("INSERT INTO fact VALUES (?, ?)", [("format", FORMAT), *facts.rows().items()])
            self.database.write_all("INSERT INTO image VALUES (?, ?, ?)", images)
            if seed_set:
                self.charge(0, {i: annotations[i] for i in seed_set})

    def close_round(
        self,
        round_: int,
        *,
        metrics: Mapping[str, Any],
        timings: Mapping[str, float],
        model_sha256: str,
        diagnostics: Mapping[str, Any],
    ) -> None:
        """Book the figures of a round.

        Raises:
            AlloopError: the round is closed already, or was never opened.
        """
        with self.transaction():
            changed = self.database.write(
                "UPDATE round SET metrics = ?, timings = ?, model_sha256 = ?, notes = ? "
                "WHERE round = ? AND metrics IS NULL",
                *(_json(metrics), _json(timings), model_sha256, _json(diagnostics), round_),
            )
            if changed != 1:
                msg = f"{self.folder}: round {round_} is closed already; nothing was booked"
                raise AlloopError(msg)

    def buy(self, round_: int, bought: Bought) -> None:
        """Book what a round chose, and its charges, which open the next round."""
        selection = bought.selection
        chosen = zip(selection.image_ids, selection.utilities, bought.predicted_boxes, strict=True)
        with self.transaction():
            self.select(round_, [(rank, *row) for rank, row in enumerate(chosen)])
            self.charge(round_ + 1, {i: bought.annotations[i] for i in selection.image_ids})

    def select(self, round_: int, chosen: Iterable[tuple[int, ImageId, float, float | None]]) -> None:
        """Book rank, image, utility and predicted boxes of what a round chose."""
        rows = [(round_, rank, i, float(u), None if boxes is None else float(boxes)) for rank, i, u, boxes in chosen]
        with self.transaction():
            self.database.write_all("INSERT INTO selection VALUES (?, ?, ?, ?, ?)", rows)

    def charge(
        self,
        round_: int,
        annotations: Mapping[ImageId, Truth],
        paid: Mapping[ImageId, tuple[float, float]] | None = None,
    ) -> None:
        """Open a round with what it trains on first.

        Args:
            round_: the round.
            annotations: what the images of this charge hold.
            paid: seconds and cost of each image; no seconds and one unit per box by default.
        """
        with self.transaction():
            self.database.write("INSERT INTO round (round) VALUES (?)", round_)
            for image_id, truth in annotations.items():
                seconds, cost = (paid or {}).get(image_id, (0.0, float(len(truth))))
                row = (image_id, round_, len(truth), seconds, cost, annotations_to_json(truth))
                self.database.write("INSERT INTO charge VALUES (?, ?, ?, ?, ?, ?, ?)", *row, annotation_sha256(truth))

    # files

    def store(self, path: str, data: bytes, round_: int, step: int | None = None, same_as: Path | None = None) -> str:
        """Write a file of the run, linked to one that is the same where there is one, record it, return its sha256."""
        target = self.folder / path
        sha256 = atomic_write(target, data) if same_as is None else atomic_copy(same_as, target, data)
        with self.transaction():
            self.database.write("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", path, sha256, round_, step)
        return sha256

    def drop(self, path: str) -> None:
        """Forget a file, then remove it."""
        with self.transaction():
            self.database.write("DELETE FROM file WHERE path = ?", path)
        (self.folder / path).unlink(missing_ok=True)

    def stored(self, path: str) -> bytes | None:
        """Return the content of a recorded file, verified; None when there is no record.

        Raises:
            DamagedFileError: the file is missing or differs from its record.
        """
        rows = self.database.read("SELECT sha256 FROM file WHERE path = ?", path)
        return read_verified(self.folder / path, rows[0]["sha256"]) if rows else None

    def files(self, round_: int | None = None) -> list[tuple[str, str, int | None]]:
        """Return (path, sha256, step) of the recorded files, of one round or of all."""
        sql = "SELECT path, sha256, step FROM file WHERE ?1 IS NULL OR round = ?1 ORDER BY path"
        return [(row["path"], row["sha256"], row["step"]) for row in self.database.read(sql, round_)]

    # reading

    def open_round(self) -> int | None:
        """Return the round that is to be worked on; None when the run is finished or waits for its seed set."""
        rows = self.database.read("SELECT round FROM round WHERE metrics IS NULL")
        return int(rows[0]["round"]) if rows else None

    def labeled(self, round_: int | None = None) -> dict[ImageId, Truth]:
        """Return what a round trained on, or all there is now: annotations that were paid for, by ascending id."""
        sql = "SELECT image_id, annotation FROM paid WHERE round <= ?1 AND ?1 < until ORDER BY image_id"
        rows = self.database.read(sql, NEVER - 1 if round_ is None else round_)
        return {ImageId(row["image_id"]): annotations_from_json(row["annotation"]) for row in rows}

    def annotations(self, image_ids: Iterable[ImageId]) -> dict[ImageId, Truth]:
        """Return what was paid for some images; raise IndexError for one that is not labeled."""
        sql = "SELECT annotation FROM paid WHERE image_id = ? ORDER BY round DESC LIMIT 1"  # after any correction
        return {i: annotations_from_json(self.database.read(sql, int(i))[0]["annotation"]) for i in image_ids}

    def spent(self) -> Spent:
        """Return everything paid so far."""
        sql = "SELECT COUNT(DISTINCT image_id) AS images, COALESCE(SUM(boxes), 0) AS boxes FROM paid"
        row = self.database.read(sql)[0]
        return Spent(int(row["images"]), int(row["boxes"]))

    def charges(self) -> list[Charge]:
        """Return every charge, by round and image id."""
        rows = self.database.read(
            "SELECT c.round, c.image_id, c.boxes, c.seconds, c.cost, s.predicted_boxes FROM paid c "
            "LEFT JOIN selection s ON s.image_id = c.image_id AND s.round = c.round - 1 ORDER BY c.round, c.image_id"
        )
        return [Charge(*row) for row in rows]

    def charged(self) -> list[RoundCharges]:
        """Return the sums of the charges of each round."""
        rows = self.database.read(
            "SELECT c.round, SUM(NOT is_correction), SUM(c.boxes), SUM(c.boxes = 0 AND NOT is_correction), "
            "SUM(c.seconds), SUM(c.cost), SUM(s.predicted_boxes) FROM paid c LEFT JOIN selection s "
            "ON s.image_id = c.image_id AND s.round = c.round - 1 GROUP BY c.round ORDER BY c.round"
        )
        return [RoundCharges(*row) for row in rows]

    def rounds(self) -> list[RoundRecord]:
        """Return the finished rounds in order."""
        rows = self.database.read(
            "SELECT r.round, r.metrics, r.timings, r.notes, COUNT(DISTINCT c.image_id) AS images, "
            "COALESCE(SUM(c.boxes), 0) AS boxes "
            "FROM round r LEFT JOIN paid c ON c.round <= r.round WHERE r.metrics IS NOT NULL "
            "GROUP BY r.round ORDER BY r.round"
        )
        try:
            return [_round_record(row) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(self.folder, error) from error

    def selections(self) -> list[tuple[int, int, ImageId, float, float | None]]:
        """Return (round, rank, image_id, utility, predicted_boxes) of everything that was selected."""
        return [tuple(row) for row in self.database.read("SELECT * FROM selection ORDER BY round, rank")]

    def pool_size(self) -> int:
        """Return the number of images in the pool."""
        return int(self.database.read("SELECT COUNT(*) AS images FROM image")[0]["images"])

    def image_hashes(self) -> dict[ImageId, str]:
        """Return the sha256 of each image of the pool as it was when the run began."""
        rows = self.database.read("SELECT image_id, sha256 FROM image")
        return {ImageId(row["image_id"]): row["sha256"] for row in rows}


def _round_record(row: Any) -> RoundRecord:
    metrics = Metrics.from_json(json.loads(row["metrics"]))
    return RoundRecord(
        round=row["round"],
        images=row["images"],
        boxes=row["boxes"],
        metrics=metrics.values,
        per_class=metrics.per_class,
        timings=json.loads(row["timings"]),
        diagnostics=json.loads(row["notes"]),
        training_log=metrics.training_log or (),
    )


@contextmanager
def open_ledger(folder: Path) -> Iterator[Ledger]:
    """Open a ledger for writing; the caller holds the run lock.

    Raises:
        DamagedFileError: `run.db` is not a ledger of this format.
    """
    with opened(folder, writable=True) as database:
        yield Ledger(database)


@contextmanager
def read_ledger(folder: Path) -> Iterator[Ledger]:
    """Open a ledger for reading, also while another process writes.

    Raises:
        ConfigError: there is no run in this folder.
        DamagedFileError: `run.db` is not a ledger of this format.
    """
    with opened(folder, writable=False) as database:
        yield Ledger(database)


def _json(value: Any) -> str:
    """Return JSON; raise ValueError for NaN and infinity."""
    return json.dumps(value, allow_nan=False, sort_keys=True)
