"""Intervals, significance tests, correction for several comparisons, and the detectable difference.

Values are paired differences, one for each seed. The tests are scipy's; every function is pure. The power of the tests
of signs and of ranks has no formula and is computed from simulated normal values.

The two intervals are written out although scipy has both (`ttest_1samp(...).confidence_interval`, `bootstrap`):
scipy orders the operations differently, the last bit changes, and `compare --format json` prints every bit.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from alloop.results.names import Test

Interval = tuple[float, float]
LEVEL = 0.95
POWER = 0.8  # probability with which a detectable difference is detected
RESAMPLES = 9_999
EXACT = 13  # values up to which all sign patterns are tried; beyond, the power of a t test is quoted
SIMULATED = 2_000  # samples from which the power of a test without a formula is computed


def t_interval(values: Sequence[float]) -> tuple[Interval | None, float | None]:
    """Return Student's 95 % interval of the mean and the p-value of mean 0.

    Both are None for a single value, and for equal values other than 0: they show no spread to judge by.
    """
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415  slow to import, and scipy.stats is four times as slow

    n = len(values)
    if n < 2:
        return None, None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(n))
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    if error == 0:
        return ((0.0, 0.0), 1.0) if mean == 0 else (None, None)
    return (mean - half, mean + half), float(2 * stdtr(n - 1, -abs(mean) / error))


def t_band(curves: Float[np.ndarray, "n points"]) -> Float[np.ndarray, "2 points"]:
    """Return the lower and the upper ends of Student's 95 % intervals of the mean of at least two curves."""
    from scipy.special import stdtrit  # noqa: PLC0415

    n = len(curves)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * curves.std(axis=0, ddof=1) / np.sqrt(n)
    return np.stack([curves.mean(axis=0) - half, curves.mean(axis=0) + half])


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
    from scipy.special import stdtrit  # noqa: PLC0415

    centre = 2 * value - float(np.mean(resampled))  # the sample's bias is estimated by that of its resamples
    error = float(np.std(resampled)) * float(np.sqrt(units / (units - 1)))
    half = float(stdtrit(units - 1, (1 + LEVEL) / 2)) * error
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


def spread_factors(n: int) -> Interval:
    """Return between which multiples of the measured standard deviation of n values the true one lies (95 %).

    The interval is that of the chi-square distribution: 0.52 to 6.3 for 3 values, 0.60 to 2.9 for 5.
    """
    from scipy.special import gammaincinv  # noqa: PLC0415

    shares = ((1 + side * LEVEL) / 2 for side in (1, -1))
    least, greatest = ((n - 1) / (2 * float(gammaincinv((n - 1) / 2, share))) for share in shares)
    return float(np.sqrt(least)), float(np.sqrt(greatest))


def detectable(values: Sequence[float], comparisons: int = 1, test: Test = "t") -> float | None:
    """Return the smallest true difference that a test detects with a power of 80 %.

    Number and spread of the values are taken as they are. The test has to hold at 5 % divided by the number of
    comparisons, as Holm's first step asks; its later steps ask for less, so the power may be a little larger.

    Returns:
        The difference, or None where no difference would be detected: for a single value, and where even the smallest
        p-value that the test can give is too large.
    """
    n = len(values)
    if n < 2:
        return None
    shift = detectable_shift(n, (1 - LEVEL) / comparisons, test)
    return None if shift is None else shift * float(np.std(values, ddof=1))


@lru_cache(maxsize=256)
def detectable_shift(n: int, alpha: float, test: Test) -> float | None:
    """Return the detectable difference of n values whose standard deviation is 1, at a level alpha; None if none is."""
    from scipy import optimize  # noqa: PLC0415

    if test != "t" and min_p(n) >= alpha:
        return None
    power = _power_of_t(n, alpha) if test == "t" or n > EXACT else _power_by_simulation(n, alpha, test)
    highest = 1.0
    while power(highest) < POWER:
        highest *= 2
    return float(optimize.brentq(lambda shift: power(shift) - POWER, 0.0, highest, xtol=1e-6))


def min_p(n: int) -> float:
    """Return the smallest p-value that the tests of signs and of ranks give for n values of one sign."""
    return float(2.0 ** (1 - n))


def _power_of_t(n: int, alpha: float) -> Callable[[float], float]:
    """Return the power of Student's test: the noncentral t distribution beyond the limit of the level."""
    from scipy.special import nctdtr, stdtrit  # noqa: PLC0415

    limit = float(stdtrit(n - 1, 1 - alpha / 2))

    def power(shift: float) -> float:
        value = 1 - float(nctdtr(n - 1, shift * np.sqrt(n), limit))  # the wrong sign is not a detection
        return 1.0 if np.isnan(value) else value  # scipy returns NaN far beyond the limit

    return power


def _power_by_simulation(n: int, alpha: float, test: Test) -> Callable[[float], float]:
    """Return the power of a test of signs or ranks on the same normal samples at every call."""
    noise = np.random.default_rng(0).normal(size=(SIMULATED, n))
    signs = 1 - 2 * ((np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1)  # the other half turns all signs over

    def power(shift: float) -> float:
        samples = shift + noise
        if test == "wilcoxon":
            samples = np.sign(samples) * (np.argsort(np.argsort(np.abs(samples), axis=1), axis=1) + 1)
        sums = np.abs(np.abs(samples) @ signs.T)
        seen = samples.sum(axis=1)
        p = (sums >= np.abs(seen)[:, None] - 1e-9).mean(axis=1)
        return float(np.mean((p < alpha) & (seen > 0)))

    return power
