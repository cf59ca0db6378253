"""Influence selection (ISAL, Liu et al. 2021): annotate what is predicted to lower the reference loss most.

With a candidate z up-weighted by e, the trained weights move as d theta / d e = -H^-1 G_z, so the
reference loss moves as (equations 1 and 2 of the supplement)

    I(z, R) = -grad l(R)^T H^-1 G_z = -s_test . G_z        s_test = H^-1 grad l(R)

H is the curvature of the training loss, estimated from single labeled images z_1 .. z_k and solved
for by the recursion of algorithm 1, with damping d and scale c, averaged over p repetitions:

    s <- v + (1 - d) s - H_z s / c      fixed point (H/c + d)^-1 v, hence (H + d c)^-1 v after division by c

G_z is the gradient of z's loss under the detector's own detections, since its label is unknown.
Only the weights of the last layers are differentiated. The images of smallest I are chosen; the
utility recorded here is -I. As s_test . G_z is the slope of z's loss along s_test, one forward
pass with a tangent gives it for a batch of images: no image is differentiated backwards.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from typing import ClassVar, Literal

import numpy as np

from alloop.errors import StrategyError
from alloop.query import Need, PseudoLabels, Query, Weights
from alloop.randomness import rng
from alloop.values import ImageId, Selection

Product = Callable[[Weights], Weights]  # s to H_z s
DOUBLINGS = 20  # of a measured scale, before giving up
PROBES = 16  # labeled images whose largest curvature is measured to choose a scale


class DivergedError(StrategyError):
    """The recursion for s_test grew without bound."""


@dataclass(frozen=True, slots=True)
class Solution:
    """An estimate of s_test and how it came about.

    Attributes:
        s: one array a weight.
        update: |change of s| / |s|, mean over the last tenth of the steps; the residual for conjugate gradients.
        growth: largest |s| / |v| on the way.
        restarts: how often a curvature product that is not finite sent a weight back to v.
    """

    s: Weights
    update: float
    growth: float
    restarts: int


def dot(a: Weights, b: Weights) -> float:
    """The inner product over all weights."""
    return float(sum(np.vdot(a[name], b[name]) for name in a))


def norm(a: Weights) -> float:
    """The Euclidean norm over all weights."""
    return float(np.sqrt(dot(a, a)))


def s_test(
    v: Weights, products: Sequence[Product], damping: float, scales: Mapping[str, float], limit: float = 1e6
) -> Solution:
    """The recursion of algorithm 1, from s = v, one product a step; not divided by the scales.

    A weight whose product is not finite goes back to v, as in the released code.

    Raises:
        DivergedError: |s| passes `limit` times |v|, or is not finite.
    """
    length, tail = norm(v), max(1, len(products) // 10)
    s, growth, restarts = dict(v), 1.0, 0
    updates: list[float] = []
    for product in products:
        before = s
        curved = product(s)
        finite = {name: bool(np.isfinite(curved[name]).all()) for name in v}
        restarts += sum(not good for good in finite.values())
        s = {
            name: v[name] + (1 - damping) * s[name] - curved[name] / scales[name] if finite[name] else v[name]
            for name in v
        }
        size = norm(s)
        growth = max(growth, size / length) if np.isfinite(size) else np.inf
        if not growth <= limit:
            largest = max(scales.values())
            msg = (
                f"influence: s_test diverges (|s| is {growth:.3g} times |v| after {len(updates) + 1} of "
                f"{len(products)} steps, with scale {largest:.4g} and damping {damping:g}). Raise strategy.scale or "
                "strategy.damping, or leave scale out to have it measured"
            )
            raise DivergedError(msg)
        updates.append(norm({name: s[name] - before[name] for name in s}) / max(size, 1e-300))
    return Solution(s, float(np.mean(updates[-tail:])), growth, restarts)


def conjugate_gradient(
    v: Weights, product: Product, damping: float, tolerance: float = 1e-6, steps: int = 200
) -> Solution:
    """Solve (H + damping) s = v (Hestenes and Stiefel 1952); for checking, since every step visits all images.

    Stops at a residual of `tolerance` |v|, after `steps`, and at a direction of negative curvature,
    where the equation has no minimum. `update` is the residual.
    """
    s = {name: np.zeros_like(part) for name, part in v.items()}
    residual, direction = dict(v), dict(v)
    left = start = dot(v, v)
    for _ in range(steps):
        if left <= tolerance**2 * start:
            break
        curved = {name: part + damping * direction[name] for name, part in product(direction).items()}
        bend = dot(direction, curved)
        if bend <= 0:
            break
        step = left / bend
        s = {name: s[name] + step * direction[name] for name in s}
        residual = {name: residual[name] - step * curved[name] for name in s}
        left, last = dot(residual, residual), left
        direction = {name: residual[name] + (left / last) * direction[name] for name in s}
    return Solution(s, float(np.sqrt(left / start)), norm(s) / float(np.sqrt(start)), 0)


def largest_curvature(product: Product, start: Weights, iterations: int = 8) -> float:
    """|largest eigenvalue| of one image's curvature, by power iteration; 0 where the curvature vanishes."""
    direction, size = start, norm(start)
    for _ in range(iterations):
        if not size or not np.isfinite(size):
            break
        direction = product({name: part / size for name, part in direction.items()})
        size = norm(direction)
    return size if np.isfinite(size) else 0.0


