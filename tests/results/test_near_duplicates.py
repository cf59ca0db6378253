"""Near duplicates that were paid for or saved, against comparing every image with all before it."""

from hypothesis import given
from hypothesis import strategies as st

from alloop.budget.charges import Charge, PassedOver
from alloop.ledger.passed_over import record_passed_over, recorded_passed_over
from alloop.ledger.perceptual_hashes import record_perceptual_hashes
from alloop.ledger.store import open_ledger
from alloop.results.near_duplicates import NearDuplicates, counted, near_duplicates

HASHES = st.lists(st.sampled_from([None, 0, 1, 3, 7, 2**63, 2**63 + 1, 2**40 - 1]), max_size=12)


@given(HASHES, st.integers(0, 3), st.integers(0, 12))
def test_an_image_is_a_near_duplicate_of_any_before_it(hashes, bits, paid):
    known = {row: value for row, value in enumerate(hashes) if value is not None}
    charges = [Charge(0, row, row + 1, 0.0, 0.0) for row in range(min(paid, len(hashes)))]
    slow = [
        c
        for c in charges
        if c.image_id in known
        and any((known[c.image_id] ^ known[o]).bit_count() <= bits for o in range(c.image_id) if o in known)
    ]
    found = counted(known, charges, [], bits)
    assert found == NearDuplicates(len(slow), sum(c.boxes for c in slow), 0, 0.0)


def test_a_saved_image_counts_once_and_not_when_it_was_bought_later():
    passed = [
        PassedOver(1, "near_duplicate", 3.0),
        PassedOver(1, "near_duplicate", 3.5),
        PassedOver(2, "near_duplicate", 5.0, bought=True),
        PassedOver(3, "near_duplicate", 7.0),
        PassedOver(4, "full_group", 9.0),
    ]
    found = counted({}, [Charge(1, 2, 5, 0.0, 0.0), Charge(2, 3, 7, 0.0, 0.0)], passed, 8)
    assert found == NearDuplicates(0, 0, 1, 3.5)


def test_what_was_passed_over_is_recorded_by_round_and_nothing_makes_no_table(tmp_path):
    passed = [PassedOver(7, "near_duplicate", 2.5), PassedOver(3, "full_group", 0.0, bought=True)]
    with open_ledger(tmp_path) as ledger:
        record_passed_over(ledger, 1, [])
        assert recorded_passed_over(ledger) == []
        record_passed_over(ledger, 2, passed)
        record_passed_over(ledger, 1, passed[:1])
        assert recorded_passed_over(ledger) == [passed[0], passed[1], passed[0]]


def test_a_run_of_an_older_version_has_no_hashes(tmp_path):
    with open_ledger(tmp_path) as ledger:
        pass
    assert near_duplicates(tmp_path) is None
    with open_ledger(tmp_path) as ledger:
        record_perceptual_hashes(ledger, {1: 5})
    assert near_duplicates(tmp_path) == NearDuplicates(0, 0, 0, 0.0)
