"""`run.db`: the truth about a run. One writer, one transaction a round, opened by nothing else.

SQLite with a rollback journal and `synchronous=EXTRA`: a committed round survives a power cut, an
uncommitted one never happened. Files are worth what their row here says: a file without a row is
rubbish, a file with another hash is an error.

A charge belongs to the first round that trains on its image: the seed set to round 0, what round r
asked for to round r+1. So the charges of rounds 0..r add up to what the AP of round r cost.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alloop.budget.amounts import Spent
from alloop.budget.prices import RoundCharges
from alloop.data.annotation_json import annotation_sha256, annotations_from_json, annotations_to_json
from alloop.errors import AlloopError, ConfigError, DamagedFileError
from alloop.files import atomic_write, read_verified
from alloop.values import Annotations, Charge, ImageId, Selection

FORMAT = "1"
_SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE image (image_id INTEGER PRIMARY KEY, file_name TEXT NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE round (round INTEGER PRIMARY KEY, metrics TEXT, timings TEXT, model_sha256 TEXT, notes TEXT);
CREATE TABLE selection (
    round INTEGER NOT NULL REFERENCES round, rank INTEGER NOT NULL, image_id INTEGER NOT NULL REFERENCES image,
    utility REAL, predicted_boxes REAL, PRIMARY KEY (round, rank), UNIQUE (round, image_id));
CREATE TABLE charge (
    image_id INTEGER PRIMARY KEY REFERENCES image, round INTEGER NOT NULL REFERENCES round,
    boxes INTEGER NOT NULL CHECK (boxes >= 0), seconds REAL NOT NULL CHECK (seconds >= 0),
    cost REAL NOT NULL CHECK (cost >= 0), annotation TEXT NOT NULL, annotation_sha256 TEXT NOT NULL);
CREATE TABLE file (path TEXT PRIMARY KEY, sha256 TEXT NOT NULL, round INTEGER NOT NULL, step INTEGER);
"""


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One finished round: figures, what was labeled when it trained, what the queries cost."""

    round: int
    images: int
    boxes: int
    metrics: Mapping[str, float | None]
    per_class: Mapping[str, float | None]
    timings: Mapping[str, float]
    diagnostics: Mapping[str, float] = field(default_factory=dict)  # what the strategy told of its query
    training_log: Sequence[Mapping[str, Any]] = ()  # of a semi-supervised training, one record an epoch


@dataclass(frozen=True, slots=True)
class Bought:
    """What is booked when a round closes: the selection it made and the answers it paid for."""

    selection: Selection
    predicted_boxes: Sequence[float]
    annotations: Mapping[ImageId, Annotations]


class Ledger:
    """The only door to `run.db`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        """Use `open_ledger` or `read_ledger`."""
        self.folder, self._db = folder, connection

    def read(self, sql: str, *arguments: Any) -> list[sqlite3.Row]:
        """Rows of a reading statement; for this file and the audit."""
        try:
            return self._db.execute(sql, arguments).fetchall()
        except sqlite3.DatabaseError as error:
            raise _damaged(self.folder, error) from error

    def write(self, sql: str, *arguments: Any) -> None:
        """A writing statement inside a transaction; for this file and for `questions`."""
        self._db.execute(sql, arguments)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; one inside another belongs to it."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # facts

    def fact(self, name: str) -> str | None:
        """A recorded fact of the run."""
        rows = self.read("SELECT value FROM fact WHERE name = ?", name)
        return rows[0]["value"] if rows else None

    def facts(self) -> dict[str, str]:
        """All recorded facts."""
        return {row["name"]: row["value"] for row in self.read("SELECT name, value FROM fact ORDER BY name")}

    # writing

    def begin(
        self,
        facts: Mapping[str, str],
        images: Sequence[tuple[ImageId, str, str]],
        seed_set: Sequence[ImageId],
        annotations: Mapping[ImageId, Annotations],
    ) -> None:
        """Book the pool and the seed set, in one transaction; without a seed set no round is opened yet."""
        with self.transaction():
            self._db.executemany("INSERT INTO fact VALUES (?, ?)", [("format", FORMAT), *facts.items()])
            self._db.executemany("INSERT INTO image VALUES (?, ?, ?)", images)
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
        bought: Bought | None,
    ) -> None:
        """Book a round: its figures, its selection and the charges of what it bought, in one transaction."""
        with self.transaction():
            changed = self._db.execute(
                "UPDATE round SET metrics = ?, timings = ?, model_sha256 = ?, notes = ? "
                "WHERE round = ? AND metrics IS NULL",
                (_json(metrics), _json(timings), model_sha256, _json(diagnostics), round_),
            ).rowcount
            if changed != 1:
                msg = f"{self.folder}: round {round_} is closed already; nothing was booked"
                raise AlloopError(msg)
            if bought is not None:
                chosen = zip(
                    bought.selection.image_ids, bought.selection.utilities, bought.predicted_boxes, strict=True
                )
                self.select(round_, [(rank, *row) for rank, row in enumerate(chosen)])
                self.charge(round_ + 1, {i: bought.annotations[i] for i in bought.selection.image_ids})

    def select(self, round_: int, chosen: Iterable[tuple[int, ImageId, float, float]]) -> None:
        """Book rank, image, utility and predicted boxes of what a round chose."""
        with self.transaction():
            for rank, image_id, utility, predicted in chosen:
                row = (round_, rank, image_id, float(utility), float(predicted))
                self._db.execute("INSERT INTO selection VALUES (?, ?, ?, ?, ?)", row)

    def charge(
        self,
        round_: int,
        annotations: Mapping[ImageId, Annotations],
        paid: Mapping[ImageId, tuple[float, float]] | None = None,
    ) -> None:
        """Open a round with what it trains on first; `paid` are seconds and cost, by default none and a unit a box."""
        with self.transaction():
            self._db.execute("INSERT INTO round (round) VALUES (?)", (round_,))
            for image_id, truth in annotations.items():
                seconds, cost = (paid or {}).get(image_id, (0.0, float(len(truth))))
                text = annotations_to_json(truth)
                self._db.execute(
                    "INSERT INTO charge VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (image_id, round_, len(truth), seconds, cost, text, annotation_sha256(truth)),
                )

    # files

    def store(self, path: str, data: bytes, round_: int, step: int | None = None) -> str:
        """Write a file of the run and then record it; returns its sha256."""
        sha256 = atomic_write(self.folder / path, data)
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", (path, sha256, round_, step))
        return sha256

    def drop(self, path: str) -> None:
        """Forget a file, then remove it."""
        with self.transaction():
            self._db.execute("DELETE FROM file WHERE path = ?", (path,))
        (self.folder / path).unlink(missing_ok=True)

    def stored(self, path: str) -> bytes | None:
        """A recorded file, verified; None when there is no record.

        Raises:
            DamagedFileError: the file is missing or differs from its record.
        """
        rows = self.read("SELECT sha256 FROM file WHERE path = ?", path)
        return read_verified(self.folder / path, rows[0]["sha256"]) if rows else None

    def files(self, round_: int | None = None) -> list[tuple[str, str, int | None]]:
        """(path, sha256, step) of the recorded files."""
        where, arguments = ("WHERE round = ?", (round_,)) if round_ is not None else ("", ())
        rows = self.read(f"SELECT path, sha256, step FROM file {where} ORDER BY path", *arguments)  # noqa: S608
        return [(row["path"], row["sha256"], row["step"]) for row in rows]

    # reading

    def open_round(self) -> int | None:
        """The round that is to be worked on; None when the run is finished."""
        rows = self.read("SELECT round FROM round WHERE metrics IS NULL")
        return int(rows[0]["round"]) if rows else None

    def labeled(self) -> dict[ImageId, Annotations]:
        """Every paid image with the annotations that were paid for."""
        rows = self.read("SELECT image_id, annotation FROM charge ORDER BY image_id")
        return {ImageId(row["image_id"]): annotations_from_json(row["annotation"]) for row in rows}

    def annotations(self, image_ids: Iterable[ImageId]) -> dict[ImageId, Annotations]:
        """What was paid for some images; raises IndexError for one that is not labeled."""
        sql = "SELECT annotation FROM charge WHERE image_id = ?"
        return {i: annotations_from_json(self.read(sql, int(i))[0]["annotation"]) for i in image_ids}

    def spent(self) -> Spent:
        """Everything paid so far."""
        row = self.read("SELECT COUNT(*) AS images, COALESCE(SUM(boxes), 0) AS boxes FROM charge")[0]
        return Spent(int(row["images"]), int(row["boxes"]))

    def charges(self) -> list[Charge]:
        """Every charge, by round and image id."""
        rows = self.read(
            "SELECT c.round, c.image_id, c.boxes, c.seconds, c.cost, s.predicted_boxes FROM charge c "
            "LEFT JOIN selection s ON s.image_id = c.image_id AND s.round = c.round - 1 ORDER BY c.round, c.image_id"
        )
        return [Charge(*row) for row in rows]

    def rounds(self) -> list[RoundRecord]:
        """Finished rounds in order."""
        rows = self.read(
            "SELECT r.round, r.metrics, r.timings, r.notes, COUNT(c.image_id) AS images, "
            "COALESCE(SUM(c.boxes), 0) AS boxes "
            "FROM round r LEFT JOIN charge c ON c.round <= r.round WHERE r.metrics IS NOT NULL "
            "GROUP BY r.round ORDER BY r.round"
        )
        return [self._record(row) for row in rows]

    def _record(self, row: sqlite3.Row) -> RoundRecord:
        try:
            metrics = json.loads(row["metrics"])
            return RoundRecord(
                row["round"],
                row["images"],
                row["boxes"],
                metrics["values"],
                metrics["per_class"],
                json.loads(row["timings"]),
                json.loads(row["notes"]),
                metrics.get("course", ()),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(self.folder, error) from error

    def charged(self) -> list[RoundCharges]:
        """What the charges of each round add up to."""
        rows = self.read(
            "SELECT c.round, COUNT(*), SUM(c.boxes), SUM(c.boxes = 0), SUM(c.seconds), SUM(c.cost), "
            "SUM(s.predicted_boxes) FROM charge c LEFT JOIN selection s ON s.image_id = c.image_id "
            "AND s.round = c.round - 1 GROUP BY c.round ORDER BY c.round"
        )
        return [RoundCharges(*row) for row in rows]

    def class_counts(self) -> list[tuple[int, int, int]]:
        """(round, label, boxes) of everything that was charged."""
        rows = self.read(
            "SELECT round, value AS label, COUNT(*) AS boxes FROM charge, json_each(annotation, '$.labels') "
            "GROUP BY round, label ORDER BY round, label"
        )
        return [tuple(row) for row in rows]

    def pool_size(self) -> int:
        """Number of images in the pool."""
        return int(self.read("SELECT COUNT(*) AS images FROM image")[0]["images"])

    def selections(self) -> list[tuple[int, int, ImageId, float, float]]:
        """(round, rank, image_id, utility, predicted_boxes) of everything ever selected."""
        rows = self.read("SELECT * FROM selection ORDER BY round, rank")
        return [tuple(row) for row in rows]

    def image_hashes(self) -> dict[ImageId, str]:
        """sha256 of each image of the pool as imported."""
        return {ImageId(row["image_id"]): row["sha256"] for row in self.read("SELECT image_id, sha256 FROM image")}


def _connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """Readers may write where they can, since only so SQLite undoes what a killed writer left half done."""
    mode = "rwc" if writable else "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
    connection.row_factory = sqlite3.Row
    if writable:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")
    else:
        connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


@contextmanager
def open_ledger(folder: Path) -> Iterator[Ledger]:
    """Open for writing; the caller holds the run lock.

    Raises:
        DamagedFileError: `run.db` is not a ledger of this format.
    """
    with _opened(folder, writable=True) as ledger:
        yield ledger


@contextmanager
def read_ledger(folder: Path) -> Iterator[Ledger]:
    """Open for reading, also while another process writes.

    Raises:
        ConfigError: there is no run in this folder.
        DamagedFileError: `run.db` is not a ledger of this format.
    """
    if not (folder / "run.db").is_file():
        msg = f"{folder}: expected a run folder with run.db, found none; give the --out folder of `alloop run`"
        raise ConfigError(msg)
    with _opened(folder, writable=False) as ledger:
        yield ledger


@contextmanager
def _opened(folder: Path, *, writable: bool) -> Iterator[Ledger]:
    connection: sqlite3.Connection | None = None
    try:
        connection = _connect(folder / "run.db", writable=writable)
        if writable and not connection.execute("SELECT name FROM sqlite_master").fetchall():
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        _check_format(folder, connection)
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        raise _damaged(folder, error) from error
    try:
        yield Ledger(folder, connection)
    finally:
        connection.close()


def run_folders(folder: Path) -> list[Path]:
    """The folder itself when it is a run, else the runs one level below it.

    Raises:
        ConfigError: there is no run.
    """
    if (folder / "run.db").is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/run.db"))
    if not found:
        settings = sorted({path.parent.parent.name for path in folder.glob("*/*/run.db")})
        several = f"; it holds a study for each of several settings, give one: {', '.join(settings)}" * bool(settings)
        msg = f"{folder}: expected a run folder or a study folder, found no run.db in it or one level below{several}"
        raise ConfigError(msg)
    return found


def _check_format(folder: Path, connection: sqlite3.Connection) -> None:
    rows = connection.execute("SELECT value FROM fact WHERE name = 'format'").fetchall()
    if rows and rows[0][0] != FORMAT:
        msg = f"{folder / 'run.db'}: written in format {rows[0][0]}, this version of alloop reads format {FORMAT}"
        raise DamagedFileError(msg)


def _damaged(folder: Path, error: Exception) -> DamagedFileError:
    return DamagedFileError(f"{folder / 'run.db'}: cannot be read as a ledger ({error}). Restore it from a copy.")


def _json(value: Any) -> str:
    """JSON that refuses NaN and infinity."""
    return json.dumps(value, allow_nan=False, sort_keys=True)