@dataclass(frozen=True)
class Influence:
    """Images whose annotation is predicted to lower the loss on the reference split most.

    Attributes:
        score_threshold: less confident detections are no pseudo-labels; an image without any comes last, in
            random order. For FCOS it is compared to class x centerness, as released, not to its square root.
        pseudo_labels: `hard` as released, or weighted by the detector's `posterior`.
        images: k, labeled images a repetition.
        repetitions: p, whose s_test are averaged.
        sampling: `random` from the labeled images, or `sequential`, repetition r taking every p-th as released.
        damping: d.
        rescale: `exact` divides out one common scale; `released` keeps one scale a weight, of the released code,
            and like it goes on when s_test grows without bound, with a warning.
        scale: c; by default twice the largest curvature found on 16 labeled images, doubled while |s| passes
            1.1 |v| / damping, which a positive curvature cannot.
        solver: the `recursion`, or `conjugate_gradient` over the images of the first repetition.
        reference: `mean` or `sum` of the reference gradients; the order of the images is the same.
        per_box: divide each utility by the predicted boxes, since boxes are what people are paid for.
    """

    score_threshold: float = 0.1
    pseudo_labels: PseudoLabels = "hard"
    images: int = 500
    repetitions: int = 4
    sampling: Literal["random", "sequential"] = "random"
    damping: float = 0.01
    rescale: Literal["exact", "released"] = "exact"
    scale: float | None = None
    solver: Literal["recursion", "conjugate_gradient"] = "recursion"
    reference: Literal["mean", "sum"] = "mean"
    per_box: bool = False

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DETECTIONS, Need.LAST_LAYERS, Need.REFERENCE})
    source: ClassVar[str] = "Liu et al. 2021 (ISAL)"

    def __post_init__(self) -> None:
        """Raise ValueError on numbers that make no sense."""
        if not 0 <= self.damping < 1:
            raise ValueError(f"damping: expected a number in 0..1, found {self.damping}")
        if self.images < 1 or self.repetitions < 1:
            raise ValueError(f"images and repetitions: expected 1 or more, found {self.images}, {self.repetitions}")
        if self.scale is not None and not 0 < self.scale < np.inf:
            raise ValueError(f"scale: expected a positive number, found {self.scale}")
        if self.rescale == "released" and (self.scale is not None or self.solver == "conjugate_gradient"):
            raise ValueError(
                "rescale: released has its own scales and only the recursion; use exact with scale or solver"
            )

    def select(self, query: Query) -> Selection:
        """Smallest influence first."""
        v = self.reference_gradient(query)
        solution, notes = self.solve(query, v)
        ids = sorted(query.unlabeled)
        utilities, boxes = query.detector.pseudo_label_slopes(ids, solution.s, self.score_threshold, self.pseudo_labels)
        scored = (boxes > 0) & np.isfinite(utilities)
        notes |= {"unscored_images": float((~scored).sum()), "utility_per_box": float(self.per_box)}
        if self.per_box:
            utilities = utilities / np.maximum(boxes, 1)
        return query.top(ids, np.where(scored, utilities, 0.0), scored=scored, diagnostics=notes)

    def reference_gradient(self, query: Query) -> Weights:
        """v, the gradient of the reference loss.

        Raises:
            StrategyError: there is no reference image, or the gradient is zero or not finite.
        """
        if not query.reference or query.reference_detector is None:
            msg = "influence: there are no reference images; give the config data.reference or data.test"
            raise StrategyError(msg)
        total = query.reference_detector.loss_gradient(sorted(query.reference), query.reference)
        share = len(query.reference) if self.reference == "mean" else 1
        v = {name: np.asarray(part, dtype=np.float64) / share for name, part in total.items()}
        if not 0 < norm(v) < np.inf:
            wrong = [name for name, part in v.items() if not np.isfinite(part).all()]
            msg = f"influence: the gradient of the reference loss is {f'not finite in {wrong}' if wrong else 'zero'}"
            raise StrategyError(msg)
        return v

    def solve(self, query: Query, v: Weights) -> tuple[Solution, dict[str, float]]:
        """s_test = (H + damping x scale)^-1 v, and the figures that tell how far to trust it.

        Raises:
            DivergedError: the scale was given and is too small for this detector.
        """
        draws = list(self.draws(query))
        if self.rescale == "released":
            scales = dict(query.detector.last_layers)
        else:
            scale = self.scale or self.measured_scale(query, v, draws[0])
            scales = dict.fromkeys(v, scale)
        bound = 1.1 / self.damping if self.damping else 1e6  # of |s| / |v|: 1 / damping where the curvature is positive
        limit = np.inf if self.rescale == "released" else 10 * bound if self.scale is not None else bound
        for attempt in count():
            try:
                parts = self.estimates(query, v, draws, scales, limit)
                break
            except DivergedError:
                if self.scale is not None or attempt == DOUBLINGS:
                    raise
                scales = {name: 2 * scale for name, scale in scales.items()}
        mean = {name: np.mean([part.s[name] for part in parts], axis=0) for name in v}
        if self.rescale == "exact" and self.solver == "recursion":
            mean = {name: part / scales[name] for name, part in mean.items()}
        growth = max(part.growth for part in parts)
        pairs = [dot(a.s, b.s) / (norm(a.s) * norm(b.s)) for a, b in combinations(parts, 2)]
        if self.solver == "recursion" and growth > bound:
            remedy = "take rescale: exact" if self.rescale == "released" else "raise strategy.scale"
            warnings.warn(
                f"influence: |s_test| grew to {growth:.3g} |v|, past the bound of a positive curvature; {remedy}, now "
                f"with scale {max(scales.values()):.4g}, or raise strategy.damping, now {self.damping:g}",
                stacklevel=2,
            )
        notes = {
            "reference_gradient_norm": norm(v),
            "s_test_norm": norm(mean),
            "s_test_update": float(np.mean([part.update for part in parts])),
            "s_test_growth": min(growth, 1e300),
            "s_test_agreement": float(np.nan_to_num(np.mean(pairs))) if pairs else 1.0,
            "s_test_restarts": float(sum(part.restarts for part in parts)),
            "s_test_steps": float(sum(len(draw) for draw in draws)),
            "scale": max(scales.values()),
            "damping": self.damping,
        }
        return Solution(mean, notes["s_test_update"], growth, int(notes["s_test_restarts"])), notes

    def draws(self, query: Query) -> Iterator[list[ImageId]]:
        """The labeled images of each repetition, in order."""
        labeled = sorted(query.labeled)
        for repetition in range(
            min(self.repetitions, len(labeled)) if self.sampling == "sequential" else self.repetitions
        ):
            if self.sampling == "sequential":
                yield labeled[repetition :: self.repetitions][: self.images]
                continue
            chance = rng(query.random_seed, query.round, "s_test", repetition)
            passes = -(-self.images // len(labeled))
            order = np.concatenate([chance.permutation(len(labeled)) for _ in range(passes)])
            yield [labeled[row] for row in order[: self.images]]

    def measured_scale(self, query: Query, v: Weights, draw: Sequence[ImageId]) -> float:
        """Twice the largest curvature of a few labeled images; 1 where all are flat."""
        probed = list(dict.fromkeys(draw))[:PROBES]
        return 2 * max(largest_curvature(_product(query, [image_id]), v) for image_id in probed) or 1.0

    def estimates(
        self, query: Query, v: Weights, draws: Sequence[Sequence[ImageId]], scales: Mapping[str, float], limit: float
    ) -> list[Solution]:
        """One s_test a repetition."""
        if self.solver == "conjugate_gradient":
            distinct = sorted(set(draws[0]))
            curved = _product(query, distinct)

            def mean(s: Weights) -> Weights:
                return {name: part / len(distinct) for name, part in curved(s).items()}

            return [conjugate_gradient(v, mean, self.damping * max(scales.values()))]
        total, done = sum(map(len, draws)), count(1)

        def step(image_id: ImageId) -> Product:
            curved = _product(query, [image_id])

            def told(s: Weights) -> Weights:
                query.progress("s_test", next(done), total)
                return curved(s)

            return told

        return [s_test(v, list(map(step, draw)), self.damping, scales, limit) for draw in draws]


def _product(query: Query, image_ids: Sequence[ImageId]) -> Product:
    return lambda s: query.detector.curvature_product(image_ids, query.labeled, s)
