"""The settings of a first experiment, each with its reason: they follow from the images, their boxes and the device.

They are where a study begins, and no result of a search. What they rest on:

- A detector whose finest level has stride 8 hardly finds boxes with sides under 16 pixels. So images are scaled until
  nine tenths of the boxes are at least that large, as far as the device trains on such images in reasonable time.
- A detector that starts from pretrained features needs about twelve passes over its images and at least 150 steps.
- Each round buys a tenth of the pool, so five rounds show the curve up to half of the labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Float64

from alloop.data.data_set import DataSet
from alloop.data.sizes import box_sides
from alloop.values import ImageRecord

SIDE = 16  # pixels; what nine tenths of the boxes should at least have after scaling
STEP = 32  # pixels; the coarsest stride, of which sides are multiples
SMALLEST = 192  # pixels; short side below which images are scaled down only if they are smaller themselves
ROUNDS = 5
PASSES = 12  # over the images of the last round
DETECTIONS = 100  # per image; the default of detector.max_detections


@dataclass(frozen=True, slots=True)
class Device:
    """What a training runs on.

    Attributes:
        name: cpu or cuda.
        memory_gib: memory of the GPU; 0 for a CPU.
    """

    name: str
    memory_gib: float = 0.0

    @property
    def largest(self) -> int:
        """The largest short side in pixels that is proposed."""
        return 800 if self.name == "cuda" else 256

    @property
    def most_steps(self) -> int:
        """The most steps of a training that are proposed."""
        return 10_000 if self.name == "cuda" else 1_500


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a config, its value, and the reason in a few words."""

    key: str
    value: object
    reason: str


def first_settings(pool: DataSet, others: Sequence[DataSet], device: Device) -> list[Setting]:
    """Return all settings but those of the data.

    Args:
        pool: the images that labels are bought for. Where some are not labeled, people will be asked.
        others: the other splits; their boxes count, too.
        device: what the training runs on.
    """
    images = list(pool.images.values())
    labeled = [split for split in (pool, *others) if split.boxes]
    first = _images_per_round(len(images))
    last = min(len(images), ROUNDS * first)
    short, long, reason = _input_size(images, labeled, device)
    scaled = _sides(labeled, short, long)
    return [
        *_detector(device, scaled),
        Setting("detector.short_side", short, reason),
        Setting("detector.long_side", long, "so that nine tenths of the images keep that scale"),
        *_most_detections(labeled),
        *_training(device, last),
        *_loop(pool, first),
    ]


def _detector(device: Device, scaled: Float64[np.ndarray, " n"]) -> list[Setting]:
    if device.name == "cpu":
        return [
            Setting("detector.name", "fcos", "one stage: the fastest to train on a CPU"),
            Setting("detector.backbone", "mobilenet_v2", "small enough for a CPU"),
            Setting("detector.weights", "imagenet", "pretrained features; torchvision downloads them once"),
            Setting("detector.channels", 96, "a narrow pyramid, for a CPU"),
            Setting("detector.tower_convs", 2, "two convolutions instead of four, for a CPU"),
            Setting("detector.box_start", 1.0, "boxes of two strides: from torchvision's 0 some trainings never learn"),
        ]
    anchor = int(np.clip(round(float(np.quantile(scaled, 0.1))), 8, 64)) if len(scaled) else 32
    return [
        Setting("detector.name", "faster_rcnn", "every strategy can be used with it"),
        Setting("detector.backbone", "resnet50", "the usual backbone"),
        Setting("detector.weights", "imagenet", "pretrained features; coco starts from a whole detector"),
        Setting("detector.anchor_size", anchor, "a tenth of the boxes have smaller sides after scaling"),
    ]


