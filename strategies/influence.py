"""Influence selection (ISAL, Liu et al. 2021): annotate what is predicted to lower the reference loss most.

With a candidate z up-weighted by e, the trained weights move as d theta / d e = -H^-1 G_z, so the reference loss moves
as (equations 1 and 2 of the supplement)

    I(z, R) = -grad l(R)^T H^-1 G_z = -s_test . G_z        s_test = H^-1 grad l(R)

H is the curvature of the training loss. `inverse_hessian` estimates s_test from single labeled images z_1 .. z_k by a
recursion, averaged over p repetitions. G_z is the gradient of z's loss under the detector's own detections, since its
label is unknown. Only the weights of the last layers are differentiated. The images of smallest I are chosen; the
utility recorded here is -I. As s_test . G_z is the slope of z's loss along s_test, one forward pass with a tangent
gives it for a batch of images: no image is differentiated backwards.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, count
from typing import ClassVar, Literal

import numpy as np

from alloop.errors import StrategyError
from alloop.query import Need, Query, Weights
from alloop.randomness import RoundSeed
from alloop.values import ImageId, Selection
from strategies.inverse_hessian import (
    DivergedError,
    Product,
    Solution,
    conjugate_gradient,
    dot,
    largest_curvature,
    norm,
    s_test,
)

DOUBLINGS = 20  # how often a measured scale is doubled before giving up
PROBES = 16  # labeled images whose largest curvature is measured to choose a scale


@dataclass(frozen=True)
class Influence:
    """Choose the images whose annotation is predicted to lower the loss on the reference split most.

    Attributes:
        score_threshold: detections of a lower score are no pseudo-labels; images without any come last, in random
            order.
        pseudo_labels: `hard` as released, or weighted by the detector's `posterior`.
        top_classes: in classification, the number of the most probable classes that the gradient is expected over,
            instead of `pseudo_labels`; with all classes that gradient is 0 in the last layer.
        images: k, the number of labeled images per repetition.
        repetitions: p, the number of s_test that are averaged.
        sampling: `random` from the labeled images, or `sequential`: repetition r takes every p-th, as released.
        damping: d.
        rescale: `exact` divides out one common scale; `released` keeps one scale per weight, of the released code,
            and like it goes on when s_test grows without bound, with a warning.
        scale: c; by default twice the largest curvature measured on 16 labeled images, doubled while |s| passes
            1.1 |v| / damping, which a positive curvature cannot.
        solver: the `recursion`, or `conjugate_gradient` over the images of the first repetition.
        reference: `mean` or `sum` of the reference gradients; the order of the images is the same.
        per_box: whether each utility is divided by the number of pseudo-labels, since people are paid per box.
    """

    score_threshold: float = 0.1
    pseudo_labels: Literal["hard", "posterior"] = "hard"
    top_classes: int | None = None
    images: int = 500
    repetitions: int = 4
    sampling: Literal["random", "sequential"] = "random"
    damping: float = 0.01
    rescale: Literal["exact", "released"] = "exact"
    scale: float | None = None
    solver: Literal["recursion", "conjugate_gradient"] = "recursion"
    reference: Literal["mean", "sum"] = "mean"
    per_box: bool = False

    source: ClassVar[str] = "Liu et al. 2021 (ISAL)"

    def __post_init__(self) -> None:
        """Raise ValueError on numbers out of range and on settings that exclude each other."""
        if not 0 <= self.damping < 1:
            raise ValueError(f"damping: expected a number in 0..1, found {self.damping}")
        if self.top_classes is not None and self.top_classes < 1:
            raise ValueError(f"top_classes: expected a positive number, or null, found {self.top_classes}")
        if self.images < 1 or self.repetitions < 1:
            raise ValueError(f"images and repetitions: expected 1 or more, found {self.images}, {self.repetitions}")
        if self.scale is not None and not 0 < self.scale < np.inf:
            raise ValueError(f"scale: expected a positive number, found {self.scale}")
        if self.rescale == "released" and (self.scale is not None or self.solver == "conjugate_gradient"):
            raise ValueError(
                "rescale: released has its own scales and only the recursion; use exact with scale or solver"
            )

    @property
    def needs(self) -> frozenset[Need]:
        """Need predictions, derivatives in the last layers, and labeled reference images."""
        return frozenset({Need.PREDICTIONS, Need.LAST_LAYERS, Need.REFERENCE})

    def select(self, query: Query) -> Selection:
        """Rank by influence, smallest first."""
        v = self.reference_gradient(query)
        solution, diagnostics = self.solve(query, v)
        image_ids = sorted(query.unlabeled)
        utilities, boxes = query.detector.pseudo_label_slopes(
            image_ids, solution.s, self.score_threshold, self.top_classes or self.pseudo_labels
        )
        scored = (boxes > 0) & np.isfinite(utilities)
        diagnostics |= {"unscored_images": float((~scored).sum()), "utility_per_box": float(self.per_box)}
        if self.per_box:
            utilities = utilities / np.maximum(boxes, 1)
        return query.top(image_ids, np.where(scored, utilities, 0.0), scored=scored, diagnostics=diagnostics)

    def reference_gradient(self, query: Query) -> Weights:
        """Return v, the gradient of the reference loss.

        Raises:
            StrategyError: there is no reference image, or the gradient is zero or not finite.
        """
        if not query.reference or query.reference_detector is None:
            msg = "influence: there are no reference images; give the config data.reference or data.test"
            raise StrategyError(msg)
        total = query.reference_detector.loss_gradient(sorted(query.reference), query.reference)
        divisor = len(query.reference) if self.reference == "mean" else 1
        v = {name: np.asarray(part, dtype=np.float64) / divisor for name, part in total.items()}
        if not 0 < norm(v) < np.inf:
            wrong = [name for name, part in v.items() if not np.isfinite(part).all()]
            problem = f"not finite in {wrong}" if wrong else "zero"
            msg = f"influence: the gradient of the reference loss is {problem}"
            raise StrategyError(msg)
        return v

    def solve(self, query: Query, v: Weights) -> tuple[Solution, dict[str, float]]:
        """Return s_test = (H + damping x scale)^-1 v and diagnostics that say how far to trust it.

        Raises:
            DivergedError: the scale was given and is too small for this detector.
            StrategyError: there is no labeled image.
        """
        draws = list(self.draws(query))
        parts, scales = self._bounded_estimates(query, v, draws)
        mean = {name: np.mean([part.s[name] for part in parts], axis=0) for name in v}
        if self.rescale == "exact" and self.solver == "recursion":
            mean = {name: part / scales[name] for name, part in mean.items()}
        growth = max(part.growth for part in parts)
        if self.solver == "recursion" and growth > self._bound:
            self._warn_of_growth(growth, scales)
        update = float(np.mean([part.update for part in parts]))
        restarts = sum(part.restarts for part in parts)
        diagnostics = {
            "reference_gradient_norm": norm(v),
            "s_test_norm": norm(mean),
            "s_test_update": update,
            "s_test_growth": min(growth, 1e300),
            "s_test_agreement": _agreement(parts),
            "s_test_restarts": float(restarts),
            "s_test_steps": float(sum(len(draw) for draw in draws)),
            "scale": max(scales.values()),
            "damping": self.damping,
        }
        return Solution(mean, update, growth, restarts), diagnostics

    def draws(self, query: Query) -> Iterator[list[ImageId]]:
        """Yield the labeled images of each repetition, in order.

        Raises:
            StrategyError: there is none.
        """
        labeled = sorted(query.labeled)
        if not labeled:
            msg = "influence: there are no labeled images, from which the curvature of the training loss is estimated"
            raise StrategyError(msg)
        if self.sampling == "sequential":
            for first in range(min(self.repetitions, len(labeled))):
                yield labeled[first :: self.repetitions][: self.images]
            return
        seed = RoundSeed(query.random_seed, query.round)
        passes = -(-self.images // len(labeled))
        for repetition in range(self.repetitions):
            generator = seed.rng("s_test", repetition)
            order = np.concatenate([generator.permutation(len(labeled)) for _ in range(passes)])
            yield [labeled[row] for row in order[: self.images]]

    @property
    def _bound(self) -> float:
        """The largest |s| / |v| of a positive curvature, 1 / damping, with a tenth to spare."""
        return 1.1 / self.damping if self.damping else 1e6

    @property
    def _limit(self) -> float:
        """The |s| / |v| at which the recursion stops: never as released, and later where the scale is given."""
        if self.rescale == "released":
            return np.inf
        return self._bound if self.scale is None else 10 * self._bound

    def _bounded_estimates(
        self, query: Query, v: Weights, draws: Sequence[Sequence[ImageId]]
    ) -> tuple[list[Solution], dict[str, float]]:
        """Return one s_test per repetition and the scales; a measured scale is doubled until s_test is bounded."""
        scales = self._first_scales(query, v, draws[0])
        doublings = 0
        while True:
            try:
                return self._estimates(query, v, draws, scales), scales
            except DivergedError:
                if self.scale is not None or doublings == DOUBLINGS:
                    raise
            doublings += 1
            scales = {name: 2 * scale for name, scale in scales.items()}

    def _first_scales(self, query: Query, v: Weights, draw: Sequence[ImageId]) -> dict[str, float]:
        """Return the scale of each weight: as released, as given, or measured."""
        if self.rescale == "released":
            return dict(query.detector.last_layers)
        if self.scale is not None:
            return dict.fromkeys(v, self.scale)
        probed = list(dict.fromkeys(draw))[:PROBES]
        largest = max(largest_curvature(_product(query, [image_id]), v) for image_id in probed)
        return dict.fromkeys(v, 2 * largest or 1.0)

    def _estimates(
        self, query: Query, v: Weights, draws: Sequence[Sequence[ImageId]], scales: Mapping[str, float]
    ) -> list[Solution]:
        """Return one s_test per repetition."""
        if self.solver == "conjugate_gradient":
            mean = partial(_mean_product, query, sorted(set(draws[0])))
            return [conjugate_gradient(v, mean, self.damping * max(scales.values()))]
        total = sum(map(len, draws))
        finished = count(1)

        def product(image_id: ImageId, s: Weights) -> Weights:
            query.progress("s_test", next(finished), total)
            return query.detector.curvature_product([image_id], query.labeled, s)

        return [
            s_test(v, [partial(product, image_id) for image_id in draw], self.damping, scales, self._limit)
            for draw in draws
        ]

    def _warn_of_growth(self, growth: float, scales: Mapping[str, float]) -> None:
        remedy = "take rescale: exact" if self.rescale == "released" else "raise strategy.scale"
        warnings.warn(
            f"influence: |s_test| grew to {growth:.3g} |v|, past the bound of a positive curvature; {remedy}, now "
            f"with scale {max(scales.values()):.4g}, or raise strategy.damping, now {self.damping:g}",
            stacklevel=3,
        )


def _agreement(parts: Sequence[Solution]) -> float:
    """Return the mean cosine between the s_test of two repetitions; 1 for a single one."""
    cosines = [dot(a.s, b.s) / (norm(a.s) * norm(b.s)) for a, b in combinations(parts, 2)]
    return float(np.nan_to_num(np.mean(cosines))) if cosines else 1.0


def _product(query: Query, image_ids: Sequence[ImageId]) -> Product:
    """Return the curvature of the summed losses of some labeled images, as a function of s."""
    return lambda s: query.detector.curvature_product(image_ids, query.labeled, s)


def _mean_product(query: Query, image_ids: Sequence[ImageId], s: Weights) -> Weights:
    """Return the curvature of the mean loss of some labeled images, times s."""
    curved = query.detector.curvature_product(image_ids, query.labeled, s)
    return {name: part / len(image_ids) for name, part in curved.items()}
