"""Distances as they are written in a config."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.config.blocks import LoopConfig
from alloop.config.distance import Distance
from alloop.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "distance"),
    [
        (10, Distance(10, "bits")),
        ("10", Distance(10, "bits")),
        (" 1 bit ", Distance(1, "bits")),
        ("64 bits", Distance(64, "bits")),
        ("0.1 cosine", Distance(0.1, "cosine")),
        (".05 cosine", Distance(0.05, "cosine")),
        ("2 cosine", Distance(2, "cosine")),
    ],
)
def test_a_distance_is_read(text, distance):
    assert Distance.parse(text, "k") == distance


@pytest.mark.parametrize(
    "text", [0, 65, 1.5, -1, True, "", "bits", "0 cosine", "2.1 cosine", "nan cosine", "9 px", None]
)
def test_what_is_no_distance_is_refused(text):
    with pytest.raises(ConfigError, match=r"k: expected 1 to 64 bits .* or a distance such as '0\.1 cosine'"):
        Distance.parse(text, "k")


@given(st.integers(1, 64) | st.floats(0.001, 2).map(lambda value: f"{round(value, 4)} cosine"))
def test_a_distance_is_written_as_it_is_read(text):
    distance = Distance.parse(text, "k")
    assert Distance.parse(str(distance), "k") == distance


def test_the_loop_keeps_it():
    loop = LoopConfig.model_validate({"seed_set": 1, "query_size": 1, "rounds": 1, "min_distance": "10 bits"})
    assert loop.model_dump(mode="json")["min_distance"] == "10 bits"
    with pytest.raises(ValueError, match="min_distance"):
        LoopConfig.model_validate({"seed_set": 1, "query_size": 1, "rounds": 1, "min_distance": "near"})
