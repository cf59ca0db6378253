"""How often studies in which nothing is to be found find something, by simulation.

    python benchmarks/null_studies.py [--studies N]

Strategies follow random's law exactly: the AP of random on Pascal VOC with FCOS as ISAL prints it (table 4), made
smooth, and a second one with its COCO figures (table 6). Every figure is computed by the functions that
`alloop compare` calls. Printed for each number of seeds and strategies:

  any verdict        share of studies with at least one verdict, at most 5 %
  beats              share of wrong cells in the matrix of who beats whom, at most 2.5 %, by each test
  saving             mean over studies and share of positive ones, 0 and one half
  larger purchases   mean difference of a strategy that buys 2.5 times as much at once, 0
  one purchase       mean difference of a strategy that is better by 0.02, where a third one buys less: 0.02
  power              share of verdicts where the true difference is the detectable one, at least 0.8
"""

import argparse
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from scipy import stats
from scipy.interpolate import make_smoothing_spline

from alloop.results.gaps import Curve, common_range, gap
from alloop.results.names import Test
from alloop.results.published import tables
from alloop.results.savings import log_cost_ratio, mean_saving
from alloop.results.statistics import LEVEL, detectable_shift, holm, significance

NOISE = 0.008  # standard deviation of AP after a round, beside what a seed and its round 0 have in common
SEEDS = (3, 5, 10)
STRATEGIES = (2, 4, 8, 16)
Law = Callable[[np.ndarray], np.ndarray]


def law(table: str) -> tuple[np.ndarray, Law]:
    """Return the costs of random's rounds in a published table, and its AP as a smooth function of the cost."""
    row = tables()[table]["rows"]["Random"]
    (metric,) = (key for key in row if key not in ("bbox_num", "10k_x_metric_per_bbox"))
    cost, ap = np.array(row["bbox_num"], dtype=float), np.array(row[metric], dtype=float)
    smooth = make_smoothing_spline(np.log(cost), ap / (100 if ap.max() > 1 else 1), lam=1e-3)
    return cost, lambda at: np.asarray(smooth(np.log(at)))


def curves(of: Law, cost: np.ndarray, studies: int, random: np.random.Generator) -> Curve:
    """Return one curve for each study: the law, and noise after each round but the first, which seeds share."""
    noise = random.normal(0, NOISE, (studies, len(cost)))
    noise[:, 0] = 0
    return Curve(cost, of(cost) + noise)


def differences(
    of: Law, costs: Sequence[np.ndarray], studies: int, seeds: int, random: np.random.Generator
) -> np.ndarray:
    """Return the mean levels of all strategies and seeds as gaps to the first strategy, `[k, seeds, studies]`."""
    gaps = np.zeros((len(costs), seeds, studies))
    for seed in range(seeds):
        drawn = [curves(of, cost, studies, random) for cost in costs]
        within = common_range(drawn)
        assert within is not None
        for k, curve in enumerate(drawn):
            gaps[k, seed] = gap(curve, drawn[0], within).mean(axis=-1)
    return gaps


def false_verdicts(of: Law, cost: np.ndarray, studies: int) -> None:
    for seeds in SEEDS:
        for strategies in STRATEGIES:
            random = np.random.default_rng([seeds, strategies])
            gaps = differences(of, [cost] * strategies, studies, seeds, random)
            p = stats.ttest_1samp(gaps[1:], 0, axis=1).pvalue  # [k - 1, studies], as `significance` gives
            assert np.isclose(p[0, 0], significance(gaps[1, :, 0].tolist(), "t")[1])
            least = [min(value for value in holm(column.tolist()) if value is not None) for column in p.T]
            share = float(np.mean(np.array(least) < 1 - LEVEL))
            error = 2 * np.sqrt(0.05 * 0.95 / studies)
            print(f"any verdict        {seeds:2} seeds, {strategies - 1:2} strategies beside random: {share:.4f}")
            assert share <= 0.05 + error, "more verdicts than the level allows"


