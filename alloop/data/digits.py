"""`digit_scenes`: the embedded set, scenes of the real handwritten digits that scikit-learn ships.

A scene is a textured background with digits of varying size and contrast laid on it, some over
others. Everything is a pure function of the parameters and the seed. The 1,797 handwritten
originals are parted once for all among pretraining, pool, reference and test, so no original is ever
seen in two of them.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image as PillowImage
from pydantic import BaseModel, ConfigDict, Field

from alloop.data.images import MemoryImages
from alloop.data.records import Box, Category, DataSet, Image, Records, validate
from alloop.geometry.masks import encode_mask
from alloop.randomness import derive_seed, rng
from alloop.values import ImageId

import msgspec  # isort: skip

Part = Literal["pretrain", "pool", "reference", "test"]
_SHARES: dict[Part, tuple[int, int]] = {
    "pretrain": (0, 400),
    "pool": (400, 1200),
    "reference": (1200, 1450),
    "test": (1450, 1797),
}
_ID_BASE: dict[Part, int] = {"pretrain": 4_000_000, "pool": 1_000_000, "reference": 2_000_000, "test": 3_000_000}
_INK = 0.35  # a pixel belongs to a digit where its opacity is above this


class DigitScenes(BaseModel):
    """Parameters of the embedded set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pool: int = Field(1000, ge=1, description="images of the unlabeled pool, seed set included")
    reference: int = Field(100, ge=1, description="images of the reference split")
    test: int = Field(300, ge=1, description="images of the test split, classes drawn evenly")
    size: int = Field(64, ge=32, le=1024, description="side of an image in pixels")
    max_digits: int = Field(4, ge=1, le=30, description="most digits in an image")
    smallest: int = Field(16, ge=8, description="side of the smallest digit in pixels")
    largest: int = Field(40, ge=8, description="side of the largest digit in pixels")
    imbalance: float = Field(1.4, ge=1, description="class k is drawn with weight imbalance^-k in the pool")
    empty: float = Field(0.1, ge=0, le=0.9, description="share of images without a digit")
    duplicates: float = Field(0.15, ge=0, le=0.9, description="share of images that nearly repeat another")
    occlusion: float = Field(0.3, ge=0, le=0.6, description="largest share of a digit that another may cover")
    scene_seed: int = 0


@dataclass(frozen=True, slots=True)
class Scenes:
    """One split: records with boxes and masks, and the pixels."""

    dataset: DataSet
    records: Records
    images: MemoryImages


@functools.cache
def _originals() -> tuple[np.ndarray, np.ndarray]:
    """Digits as float32 [1797, 8, 8] in 0..1 and their labels, in the fixed order of the parting."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  scikit-learn takes a second to import

    data = load_digits()
    order = rng(0, "digit_scenes", "originals").permutation(len(data.target))
    return (data.images[order] / 16).astype(np.float32), data.target[order]


def originals_of(part: Part) -> range:
    """Positions of the handwritten originals that a part may use."""
    return range(*_SHARES[part])


@functools.lru_cache(maxsize=8)
def digit_scenes(parameters: DigitScenes, part: Part, count: int) -> Scenes:
    """Draw `count` scenes of one part."""
    pixels: dict[ImageId, np.ndarray] = {}
    images: list[Image] = []
    boxes: list[Box] = []
    for number in range(count):
        image_id = ImageId(_ID_BASE[part] + number)
        scene_of, variant = _twin_of(parameters, part, number)
        canvas, found = _scene(parameters, part, scene_of, variant)
        pixels[image_id] = canvas
        images.append(Image(image_id, f"{part}/{image_id}.png", parameters.size, parameters.size))
        for label, mask in found:
            boxes.append(_box(len(boxes) + 1, image_id, label, mask))
    records = Records(images, [Category(k, str(k)) for k in range(10)], boxes)
    dataset = validate(records, f"digit_scenes/{part}")
    return Scenes(dataset, records, MemoryImages(pixels, dataset.images))


def _twin_of(parameters: DigitScenes, part: Part, number: int) -> tuple[int, int]:
    """(scene, variant): a near-duplicate repeats an earlier scene with a shift and other noise."""
    chance = rng(parameters.scene_seed, part, number, "twin")
    if part == "pool" and number > 0 and chance.random() < parameters.duplicates:
        return int(chance.integers(number)), number
    return number, 0


def _scene(
    parameters: DigitScenes, part: Part, scene: int, variant: int
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Pixels uint8 [size, size, 3] and (label, visible mask) of each digit."""
    random = rng(parameters.scene_seed, part, scene, "scene")
    digits, labels = _originals()
    canvas = _background(random, parameters.size)
    dark = canvas.mean() > 0.5
    opaque: list[tuple[int, np.ndarray]] = []
    count = 0 if random.random() < parameters.empty else int(random.integers(1, parameters.max_digits + 1))
    for _ in range(count):
        row = _draw_original(random, parameters, part, labels)
        alpha = _place(random, digits[row], parameters)
        ink = alpha > _INK
        covered = [(mask & ink).sum() / max(1, mask.sum()) for _, mask in opaque]
        if ink.sum() < 12 or any(share > parameters.occlusion for share in covered):
            continue
        colour = random.uniform(0.0, 0.3, 3) if dark else random.uniform(0.65, 1.0, 3)
        canvas = canvas * (1 - alpha[..., None]) + colour * alpha[..., None]
        opaque = [(label, mask & ~ink) for label, mask in opaque] + [(int(labels[row]), ink)]
    if variant:
        canvas, opaque = _shift(rng(parameters.scene_seed, part, variant, "variant"), canvas, opaque)
    noise = rng(parameters.scene_seed, part, scene, variant, "noise").normal(0, 0.03, canvas.shape)
    visible = [(label, mask) for label, mask in opaque if mask.sum() >= 12]
    return np.clip((canvas + noise) * 255, 0, 255).astype(np.uint8), visible


