"""How often intervals of AP over test groups contain the true AP: simulated videos of different difficulty.

    python benchmarks/group_intervals.py [REPETITIONS]

A test split has some videos with four frames each. The boxes of one video are found, scored and confused alike. The true
AP is that of 20,000 videos. Nominal coverage is 95 %.
"""

import sys

import numpy as np
from scipy import stats

from alloop.evaluation.matching import IOU_THRESHOLDS, MatchedDetections
from alloop.evaluation.resampled_ap import resampled_ap
from alloop.randomness import rng

FRAMES, CLASSES, RESAMPLES = 4, 2, 999


def videos(chance: np.random.Generator, count: int, difficulty: np.ndarray, skill: float) -> MatchedDetections:
    """Return the detections on the frames of some videos, drawn without boxes: each is right or wrong."""
    frames = np.repeat(np.arange(count), FRAMES)
    boxes = chance.poisson(3, len(frames))
    truth_images = np.repeat(np.arange(len(frames)), boxes)
    truth_labels = chance.integers(0, CLASSES, len(truth_images))
    ease = difficulty[frames[truth_images]] + skill
    found = chance.random(len(ease)) < 1 / (1 + np.exp(-0.5 - ease))
    wrong = np.repeat(np.arange(len(frames)), chance.poisson(3, len(frames)))
    images = np.concatenate([truth_images[found], wrong])
    scores = np.concatenate(
        [chance.normal(1 + 0.5 * ease[found]), chance.normal(-0.5 * (difficulty[frames[wrong]] + skill))]
    )
    order = np.argsort(images, kind="stable")
    right = np.repeat([True, False], [int(found.sum()), len(wrong)])[order]
    labels = np.concatenate([truth_labels[found], chance.integers(0, CLASSES, len(wrong))])
    return MatchedDetections(
        image_ids=np.arange(len(frames)),
        groups=tuple(map(str, frames)),
        class_names=tuple(map(str, range(CLASSES))),
        truth_images=truth_images,
        truth_labels=truth_labels,
        images=images[order],
        labels=labels[order],
        scores=scores[order].astype(np.float32),
        boxes=np.zeros((len(order), 4), dtype=np.float32),
        matched=np.tile(right, (IOU_THRESHOLDS, 1)),
        ignored=np.zeros((IOU_THRESHOLDS, len(order)), dtype=np.bool_),
    )


def drawn(chance: np.random.Generator, units: int, unit_of: np.ndarray) -> np.ndarray:
    """Return how often each frame is taken: never left out, each unit left out once, then random resamples."""
    random = chance.multinomial(units, np.full(units, 1 / units), RESAMPLES)
    return np.concatenate([np.ones((1, units), dtype=np.int64), 1 - np.eye(units, dtype=np.int64), random])[:, unit_of]


def intervals(values: np.ndarray, units: int) -> dict[str, tuple[float, float]]:
    """Return several intervals from the values of `drawn`."""
    value, left_out, resampled = values[0], values[1 : units + 1], values[units + 1 :]
    wide = stats.norm.cdf(-np.sqrt(units / (units - 1)) * stats.t.ppf(0.975, units - 1))
    below = (np.sum(resampled < value) + 0.5 * np.sum(resampled == value)) / len(resampled)
    shift = stats.norm.ppf(np.clip(below, 1e-3, 1 - 1e-3))
    spread = left_out.mean() - left_out
    skew = np.sum(spread**3) / (6 * max(np.sum(spread**2), 1e-30) ** 1.5)
    z = shift + stats.norm.ppf([0.025, 0.975])
    bca = stats.norm.cdf(shift + z / (1 - skew * z))
    error = np.sqrt((units - 1) / units * np.sum(spread**2)) * stats.t.ppf(0.975, units - 1)
    return {
        "percentile": tuple(np.quantile(resampled, [0.025, 0.975])),
        "expanded": tuple(np.quantile(resampled, [wide, 1 - wide])),
        "bca": tuple(np.quantile(resampled, bca)),
        "jackknife": (value - error, value + error),
    }


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    chance = rng(0, "group intervals")
    many = chance.normal(size=20_000)
    true = [
        resampled_ap(videos(chance, len(many), many, skill), np.ones((1, 80_000), np.int64), [0])[0]
        for skill in (0.0, 0.5)
    ]
    print(f"true AP {true[0]:.4f} and {true[1]:.4f}; {repetitions} repetitions, {RESAMPLES} resamples")
    for count in (5, 10, 20, 50):
        hits: dict[str, list[bool]] = {}
        for _ in range(repetitions):
            difficulty = chance.normal(size=count)
            kept = [videos(chance, count, difficulty, skill) for skill in (0.0, 0.5)]
            frames = np.repeat(np.arange(count), FRAMES)
            copies = drawn(chance, count, frames)
            values = [resampled_ap(one, copies, [0]) for one in kept]
            for name, (low, high) in intervals(values[0], count).items():
                hits.setdefault(f"AP, {name}", []).append(low <= true[0] <= high)
            for name, (low, high) in intervals(values[1] - values[0], count).items():
                hits.setdefault(f"difference, {name}", []).append(low <= true[1] - true[0] <= high)
            alone = resampled_ap(kept[0], drawn(chance, len(frames), np.arange(len(frames))), [0])
            low, high = intervals(alone, len(frames))["percentile"]
            hits.setdefault("AP, images instead of groups, percentile", []).append(low <= true[0] <= high)
        for name, found in hits.items():
            print(f"{count:>3} groups  {name:<45} {np.mean(found):.1%}", flush=True)


if __name__ == "__main__":
    main()
