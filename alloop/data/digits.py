"""`digit_scenes`: the embedded set, scenes of the real handwritten digits that scikit-learn ships.

A scene is a textured background with digits of varying size and contrast laid on it, some over
others. Everything is a pure function of the parameters and the seed. The 1,797 handwritten
originals are divided once for all among pretraining, pool, reference and test, so no original ever
appears in two of them.
"""

import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image as PillowImage
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alloop.data.data_set import DataSet
from alloop.data.images import MemoryImages
from alloop.data.records import Box, Category, Records
from alloop.data.validation import validate
from alloop.errors import ConfigError, nearest
from alloop.geometry.masks import encode_mask
from alloop.randomness import rng
from alloop.values import ImageId, ImageRecord

Part = Literal["pretrain", "pool", "reference", "test"]
_SHARES: dict[Part, tuple[int, int]] = {
    "pretrain": (0, 400),
    "pool": (400, 1200),
    "reference": (1200, 1450),
    "test": (1450, 1797),
}
_ID_BASE: dict[Part, int] = {"pretrain": 4_000_000, "pool": 1_000_000, "reference": 2_000_000, "test": 3_000_000}
_INK = 0.35  # a pixel belongs to a digit where its opacity is above this
_FEWEST_PIXELS = 12  # a digit with fewer visible pixels is left out

VisibleDigit = tuple[int, Bool[np.ndarray, "h w"]]  # the label and the pixels that no other digit covers


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
    video: int = Field(0, ge=0, description="frames of a clip, in which one scene drifts; 0 for single images")
    occlusion: float = Field(0.3, ge=0, le=0.6, description="largest share of a digit that another may cover")
    scene_seed: int = 0

    def parts(self) -> dict[Part, int]:
        """Return the number of images of each split."""
        return {"pool": self.pool, "reference": self.reference, "test": self.test}


def digit_scenes_parameters(tree: Mapping[str, object], prefix: str) -> DigitScenes:
    """Check parameters from a config or from options.

    Args:
        tree: values by the name of the parameter.
        prefix: what stands before the name in messages, such as `data.digit_scenes.`.

    Raises:
        ConfigError: an unknown parameter, with the nearest known one, or a value out of range.
    """
    try:
        return DigitScenes.model_validate(tree)
    except ValidationError as error:
        item = error.errors()[0]
        key = ".".join(map(str, item["loc"]))
        is_unknown = item["type"] == "extra_forbidden"
        reason = f"unknown parameter{nearest(key, DigitScenes.model_fields)}" if is_unknown else item["msg"]
        msg = f"{prefix}{key}: {reason}, found {item['input']!r}"
        raise ConfigError(msg) from error


@dataclass(frozen=True, slots=True)
class Scenes:
    """One split: records with boxes and masks, and the pixels."""

    dataset: DataSet
    records: Records
    images: MemoryImages


