"""Recheck a run: every invariant of the ledger, every sum of money, every hash."""

from alloop.data.annotation_json import annotation_sha256, annotations_from_json
from alloop.errors import AlloopError
from alloop.files import sha256_file, sha256_of
from alloop.ledger.store import Ledger


def audit(ledger: Ledger) -> list[str]:
    """What is wrong with a run, one line each; nothing when all is well."""
    charged, boxes = _charges(ledger)
    return [
        *_database(ledger),
        *charged,
        *_facts(ledger, boxes),
        *_rounds(ledger),
        *_selections(ledger),
        *_files(ledger),
    ]


def _database(ledger: Ledger) -> list[str]:
    wrong = [f"run.db: {row[0]}" for row in ledger.read("PRAGMA integrity_check") if row[0] != "ok"]
    return wrong + [f"run.db: broken reference in {row[0]}" for row in ledger.read("PRAGMA foreign_key_check")]


def _charges(ledger: Ledger) -> tuple[list[str], int]:
    """Findings, and the boxes recounted from the stored annotations."""
    wrong, boxes = [], 0
    for row in ledger.read("SELECT image_id, boxes, annotation, annotation_sha256 FROM charge"):
        name = f"charge of image {row['image_id']}"
        try:
            truth = annotations_from_json(row["annotation"])
        except (ValueError, KeyError, TypeError, AlloopError):
            wrong.append(f"{name}: its stored annotation cannot be read")
            continue
        boxes += len(truth)
        if len(truth) != row["boxes"]:
            wrong.append(f"{name}: {row['boxes']} boxes booked, {len(truth)} stored")
        if annotation_sha256(truth) != row["annotation_sha256"]:
            wrong.append(f"{name}: the stored annotation differs from its hash")
    return wrong, boxes


def _facts(ledger: Ledger, boxes: int) -> list[str]:
    wrong = []
    if sha256_of((ledger.fact("config") or "").encode()) != ledger.fact("config_sha256"):
        wrong.append("fact config: differs from its recorded sha256")
    budget = ledger.fact("budget")
    if budget:
        number, unit = budget.split()
        used = boxes if unit == "boxes" else ledger.spent().images
        if used > int(number):
            wrong.append(f"budget: {number} {unit} allowed, {used} spent")
    return wrong


def _rounds(ledger: Ledger) -> list[str]:
    wrong = []
    rounds = ledger.read("SELECT round, metrics FROM round ORDER BY round")
    if [row["round"] for row in rounds] != list(range(len(rounds))):
        wrong.append("rounds: not numbered 0, 1, 2, ... without a gap")
    if any(row["metrics"] is None for row in rounds[:-1]):
        wrong.append("rounds: one before the last was never closed")
    return wrong


def _selections(ledger: Ledger) -> list[str]:
    """What a round selected is what the next one was charged for."""
    unpaid = ledger.read(
        "SELECT s.round, s.image_id FROM selection s LEFT JOIN charge c "
        "ON c.image_id = s.image_id AND c.round = s.round + 1 WHERE c.image_id IS NULL"
    )
    unasked = ledger.read(
        "SELECT c.round, c.image_id FROM charge c LEFT JOIN selection s "
        "ON s.image_id = c.image_id AND s.round = c.round - 1 WHERE c.round > 0 AND s.image_id IS NULL"
    )
    wrong = [
        f"selection of round {r['round']}: image {r['image_id']} was not charged to the next round" for r in unpaid
    ]
    return wrong + [f"charge of round {r['round']}: image {r['image_id']} was never selected" for r in unasked]


def _files(ledger: Ledger) -> list[str]:
    wrong = []
    for path, sha256, _ in ledger.files():
        if not (ledger.folder / path).is_file():
            wrong.append(f"{path}: recorded, but missing")
        elif sha256_file(ledger.folder / path) != sha256:
            wrong.append(f"{path}: differs from its recorded sha256")
    return wrong
