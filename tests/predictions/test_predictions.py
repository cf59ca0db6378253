"""Predictions of many images: cut out for one image, they are what the checked constructor would take."""

import numpy as np
import pytest

from alloop.errors import StrategyError
from alloop.predictions.predictions import grouped
from alloop.values import Detections, ImageRecord


def predictions(chance, *, posteriors):
    images = [ImageRecord(10 + k, f"{k}.png", 100, 80) for k in range(12)]
    count = int(chance.integers(0, 60))
    corners = chance.uniform(0, 40, (count, 2))
    p = chance.dirichlet(np.ones(5), count).astype(np.float32)[:, :4] if posteriors else None
    return images, grouped(
        images,
        chance.integers(0, 12, count),
        np.concatenate([corners, corners + 10], axis=1).astype(np.float32),
        chance.integers(0, 8, count).astype(np.float32) / 8,
        chance.integers(0, 4, count),
        p,
        4,
    )


@pytest.mark.parametrize("posteriors", [False, True])
def test_one_image_is_what_the_constructor_takes(posteriors):
    chance = np.random.default_rng(0)
    for _ in range(50):
        images, every = predictions(chance, posteriors=posteriors)
        parts = [every.of_image(image.image_id) for image in images]
        assert sum(map(len, parts)) == len(every.scores)
        for part in parts:
            same = Detections(part.boxes, part.scores, part.labels, part.probabilities)
            for name in ("boxes", "scores", "labels", "probabilities"):
                one, other = getattr(part, name), getattr(same, name)
                assert one is other, "nothing had to be copied, converted or frozen"
            assert (part.masks, part.proposals) == (None, None)
            assert (np.diff(part.scores) <= 0).all()


def test_an_image_that_nobody_predicted_is_named():
    _, every = predictions(np.random.default_rng(0), posteriors=False)
    with pytest.raises(StrategyError, match="image 99 was not predicted"):
        every.of_image(99)
