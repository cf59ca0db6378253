"""The time left in a run: never negative, none when it is finished, and exact where the rounds are regular."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.ledger.store import RoundRecord
from alloop.loop.time_left import Doing, study_time_left, time_left, whole_training

SECONDS = st.floats(0, 1e6)


def record(number, images, **timings):
    return RoundRecord(number, images, 0, {}, {}, timings)


def rounds_of(count, planned, train=lambda _: 60.0, start=10, bought=5):
    """Return finished rounds that evaluate for 5 s and query for 2 s, the last one of a run not."""
    rounds = []
    for k in range(count):
        images = start + k * bought
        query = {"query": 2.0} if k + 1 < planned else {}
        rounds.append(record(k, images, train=train(images), evaluate=5.0, **query))
    return rounds


@given(st.integers(1, 8), st.data())
def test_exact_for_equal_rounds_wherever_the_open_one_is(planned, data):
    done = data.draw(st.integers(1, planned))
    rounds, images = rounds_of(done, planned), 10 + 5 * done
    whole = (planned - done) * 67.0 - 2.0 if done < planned else 0.0
    assert time_left(rounds, images, planned).seconds == pytest.approx(whole)
    if done == planned:
        return
    share = data.draw(st.floats(0, 1))
    for doing, over in (
        (Doing("train", share), 60 * share),
        (Doing("train", share, training=60.0), 60 * share),
        (Doing("evaluate", seconds=5 * share), 60 + 5 * share),
        (Doing("query", seconds=2 * share), 65 + 2 * share if done + 1 < planned else 65),
    ):
        left = time_left(rounds, images, planned, doing)
        assert left.seconds == pytest.approx(whole - over, abs=1e-6)
        assert not left.at_least


@given(st.integers(2, 8), st.integers(0, 20), st.floats(0, 9))
def test_exact_where_trainings_grow_with_the_images(planned, constant, slope):
    def train(images):
        return constant + slope * images

    rounds = rounds_of(planned, planned, train)
    for done in range(2, planned):
        rest = sum(sum(r.timings.values()) for r in rounds[done:])
        assert time_left(rounds[:done], rounds[done].images, planned).seconds == pytest.approx(rest, abs=1e-6)


@given(
    st.lists(st.dictionaries(st.sampled_from(["train", "evaluate", "query"]), SECONDS), max_size=5),
    st.lists(st.integers(0, 1000), min_size=6, max_size=6),
    st.integers(0, 8),
    st.none()
    | st.builds(
        Doing,
        st.sampled_from(["train", "evaluate", "query"]),
        st.floats(0, 1),
        SECONDS,
        st.none() | SECONDS,
    ),
)
def test_never_negative_and_none_left_when_it_is_finished(timings, images, planned, doing):
    images = sorted(images)
    rounds = [record(k, images[k], **own) for k, own in enumerate(timings)]
    left = time_left(rounds, images[len(rounds)], planned, doing)
    assert left is None or left.seconds >= 0
    if len(rounds) >= planned:
        assert left.seconds == 0


def test_the_first_round_tells_its_own_speed_and_that_it_is_a_lower_bound():
    assert time_left([], 10, 3, Doing("train", 0.005, training=whole_training(1.0, 0.0, 0.005))) is None
    assert whole_training(30.0, 0.5, 0.75) == 120.0, "resumed in the middle"
    left = time_left([], 10, 3, Doing("train", 0.25, training=100.0))
    assert left.seconds == 275.0
    assert str(left) == "at least 5 min"
    assert str(time_left(rounds_of(1, 2), 15, 2)) == "about 65 s"


def test_rounds_that_borrowed_their_model_say_nothing_about_a_training():
    assert time_left([record(0, 10, query=2.0)], 15, 3) is None
    rounds = [record(0, 10, query=2.0), record(1, 15, train=60.0, evaluate=5.0, query=2.0)]
    assert time_left(rounds, 20, 3).seconds == 65.0


def test_a_study_takes_the_mean_of_its_rounds_and_no_more_runs_at_once_than_rounds_are_left():
    assert study_time_left([], 3, 2) is None
    assert study_time_left([10.0, 20.0], 0, 2) == 0.0
    assert study_time_left([10.0, 20.0], 6, 2) == 45.0
    assert study_time_left([10.0, 20.0], 1, 4) == 15.0
