"""Advice about another round."""

import numpy as np
import pytest

from alloop.results.stopping import NextRound, advice, gain_per_1000_boxes

BOXES = [200, 400, 600, 800, 1000]
RISING, FLAT = [0.1, 0.2, 0.301, 0.4, 0.502], [0.1, 0.4, 0.4002, 0.4001, 0.4002]


def test_the_gain_is_that_of_the_last_four_rounds():
    flat = gain_per_1000_boxes(BOXES, FLAT)
    assert flat.slope == pytest.approx(np.polyfit(np.array(BOXES[1:]) / 1000, FLAT[1:], 1)[0])
    rising = gain_per_1000_boxes(BOXES, RISING)
    assert rising.slope == pytest.approx(0.5, abs=0.01)
    assert rising.interval[0] < rising.slope < rising.interval[1]


def test_stopping_is_advised_only_where_the_next_round_cannot_gain_enough():
    upcoming = NextRound(210, 0.5)
    assert "still rising" in advice(BOXES, RISING, upcoming)
    many = 200.0 * np.arange(1, 11)
    saturated = 0.4 / (1 + (60 / many) ** 1.5)
    assert "think of stopping" in advice(many, saturated, upcoming)
    assert "to take 210 boxes and to cost 105.00, and to gain" in advice(many, saturated, upcoming)
    assert "cannot tell" in advice(BOXES, FLAT, upcoming), "trainings differ by more than a round should gain"
    noisy = [0.1, 0.40, 0.42, 0.40, 0.43]
    assert "cannot tell whether it is worth 0.005 AP" in advice(BOXES, noisy, upcoming)


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_fewer_than_four_rounds_say_nothing(rounds):
    """Three points have one degree of freedom; the interval of their slope is twelve standard errors wide."""
    text = advice(BOXES[:rounds], RISING[:rounds], NextRound(210))
    assert "4 rounds with boxes are needed" in text
    assert "stopping" not in text


@pytest.mark.parametrize("boxes", [[5, 5, 5, 5], [0, 0, 0, 0]])
def test_rounds_that_bought_nothing_say_nothing(boxes):
    assert gain_per_1000_boxes(boxes, RISING[:4]) is None


def test_ap_that_is_not_finite_says_nothing():
    assert gain_per_1000_boxes(BOXES, [*RISING[:4], float("nan")]) is None


def test_a_finished_run_has_no_next_round():
    text = advice(BOXES, RISING, None)
    assert "next round" not in text
    assert "all planned rounds are done" in text


def test_a_curve_that_rises_is_rarely_stopped():
    """AP rises by 0.015 a round of 200 boxes, and a round differs by 0.006: three times what a round should gain."""
    random, stopped = np.random.default_rng(0), 0
    for _ in range(500):
        ap = 0.3 + 0.015 * np.arange(4) + random.normal(0, 0.006, 4)
        stopped += "stopping" in advice(BOXES[:4], ap.tolist(), NextRound(200))
    assert stopped / 500 < 0.05
