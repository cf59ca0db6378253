"""Submodular mutual information between chosen images and the queries of a class (Kothawade et al. 2022).

With s(q, u) the similarity of images, A the chosen images, Q the queries and U all images:

    gcmi      2 lambda sum over A and Q of s(q, u)                      (lambda is 1)
    flqmi     sum_q max_{u in A} s(q, u) + eta sum_{u in A} max_q s(q, u)
    flvmi     sum_{v in U} min(max_{u in A} s(v, u), eta max_q s(v, q))
    logdetmi  log det S_A - log det(S_A - eta^2 S_AQ S_Q^-1 S_QA)

Each function has a class that starts with A empty and grows it image by image.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

_MIN_VARIANCE = 1e-6  # lower bound of what A leaves unexplained; a maximum of cosines is not quite a kernel


class Information(Protocol):
    """A mutual information that grows with A."""

    def gains(self) -> np.ndarray:
        """Return how much each image would add, `[images]`."""

    def take(self, image: int) -> None:
        """Add an image to A."""


class GraphCut:
    """gcmi, which is modular: the gains do not depend on A."""

    def __init__(self, to_queries: np.ndarray) -> None:
        """Start from s(q, u), `[queries, images]`."""
        self._gains: np.ndarray = 2 * to_queries.sum(axis=0)

    def gains(self) -> np.ndarray:
        """Return 2 sum_q s(q, u)."""
        return self._gains

    def take(self, image: int) -> None:
        """Do nothing."""


class FacilityLocation:
    """flqmi."""

    def __init__(self, to_queries: np.ndarray, eta: float) -> None:
        """Start from s(q, u), `[queries, images]`; the maximum over the empty A counts as 0."""
        self._to_queries = to_queries
        self._modular = eta * to_queries.max(axis=0)
        self._covered = np.zeros(len(to_queries))

    def gains(self) -> np.ndarray:
        """Return how much the coverage of the queries would grow, plus the modular part."""
        growth = np.maximum(self._to_queries - self._covered[:, None], 0).sum(axis=0)
        return np.asarray(growth + self._modular)

    def take(self, image: int) -> None:
        """Let each query be covered by its most similar image in A."""
        np.maximum(self._covered, self._to_queries[:, image], out=self._covered)


class PoolFacilityLocation:
    """flvmi, over the similarities of all pairs of images."""

    def __init__(self, to_queries: np.ndarray, among: np.ndarray, eta: float) -> None:
        """Start from s(q, u), `[queries, images]`, and s(v, u), `[images, images]`."""
        self._among = among
        self._limit = eta * to_queries.max(axis=0)
        self._covered = np.zeros(len(among))

    def gains(self) -> np.ndarray:
        """Return how much the coverage of all images would grow, each limited by its similarity to a query."""
        now = np.minimum(self._covered, self._limit).sum()
        return np.asarray([self._value(column) - now for column in self._among.T])

    def _value(self, column: np.ndarray) -> float:
        return float(np.minimum(np.maximum(self._covered, column), self._limit).sum())

    def take(self, image: int) -> None:
        """Let each image be covered by its most similar image in A."""
        np.maximum(self._covered, self._among[:, image], out=self._covered)


class LogDeterminant:
    """logdetmi; both determinants grow by one Cholesky row per pick (Chen et al. 2018), so no kernel is stored."""

    def __init__(
        self, to_queries: np.ndarray, between_queries: np.ndarray, row: Callable[[int], np.ndarray], eta: float
    ) -> None:
        """Start from s(q, u), `[queries, images]`, s(q, q') and a function from an image u to s(u, v) of all images."""
        self._row = row
        self._to_queries = to_queries
        self._explained = eta**2 * np.linalg.pinv(between_queries, hermitian=True) @ to_queries  # [queries, images]
        variance = np.ones(to_queries.shape[1])  # s(u, u)
        unexplained = variance - np.einsum("qu,qu->u", to_queries, self._explained)
        self._free = _Conditional(variance)
        self._given_queries = _Conditional(np.maximum(unexplained, _MIN_VARIANCE))

    def gains(self) -> np.ndarray:
        """Return the log of the variance that A leaves, minus the log of that which A and Q leave."""
        return np.asarray(np.log(self._free.variance) - np.log(self._given_queries.variance))

    def take(self, image: int) -> None:
        """Add one row to both Cholesky factors."""
        covariance = self._row(image)
        self._free.take(image, covariance)
        self._given_queries.take(image, covariance - self._to_queries[:, image] @ self._explained)


class _Conditional:
    """The variance of every image given the images taken so far, by an incremental Cholesky factorisation."""

    def __init__(self, variance: np.ndarray) -> None:
        self.variance = variance
        self._factors: list[np.ndarray] = []

    def take(self, image: int, covariance: np.ndarray) -> None:
        """Condition on one more image, whose covariance with every image is given, `[images]`."""
        explained = sum((factor[image] * factor for factor in self._factors), np.zeros_like(covariance))
        limit = np.sqrt(self.variance)  # by Cauchy and Schwarz, which a maximum of cosines need not obey
        factor = np.clip((covariance - explained) / limit[image], -limit, limit)
        self._factors.append(factor)
        self.variance = np.maximum(self.variance - factor**2, _MIN_VARIANCE)
