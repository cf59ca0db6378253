"""Contract checks for strategies: each raises AssertionError with what was expected and what was found.

A check may also end with the error that `select` itself raises.
"""

import copy
import dataclasses
import pickle
import random
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np

from alloop.errors import StrategyError
from alloop.plugins import make_plugin, plain_parameters
from alloop.query import CAPABILITIES, Need, Query, boxed
from alloop.strategy import Strategy, checked_selection, uses_labels
from alloop.testing.fakes import make_query
from alloop.values import Selection

StrategyCheck = Callable[[Strategy], None]


def _query(strategy: Strategy, **changes: Any) -> Query:
    """Return a query; with hidden annotations where the strategy declares `annotations: true`."""
    return make_query(truth=uses_labels(strategy), **changes)


def _same(expected: Selection, actual: Selection, message: str) -> None:
    assert expected.image_ids == actual.image_ids, (
        f"{message}: expected images {expected.image_ids[:5]}…, found {actual.image_ids[:5]}…"
    )
    assert np.array_equal(expected.utilities, actual.utilities), f"{message}: the utilities differ"


def check_exact_count(strategy: Strategy) -> None:
    """Refuse a strategy that ranks another number of images than asked: one, some, and all of the pool."""
    for count in (1, 9, 59, 60):
        checked_selection(strategy, _query(strategy, count=count))


def check_single_image(strategy: Strategy) -> None:
    """Refuse a strategy that fails on a pool of one image and a labeled set of one."""
    query = _query(strategy, unlabeled=1, labeled=1, count=1)
    assert checked_selection(strategy, query).image_ids == query.unlabeled, "expected the only image there is"


def check_nothing_labeled(strategy: Strategy) -> None:
    """Refuse a strategy that breaks without labeled images, as in pruning, unless by a StrategyError that says so."""
    query = _query(strategy, labeled=0)
    try:
        selection = strategy.select(query)
    except StrategyError:
        return
    assert len(selection.image_ids) == query.count, f"expected {query.count} images, found {len(selection.image_ids)}"


def check_order_free(strategy: Strategy) -> None:
    """Refuse a strategy whose selection depends on the order in which pool and labeled set are listed."""
    query = _query(strategy)
    reordered = dataclasses.replace(
        query,
        unlabeled=tuple(reversed(query.unlabeled)),
        labeled=MappingProxyType(dict(reversed(list(query.labeled.items())))),
    )
    _same(strategy.select(query), strategy.select(reordered), "the order of the images changed the selection")


def check_copies_agree(strategy: Strategy) -> None:
    """Refuse a strategy of which a copy in another process selects differently."""
    copied = pickle.loads(pickle.dumps(strategy))  # noqa: S301  the bytes come from the line itself
    query = _query(strategy)
    _same(strategy.select(query), copied.select(query), "a copy of the strategy selected differently")


def check_parameters_suffice(strategy: Strategy) -> None:
    """Refuse a strategy that its parameters do not determine: a run records them alone."""
    rebuilt = make_plugin("strategy", type(strategy), type(strategy).__name__, plain_parameters(strategy))
    query = _query(strategy)
    _same(strategy.select(query), rebuilt.select(query), "a strategy of the same parameters selected differently")


def check_no_global_randomness(strategy: Strategy) -> None:
    """Refuse a strategy that reads or moves the global generators of `random` and `numpy.random`."""
    query = _query(strategy)
    _seed_globally(1)
    first = strategy.select(query)
    _seed_globally(2)
    before = _global_state()
    _same(first, strategy.select(query), "a global seed changed the selection; use query.rng")
    assert before == _global_state(), "select drew from a global generator; use query.rng"


