"""Results come in order whatever the number of threads, and so does the first error."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.data.threads import blocks, in_order


@given(st.lists(st.integers(), max_size=60), st.integers(1, 5))
def test_results_are_those_of_a_loop(items, workers):
    assert list(in_order(lambda item: item * 2, items, workers)) == [item * 2 for item in items]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_first_item_that_fails_is_named_though_a_later_one_fails_first(workers):
    def work(item):
        if item == 3:
            time.sleep(0.05)
        if item >= 3:
            raise ValueError(item)
        return item

    results = []
    with pytest.raises(ValueError, match="3"):
        results.extend(in_order(work, range(1000), workers))
    assert results in ([], [0, 1, 2])


def test_after_an_error_the_rest_is_left():
    done = []

    def work(item):
        done.append(item)
        if item == 0:
            raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        list(in_order(work, range(10_000), 2))
    assert len(done) < 100


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_order(lambda item: item, items(), 2)
    assert next(results) == 0
    assert len(taken) < 10
    results.close()


def test_several_threads_work_at_once():
    meeting = threading.Barrier(3, timeout=20)
    assert len(list(in_order(lambda _: meeting.wait(), range(3), 3))) == 3


@given(st.lists(st.integers(), max_size=30), st.integers(1, 7))
def test_blocks_joined_are_the_items(items, size):
    cut = list(blocks(items, size))
    assert [item for block in cut for item in block] == items
    assert all(len(block) == size for block in cut[:-1])
    assert all(cut)