def _input_size(images: Sequence[ImageRecord], labeled: Sequence[DataSet], device: Device) -> tuple[int, int, str]:
    """Return the short side, the long side and the reason for them."""
    own = float(np.median([min(image.width, image.height) for image in images]))
    shape = float(np.quantile([max(i.width, i.height) / min(i.width, i.height) for i in images], 0.9))
    least, most = _multiple(min(own, SMALLEST)), _multiple(min(2 * own, device.largest))
    sizes = [(short, _multiple(short * shape)) for short in range(least, max(least, most) + 1, STEP)]
    if not labeled:
        return *sizes[-1], "no box is known yet, so images are as large as the device allows"
    for short, long in sizes:
        side = _tenth(labeled, short, long)
        if side >= SIDE:
            return short, long, f"nine tenths of the boxes then have sides of at least {side:.0f} pixels"
    limit = "more than twice the image adds nothing" if 2 * own < device.largest else "larger images take long"
    return *sizes[-1], f"a tenth of the boxes have sides under {side:.0f} pixels even so; {limit}"


def _multiple(side: float) -> int:
    return STEP * ceil(side / STEP - 1e-9)


def _sides(labeled: Sequence[DataSet], short: int, long: int) -> Float64[np.ndarray, " n"]:
    return np.concatenate([box_sides(split, short, long) for split in labeled] or [np.empty(0)])


def _tenth(labeled: Sequence[DataSet], short: int, long: int) -> float:
    return float(np.quantile(_sides(labeled, short, long), 0.1))


def _most_detections(labeled: Sequence[DataSet]) -> list[Setting]:
    """Return more detections per image than the default, where an image has more boxes than that."""
    most = max((int(split.annotations.counts.max()) for split in labeled), default=0)
    if most <= DETECTIONS:
        return []
    return [Setting("detector.max_detections", 10 * ceil(most * 1.2 / 10), f"an image has up to {most} boxes")]


def _training(device: Device, last: int) -> list[Setting]:
    small = device.name == "cuda" and device.memory_gib < 11
    batch = 4 if small else 8
    steps = int(np.clip(ceil(PASSES * last / batch / 50) * 50, 150, device.most_steps))
    passes = f"{steps * batch / last:.0f} passes over the {last} images of the last round"
    if device.name == "cpu":
        recipe = [
            Setting("training.optimizer", "adamw", "trains the new layers in few steps"),
            Setting("training.lr", 0.001, "usual for adamw and a small detector"),
        ]
    else:
        recipe = [
            Setting("training.optimizer", "sgd", "the usual recipe of detectors"),
            Setting("training.lr", 0.00125 * batch, "0.02 for 16 images, in proportion"),
        ]
    return [
        *recipe,
        Setting("training.batch_size", batch, "fits the memory of the GPU" if small else "images per step"),
        Setting("training.iterations", steps, f"{passes}; the same in all rounds, so that only labels differ"),
        Setting("training.warmup_share", 0.1, "the new layers start gently"),
        Setting("training.schedule", "cosine", "needs no milestones"),
        Setting("training.ema", 0.95 if steps < 1000 else 0.999, "an average of the weights is steadier"),
        Setting("training.flip", 0.5, "set 0 where a mirrored object is another one, as a letter is"),
    ]


def _images_per_round(images: int) -> int:
    return int(np.clip(round(images / 10), min(5, images), 500))


def _loop(pool: DataSet, first: int) -> list[Setting]:
    asks_people = bool(pool.unlabeled)
    known = len(pool.images) - len(pool.unlabeled) if asks_people else 0
    seed = [Setting("loop.seed_set", first, "a tenth of the pool, drawn at random")]
    if known:
        seed = [
            Setting("loop.seed_set", known, "what is labeled already"),
            Setting("loop.seed_images", "labeled.txt", "the ids of these images"),
        ]
    people = [
        Setting("oracle.name", "folder", "people answer in files; label_studio asks a server"),
        Setting("oracle.folder", "exchange", "for the tasks and the answers"),
    ]
    return [
        *seed,
        Setting("loop.query_size", first, "a tenth of the pool; an amount such as 500 boxes is possible"),
        Setting("loop.rounds", ROUNDS, "the seed set and four purchases"),
        Setting("strategy.name", "entropy", "the simplest that asks the detector; a study adds random"),
        Setting("strategy.aggregation", "mean", "boxes are paid for, and a sum prefers images with many"),
        *(people if asks_people else []),
        Setting("random_seed", 0, "each run of a study has another"),
    ]
