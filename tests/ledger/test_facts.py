"""The facts of a run survive storage, and rows of older versions are read."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.budget.amounts import Amount
from alloop.errors import DamagedFileError
from alloop.ledger.facts import Environment, RunFacts
from alloop.ledger.store import open_ledger, read_ledger

text = st.text(max_size=20)
counts = st.none() | st.lists(st.integers(0, 10**6), max_size=4).map(tuple)
facts = st.builds(
    RunFacts,
    config=text,
    config_sha256=text,
    data=text,
    classes=st.none() | st.lists(text, max_size=4).map(tuple),
    category_ids=counts,
    pool_class_boxes=counts,
    pool_class_images=counts,
    replicate=st.integers(0, 9),
    strategy=text,
    random_seed=st.integers(0, 2**31),
    seed_set_sha256=text,
    oracle=st.sampled_from(["simulated", "folder", "my.module:Oracle"]),
    asks_people=st.booleans(),
    budget=st.none() | st.builds(Amount, st.integers(1, 10**6), st.sampled_from(["images", "boxes"])),
    rounds_planned=st.none() | st.integers(1, 100),
    label_using=st.booleans(),
    reference_is_test=st.booleans(),
    contents=st.none() | st.dictionaries(text, text, max_size=3),
    folder=text,
    fcos_score=text,
    initial_weights=text,
    warnings=st.lists(text, max_size=3).map(tuple),
    environment=st.builds(Environment, device=text, threads=text, torch=text, command=text),
)


@given(facts)
def test_facts_come_back_as_they_were_stored(original):
    assert RunFacts.from_rows(original.rows()) == original


def test_a_run_that_never_began_has_none():
    assert RunFacts.from_rows({}) is None
    assert RunFacts.from_rows({"format": "1"}) is None


@pytest.mark.parametrize(("oracle", "asks"), [("simulated", False), ("folder", True), ("label_studio", True)])
def test_older_runs_did_not_record_whether_people_were_asked(oracle, asks):
    rows = RunFacts(config="a: 1", oracle=oracle, asks_people=not asks).rows()
    del rows["asks_people"]
    found = RunFacts.from_rows(rows)
    assert found is not None
    assert found.asks_people is asks


@pytest.mark.parametrize(
    "change", [{"random_seed": "seven"}, {"classes": "[1"}, {"budget": "much"}, {"rounds_planned": "x"}]
)
def test_a_fact_that_makes_no_sense_is_damage(tmp_path, change):
    with open_ledger(tmp_path) as ledger:
        ledger.begin(replace(RunFacts(config="a: 1")), [], [], {})
        for name, value in change.items():
            with ledger.transaction():
                ledger.database.write("UPDATE fact SET value = ? WHERE name = ?", value, name)
    with read_ledger(tmp_path) as ledger, pytest.raises(DamagedFileError, match=r"run\.db"):
        ledger.facts()
