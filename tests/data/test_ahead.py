"""Reading ahead returns what plain reading returns, whatever is expected, in whatever order, with any threads."""

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.data.ahead import Ahead


def square(key):
    if key == 7:
        message = f"{key} cannot be read"
        raise ValueError(message)
    return key * key


@settings(max_examples=60, deadline=None)
@given(
    threads=st.integers(0, 4),
    actions=st.lists(st.one_of(st.integers(0, 9), st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 9))))),
)
def test_every_value_and_every_error_is_that_of_plain_reading(threads, actions):
    ahead = Ahead(square, threads)
    for action in actions:
        if isinstance(action, tuple):
            ahead.expect(*action)
        elif action == 7:
            with pytest.raises(ValueError, match="7 cannot be read"):
                ahead.read(action)
        else:
            assert ahead.read(action) == action * action


class Slow:
    """A function whose calls end when they are let go; it notes the calls and the threads that made them."""

    def __init__(self):
        self.called, self.threads, self.gate = [], set(), threading.Event()

    def __call__(self, key):
        self.called.append(key)
        self.threads.add(threading.current_thread())
        assert self.gate.wait(60)
        return -key


def test_what_is_expected_is_read_once_in_other_threads_and_in_order():
    slow = Slow()
    ahead = Ahead(slow, 1)
    ahead.expect("a", [3, 1, 2, 3])
    ahead.expect("b", [1, 4])
    slow.gate.set()
    ahead._pool.shutdown(wait=True)
    assert slow.called == [3, 1, 2, 4]
    assert threading.main_thread() not in slow.threads
    assert [ahead.read(key) for key in (1, 1, 4, 2, 3)] == [-1, -1, -4, -2, -3]
    assert Counter(slow.called).most_common(1) == [(3, 1)]


def test_values_are_held_only_while_somebody_expects_them():
    ahead = Ahead(square, 2)
    ahead.expect("a", [1, 2])
    ahead.expect("b", [2, 3])
    assert set(ahead._started) == {1, 2, 3}
    ahead.expect("a", [])
    assert set(ahead._started) == {2, 3}
    ahead.expect("a", [4])
    ahead.forget()
    assert not ahead._started


def test_what_no_thread_has_begun_is_read_at_once_and_what_is_dropped_is_never_read():
    slow = Slow()
    ahead = Ahead(slow, 1)
    ahead.expect("a", [1, 2, 3, 4])
    slow.gate.wait(0)
    while not slow.called:  # the thread holds 1, and 2, 3, 4 wait behind it
        pass
    threading.Timer(0.05, slow.gate.set).start()
    assert ahead.read(3) == -3
    assert threading.main_thread() in slow.threads
    assert 3 not in ahead._started, "whoever expects it again gets it read ahead"
    ahead.expect("a", [4])
    assert ahead.read(4) == -4
    ahead._pool.shutdown(wait=True)
    assert 2 not in slow.called or slow.called.index(2) < slow.called.index(4)
    assert Counter(slow.called)[3] == 1


def test_without_threads_nothing_is_read_before_it_is_needed():
    called = []
    ahead = Ahead(called.append, 0)
    ahead.expect("a", [1, 2])
    assert called == []
    ahead.read(2)
    assert called == [2]
