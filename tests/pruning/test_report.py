"""What a study of pruning prints about strategies and random."""

import numpy as np

from alloop.pruning.report import to_table
from alloop.pruning.study import Trained
from alloop.results.statistics import holm, t_interval


def trained(strategy, seed, ap, keep=0.5):
    return Trained(strategy, seed, keep, 10, 20, 1.0, 0.0, {"ap": ap, "ap50": None})


def study(differences, seeds=5):
    random = np.random.default_rng(0)
    base = 0.3 + 0.01 * random.normal(size=seeds)
    results = [trained("random", seed, base[seed]) for seed in range(seeds)]
    for name, difference in differences.items():
        results += [trained(name, seed, base[seed] + difference + 0.005 * random.normal()) for seed in range(seeds)]
    return results


def gaps(results, name):
    by_key = {(r.strategy, r.random_seed): r.metrics["ap"] for r in results}
    return [by_key[name, seed] - by_key["random", seed] for seed in range(5)]


def line(text, name):
    return next(row for row in text.splitlines() if row.startswith(f"{name} at 50% against random"))


def test_verdicts_are_corrected_for_all_strategies_and_shares_of_a_study():
    """An interval that excludes zero is no finding among ten of them."""
    many = study({"near": 0.008, **{f"alike{k}": 0.0 for k in range(9)}})
    p_values = [t_interval(gaps(many, name))[1] for name in ("near", *(f"alike{k}" for k in range(9)))]
    assert p_values[0] < 0.05 <= holm(p_values)[0]
    assert line(to_table(many), "near").endswith(": inconclusive")
    assert line(to_table([r for r in many if r.strategy in ("random", "near")]), "near").endswith(": better")
    far = study({"far": 0.05, "bad": -0.05})
    assert line(to_table(far), "far").endswith(": better")
    assert line(to_table(far), "bad").endswith(": worse")


def test_one_seed_and_equal_gaps_have_no_verdict():
    """Two seeds whose gaps are equal by rounding would otherwise be certain."""
    one = [trained("random", 0, 0.25), trained("a", 0, 0.375)]
    assert line(to_table(one), "a").startswith("a at 50% against random: AP +0.125")
    equal = [trained("random", s, 0.25) for s in range(2)] + [trained("a", s, 0.5) for s in range(2)]
    assert line(to_table(equal), "a") == "a at 50% against random: AP +0.250"
    assert "not trained" in to_table([trained("a", 0, 0.5), trained("random", 1, 0.5)])
