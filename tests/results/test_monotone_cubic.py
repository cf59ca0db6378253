"""The monotone cubic has the figures of scipy's, whose import is slow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from alloop.results.monotone_cubic import MonotoneCubic

VALUES = st.sampled_from([-0.25, 0.0, 0.1, 0.1000001, 0.3, 0.7]) | st.floats(-1, 1, width=32)


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=8).flatmap(
        lambda steps: st.tuples(st.just(steps), st.lists(VALUES, min_size=len(steps) + 1, max_size=len(steps) + 1))
    )
)
def test_every_bit_is_that_of_scipy(drawn):
    steps, values = drawn
    x, y = np.log(np.cumsum([3.0, *steps])), np.array(values, dtype=np.float64)
    between = np.concatenate([x, np.linspace(x[0], x[-1], 50)]).clip(x[0], x[-1])
    with np.errstate(all="ignore"):
        expected = PchipInterpolator(x, y)(between)
    assert np.array_equal(MonotoneCubic(x, y)(between), expected)


@pytest.mark.parametrize("points", [2, 3, 7])
def test_several_curves_are_one_by_one(points):
    rng = np.random.default_rng(points)
    x, many = np.cumsum(rng.uniform(0.1, 1, points)), rng.normal(size=(3, 2, points))
    between = np.linspace(x[0], x[-1], 20)
    together = MonotoneCubic(x, many)(between)
    assert together.shape == (3, 2, 20)
    for index in np.ndindex(3, 2):
        assert np.array_equal(together[index], MonotoneCubic(x, many[index])(between))


def test_it_never_leaves_the_range_of_its_points():
    rng = np.random.default_rng(0)
    x, y = np.arange(9.0), rng.normal(size=9)
    values = MonotoneCubic(x, y)(np.linspace(0, 8, 1000)).reshape(-1)
    assert y.min() - 1e-12 <= values.min()
    assert values.max() <= y.max() + 1e-12
    assert MonotoneCubic(x, y)(x) == pytest.approx(y)
