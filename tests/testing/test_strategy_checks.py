"""Each published check of the strategy contract refuses a mistake that no other check sees."""

import dataclasses
import statistics
from typing import ClassVar

import numpy as np
import pytest

from alloop.errors import StrategyError
from alloop.query import Need, Query
from alloop.randomness import tie_break
from alloop.testing import strategies as checks
from alloop.testing import strategy_checks
from alloop.values import Selection


@dataclasses.dataclass(frozen=True)
class Sound:
    """A strategy without a mistake: random utilities, rotated by a number that broken ones take from elsewhere."""

    source: ClassVar[str] = "nowhere"

    @property
    def needs(self):
        return frozenset()

    def select(self, query):
        return self.rotated(query, 0)

    def rotated(self, query, by):
        image_ids = sorted(query.unlabeled)
        return query.top(image_ids, np.roll(query.rng.random(len(image_ids)), int(by)))


class KnowsBoxesAlone(Sound):
    @property
    def needs(self):
        return frozenset({Need.PREDICTIONS})

    def select(self, query):
        return self.rotated(query, len(query.detector.detections(query.unlabeled[:1])))


class RanksNeverAll(Sound):
    def select(self, query):
        chosen = super().select(query)
        return Selection(chosen.image_ids[:59], chosen.utilities[:59])


class NeedsSeveralImages(Sound):
    def select(self, query):
        utilities = query.rng.random(len(query.unlabeled)).tolist()
        return query.top(sorted(query.unlabeled), np.array(utilities) / statistics.stdev(utilities))


class NeedsLabeledImages(Sound):
    def select(self, query):
        return self.rotated(query, min(query.labeled))


class FollowsTheOrderOfThePool(Sound):
    def select(self, query):
        return query.top(query.unlabeled, query.rng.random(len(query.unlabeled)))


class FollowsTheOrderOfTheLabeled(Sound):
    def select(self, query):
        return self.rotated(query, next(iter(query.labeled), 0))


@dataclasses.dataclass(frozen=True)
class LosesAParameterWhenCopied(Sound):
    shift: int = 0

    def __reduce__(self):
        return type(self), ()

    def select(self, query):
        return self.rotated(query, self.shift)


class HasStateBesideItsParameters(Sound):
    shift = 0

    def select(self, query):
        return self.rotated(query, self.shift)


def with_state():
    strategy = HasStateBesideItsParameters()
    object.__setattr__(strategy, "shift", 3)
    return strategy


class MovesTheGlobalGenerator(Sound):
    def select(self, query):
        np.random.random()  # noqa: NPY002
        return super().select(query)


class ReadsTheGlobalGenerator(Sound):
    def select(self, query):
        return self.rotated(query, np.random.get_state()[1][0])  # noqa: NPY002


class RemembersQueries(Sound):
    rounds: ClassVar[list] = []

    def select(self, query):
        if query.round == 3:
            self.rounds.append(query.round)
        return self.rotated(query, len(self.rounds))


class SortsTheQuery(Sound):
    def select(self, query):
        object.__setattr__(query, "unlabeled", tuple(sorted(query.unlabeled)))
        return super().select(query)


class MovesBoxes(Sound):
    def select(self, query):
        for truth in query.labeled.values():
            truth.boxes.flags.writeable = True
            truth.boxes[:] += 1
        return super().select(query)


class DropsLabeledImages(Sound):
    def select(self, query):
        object.__setattr__(query, "labeled", {})
        return super().select(query)


class BreaksTiesById(Sound):
    @property
    def needs(self):
        return frozenset({Need.DETECTIONS})

    def select(self, query):
        image_ids = sorted(query.unlabeled)
        counts = np.array([len(detections) for detections in query.detector.detections(image_ids)])
        order = np.argsort(-counts, kind="stable")[: query.count]
        return Selection([image_ids[row] for row in order], counts[order])


class BreaksTiesWithoutTheSeed(Sound):
    def select(self, query):
        image_ids = sorted(query.unlabeled, key=lambda image_id: tie_break(0, image_id))[: query.count]
        return Selection(image_ids, np.zeros(query.count))


class HasNeedsThatCanChange(Sound):
    @property
    def needs(self):
        return {Need.DETECTIONS}


class MisspellsANeed(Sound):
    @property
    def needs(self):
        return frozenset({"detection"})


class HasOtherNeedsEachTime(Sound):
    accesses: ClassVar[list] = []

    @property
    def needs(self):
        self.accesses.append(0)
        return frozenset({Need.EMBEDDINGS}) if len(self.accesses) % 2 else frozenset()


class UsesAnUndeclaredNeed(Sound):
    def select(self, query):
        query.detector.embeddings(sorted(query.unlabeled))
        return super().select(query)


