"""Contract checks for strategies and detectors, published so that users run them on their own.

    import pytest
    from alloop.testing import strategy_checks

    @pytest.mark.parametrize("check", strategy_checks(), ids=lambda check: check.__name__)
    def test_contract(check):
        check(MyStrategy())

Each check is a plain function that raises AssertionError with what was expected and what was found.
"""

import copy
import dataclasses
import pickle
import random
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np

from alloop.query import Need
from alloop.strategy import Strategy, checked_selection
from alloop.testing.fakes import FakeDetector, fake_annotations, make_query
from alloop.values import Selection

__all__ = ["FakeDetector", "detector_checks", "fake_annotations", "make_query", "strategy_checks"]

StrategyCheck = Callable[[Strategy], None]
DetectorBuilder = Callable[[int], Any]


def _same(a: Selection, b: Selection, message: str) -> None:
    assert a.image_ids == b.image_ids, f"{message}: {a.image_ids[:5]}… became {b.image_ids[:5]}…"
    assert np.array_equal(a.utilities, b.utilities), f"{message}: the utilities changed"


def check_exact_count(strategy: Strategy) -> None:
    """Exactly `count` distinct images of the pool, for one, some and all of it."""
    for count in (1, 9, 59, 60):
        selection = checked_selection(strategy, make_query(count=count))
        assert len(set(selection.image_ids)) == count, f"expected {count} distinct images"


def check_tiny_pool(strategy: Strategy) -> None:
    """A pool of one image, and a labeled set of one."""
    query = make_query(unlabeled=1, labeled=1, count=1)
    assert checked_selection(strategy, query).image_ids == query.unlabeled, "expected the only image there is"


def check_order_free(strategy: Strategy) -> None:
    """The order in which the pool and the labeled set are listed does not matter."""
    query = make_query()
    turned = dataclasses.replace(
        query,
        unlabeled=tuple(reversed(query.unlabeled)),
        labeled=MappingProxyType(dict(reversed(list(query.labeled.items())))),
    )
    _same(strategy.select(query), strategy.select(turned), "the order of the pool changed the selection")


def check_same_seed_same_answer(strategy: Strategy) -> None:
    """The same query gives the same answer, also from a fresh copy of the strategy."""
    first = strategy.select(make_query())
    _same(first, strategy.select(make_query()), "the second call answered differently")
    _same(first, pickle.loads(pickle.dumps(strategy)).select(make_query()), "a copy answered differently")  # noqa: S301


def check_no_global_randomness(strategy: Strategy) -> None:
    """Neither reads nor moves the generators of `random` and `numpy.random`."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  the global generator is what is checked
    first = strategy.select(make_query())
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    before = (random.getstate(), np.random.get_state()[1].tobytes())  # type: ignore[index]  # noqa: NPY002
    _same(first, strategy.select(make_query()), "a global seed changed the selection")
    after = (random.getstate(), np.random.get_state()[1].tobytes())  # type: ignore[index]  # noqa: NPY002
    assert before == after, "select drew from a global generator; use query.rng"


def check_no_memory(strategy: Strategy) -> None:
    """Another query in between leaves no trace."""
    first = strategy.select(make_query())
    strategy.select(make_query(unlabeled=30, labeled=5, count=4, random_seed=8, round_=3))
    _same(first, strategy.select(make_query()), "an earlier query changed the selection")


def check_input_untouched(strategy: Strategy) -> None:
    """The query is as it was."""
    query = make_query()
    before = copy.deepcopy((query.unlabeled, dict(query.labeled), query.count, query.random_seed))
    strategy.select(query)
    assert (query.unlabeled, query.count, query.random_seed) == (before[0], *before[2:]), "select changed the query"
    for image_id, truth in before[1].items():
        assert np.array_equal(truth.boxes, query.labeled[image_id].boxes), f"select changed the boxes of {image_id}"
    assert before[1].keys() == query.labeled.keys(), "select changed the labeled set"


def check_ties_not_by_position(strategy: Strategy) -> None:
    """Where all images look the same, neither the head nor the tail of the pool is chosen; the seed decides."""
    picks = []
    for seed in range(6):
        query = make_query(distinct=1, count=9, random_seed=seed)
        order = sorted(query.unlabeled)
        chosen = set(strategy.select(query).image_ids)
        assert chosen not in (set(order[:9]), set(order[-9:])), "ties were broken by image id"
        assert chosen not in (set(query.unlabeled[:9]), set(query.unlabeled[-9:])), "ties were broken by position"
        picks.append(frozenset(chosen))
    assert len(set(picks)) > 1, "ties were broken the same way under every seed"


def check_finite_utilities(strategy: Strategy) -> None:
    """One finite utility an image, best first is the strategy's own order."""
    selection = strategy.select(make_query())
    assert np.isfinite(selection.utilities).all(), "a utility is not finite"
    assert len(selection.utilities) == len(selection.image_ids), "expected one utility an image"


