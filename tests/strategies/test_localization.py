"""Localization stability and tightness by hand."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.errors import ConfigError, StrategyError
from alloop.strategy import make_strategy
from alloop.testing import FakeDetector, make_query
from strategies import TABLE
from strategies.localization_stability import LocalizationStability, stability
from strategies.localization_tightness import contradiction
from tests.support.detections import APART, HALF, UNIT, detections_of


def test_stability_by_hand():
    clean = detections_of([UNIT, APART], [0.8, 0.2])
    assert stability(clean, [clean, clean]) == pytest.approx(1)
    assert stability(clean, [detections_of([], []), detections_of([], [])]) == 0
    noisy = [detections_of([HALF], [0.3]), detections_of([APART, UNIT], [0.9, 0.1])]
    of_first, of_second = (0.5 + 1) / 2, (0 + 1) / 2
    assert stability(clean, noisy) == pytest.approx(0.8 * of_first + 0.2 * of_second)


def test_nested_boxes_overlap_as_they_do():
    """The released code mirrors the vertical interval; a box inside another shows it."""
    assert stability(detections_of([[0, 0, 10, 20]], [1.0]), [detections_of([[0, 0, 10, 10]], [1.0])]) == pytest.approx(
        0.5
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_the_further_boxes_move_the_less_stable(seed):
    chance = np.random.default_rng(seed)
    corner = chance.uniform(0, 10, (4, 2))
    boxes = np.concatenate([corner, corner + chance.uniform(5, 20, (4, 2))], axis=1)
    scores = np.sort(chance.uniform(0.1, 1, 4))[::-1]
    apart = boxes + 1000 * np.arange(4)[:, None]  # so that no box is matched by another's
    values = [stability(detections_of(apart, scores), [detections_of(apart + shift, scores)]) for shift in (0, 1, 2, 4)]
    assert values[0] == pytest.approx(1, abs=1e-4)
    assert (np.diff(values) < 0).all()


class Shaking(FakeDetector):
    """Image i has one box that moves by i pixels under any noise; every seventh image has none."""

    def noisy_detections(self, image_ids, sigma, random_seed):
        return [
            detections_of([np.array(UNIT) + int(i) % 7], [0.5]) if i % 7 else detections_of([], []) for i in image_ids
        ]

    def detections(self, image_ids):
        return [
            detections_of([UNIT], [0.1 + 0.1 * (int(i) % 7)]) if i % 7 else detections_of([], []) for i in image_ids
        ]


def test_least_stable_first_and_images_without_boxes_last():
    query = dataclasses.replace(make_query(count=60), detector=Shaking())
    for parameters in ({}, {"with_confidence": True, "weight": 0.0}):
        order = [i % 7 for i in make_strategy("localization_stability", parameters, TABLE).select(query).image_ids]
        ranked = [kind for kind in order if kind]
        assert order == ranked + [0] * (60 - len(ranked))
        assert ranked == sorted(ranked, reverse=not parameters)  # LS: moves most; U_C alone: doubts most
    both = LocalizationStability(with_confidence=True).select(query)
    kind = both.image_ids[0] % 7
    moved = (10 - kind) ** 2 / (200 - (10 - kind) ** 2)
    assert both.utilities[0] == pytest.approx(1 - (0.1 + 0.1 * kind) - moved)


def test_only_so_many_boxes_are_followed():
    class Two(Shaking):
        def detections(self, image_ids):
            return [detections_of([UNIT, APART], [0.9, 0.1]) for _ in image_ids]

        def noisy_detections(self, image_ids, sigma, random_seed):
            return [detections_of([UNIT], [0.9]) for _ in image_ids]

    query = dataclasses.replace(make_query(), detector=Two())
    assert LocalizationStability(max_boxes=1).select(query).utilities == pytest.approx([-1.0] * 9)
    assert LocalizationStability().select(query).utilities == pytest.approx([-0.9] * 9)


def test_confidence_is_the_largest_posterior_of_a_two_stage_detector():
    clean = detections_of([UNIT, APART], [0.2, 0.1], proposals=[UNIT, APART], probabilities=[[0.2, 0.6], [0.2, 0.1]])
    noisy = [detections_of([UNIT], [0.5])]
    assert stability(clean, noisy) == pytest.approx(0.6 / 0.8)


def test_tightness_by_hand():
    loose = detections_of([UNIT], [0.9], proposals=[APART])
    tight = detections_of([UNIT], [0.9], proposals=[UNIT])
    doubtful = detections_of([UNIT], [0.1], proposals=[UNIT])
    assert contradiction(loose) == pytest.approx(0.1)
    assert contradiction(tight) == pytest.approx(0.9)
    assert contradiction(doubtful) == pytest.approx(0.1)
    assert contradiction(detections_of([UNIT, UNIT], [0.9, 0.5], proposals=[UNIT, HALF])) == pytest.approx(0.0)
    assert contradiction(detections_of([], [], proposals=np.zeros((0, 4)))) == 1
    with pytest.raises(StrategyError, match="two-stage"):
        contradiction(detections_of([UNIT], [0.9]))


@pytest.mark.parametrize("parameters", [{"sigmas": []}, {"sigmas": [-1.0]}, {"max_boxes": 0}])
def test_wrong_noise_levels_are_refused(parameters):
    with pytest.raises(ConfigError, match=next(iter(parameters))):
        make_strategy("localization_stability", parameters, TABLE)
