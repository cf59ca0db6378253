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

import numpy as np

from alloop.strategy import Strategy, checked_selection
from alloop.testing.detectors import detector_checks
from alloop.testing.fakes import FakeDetector, fake_annotations, make_query
from alloop.testing.formats import format_checks
from alloop.values import Selection

__all__ = ["FakeDetector", "detector_checks", "fake_annotations", "format_checks", "make_query", "strategy_checks"]

StrategyCheck = Callable[[Strategy], None]


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
