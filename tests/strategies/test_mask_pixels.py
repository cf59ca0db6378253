"""Scores of mask pixels by hand, and their sums over instances."""

from dataclasses import replace

import numpy as np
import pytest

from alloop.errors import AlloopError, StrategyError
from alloop.testing import make_query
from alloop.values import InstanceScores
from strategies.aum import Aum, class_margin, largest_two, pixel_margin
from strategies.el2n import El2n, error, squared_logit_error
from strategies.forgetting import Forgetting, events, right, rises
from strategies.mask_entropy import MaskEntropy, entropy
from strategies.mask_pixels import cross_entropy, image_scores, sigmoid
from tests.support.scripted import pixels, scripted

ONE = pixels([[[[2.0, -1.0], [0.0, 3.0]], [[1.0, 1.0], [-4.0, 0.5]]]], [[[1, 0], [1, 0]]])


S = 1 / (1 + np.exp(-np.array([2.0, -1.0, 0.0, 3.0])))


Y = np.array([1, 0, 1, 0])


def test_scores_of_one_instance_by_hand():
    assert entropy(ONE) == pytest.approx(-(S * np.log(S) + (1 - S) * np.log(1 - S)).mean())
    assert cross_entropy(ONE) == pytest.approx(-(Y * np.log(S) + (1 - Y) * np.log(1 - S)).mean())
    assert error(ONE) == pytest.approx(np.abs(S - Y).mean())
    assert squared_logit_error(ONE) == pytest.approx(np.mean([1, 1, 1, 9]))
    assert pixel_margin(ONE) == pytest.approx((np.where(Y, S, 1 - S) - np.where(Y, 1 - S, S)).mean())
    other = 1 / (1 + np.exp(-np.array([1.0, -4.0])))
    assert class_margin(ONE) == pytest.approx(np.mean([S[0] - other[0], S[2] - other[1]]))
    assert largest_two(ONE) == pytest.approx(np.mean([1, 2, 4, 2.5]))
    assert right(ONE).tolist() == [[[True, True], [False, False]]]


def test_extreme_logits_stay_finite():
    wild = pixels([[[[1e4, -1e4], [3e38, -3e38]]]], [[[0, 1], [1, 0]]])
    for score in (entropy, cross_entropy, error, pixel_margin):
        assert np.isfinite(score(wild)).all()
    assert sigmoid(np.array([-1e5, 0, 1e5])).tolist() == [0, 0.5, 1]


def test_margins_between_classes_need_two():
    for score in (class_margin, largest_two):
        with pytest.raises(StrategyError, match="needs two of them"):
            score(pixels([[[[1.0]]]], [[[1]]]))
    assert class_margin(pixels([[[[1.0]], [[2.0]]]], [[[0]]])) == 0  # an empty mask


def test_forgetting_counts_what_was_right_and_is_wrong():
    states = [np.array([[[True, False, True]]]), np.array([[[False, True, True]]]), np.array([[[True, False, True]]])]
    assert events(states) == pytest.approx(2 / 3)
    assert events([*states, ~states[-1]]) == pytest.approx(4 / 3)
    assert rises([np.array([3.0, 1]), np.array([2.0, 2]), np.array([2.5, 0]), np.array([2.0, 0.5])]).tolist() == [1, 2]


def test_instances_are_summed_and_the_states_are_the_right_ones():
    logits = {1: [4.0, 0.0, 4.0, 1.0], 2: [-3.0, -3.0, 3.0, 3.0], 3: [1.0, -1.0, 1.0, -1.0], 4: [0, 0, 0, 0]}
    asked = scripted(logits, {1: 1, 2: 2, 3: 1, 4: 0}, count=4)

    def found(strategy):
        selection = strategy.select(asked)
        return selection.image_ids, dict(zip(selection.image_ids, selection.utilities, strict=True))

    def s(z):
        return 1 / (1 + np.exp(-z))

    def h(z):
        return -s(z) * np.log(s(z)) - s(-z) * np.log(s(-z))

    order, utility = found(MaskEntropy(annotations="true"))
    assert (utility[1], utility[2], utility[3]) == pytest.approx((h(1), 2 * h(3), h(-1)))
    assert order[-1] == 4
    order, utility = found(El2n(annotations="true"))  # the second of four states
    assert (utility[1], utility[2], utility[3]) == pytest.approx((0.5, 2 * s(3), s(1)))
    assert order == (2, 3, 1, 4)
    _, early = found(El2n(annotations="true", share=0.25))
    assert early[1] == pytest.approx(s(-4))
    order, utility = found(Aum(annotations="true"))
    margins = {i: np.mean([2 * s(z) - 1 for z in logits[i]]) for i in logits}
    assert (-utility[1], -utility[2], -utility[3]) == pytest.approx((margins[1], 2 * margins[2], margins[3]))
    order, utility = found(Forgetting(annotations="true"))
    assert (utility[1], utility[2], utility[3]) == (1, 0, 2)
    assert order == (3, 1, 2, 4)


def test_released_definitions_are_others():
    asked = make_query(truth=True)
    for strategy in (MaskEntropy, El2n, Aum, Forgetting):
        paper = strategy().instance_scores(asked).scores
        released = strategy(definition="released").instance_scores(asked).scores
        assert not np.allclose(paper, released)


def test_sums_by_image():
    scores = InstanceScores(np.array([3, 3, 8]), np.array([0, 1, 0]), np.array([0, 1, 1]), np.array([1.0, 2, 4]))
    assert scores.summed(np.array([2, 3, 8, 9])).tolist() == [0, 3, 4, 0]
    with pytest.raises(AlloopError, match="finite"):
        InstanceScores(np.array([3]), np.array([0]), np.array([0]), np.array([np.nan]))


def test_the_sum_of_margins_keeps_images_with_few_instances_and_the_mean_does_not():
    """EL2N of one state is (1 - margin) / 2 of each instance, yet their sums rank images in opposite orders."""
    random = np.random.default_rng(0)
    counts = random.integers(1, 15, 40)
    margins = random.uniform(0.4, 0.9, counts.sum())
    image_ids = np.repeat(np.arange(40), counts)
    instances = InstanceScores(image_ids, np.arange(len(image_ids)), np.zeros(len(image_ids)), margins)
    asked = make_query(unlabeled=40, labeled=0, count=40)
    named = {image_id: counts[row] for row, image_id in enumerate(sorted(asked.unlabeled))}
    instances = replace(instances, image_ids=np.array(sorted(asked.unlabeled))[image_ids])

    def instances_kept(strategy):
        return np.mean([named[i] for i in strategy.ranked(asked, instances).image_ids[:20]])

    assert instances_kept(Aum()) < 0.6 * counts.mean()
    assert instances_kept(Aum(order="highest")) > 1.4 * counts.mean()
    assert instances_kept(Aum(aggregation="mean")) == pytest.approx(counts.mean(), rel=0.25)
    lowest = Aum(aggregation="mean").ranked(asked, instances).image_ids
    assert lowest == tuple(reversed(Aum(aggregation="mean", order="highest").ranked(asked, instances).image_ids))


def test_image_scores_by_hand():
    instances = InstanceScores([3, 3, 5], [0, 1, 0], [0, 0, 0], [1.0, 3.0, 5.0])
    assert image_scores(instances, np.array([3, 4, 5]), "sum").tolist() == [4, 0, 5]
    assert image_scores(instances, np.array([3, 4, 5]), "mean").tolist() == [2, 0, 5]