@functools.cache
def digit_originals() -> tuple[Float[np.ndarray, "1797 8 8"], Int64[np.ndarray, " 1797"]]:
    """Return the digits as float32 in 0..1 and their labels, in the fixed order by which they are divided."""
    rows = np.loadtxt(_scikit_learn() / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    rows = rows[rng(0, "digit_scenes", "originals").permutation(len(rows))]
    return (rows[:, :-1].reshape(-1, 8, 8) / 16).astype(np.float32), rows[:, -1].astype(np.int64)


def _scikit_learn() -> Path:
    """Return the folder of scikit-learn, whose `load_digits` reads the same file but takes 2 seconds to import."""
    found = importlib.util.find_spec("sklearn")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def originals_of(part: Part) -> range:
    """Return the rows of the handwritten originals that a part may use."""
    return range(*_SHARES[part])


@functools.lru_cache(maxsize=8)
def digit_scenes(parameters: DigitScenes, part: Part, count: int) -> Scenes:
    """Draw `count` scenes of one part."""
    pixels: dict[ImageId, np.ndarray] = {}
    images: list[ImageRecord] = []
    boxes: list[Box] = []
    for number in range(count):
        image_id = ImageId(_ID_BASE[part] + number)
        pixels[image_id], digits = _image(parameters, part, number)
        images.append(ImageRecord(image_id, _file_name(parameters, part, number), parameters.size, parameters.size))
        boxes += [_box(len(boxes) + 1 + row, image_id, *digit) for row, digit in enumerate(digits)]
    records = Records(images, [Category(label, str(label)) for label in range(10)], boxes)
    dataset = validate(records, f"digit_scenes/{part}")
    return Scenes(dataset, records, MemoryImages(pixels, dataset.images))


def digit_pixels(parameters: DigitScenes, part: Part, image_id: ImageId) -> UInt8[np.ndarray, "h w 3"]:
    """Draw one image of a part alone."""
    return _image(parameters, part, image_id - _ID_BASE[part])[0]


def _file_name(parameters: DigitScenes, part: Part, number: int) -> str:
    """Return the name of an image; the frames of a clip lie in a folder that is named after the first of them."""
    base = _ID_BASE[part]
    clip = f"clip{base + number - number % parameters.video}/" if parameters.video else ""
    return f"{part}/{clip}{base + number}.png"


def _image(parameters: DigitScenes, part: Part, number: int) -> tuple[UInt8[np.ndarray, "h w 3"], list[VisibleDigit]]:
    """Draw one image: a scene, a near-duplicate of an earlier scene, or a frame of a clip."""
    if parameters.video:
        frame = number % parameters.video
        return _frame(parameters, part, number - frame, frame)
    scene, variant = _scene_and_variant(parameters, part, number)
    canvas, digits = _scene(parameters, part, scene)
    if variant:
        canvas, digits = _shift(rng(parameters.scene_seed, part, variant, "variant"), canvas, digits)
    return _exposed(rng(parameters.scene_seed, part, scene, variant, "noise"), canvas, digits)


def _scene_and_variant(parameters: DigitScenes, part: Part, number: int) -> tuple[int, int]:
    """Return the scene of an image; a near-duplicate repeats an earlier scene as another variant, the rest are 0."""
    chance = rng(parameters.scene_seed, part, number, "twin")
    if part == "pool" and number > 0 and chance.random() < parameters.duplicates:
        return int(chance.integers(number)), number
    return number, 0


def _scene(parameters: DigitScenes, part: Part, scene: int) -> tuple[Float[np.ndarray, "h w 3"], list[VisibleDigit]]:
    """Draw a scene without noise."""
    random = rng(parameters.scene_seed, part, scene, "scene")
    return _lay_digits(random, parameters, part, _background(random, parameters.size))


def _frame(
    parameters: DigitScenes, part: Part, scene: int, frame: int
) -> tuple[UInt8[np.ndarray, "h w 3"], list[VisibleDigit]]:
    """Draw a frame of a clip: its scene, moved a little farther in one direction from frame to frame."""
    canvas, digits = _scene(parameters, part, scene)
    dy, dx = rng(parameters.scene_seed, part, scene, "drift").uniform(-1, 1, 2)
    canvas, digits = _moved(canvas, digits, round(dy * frame), round(dx * frame))
    return _exposed(rng(parameters.scene_seed, part, scene, frame, "frame"), canvas, digits)


def _exposed(
    random: np.random.Generator, canvas: Float[np.ndarray, "h w 3"], digits: list[VisibleDigit]
) -> tuple[UInt8[np.ndarray, "h w 3"], list[VisibleDigit]]:
    """Add noise and round to 8 bits; digits of which hardly a pixel is left are no objects."""
    noise = random.normal(0, 0.03, canvas.shape)
    visible = [(label, mask) for label, mask in digits if mask.sum() >= _FEWEST_PIXELS]
    return np.clip((canvas + noise) * 255, 0, 255).astype(np.uint8), visible


def _lay_digits(
    random: np.random.Generator, parameters: DigitScenes, part: Part, canvas: Float[np.ndarray, "h w 3"]
) -> tuple[Float[np.ndarray, "h w 3"], list[VisibleDigit]]:
    """Lay digits on a background one after the other; those that would cover too much of another are left out."""
    originals, labels = digit_originals()
    is_dark_ink = canvas.mean() > 0.5
    laid: list[VisibleDigit] = []
    count = 0 if random.random() < parameters.empty else int(random.integers(1, parameters.max_digits + 1))
    for _ in range(count):
        row = _draw_original(random, parameters, part, labels)
        alpha = _opacity(random, originals[row], parameters)
        ink = alpha > _INK
        covered = [(mask & ink).sum() / max(1, mask.sum()) for _, mask in laid]
        if ink.sum() < _FEWEST_PIXELS or any(share > parameters.occlusion for share in covered):
            continue
        colour = random.uniform(0.0, 0.3, 3) if is_dark_ink else random.uniform(0.65, 1.0, 3)
        canvas = canvas * (1 - alpha[..., None]) + colour * alpha[..., None]
        laid = [(label, mask & ~ink) for label, mask in laid] + [(int(labels[row]), ink)]
    return canvas, laid


def _background(random: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    """Draw a smooth colour, grain of two scales and a few strokes."""
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


def _draw_original(
    random: np.random.Generator, parameters: DigitScenes, part: Part, labels: Int64[np.ndarray, " n"]
) -> int:
    """Draw a row of the originals of this part, its class by the weights of this part."""
    ratio = parameters.imbalance if part == "pool" else 1.0
    weights = ratio ** -np.arange(10, dtype=np.float64)
    label = random.choice(10, p=weights / weights.sum())
    rows = np.array(originals_of(part))
    return int(random.choice(rows[labels[rows] == label]))


def _opacity(
    random: np.random.Generator, digit: Float[np.ndarray, "8 8"], parameters: DigitScenes
) -> Float[np.ndarray, "size size"]:
    """Return the opacity of a digit at a random size, aspect, tilt and position inside the image."""
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
    random: np.random.Generator, canvas: Float[np.ndarray, "size size 3"], digits: list[VisibleDigit]
) -> tuple[Float[np.ndarray, "size size 3"], list[VisibleDigit]]:
    """Move a scene by up to two pixels and change its brightness a little."""
    dy, dx = (int(step) for step in random.integers(-2, 3, 2))
    moved, digits = _moved(canvas, digits, dy, dx)
    return moved + random.uniform(-0.05, 0.05), digits


def _moved(
    canvas: Float[np.ndarray, "size size 3"], digits: list[VisibleDigit], dy: int, dx: int
) -> tuple[Float[np.ndarray, "size size 3"], list[VisibleDigit]]:
    """Move a scene downwards and to the right; the background at its edge is repeated."""
    size = canvas.shape[0]
    rows, columns = np.arange(size) - dy, np.arange(size) - dx  # of the pixel that is moved here
    inside = ((rows >= 0) & (rows < size))[:, None] & ((columns >= 0) & (columns < size))[None]
    rows, columns = np.clip(rows, 0, size - 1), np.clip(columns, 0, size - 1)
    return canvas[rows][:, columns], [(label, mask[rows][:, columns] & inside) for label, mask in digits]


def _box(number: int, image_id: ImageId, label: int, mask: Bool[np.ndarray, "h w"]) -> Box:
    """Return the tight box of the visible pixels, with the mask as uncompressed RLE."""
    ys, xs = np.nonzero(mask)
    x, y = int(xs.min()), int(ys.min())
    width, height = int(xs.max()) - x + 1, int(ys.max()) - y + 1
    segmentation = msgspec.Raw(encode_mask(mask))
    return Box(number, image_id, label, (x, y, width, height), 0, float(mask.sum()), segmentation)
