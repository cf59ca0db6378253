"""The product of an inverse Hessian with a vector, (H + damping)^-1 v, from products of the Hessian with vectors.

H is the curvature of the training loss in the weights of the last layers, estimated from single images z_1 .. z_k. The
recursion of algorithm 1 of Liu et al. 2021, with damping d and scale c, takes one image per step:

    s <- v + (1 - d) s - H_z s / c      fixed point (H/c + d)^-1 v, hence (H + d c)^-1 v after division by c
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alloop.errors import StrategyError
from alloop.query import Weights

Product = Callable[[Weights], Weights]
"""From s to H s."""


class DivergedError(StrategyError):
    """The recursion for s_test grew without bound."""


@dataclass(frozen=True, slots=True)
class Solution:
    """An estimate of s = (H + damping)^-1 v, and how it converged.

    Attributes:
        s: one array per weight.
        update: |change of s| / |s|, mean over the last tenth of the steps; the residual for conjugate gradients.
        growth: largest |s| / |v| of all steps.
        restarts: how often a curvature product that is not finite set a weight back to v.
    """

    s: Weights
    update: float
    growth: float
    restarts: int


def dot(a: Weights, b: Weights) -> float:
    """Return the inner product over all weights."""
    return float(sum(np.vdot(a[name], b[name]) for name in a))


def norm(a: Weights) -> float:
    """Return the Euclidean norm over all weights."""
    return float(np.sqrt(dot(a, a)))


def s_test(
    v: Weights, products: Sequence[Product], damping: float, scales: Mapping[str, float], limit: float = 1e6
) -> Solution:
    """Run the recursion of algorithm 1 from s = v, one product per step; s is not divided by the scales.

    A weight whose product is not finite is set back to v, as in the released code.

    Args:
        v: one array per weight.
        products: of the single images, in order.
        damping: d.
        scales: c of each weight.
        limit: largest |s| / |v|.

    Raises:
        DivergedError: |s| passes `limit` times |v|, or is not finite.
    """
    length = norm(v)
    tail = max(1, len(products) // 10)
    s = dict(v)
    growth = 1.0
    restarts = 0
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
            msg = (
                f"influence: s_test diverges (|s| is {growth:.3g} times |v| after {len(updates) + 1} of "
                f"{len(products)} steps, with scale {max(scales.values()):.4g} and damping {damping:g}). Raise "
                "strategy.scale or strategy.damping, or leave scale out to have it measured"
            )
            raise DivergedError(msg)
        updates.append(norm({name: s[name] - before[name] for name in s}) / max(size, 1e-300))
    return Solution(s, float(np.mean(updates[-tail:])), growth, restarts)


def conjugate_gradient(
    v: Weights, product: Product, damping: float, tolerance: float = 1e-6, steps: int = 200
) -> Solution:
    """Solve (H + damping) s = v (Hestenes and Stiefel 1952); for checking, since every step visits all images.

    Stops at a residual of `tolerance` |v|, after `steps`, and at a direction of negative curvature, where the equation
    has no minimum. `update` is the residual.
    """
    s = {name: np.zeros_like(part) for name, part in v.items()}
    residual, direction = dict(v), dict(v)
    left = start = dot(v, v)
    for _ in range(steps):
        if left <= tolerance**2 * start:
            break
        curved = {name: part + damping * direction[name] for name, part in product(direction).items()}
        curvature = dot(direction, curved)
        if curvature <= 0:
            break
        step = left / curvature
        s = {name: s[name] + step * direction[name] for name in s}
        residual = {name: residual[name] - step * curved[name] for name in s}
        left, last = dot(residual, residual), left
        direction = {name: residual[name] + (left / last) * direction[name] for name in s}
    return Solution(s, float(np.sqrt(left / start)), norm(s) / float(np.sqrt(start)), 0)


def largest_curvature(product: Product, start: Weights, iterations: int = 8) -> float:
    """Return |largest eigenvalue| of a curvature by power iteration; 0 where the curvature vanishes."""
    direction, size = start, norm(start)
    for _ in range(iterations):
        if not size or not np.isfinite(size):
            break
        direction = product({name: part / size for name, part in direction.items()})
        size = norm(direction)
    return size if np.isfinite(size) else 0.0
