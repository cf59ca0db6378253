"""Intervals, significance tests, correction for several comparisons, and the detectable difference.

Values are paired differences, one for each seed. The tests are scipy's; every function is pure.

The two intervals are written out although scipy has both (`ttest_1samp(...).confidence_interval`, `bootstrap`):
scipy orders the operations differently, the last bit changes, and `compare --format json` prints every bit.
"""

from collections.abc import Sequence

import numpy as np

from alloop.results.names import Test

Interval = tuple[float, float]
LEVEL = 0.95
POWER = 0.8  # probability with which a detectable difference is detected
RESAMPLES = 9_999


def t_interval(values: Sequence[float]) -> tuple[Interval | None, float | None]:
    """Return Student's 95 % interval of the mean and the p-value of mean 0; None for a single value."""
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
    """Return the 95 % percentile bootstrap interval of the mean; None for a single value.

    The resamples are the same at every call. With few seeds the interval is too narrow; it is meant for
    skewed differences over many seeds.
    """
    if len(values) < 2:
        return None
    random = np.random.default_rng(0)
    means = random.choice(np.asarray(values), (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def corrected_interval(value: float, resampled: Sequence[float] | np.ndarray, units: int) -> Interval:
    """Return the 95 % interval of a figure from its bootstrap values, corrected for bias and for few units.

    This is the bootstrap's normal approximation (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
    section 5.2), with two corrections for few units: Student's distribution takes the place of the normal one, and the
    variance of n drawn units, which the bootstrap divides by n, is divided by n - 1.

    Args:
        value: the figure of the sample itself.
        resampled: the figure of each resample.
        units: number of units that were drawn each time; at least 2.
    """
    from scipy import stats  # noqa: PLC0415

    centre = 2 * value - float(np.mean(resampled))  # the sample's bias is estimated by that of its resamples
    error = float(np.std(resampled)) * float(np.sqrt(units / (units - 1)))
    half = float(stats.t.ppf((1 + LEVEL) / 2, units - 1)) * error
    return centre - half, centre + half


def sign_flip_p(values: Sequence[float]) -> float | None:
    """Return the two-sided p-value of the mean under random signs; None for a single value.

    All sign patterns are tried for up to 13 values, and 9,999 random ones beyond. At least six seeds are
    needed to reach 5 %.
    """
    from scipy import stats  # noqa: PLC0415

    if len(values) < 2:
        return None
    result = stats.permutation_test(
        (np.asarray(values),),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def wilcoxon_p(values: Sequence[float]) -> float | None:
    """Return the two-sided p-value of the signed-rank test; None for a single value, 1 when all values are 0."""
    from scipy import stats  # noqa: PLC0415

    if len(values) < 2:
        return None
    return 1.0 if not np.any(values) else float(stats.wilcoxon(values).pvalue)


def interval_of(values: Sequence[float], test: Test) -> Interval | None:
    """Return Student's interval for the t test, and a bootstrap interval for the tests of ranks and signs."""
    return t_interval(values)[0] if test == "t" else bootstrap_interval(values)


def significance(values: Sequence[float], test: Test) -> tuple[Interval | None, float | None]:
    """Return the interval and the p-value of one comparison, by one of the tests."""
    if test == "t":
        return t_interval(values)
    return interval_of(values, test), (sign_flip_p if test == "permutation" else wilcoxon_p)(values)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for the number of comparisons by Holm's step-down method (1979); None stays None."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, index) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        adjusted[index] = least
    return adjusted


def detectable(values: Sequence[float]) -> float | None:
    """Return the smallest true difference that a t test at 5 % detects with a power of 80 %; None for a single value.

    Number and spread of the values are taken as they are. Solves power(d sqrt(n) / s) = 0.8 for d, with the
    noncentral t distribution.
    """
    from scipy import optimize, stats  # noqa: PLC0415

    n = len(values)
    if n < 2:
        return None
    spread = float(np.std(values, ddof=1))
    if spread == 0:
        return 0.0
    limit = float(stats.t.ppf((1 + LEVEL) / 2, n - 1))

    def missing_power(shift: float) -> float:
        power = float(stats.nct.sf(limit, n - 1, shift))  # a difference of the wrong sign is not a detection
        return (1.0 if np.isnan(power) else power) - POWER  # scipy returns NaN far beyond the limit

    return float(optimize.brentq(missing_power, 1e-6, 10 * limit)) * spread / float(np.sqrt(n))
