"""The five laws on the ledger: exact money, one transaction a round, the record commits."""

import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.budget.amounts import Amount, Spent, buy
from alloop.errors import AlloopError, ConfigError, DamagedFileError, StrategyError
from alloop.files import atomic_write, sha256_of
from alloop.ledger.audit import audit
from alloop.ledger.facts import RunFacts
from alloop.ledger.store import Bought, open_ledger, read_ledger
from alloop.loop.pool import Pool, seed_set_order
from alloop.testing import fake_annotations
from alloop.values import Annotations, ImageId, Selection

IDS = [ImageId(i) for i in (3, 10, 11, 40, 41, 500, 501, 999)]
TRUTH = {i: fake_annotations(i) for i in IDS}
METRICS = {"values": {"ap": 0.5, "ap50": 0.75, "ap75": None}, "per_class": {"cat": 0.5}}


def begin(ledger, seed_set=(3, 10), budget=""):
    config = "a: 1\n"
    amount = Amount.parse(budget, "budget") if budget else None
    facts = RunFacts(config=config, config_sha256=sha256_of(config.encode()), budget=amount)
    ledger.begin(facts, [(i, f"{i}.png", "0" * 64) for i in IDS], [ImageId(i) for i in seed_set], TRUTH)


def close(ledger, round_, ids):
    bought = None
    if ids:
        bought = Bought(Selection(tuple(ids), np.arange(len(ids), dtype=float)), [1.5] * len(ids), TRUTH)
    with ledger.transaction():
        ledger.close_round(round_, metrics=METRICS, timings={"train": 1.0}, model_sha256="x", diagnostics={})
        if bought:
            ledger.buy(round_, bought)


def boxes(ids):
    return sum(len(TRUTH[ImageId(i)]) for i in ids)


def test_charges_add_up_to_what_each_round_cost(tmp_path):
    with open_ledger(tmp_path) as ledger:
        begin(ledger)
        close(ledger, 0, [11, 500])
        close(ledger, 1, [999])
        close(ledger, 2, [])
        assert ledger.open_round() is None
        assert [(r.round, r.images, r.boxes) for r in ledger.rounds()] == [
            (0, 2, boxes([3, 10])),
            (1, 4, boxes([3, 10, 11, 500])),
            (2, 5, boxes([3, 10, 11, 500, 999])),
        ]
        assert ledger.spent() == Spent(5, boxes([3, 10, 11, 500, 999]))
        assert [(c.round, c.image_id) for c in ledger.charges()] == [(0, 3), (0, 10), (1, 11), (1, 500), (2, 999)]
        assert audit(ledger) == []
        again = ledger.labeled()
        assert all(np.array_equal(again[i].boxes, TRUTH[i].boxes) for i in again)


def test_an_image_is_never_charged_twice_and_nothing_of_a_failed_round_remains(tmp_path):
    with open_ledger(tmp_path) as ledger:
        begin(ledger)
        with pytest.raises(sqlite3.IntegrityError):
            close(ledger, 0, [11, 3])
        assert ledger.open_round() == 0
        assert ledger.spent().images == 2
        assert ledger.selections() == []
        close(ledger, 0, [11])
        with pytest.raises(AlloopError, match="closed already"):
            close(ledger, 0, [40])
        assert ledger.spent().images == 3


def test_numbers_that_are_not_finite_never_enter(tmp_path):
    with open_ledger(tmp_path) as ledger:
        begin(ledger)
        with pytest.raises(ValueError, match="JSON"):
            ledger.close_round(0, metrics={"values": {"ap": float("nan")}}, timings={}, model_sha256="", diagnostics={})
        assert ledger.open_round() == 0
    with pytest.raises(StrategyError, match="finite"):
        Selection((ImageId(1),), np.array([np.nan]))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("UPDATE charge SET boxes = boxes + 1 WHERE image_id = 3", "boxes booked"),
        ("UPDATE charge SET annotation = replace(annotation, '0', '1') WHERE image_id = 11", "image 11"),
        ("UPDATE charge SET annotation = 'x' WHERE image_id = 11", "cannot be read"),
        ("DELETE FROM charge WHERE image_id = 11", "was not charged"),
        ("DELETE FROM selection WHERE image_id = 11", "never selected"),
        ("UPDATE fact SET value = 'a: 2' WHERE name = 'config'", "config"),
        ("UPDATE fact SET value = '1 boxes' WHERE name = 'budget'", "budget"),
        ("INSERT INTO round (round) VALUES (7)", "without a gap"),
        ("UPDATE file SET sha256 = 'y'", "recorded sha256"),
    ],
)
def test_verify_finds_every_kind_of_tampering(tmp_path, sql, words):
    with open_ledger(tmp_path) as ledger:
        begin(ledger)
        close(ledger, 0, [11])
        ledger.store("models/a", b"abc", 0)
        assert audit(ledger) == []
    with sqlite3.connect(tmp_path / "run.db") as raw:
        raw.execute(sql)
    raw.close()
    with read_ledger(tmp_path) as ledger:
        assert words in " ".join(audit(ledger))


