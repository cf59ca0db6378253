"""The rules of a purchase: images that look too much alike, and too many images of one group, are not bought.

The ranking of the strategy is walked along; an image is passed over if it is nearer than `loop.min_distance` to what is
labeled or to what the same purchase took before, or if the purchase holds `loop.per_group` images of its group.
`alloop.loop.buying` says what happens when the quota cannot be met so.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt64

from alloop.budget.charges import PassedOver
from alloop.config.blocks import LoopConfig
from alloop.data.hamming import hamming_distance
from alloop.data.leaks import unit_vectors
from alloop.ledger.perceptual_hashes import recorded_perceptual_hashes
from alloop.loop.buying import PurchaseRule, Rules, Walk
from alloop.loop.context import RunContext
from alloop.loop.experiment import Experiment
from alloop.loop.pool import seed_set_order
from alloop.loop.querying import QuerySession
from alloop.values import ImageId

NEAR_DUPLICATE = "near_duplicate"
FULL_GROUP = "full_group"

Embed = Callable[[Sequence[ImageId]], Float[np.ndarray, "n d"]]


class HashDistance:
    """Admits an image whose perceptual hash differs from each other one in at least `least` bits.

    An image without a hash, because it cannot be decoded, is admitted.
    """

    name = NEAR_DUPLICATE

    def __init__(self, least: float, hashes: Mapping[ImageId, int], labeled: Collection[ImageId]) -> None:
        """Compare with `labeled` at first; `hashes` are those of the pool."""
        self._least, self._hashes = least, hashes
        known: list[int] = [hashes[image_id] for image_id in labeled if image_id in hashes]
        self._others: UInt64[np.ndarray, " n"] = np.array(known, dtype=np.uint64)

    def admits(self, image_id: ImageId) -> bool:
        """Return whether no image that is labeled or was taken looks like this one."""
        own = self._hashes.get(image_id)
        if own is None or not len(self._others):
            return True
        return bool(hamming_distance(self._others, np.full_like(self._others, own)).min() >= self._least)

    def take(self, image_id: ImageId) -> None:
        """Compare with this image from now on."""
        if image_id in self._hashes:
            self._others = np.append(self._others, np.uint64(self._hashes[image_id]))


class EmbeddingDistance:
    """Admits an image whose embedding has at least this cosine distance from those of all others."""

    name = NEAR_DUPLICATE

    def __init__(self, least: float, embeddings: Mapping[ImageId, np.ndarray], labeled: Collection[ImageId]) -> None:
        """Compare with `labeled` at first; `embeddings` are of length 1, or 0."""
        self._least, self._embeddings = least, embeddings
        self._labeled = np.array([embeddings[image_id] for image_id in labeled])
        self._taken: list[np.ndarray] = []

    def admits(self, image_id: ImageId) -> bool:
        """Return whether no image that is labeled or was taken has nearly this embedding."""
        own = self._embeddings[image_id]
        others = [part for part in (self._labeled, np.array(self._taken)) if len(part)]
        return all(1 - (part @ own).max() >= self._least for part in others)

    def take(self, image_id: ImageId) -> None:
        """Compare with this image from now on."""
        self._taken.append(self._embeddings[image_id])


class GroupLimit:
    """Admits at most `most` images of a group; an image without a group is admitted."""

    name = FULL_GROUP

    def __init__(self, most: int, groups: Mapping[ImageId, str]) -> None:
        """Count from zero; what was bought in earlier rounds does not count."""
        self._most, self._groups = most, groups
        self._taken: Counter[str] = Counter()

    def admits(self, image_id: ImageId) -> bool:
        """Return whether the purchase has room for another image of this group."""
        group = self._groups.get(image_id)
        return group is None or self._taken[group] < self._most

    def take(self, image_id: ImageId) -> None:
        """Count an image."""
        if image_id in self._groups:
            self._taken[self._groups[image_id]] += 1


def rules_of(
    loop: LoopConfig,
    labeled: Collection[ImageId],
    hashes: Mapping[ImageId, int],
    groups: Mapping[ImageId, str],
    embed: Embed | None,
) -> Rules:
    """Return what makes the rules of a purchase.

    Args:
        loop: the config of the loop.
        labeled: the labeled images, those that people are asked about included.
        hashes: the perceptual hashes of the pool.
        groups: the group of each image of the pool.
        embed: gives the embeddings of images; None where nothing is trained yet, and embeddings are not compared.
    """

    def rules(ranking: Sequence[ImageId]) -> Sequence[PurchaseRule]:
        made: list[PurchaseRule] = []
        distance = loop.min_distance
        if distance is not None and distance.unit == "bits":
            made.append(HashDistance(distance.value, hashes, labeled))
        elif distance is not None and embed is not None:
            image_ids = [*labeled, *ranking]
            rows = unit_vectors(embed(image_ids))
            made.append(EmbeddingDistance(distance.value, dict(zip(image_ids, rows, strict=True)), labeled))
        if loop.per_group is not None:
            made.append(GroupLimit(loop.per_group, groups))
        return made

    return rules


def rules_of_round(context: RunContext, session: QuerySession) -> Rules:
    """Return the rules of the purchase that a query makes; they know what is labeled and the trained detector."""
    query, groups = session.query, context.experiment.splits.train.dataset.groups
    loop = context.experiment.config.loop
    by_hash = loop.min_distance is not None and loop.min_distance.unit == "bits"
    hashes = recorded_perceptual_hashes(context.ledger) if by_hash else {}
    return rules_of(loop, query.labeled.keys(), hashes, groups, query.detector.embeddings)


def random_seed_set(experiment: Experiment, hashes: Mapping[ImageId, int]) -> Iterable[ImageId]:
    """Return the images of the pool in the order in which a random seed set is drawn, under the rules of purchases.

    Nothing is trained yet, so a distance of embeddings does not hold for the seed set.
    """
    pool, config = experiment.splits.train.dataset, experiment.config
    order = seed_set_order(pool.images, config.random_seed, pool.groups)
    rules = rules_of(config.loop, (), hashes, pool.groups, None)(order)
    return Walk(order, rules, take_passed_over=True)


def passed_over_lines(passed_over: Sequence[PassedOver]) -> list[str]:
    """Return in words how many images each rule passed over, and how many of them were bought after all and why."""
    titles = {NEAR_DUPLICATE: "near duplicates of labeled images", FULL_GROUP: "images of groups that are full"}
    lines = []
    for name, title in titles.items():
        own = [image for image in passed_over if image.rule == name]
        left = [image.boxes for image in own if not image.bought]
        if left:
            lines.append(f"{len(left)} {title} were passed over ({sum(left):.0f} boxes)")
        if len(own) > len(left):
            reason = "since the quota could not be met without them"
            lines.append(f"{len(own) - len(left)} {title} were bought all the same, {reason}")
    return lines