def strategy_checks() -> list[StrategyCheck]:
    """Every check of the strategy contract."""
    return [
        check_exact_count,
        check_tiny_pool,
        check_order_free,
        check_same_seed_same_answer,
        check_no_global_randomness,
        check_no_memory,
        check_input_untouched,
        check_ties_not_by_position,
        check_finite_utilities,
    ]


def check_detector_losses(build: DetectorBuilder) -> None:
    """Each term is one finite number an image, also for an image without boxes, and gradients reach the module."""
    import torch  # noqa: PLC0415  strategies are checked without it

    detector, (images, targets) = build(3), _batch()
    detector.module.train()
    terms = detector.losses(images, targets)
    for name, term in terms.items():
        assert term.shape == (len(images),), f"{name}: expected one number an image, found shape {tuple(term.shape)}"
        assert torch.isfinite(term).all(), f"{name}: not finite"
    torch.stack([term.sum() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None for p in detector.module.parameters()), "no gradient reached the module"


def check_detector_detections(build: DetectorBuilder) -> None:
    """Boxes inside the image, scores in 0..1 from high to low, labels from 0, a posterior a detection."""
    detector, (images, _) = build(3), _batch()
    detector.module.train()
    for image, found in zip(images, detector.detect(images), strict=True):
        height, width = image.shape[-2:]
        boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
        assert found["probabilities"].shape == (len(boxes), 3), "expected a posterior over the classes a detection"
        assert len(boxes) == len(scores) == len(labels), "expected as many boxes as scores and labels"
        assert (boxes[:, 0::2] <= width).all(), "a box reaches out of the image"
        assert (boxes[:, 1::2] <= height).all(), "a box reaches out of the image"
        assert (scores[1:] <= scores[:-1] + 1e-6).all(), "expected the most confident first"
        assert ((labels >= 0) & (labels < 3)).all(), "labels are class indices from 0"
    assert detector.module.training, "detect left the module in another mode"


def check_detector_features(build: DetectorBuilder) -> None:
    """One vector an image and one a box, without gradient."""
    detector, (images, targets) = build(3), _batch()
    embedded = detector.embed(images)
    assert embedded.ndim == 2, f"expected [batch, d], found {tuple(embedded.shape)}"
    assert len(embedded) == len(images), "expected one vector an image"
    assert not embedded.requires_grad, "embed is not for training"
    regions = detector.region_features(images, [target["boxes"] for target in targets])
    assert [len(r) for r in regions] == [len(t["boxes"]) for t in targets], "expected one vector a box"


def check_detector_last_layers(build: DetectorBuilder) -> None:
    """Where last layers are given: the same detections, and each image's loss as a smooth function of the weights."""
    import torch  # noqa: PLC0415

    detector, (images, targets) = build(3), _batch()
    if Need.LAST_LAYERS not in detector.gives:
        return
    from alloop.detectors.last_layers import gradient, slopes  # noqa: PLC0415

    images, targets = [images[0], images[2]], [targets[0], targets[2]]
    weights = {name: detector.module.get_parameter(name).detach() for name in detector.last_layers}
    frozen = detector.cached_features(images)
    for ours, plain in zip(frozen.detections(), detector.detect(images), strict=True):
        assert torch.equal(ours["boxes"], plain["boxes"]), "expected the detections of `detect`"
    loss = frozen.losses(targets, [0, 1])
    assert loss(weights).shape == (2,), "expected one loss an image"
    assert torch.equal(loss(weights), loss(weights)), "expected sampling to be fixed when the loss is made"
    generator = torch.Generator().manual_seed(0)
    along = {name: torch.randn(weight.shape, generator=generator) for name, weight in weights.items()}
    slope, slopes_ = gradient(loss, weights), slopes(loss, weights, along)
    expected = sum(float((slope[name] * along[name]).sum()) for name in along)
    assert abs(float(slopes_.sum()) - expected) <= 1e-4 * (1 + abs(expected)), "forward and reverse mode differ"


def detector_checks() -> list[Callable[[DetectorBuilder], None]]:
    """Every check of the detector contract; each takes a function from the number of classes to a detector."""
    return [
        check_detector_losses,
        check_detector_detections,
        check_detector_features,
        check_detector_last_layers,
    ]


def _batch() -> tuple[list[Any], list[Any]]:
    """Three images of two sizes, the second without a box."""
    import torch  # noqa: PLC0415

    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, side, generator=generator) for side in (96, 64, 96)]
    boxes = [torch.tensor([[4.0, 4, 30, 30], [20, 20, 50, 60]]), torch.zeros(0, 4), torch.tensor([[10.0, 10, 40, 44]])]
    labels = [torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([0])]
    masks = [torch.ones(len(b), *i.shape[-2:], dtype=torch.uint8) for b, i in zip(boxes, images, strict=True)]
    parts = zip(boxes, labels, masks, strict=True)
    return images, [{"boxes": b, "labels": k, "masks": m} for b, k, m in parts]
