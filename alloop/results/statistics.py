"""What several seeds can say: intervals, tests, correction for many comparisons, and what they could have found.

Values are paired differences, one a seed. The tests are scipy's; everything is a pure function.
"""

from collections.abc import Sequence

import numpy as np

from alloop.results.names import Test

Interval = tuple[float, float]
LEVEL = 0.95
POWER = 0.8  # chance at which a difference counts as one that could have been found
RESAMPLES = 9_999


def t_interval(values: Sequence[float]) -> tuple[Interval | None, float | None]:
    """Student's t interval of the mean at 95 % and the p-value of mean 0; None from one value."""
    from scipy import stats  # noqa: PLC0415  slow to import

    n = len(values)
    if n < 2:
        return None, None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(n))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    if error == 0:
        return (mean, mean), float(mean == 0)
    return (mean - half, mean + half), float(2 * stats.t.sf(abs(mean) / error, n - 1))


def bootstrap_interval(values: Sequence[float]) -> Interval | None:
    """Percentile bootstrap of the mean at 95 %, the same at every call; None from one value.

    With few seeds it is too narrow; it is here for skewed differences over many.
    """
    if len(values) < 2:
        return None
    random = np.random.default_rng(0)
    drawn = random.choice(np.asarray(values), (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def sign_flip_p(values: Sequence[float]) -> float | None:
    """Two-sided p-value of the mean when each difference might as well have had the other sign; None from one value.

    All sign patterns are tried up to 13 values, and 9,999 random ones beyond. No fewer than six seeds
    can reach 5 %.
    """
    from scipy import stats  # noqa: PLC0415

    if len(values) < 2:
        return None
    found = stats.permutation_test(
        (np.asarray(values),),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def wilcoxon_p(values: Sequence[float]) -> float | None:
    """Two-sided p-value of the signed-rank test; None from one value, 1 when all are 0."""
    from scipy import stats  # noqa: PLC0415

    if len(values) < 2:
        return None
    return 1.0 if not np.any(values) else float(stats.wilcoxon(values).pvalue)


def interval_of(values: Sequence[float], test: Test) -> Interval | None:
    """Student's interval, or a bootstrap interval for the tests of ranks and signs."""
    return t_interval(values)[0] if test == "t" else bootstrap_interval(values)


def significance(values: Sequence[float], test: Test) -> tuple[Interval | None, float | None]:
    """Interval and p-value of one comparison: Student's both, or a bootstrap interval beside a rank or sign test."""
    if test == "t":
        return t_interval(values)
    return interval_of(values, test), (sign_flip_p if test == "permutation" else wilcoxon_p)(values)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979): p-values that hold for all comparisons together; None stays None."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        adjusted[place] = least
    return adjusted


def detectable(values: Sequence[float]) -> float | None:
    """The smallest true difference that so many seeds of this spread find with a chance of 80 %, by a t test at 5 %.

    None from one value. Solves power(d sqrt(n) / s) = 0.8 for d, with the noncentral t distribution.
    """
    from scipy import optimize, stats  # noqa: PLC0415

    n = len(values)
    if n < 2:
        return None
    spread = float(np.std(values, ddof=1))
    if spread == 0:
        return 0.0
    limit = float(stats.t.ppf((1 + LEVEL) / 2, n - 1))

    def missing(shift: float) -> float:
        power = float(stats.nct.sf(limit, n - 1, shift))  # a difference found with the wrong sign is not found
        return (1.0 if np.isnan(power) else power) - POWER  # scipy gives up far beyond the limit

    return float(optimize.brentq(missing, 1e-6, 10 * limit)) * spread / float(np.sqrt(n))