def beats(of: Law, cost: np.ndarray, studies: int) -> None:
    tests: tuple[Test, ...] = ("t", "permutation", "wilcoxon")
    for seeds in SEEDS:
        levels = differences(of, [cost] * 10, studies, seeds, np.random.default_rng(seeds))
        for test in tests:
            wrong, cells = 0, 0
            for study in range(studies):
                for a, b in combinations(range(10), 2):
                    interval, p = significance((levels[a, :, study] - levels[b, :, study]).tolist(), test)
                    wrong += interval is not None and not interval[0] <= 0 <= interval[1] and (p or 0) < 1 - LEVEL
                    cells += 2
            print(f"beats              {seeds:2} seeds, 10 strategies, {test}: {wrong / cells:.4f} of the cells")


def savings(of: Law, cost: np.ndarray, studies: int) -> None:
    for seeds in (1, *SEEDS):
        random = np.random.default_rng(seeds)
        shares = np.zeros(studies)
        drawn = [(curves(of, cost, studies, random), curves(of, cost, studies, random)) for _ in range(seeds)]
        for study in range(studies):
            pairs = [(Curve(a.cost, a.ap[study]), Curve(b.cost, b.ap[study])) for a, b in drawn]
            shares[study] = mean_saving([log_cost_ratio(a, b, cost[-1]) for a, b in pairs], "t").share
        print(
            f"saving             {seeds:2} seeds: mean {shares.mean():+.4f}, positive {(shares > 0).mean():.3f}, "
            f"standard deviation {shares.std():.4f}"
        )


def larger_purchases(of: Law, cost: np.ndarray, studies: int) -> None:
    step = np.diff(cost).mean()
    for factor in (0.4, 1.0, 1.5, 2.5, 4.0):
        end = cost[-1] + (factor - 1) * step + 1
        large = np.append(cost[0], np.arange(cost[0] + factor * step, end, factor * step))
        drawn = [Curve(one, of(one)) for one in (large, cost)]
        within = common_range(drawn)
        assert within is not None
        noiseless = float(gap(*drawn, within).mean())
        noisy = differences(of, [cost, large], studies, 1, np.random.default_rng(0))
        error = noisy[1].std() / np.sqrt(studies)
        print(
            f"larger purchases   {factor:.1f} times: {noiseless:+.5f} without noise, "
            f"{noisy[1].mean():+.5f} with it (standard error {error:.5f})"
        )


def one_purchase(of: Law, cost: np.ndarray, studies: int) -> None:
    """The range of all three ends before the first two have bought, with the purchase of the third."""
    step, true = np.diff(cost).mean(), 0.02
    for factor in (0.8, 1.0, 1.5):
        paid = [cost[0] + np.array([0, share * step]) for share in (1.0, factor, 0.5)]
        drawn = [curves(of, one, studies, np.random.default_rng(k)) for k, one in enumerate(paid)]
        better = Curve(drawn[1].cost, drawn[1].ap + np.array([0, true]))
        within = common_range(drawn)
        assert within is not None
        found = gap(better, drawn[0], within).mean(axis=-1)
        error = found.std() / np.sqrt(studies)
        print(f"one purchase       {factor:.1f} times: {found.mean():+.5f} of {true:+.2f} (standard error {error:.5f})")


def power(studies: int) -> None:
    for test in ("t", "permutation", "wilcoxon"):
        for seeds in SEEDS:
            for strategies in (2, 4, 8, 16):
                shift = detectable_shift(seeds, (1 - LEVEL) / (strategies - 1), test)
                if shift is None:
                    print(f"power              {test}, {seeds:2} seeds, {strategies - 1:2} strategies: never")
                    continue
                drawn = studies if test == "t" else studies // 10
                random, found = np.random.default_rng([seeds, strategies]), 0
                for values in shift + random.normal(size=(drawn, seeds)):
                    p = significance(values.tolist(), test)[1] or 0.0
                    found += p * (strategies - 1) < 1 - LEVEL and values.mean() > 0
                words = f"{test}, {seeds:2} seeds, {strategies - 1:2} strategies beside random"
                print(f"power              {words}: {found / drawn:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20_000)
    number = parser.parse_args().studies
    for table in ("isal.table4", "isal.table6"):
        paid, random_law = law(table)
        print(f"law of random in {table}, {len(paid)} rounds, {number} studies")
        false_verdicts(random_law, paid, number)
        savings(random_law, paid, number // 4)
        larger_purchases(random_law, paid, number)
        one_purchase(random_law, paid, number)
        beats(random_law, paid, number // 100)
    power(number)
