"""The SQLite file `run.db`: one writer, and all or nothing.

A rollback journal and `synchronous=EXTRA` let a committed transaction survive a power cut; an uncommitted one never
happened. Only the modules of this package read or write SQL.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alloop.errors import ConfigError, DamagedFileError

FORMAT = "1"
FILE = "run.db"
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


NEVER = 1 << 60  # the round until which labels hold that nobody corrected
_PAID = """
SELECT image_id, round, boxes, seconds, cost, annotation, annotation_sha256, {is_correction} AS is_correction,
    {until} AS until FROM main.{table} version"""
_UNTIL = """
COALESCE((SELECT MIN(later.round) FROM main.correction later
    WHERE later.image_id = version.image_id AND later.round > version.round), {never})"""


class Database:
    """A connection to the `run.db` of one folder.

    The view `paid` has the charges and the corrections of them: versions of the labels of an image, each with the round
    from which and until which it holds.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        """Use `opened` instead."""
        self.folder, self._connection = folder, connection

    def read(self, sql: str, *arguments: Any) -> list[sqlite3.Row]:
        """Return the rows of a reading statement.

        Raises:
            DamagedFileError: the file cannot be read as a ledger.
        """
        try:
            return self._connection.execute(sql, arguments).fetchall()
        except sqlite3.DatabaseError as error:
            raise damaged(self.folder, error) from error

    def facts(self) -> dict[str, str]:
        """Return the facts of the run by name; those of the last amendment replace what the run began with."""
        rows = self.read("SELECT name, value FROM fact ORDER BY name")
        found = {row["name"]: row["value"] for row in rows}
        if self.read("SELECT name FROM sqlite_master WHERE name = 'amendment'"):
            for row in self.read("SELECT facts FROM amendment ORDER BY number"):
                found |= json.loads(row["facts"])
        return found

    def write(self, sql: str, *arguments: Any) -> int:
        """Run a writing statement inside a transaction; return how many rows it changed."""
        return self._connection.execute(sql, arguments).rowcount

    def write_all(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a writing statement for each row, inside a transaction."""
        self._connection.executemany(sql, rows)

    def show_paid(self) -> None:
        """Define the view `paid` over the tables that there are; call it again where one was added."""
        _show_paid(self._connection)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything inside or nothing; a transaction inside another belongs to it."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


@contextmanager
def opened(folder: Path, *, writable: bool) -> Iterator[Database]:
    """Open the ledger of a folder; a writer makes it if it is not there, and holds the run lock.

    Raises:
        ConfigError: a reader finds no run in this folder.
        DamagedFileError: `run.db` is not a ledger of this format.
    """
    if not writable and not (folder / FILE).is_file():
        msg = f"{folder}: expected a run folder with run.db, found none; give the --out folder of `alloop run`"
        raise ConfigError(msg)
    connection: sqlite3.Connection | None = None
    try:
        connection = _connect(folder / FILE, writable=writable)
        if writable and not connection.execute("SELECT name FROM sqlite_master").fetchall():
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        _check_format(folder, connection)
        _show_paid(connection)
        if not writable:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        raise damaged(folder, error) from error
    try:
        yield Database(folder, connection)
    finally:
        connection.close()


def _connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """Connect; a reader may write where it can, since only so SQLite undoes what a killed writer left half done."""
    mode = "rwc" if writable else "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
    connection.row_factory = sqlite3.Row
    if writable:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _show_paid(connection: sqlite3.Connection) -> None:
    exists = connection.execute("SELECT name FROM sqlite_master WHERE name = 'correction'").fetchone()
    until = (_UNTIL if exists else "{never}").format(never=NEVER)
    tables = {"charge": 0, "correction": 1} if exists else {"charge": 0}
    versions = (
        _PAID.format(table=table, is_correction=number, until=until.format(never=NEVER))
        for table, number in tables.items()
    )
    connection.execute("DROP VIEW IF EXISTS temp.paid")
    connection.execute(f"CREATE TEMP VIEW paid AS {' UNION ALL '.join(versions)}")


def _check_format(folder: Path, connection: sqlite3.Connection) -> None:
    rows = connection.execute("SELECT value FROM fact WHERE name = 'format'").fetchall()
    if rows and rows[0][0] != FORMAT:
        msg = f"{folder / FILE}: written in format {rows[0][0]}, this version of alloop reads format {FORMAT}"
        raise DamagedFileError(msg)


def damaged(folder: Path, error: Exception) -> DamagedFileError:
    """Return the error for a ledger that cannot be read."""
    return DamagedFileError(f"{folder / FILE}: cannot be read as a ledger ({error}). Restore it from a copy.")


def run_folders(folder: Path) -> list[Path]:
    """Return the folder itself when it is a run, else the runs one level below it.

    Raises:
        ConfigError: there is no run.
    """
    if (folder / FILE).is_file():
        return [folder]
    runs = sorted(path.parent for path in folder.glob(f"*/{FILE}"))
    if not runs:
        settings = sorted({path.parent.parent.name for path in folder.glob(f"*/*/{FILE}")})
        several = f"; it holds a study for each of several settings, give one: {', '.join(settings)}"
        msg = f"{folder}: expected a run folder or a study folder, found no run.db in it or one level below"
        raise ConfigError(msg + (several if settings else ""))
    return runs
