"""How often 95 % intervals of AP over test groups contain the true AP: simulated videos of different difficulty.

    python benchmarks/group_intervals.py [REPETITIONS]

The boxes of one video are found, scored and confused alike. The true AP50 is that of 20,000 videos. Two settings: a
fair detector on videos with four frames and two classes, and a weak one on two frames with ten classes, most of which
have few boxes. A difference is that between the detector and a better one on the same videos.
"""

import sys
from dataclasses import dataclass

import numpy as np
from scipy import stats

from alloop.evaluation.matching import IOU_THRESHOLDS, MatchedDetections
from alloop.evaluation.resampled_ap import resampled_ap
from alloop.randomness import rng
from alloop.results.statistics import corrected_interval

RESAMPLES, VIDEOS, BETTER = 500, 20_000, 0.5


@dataclass(frozen=True)
class Setting:
    """What all videos share; `skill` moves the share of boxes that are found and the scores, on the logit scale."""

    name: str
    frames: int
    classes: int
    skill: float


SETTINGS = (Setting("fair detector", 4, 2, 0.0), Setting("weak detector, rare classes", 2, 10, -1.5))


def videos(chance: np.random.Generator, setting: Setting, difficulty: np.ndarray, skill: float) -> MatchedDetections:
    """Return the detections on the frames of some videos, drawn without boxes: each is right or wrong."""
    video = np.repeat(np.arange(len(difficulty)), setting.frames)
    frames = np.arange(len(video))
    truth_images = np.repeat(frames, chance.poisson(3, len(frames)))
    truth_labels = chance.integers(0, setting.classes, len(truth_images))
    ease = difficulty[video[truth_images]] + skill
    found = chance.random(len(ease)) < 1 / (1 + np.exp(-0.5 - ease))
    wrong = np.repeat(frames, chance.poisson(3, len(frames)))
    scores = (chance.normal(1 + 0.5 * ease[found]), chance.normal(-0.5 * (difficulty[video[wrong]] + skill)))
    images = np.concatenate([truth_images[found], wrong])
    order = np.argsort(images, kind="stable")
    right = np.repeat([True, False], [int(found.sum()), len(wrong)])[order]
    return MatchedDetections(
        image_ids=frames,
        groups=tuple(map(str, video)),
        class_names=tuple(map(str, range(setting.classes))),
        truth_images=truth_images,
        truth_labels=truth_labels,
        images=images[order],
        labels=np.concatenate([truth_labels[found], chance.integers(0, setting.classes, len(wrong))])[order],
        scores=np.concatenate(scores)[order].astype(np.float32),
        boxes=np.zeros((len(order), 4), dtype=np.float32),
        matched=np.tile(right, (IOU_THRESHOLDS, 1)),
        ignored=np.zeros((IOU_THRESHOLDS, len(order)), dtype=np.bool_),
    )


def drawn(chance: np.random.Generator, units: int, unit_of: np.ndarray) -> np.ndarray:
    """Return how often each frame is taken: once, then with one unit left out each, then in random resamples."""
    random = chance.multinomial(units, np.full(units, 1 / units), RESAMPLES)
    return np.concatenate([np.ones((1, units), dtype=np.int64), 1 - np.eye(units, dtype=np.int64), random])[:, unit_of]


def intervals(values: np.ndarray, units: int) -> dict[str, tuple[float, float]]:
    """Return three intervals from the values of `drawn`: alloop's, the percentile interval, and BCa (Efron 1987)."""
    value, left_out, resampled = values[0], values[1 : units + 1], values[units + 1 :]
    below = (np.sum(resampled < value) + 0.5 * np.sum(resampled == value)) / len(resampled)
    shift = stats.norm.ppf(np.clip(below, 1e-3, 1 - 1e-3))
    spread = left_out.mean() - left_out
    acceleration = np.sum(spread**3) / (6 * max(np.sum(spread**2), 1e-30) ** 1.5)
    z = shift + stats.norm.ppf([0.025, 0.975])
    return {
        "alloop": corrected_interval(value, resampled, units),
        "percentile": tuple(np.quantile(resampled, [0.025, 0.975])),
        "BCa": tuple(np.quantile(resampled, stats.norm.cdf(shift + z / (1 - acceleration * z)))),
    }


def coverage(chance: np.random.Generator, setting: Setting, true: list[float], groups: int, times: int) -> str:
    """Return the share of the repetitions in which each interval contains the true value."""
    hits: dict[str, list[bool]] = {}
    frames = groups * setting.frames
    for _ in range(times):
        difficulty = chance.normal(size=groups)
        both = [videos(chance, setting, difficulty, setting.skill + more) for more in (0.0, BETTER)]
        copies = drawn(chance, groups, np.repeat(np.arange(groups), setting.frames))
        values = [resampled_ap(one, copies, [0]) for one in both]
        alone = resampled_ap(both[0], drawn(chance, frames, np.arange(frames)), [0])
        tried = {
            **{f"AP {name}": (true[0], own) for name, own in intervals(values[0], groups).items()},
            **{
                f"diff {name}": (true[1] - true[0], own)
                for name, own in intervals(values[1] - values[0], groups).items()
            },
            "AP, images drawn": (true[0], intervals(alone, frames)["alloop"]),
        }
        for name, (right, (low, high)) in tried.items():
            hits.setdefault(name, []).append(bool(low <= right <= high))
    return "  ".join(f"{name} {np.mean(found):.1%}" for name, found in hits.items())


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for setting in SETTINGS:
        chance = rng(0, "group intervals", setting.name)
        many, once = chance.normal(size=VIDEOS), np.ones((1, VIDEOS * setting.frames), dtype=np.int64)
        true = [
            float(resampled_ap(videos(chance, setting, many, setting.skill + more), once, [0])[0])
            for more in (0.0, BETTER)
        ]
        print(f"{setting.name}: true AP50 {true[0]:.3f} and {true[1]:.3f}, {times} repetitions")
        for groups in (5, 10, 20, 50):
            print(f"  {groups:>2} groups: {coverage(chance, setting, true, groups, times)}", flush=True)


if __name__ == "__main__":
    main()