class UsesUndeclaredReferenceImages(Sound):
    def select(self, query):
        return self.rotated(query, len(query.reference))


class UsesHiddenTruth(Sound):
    def select(self, query):
        return self.rotated(query, len(query.truth) // 2)


class ReportsTooMuch(Sound):
    def select(self, query):
        query.progress("selecting", 5, 3)
        return super().select(query)


class ReportsNoName(Sound):
    def select(self, query):
        query.progress(1, 1, 1)
        return super().select(query)


BROKEN = [
    (checks.check_exact_count, RanksNeverAll),
    (checks.check_single_image, NeedsSeveralImages),
    (checks.check_nothing_labeled, NeedsLabeledImages),
    (checks.check_order_free, FollowsTheOrderOfThePool),
    (checks.check_order_free, FollowsTheOrderOfTheLabeled),
    (checks.check_copies_agree, lambda: LosesAParameterWhenCopied(shift=3)),
    (checks.check_parameters_suffice, with_state),
    (checks.check_no_global_randomness, MovesTheGlobalGenerator),
    (checks.check_no_global_randomness, ReadsTheGlobalGenerator),
    (checks.check_no_memory, RemembersQueries),
    (checks.check_query_unchanged, SortsTheQuery),
    (checks.check_query_unchanged, MovesBoxes),
    (checks.check_query_unchanged, DropsLabeledImages),
    (checks.check_ties_at_random, BreaksTiesById),
    (checks.check_ties_at_random, BreaksTiesWithoutTheSeed),
    (checks.check_needs, HasNeedsThatCanChange),
    (checks.check_needs, MisspellsANeed),
    (checks.check_needs, HasOtherNeedsEachTime),
    (checks.check_only_declared_needs, UsesAnUndeclaredNeed),
    (checks.check_only_declared_needs, UsesUndeclaredReferenceImages),
    (checks.check_classifies, KnowsBoxesAlone),
    (checks.check_hidden_truth_unused, UsesHiddenTruth),
    (checks.check_progress, ReportsTooMuch),
    (checks.check_progress, ReportsNoName),
]


def refuses(check, strategy):
    try:
        check(strategy)
    except Exception:  # noqa: BLE001  a check may end with the error of the strategy itself
        return True
    return False


@pytest.mark.parametrize(("check", "broken"), BROKEN, ids=lambda part: part.__name__)
def test_exactly_this_check_refuses_the_mistake(check, broken):
    assert [other for other in strategy_checks() if refuses(other, broken())] == [check]


def test_every_check_is_proven():
    assert {check for check, _ in BROKEN} == set(strategy_checks())
    assert all(check.__doc__.startswith("Refuse a strategy") for check in strategy_checks())


@pytest.mark.parametrize("check", strategy_checks(), ids=lambda check: check.__name__)
def test_a_sound_strategy_passes(check):
    check(Sound())


def test_a_strategy_may_say_that_it_needs_labeled_images():
    class SaysSo(Sound):
        def select(self, query):
            if not query.labeled:
                raise checks.StrategyError("there are no labeled images to compare with")
            return super().select(query)

    checks.check_nothing_labeled(SaysSo())


@dataclasses.dataclass(frozen=True)
class Broken:
    """A strategy with the mistake that `how` names; several checks may refuse it."""

    how: str
    needs: ClassVar = frozenset()
    source: ClassVar = "nowhere"
    memory: ClassVar[list] = []

    def select(self, query: Query) -> Selection:
        ids, count = list(query.unlabeled), query.count
        if self.how == "head":
            ids = sorted(ids)
        elif self.how == "global":
            ids = [sorted(ids)[i] for i in np.random.permutation(len(ids))]  # noqa: NPY002
        elif self.how == "memory":
            self.memory.append(0)
            ids = [sorted(ids)[i] for i in np.random.default_rng(len(self.memory)).permutation(len(ids))]
        elif self.how == "fewer":
            count = max(1, count - 1)
        elif self.how == "outside":
            ids = [-5, *ids]
        elif self.how == "writes":
            object.__setattr__(query, "count", query.count + 1)
        elif self.how == "position":
            pass
        return Selection(tuple(ids[:count]), np.zeros(min(count, len(ids))))


@pytest.mark.parametrize("how", ["head", "global", "memory", "fewer", "outside", "writes", "position"])
def test_broken_strategies_are_refused(how):
    caught = []
    for check in strategy_checks():
        try:
            check(Broken(how))
        except (AssertionError, StrategyError):
            caught.append(check.__name__)
    assert caught, f"no check refuses a strategy that breaks: {how}"