def _background(random: np.random.Generator, size: int) -> np.ndarray:
    """Smooth colour, grain of two scales and a few strokes, float [size, size, 3]."""
    base = random.uniform(0.1, 0.45, 3) if random.random() < 0.5 else random.uniform(0.55, 0.9, 3)
    canvas = np.broadcast_to(base, (size, size, 3)).copy()
    for cells, strength in ((4, 0.10), (16, 0.06)):
        grain = random.normal(0, 1, (cells, cells)).astype(np.float32)
        smooth = PillowImage.fromarray(grain).resize((size, size), PillowImage.Resampling.BICUBIC)
        canvas += strength * np.asarray(smooth)[..., None]
    for _ in range(int(random.integers(0, 4))):
        x, y, dx, dy = random.integers(0, size, 2).tolist() + random.integers(3, size // 3, 2).tolist()
        canvas[y : y + 1 + dy // 6, x : x + dx] += random.uniform(-0.2, 0.2)
    return np.clip(canvas, 0, 1)


def _draw_original(random: np.random.Generator, parameters: DigitScenes, part: Part, labels: np.ndarray) -> int:
    """A row of the originals of this part, its class by the weights of this part."""
    ratio = parameters.imbalance if part == "pool" else 1.0
    weights = ratio ** -np.arange(10, dtype=np.float64)
    label = random.choice(10, p=weights / weights.sum())
    rows = np.array(originals_of(part))
    return int(random.choice(rows[labels[rows] == label]))


def _place(random: np.random.Generator, digit: np.ndarray, parameters: DigitScenes) -> np.ndarray:
    """Opacity float [size, size] of a digit at a random size, aspect, tilt and place inside the image."""
    size = parameters.size
    side = int(random.integers(parameters.smallest, min(parameters.largest, size) + 1))
    width = max(8, int(side * random.uniform(0.75, 1.0)))
    picture = PillowImage.fromarray(digit).resize((width, side), PillowImage.Resampling.BICUBIC)
    picture = picture.rotate(random.uniform(-12, 12), PillowImage.Resampling.BILINEAR)
    x, y = int(random.integers(0, size - width + 1)), int(random.integers(0, size - side + 1))
    alpha = np.zeros((size, size), dtype=np.float32)
    alpha[y : y + side, x : x + width] = np.clip(np.asarray(picture) * 1.25, 0, 1)
    return alpha * np.float32(random.uniform(0.75, 1.0))


def _shift(
    random: np.random.Generator, canvas: np.ndarray, opaque: list[tuple[int, np.ndarray]]
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Move a scene by up to two pixels and change its brightness a little."""
    dy, dx = (int(step) for step in random.integers(-2, 3, 2))
    size = canvas.shape[0]
    rows, columns = np.clip(np.arange(size) - dy, 0, size - 1), np.clip(np.arange(size) - dx, 0, size - 1)
    moved = canvas[rows][:, columns] + random.uniform(-0.05, 0.05)
    inside = ((np.arange(size) - dy >= 0) & (np.arange(size) - dy < size))[:, None] & (
        (np.arange(size) - dx >= 0) & (np.arange(size) - dx < size)
    )[None]
    return moved, [(label, mask[rows][:, columns] & inside) for label, mask in opaque]


def _box(number: int, image_id: int, label: int, mask: np.ndarray) -> Box:
    """The tight box of the visible pixels, with the mask as uncompressed RLE."""
    ys, xs = np.nonzero(mask)
    x, y = int(xs.min()), int(ys.min())
    width, height = int(xs.max()) - x + 1, int(ys.max()) - y + 1
    segmentation = msgspec.Raw(encode_mask(mask))
    return Box(number, image_id, label, (x, y, width, height), 0, float(mask.sum()), segmentation)


def seed_of(parameters: DigitScenes) -> int:
    """A number that differs between parameter sets."""
    return derive_seed(parameters.scene_seed, parameters.model_dump_json())
