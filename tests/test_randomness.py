"""Seeds are pure functions of their arguments, and the numbers of recorded runs never change."""

import numpy as np

from alloop.randomness import RoundSeed, derive_seed, rng


def test_a_round_seed_gives_the_numbers_that_recorded_runs_were_made_with():
    assert derive_seed(7, 3, "step", 11) == 1486643389665163677
    assert RoundSeed(7, 3).derive("step", 11) == derive_seed(7, 3, "step", 11)
    assert np.array_equal(RoundSeed(7, 3).rng("order", 0).permutation(9), rng(7, 3, "order", 0).permutation(9))


def test_seed_round_and_purpose_all_count():
    seeds = {RoundSeed(a, b).derive(*c) for a in (0, 1) for b in (0, 1) for c in (("x",), ("y",), ("x", 0), ("x0",))}
    assert len(seeds) == 16
    assert RoundSeed(1, 11).derive() != RoundSeed(11, 1).derive()
    assert RoundSeed(0, 1).derive("1") != RoundSeed(0, 11).derive()