def _seed_globally(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the global generator is what is checked


def _global_state() -> tuple[Any, ...]:
    state: Any = np.random.get_state()  # noqa: NPY002
    return random.getstate(), state[1].tobytes(), state[2]


def check_no_memory(strategy: Strategy) -> None:
    """Refuse a strategy whose selection depends on an earlier query."""
    query = _query(strategy)
    first = strategy.select(query)
    strategy.select(_query(strategy, unlabeled=30, labeled=5, count=4, random_seed=8, round_=3))
    _same(first, strategy.select(query), "an earlier query changed the selection")


def check_query_unchanged(strategy: Strategy) -> None:
    """Refuse a strategy that changes its query or the annotations in it."""
    query = _query(strategy)
    before = copy.deepcopy((query.unlabeled, query.count, query.random_seed, dict(query.labeled)))
    strategy.select(query)
    assert (query.unlabeled, query.count, query.random_seed) == before[:3], "select changed the query"
    assert before[3].keys() == query.labeled.keys(), "select changed the labeled set"
    for image_id, truth in boxed(before[3]).items():
        assert np.array_equal(truth.boxes, boxed(query.labeled)[image_id].boxes), (
            f"select changed the boxes of {image_id}"
        )


def check_ties_at_random(strategy: Strategy) -> None:
    """Refuse a strategy that breaks ties by position or id, or in the same way under every seed.

    All images look the same here. `Query.top` and `Query.candidates` break ties by the seed.
    """
    choices = []
    for seed in range(6):
        query = _query(strategy, distinct=1, count=9, random_seed=seed)
        ascending = sorted(query.unlabeled)
        chosen = set(strategy.select(query).image_ids)
        assert chosen not in (set(ascending[:9]), set(ascending[-9:])), "ties were broken by image id"
        assert chosen not in (set(query.unlabeled[:9]), set(query.unlabeled[-9:])), "ties were broken by position"
        choices.append(frozenset(chosen))
    assert len(set(choices)) > 1, "ties were broken in the same way under every seed"


def check_needs(strategy: Strategy) -> None:
    """Refuse a strategy whose `needs` are not a constant frozenset of `Need`."""
    needs = strategy.needs
    assert isinstance(needs, frozenset), f"needs: expected a frozenset, found {type(needs).__name__}"
    unknown = [need for need in needs if not isinstance(need, Need)]
    assert not unknown, f"needs: expected members of alloop.query.Need, found {unknown}"
    assert strategy.needs == needs, f"needs: expected the same at every access, found {needs}, then {strategy.needs}"


def check_only_declared_needs(strategy: Strategy) -> None:
    """Refuse a strategy that uses what its `needs` do not declare, which another detector may not give."""
    query = _query(strategy)
    restricted = dataclasses.replace(
        query,
        detector=_Restricted(query.detector, _as_detector(strategy.needs)),
        reference_detector=_Restricted(query.reference_detector, _as_detector(strategy.needs)),
    )
    if Need.REFERENCE not in strategy.needs:
        restricted = dataclasses.replace(restricted, reference=MappingProxyType({}), reference_detector=None)
    _same(strategy.select(query), strategy.select(restricted), "without what `needs` leaves out")


def _as_detector(needs: frozenset[Need]) -> frozenset[Need]:
    """Return what a detector gives that serves some needs: its predictions are detections."""
    return needs - {Need.PREDICTIONS} | {Need.DETECTIONS} if Need.PREDICTIONS in needs else needs


def check_classifies(strategy: Strategy) -> None:
    """Refuse a strategy that needs predictions of any task, and cannot do with class probabilities."""
    if Need.PREDICTIONS not in strategy.needs:
        return
    query = _query(strategy)
    restricted = (_Restricted(detector, strategy.needs) for detector in (query.detector, query.reference_detector))
    detector, reference = restricted
    selection = strategy.select(dataclasses.replace(query, detector=detector, reference_detector=reference))
    assert len(set(selection.image_ids)) == query.count, "expected `query.count` images of a classifier as well"


class _Restricted:
    """A detector that answers only what some needs cover."""

    def __init__(self, detector: Any, needs: frozenset[Need]) -> None:
        self._detector = detector
        self._needs = needs
        self.class_names = detector.class_names
        self.gives = needs

    def __getattr__(self, name: str) -> Any:
        covering = {need for need, capability in CAPABILITIES.items() if name in dir(capability)}
        if not covering & self._needs:
            expected = " or ".join(f"Need.{need.name}" for need in sorted(covering)) or "another name"
            raise AssertionError(f"needs: select used detector.{name}, so expected {expected} among the needs")
        return getattr(self._detector, name)


def check_hidden_truth_unused(strategy: Strategy) -> None:
    """Refuse a strategy that uses hidden annotations without declaring `annotations: true`."""
    if not uses_labels(strategy):
        without, shown = (strategy.select(make_query(truth=truth)) for truth in (False, True))
        _same(without, shown, "query.truth changed the selection, and the strategy does not declare annotations: true")


def check_progress(strategy: Strategy) -> None:
    """Refuse a strategy that reports an impossible progress."""
    reports: list[tuple[Any, Any, Any]] = []
    query = dataclasses.replace(_query(strategy), progress=lambda *report: reports.append(report))
    strategy.select(query)
    for task, done, total in reports:
        assert isinstance(task, str), f"progress: expected the name of the work, found {task!r}"
        assert 0 <= done <= total, f"progress: expected 0 <= done <= total, found {done} of {total} ({task})"


def strategy_checks() -> list[StrategyCheck]:
    """Return every check of the strategy contract."""
    return [
        check_exact_count,
        check_single_image,
        check_nothing_labeled,
        check_order_free,
        check_copies_agree,
        check_parameters_suffice,
        check_no_global_randomness,
        check_no_memory,
        check_query_unchanged,
        check_ties_at_random,
        check_needs,
        check_only_declared_needs,
        check_classifies,
        check_hidden_truth_unused,
        check_progress,
    ]
