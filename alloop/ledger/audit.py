"""Recheck a run: every invariant of the ledger, every sum of money, every hash."""

from alloop.data.annotation_json import annotation_sha256, annotations_from_json
from alloop.errors import AlloopError
from alloop.files import sha256_file, sha256_of
from alloop.ledger.database import Database
from alloop.ledger.image_audit import ImageAudit, audit_images, data_of
from alloop.ledger.store import Ledger


def audit(ledger: Ledger) -> list[str]:
    """Return what is wrong with a run, one line per finding; nothing when all is well."""
    database = ledger.database
    charges, boxes = _charges(database)
    return [
        *_database(database),
        *charges,
        *_facts(ledger, boxes),
        *_rounds(database),
        *_selections(database),
        *_files(ledger),
    ]


def verified_lines(ledger: Ledger) -> tuple[list[str], list[str]]:
    """Check a run and its images; return what agrees or was not checked, one line each, and what is wrong."""
    facts, findings = ledger.facts(), _database(ledger.database)
    if facts is None and not (findings or ledger.pool_size() or ledger.spent().images or ledger.files()):
        return ["not begun: nothing is recorded yet, so there is nothing to check"], []
    findings, data = audit(ledger), data_of(facts, ledger.folder) if facts else None
    images = audit_images(ledger, data) if data is not None else ImageAudit(0, [], [])
    lines = []
    if not findings:
        lines.append(f"{len(ledger.charges())} charges and {len(ledger.files())} files agree with their records")
    if images.agreeing:
        lines.append(f"{images.agreeing} image files agree with their records")
    return [*lines, *images.unchecked], [*findings, *images.findings]


def _database(database: Database) -> list[str]:
    """Check the file itself, as SQLite does."""
    integrity = [f"run.db: {row[0]}" for row in database.read("PRAGMA integrity_check") if row[0] != "ok"]
    references = database.read("PRAGMA foreign_key_check")
    return integrity + [f"run.db: broken reference in {row[0]}" for row in references]


def _charges(database: Database) -> tuple[list[str], int]:
    """Recount every charge from its stored annotation; return the findings and all boxes recounted."""
    findings, boxes = [], 0
    held: dict[int, int] = {}  # most boxes of each image until now
    for row in database.read("SELECT * FROM paid ORDER BY round"):
        name = f"{'correction' if row['is_correction'] else 'charge'} of image {row['image_id']}"
        try:
            truth = annotations_from_json(row["annotation"])
        except (ValueError, KeyError, TypeError, AlloopError):
            findings.append(f"{name}: its stored annotation cannot be read")
            continue
        most = held.get(row["image_id"], 0)
        held[row["image_id"]] = max(most, len(truth))
        new = max(0, len(truth) - most)
        boxes += new
        if new != row["boxes"]:
            findings.append(f"{name}: {row['boxes']} boxes booked, {new} stored")
        if annotation_sha256(truth) != row["annotation_sha256"]:
            findings.append(f"{name}: the stored annotation differs from its hash")
    return findings, boxes


def _facts(ledger: Ledger, boxes: int) -> list[str]:
    """Check the config against its hash and everything spent against the budget."""
    facts = ledger.facts()
    if facts is None:
        return ["facts: the run never began; no config is recorded"]
    findings = []
    if sha256_of(facts.config.encode()) != facts.config_sha256:
        findings.append("fact config: differs from its recorded sha256")
    budget = facts.budget
    if budget is not None:
        used = boxes if budget.unit == "boxes" else ledger.spent().images
        if used > budget.number:
            findings.append(f"budget: {budget} allowed, {used} spent")
    return findings


def _rounds(database: Database) -> list[str]:
    """Check that rounds are numbered without a gap and closed in order."""
    findings = []
    rounds = database.read("SELECT round, metrics FROM round ORDER BY round")
    if [row["round"] for row in rounds] != list(range(len(rounds))):
        findings.append("rounds: not numbered 0, 1, 2, ... without a gap")
    if any(row["metrics"] is None for row in rounds[:-1]):
        findings.append("rounds: one before the last was never closed")
    return findings


def _selections(database: Database) -> list[str]:
    """Check that what a round selected is what the next round was charged for."""
    unpaid = database.read(
        "SELECT s.round, s.image_id FROM selection s LEFT JOIN charge c "
        "ON c.image_id = s.image_id AND c.round = s.round + 1 WHERE c.image_id IS NULL"
    )
    unselected = database.read(
        "SELECT c.round, c.image_id FROM charge c LEFT JOIN selection s "
        "ON s.image_id = c.image_id AND s.round = c.round - 1 WHERE c.round > 0 AND s.image_id IS NULL"
    )
    return [
        *(f"selection of round {r['round']}: image {r['image_id']} was not charged to the next round" for r in unpaid),
        *(f"charge of round {r['round']}: image {r['image_id']} was never selected" for r in unselected),
    ]


def _files(ledger: Ledger) -> list[str]:
    """Check every recorded file against its hash."""
    findings = []
    for path, sha256, _ in ledger.files():
        if not (ledger.folder / path).is_file():
            findings.append(f"{path}: recorded, but missing")
        elif sha256_file(ledger.folder / path) != sha256:
            findings.append(f"{path}: differs from its recorded sha256")
    return findings