def test_a_file_without_record_is_rubbish_and_a_changed_one_an_error(tmp_path):
    with open_ledger(tmp_path) as ledger:
        begin(ledger)
        atomic_write(tmp_path / "models" / "a", b"rubbish")
        assert ledger.stored("models/a") is None
        ledger.store("models/a", b"real", 0)
        assert ledger.stored("models/a") == b"real"
        (tmp_path / "models" / "a").write_bytes(b"rEal")
        with pytest.raises(DamagedFileError, match="models/a"):
            ledger.stored("models/a")
        ledger.drop("models/a")
        assert ledger.stored("models/a") is None
        assert not (tmp_path / "models" / "a").exists()


@pytest.mark.parametrize("data", [b"not a database at all" * 300, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_broken_database_is_a_damaged_file(tmp_path, data):
    (tmp_path / "run.db").write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"run\.db"), read_ledger(tmp_path):
        pass
    with pytest.raises(DamagedFileError, match=r"run\.db"), open_ledger(tmp_path):
        pass


def test_one_flipped_byte_anywhere_is_found_or_harmless(tmp_path):
    with open_ledger(tmp_path) as ledger:
        begin(ledger)
        close(ledger, 0, [11, 40])
        charges = ledger.charges()
    original = (tmp_path / "run.db").read_bytes()
    chance, unnoticed = np.random.default_rng(0), 0
    for at in chance.integers(0, len(original), 150):
        data = bytearray(original)
        data[at] ^= 0x41
        (tmp_path / "run.db").write_bytes(bytes(data))
        try:
            with read_ledger(tmp_path) as ledger:
                if not audit(ledger):
                    unnoticed += 1
                    assert [(c.image_id, c.boxes) for c in ledger.charges()] == [(c.image_id, c.boxes) for c in charges]
        except (DamagedFileError, ConfigError, UnicodeDecodeError, ValueError, OverflowError):
            continue
    assert unnoticed < 150


KILLED_WRITER = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE charge SET boxes = 99")
for i in range(2000):
    db.execute("INSERT INTO fact VALUES (?, ?)", (f"x{i}", "y" * 500))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_half_done_is_undone_by_the_next_reader(tmp_path):
    with open_ledger(tmp_path) as ledger:
        begin(ledger)
        charges = ledger.charges()
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path / "run.db")], check=False)
    assert (tmp_path / "run.db-journal").stat().st_size > 0  # the half-written pages are really there
    with read_ledger(tmp_path) as ledger:
        assert ledger.charges() == charges
        assert audit(ledger) == []
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            ledger.database.write("DELETE FROM charge")


def test_no_run_here_is_said_plainly(tmp_path):
    with pytest.raises(ConfigError, match="expected a run folder"), read_ledger(tmp_path):
        pass


RANKINGS = st.lists(st.integers(0, 9), min_size=0, max_size=30)
AMOUNTS = st.builds(Amount, st.integers(1, 60), st.sampled_from(["images", "boxes"]))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(counts=RANKINGS, quota=AMOUNTS, budget=st.none() | AMOUNTS, before=st.integers(0, 10))
def test_buying_is_a_prefix_that_meets_the_quota_and_never_passes_the_budget(counts, quota, budget, before):
    spent = Spent(before, before)
    purchase = buy(list(enumerate(counts)), quota, spent, budget)
    taken = counts[: len(purchase.image_ids)]
    assert list(purchase.image_ids) == list(range(len(taken)))
    size = len(taken) if quota.unit == "images" else sum(taken)
    without_last = len(taken[:-1]) if quota.unit == "images" else sum(taken[:-1])
    if taken:
        assert without_last < quota.number  # overshoot by the last image at most
    if quota.unit == "images":
        assert size <= quota.number
    assert purchase.quota_met == (size >= quota.number)
    if budget is not None and taken:
        total = before + (len(taken) if budget.unit == "images" else sum(taken))
        assert total <= budget.number
    if not purchase.quota_met and not purchase.budget_exhausted:
        assert len(taken) == len(counts)


@pytest.mark.parametrize("value", [0, -1, "x", "5 apples", 1.5, None, True, "", "0 boxes"])
def test_amounts_that_are_none(value):
    with pytest.raises(ConfigError, match=r"loop\.budget"):
        Amount.parse(value, "loop.budget")


def test_amounts():
    assert Amount.parse(80, "k") == Amount(80, "images")
    assert Amount.parse("500 boxes", "k") == Amount(500, "boxes")
    assert Amount.parse("1 image", "k") == Amount(1, "images")


def test_the_pool_is_partitioned_and_seed_sets_are_nested():
    pool = Pool.of(IDS, {IDS[0]})
    assert set(pool.unlabeled) | pool.labeled == set(IDS)
    assert not set(pool.unlabeled) & pool.labeled
    with pytest.raises(AlloopError, match="not in the pool"):
        Pool.of(IDS, {ImageId(77)})
    order = seed_set_order(IDS, 4)
    assert order == seed_set_order(reversed(IDS), 4)
    assert sorted(order) == IDS
    assert order != seed_set_order(IDS, 5)


def test_values_are_frozen_and_checked():
    truth = Annotations([[0, 0, 5, 5]], [0], [False], [True])
    with pytest.raises(ValueError, match="read-only"):
        truth.boxes[0, 0] = 3
    with pytest.raises(AlloopError, match="equal lengths"):
        Annotations([[0, 0, 5, 5]], [0, 1], [False], [True])
    with pytest.raises(AlloopError, match="expected shape"):
        Annotations(np.zeros((1, 5)), [0], [False], [True])
    with pytest.raises(StrategyError, match="more than once"):
        Selection((ImageId(1), ImageId(1)), np.zeros(2))
