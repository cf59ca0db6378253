"""Photographs of COCO-like sizes, made from gradients, shapes and noise, and experiments on them for `gpu.py`."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, ImageDraw

from alloop.config import ExperimentConfig, load_config

CLASSES = 80
SIZES = ((640, 480), (480, 640), (640, 427), (500, 375), (427, 640), (640, 640))  # width, height
SHARES = (0.4, 0.2, 0.2, 0.1, 0.05, 0.05)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large everything is: images of a split, their short side, and how much is computed on them."""

    shrink: int  # divides the sizes of the photographs
    images: int  # in the pool
    held_out: int  # in the test split
    short_side: int
    long_side: int
    batch_size: int
    workers: int  # of the bare loop
    rows: int  # of features for k-center
    picks: int  # of k-center
    probed: int  # images whose derivatives are timed on the device
    probed_cpu: int  # the same on the CPU
    proposals: int


FULL = Scale(1, 128, 64, 800, 1333, 8, 8, 118_287, 1000, 16, 4, 1000)
QUICK = Scale(8, 4, 2, 64, 107, 2, 2, 2000, 20, 2, 2, 50)


def photograph(random: np.random.Generator, width: int, height: int) -> tuple[Image.Image, list[tuple[int, list[int]]]]:
    """Return an image and its (class, xywh box) pairs: a gradient, rectangles and ellipses, and noise over them."""
    low, high = random.integers(0, 256, (2, 3))
    slope = np.add.outer(np.linspace(0, 0.5, height), np.linspace(0, 0.5, width))[..., None]
    picture = Image.fromarray((low + slope * (high.astype(float) - low)).astype(np.uint8))
    draw, objects = ImageDraw.Draw(picture), []
    for _ in range(int(random.integers(1, 15))):
        box_width, box_height = (int(random.integers(side // 16, side // 2)) for side in (width, height))
        left, top = int(random.integers(0, width - box_width)), int(random.integers(0, height - box_height))
        shape = draw.rectangle if random.random() < 0.5 else draw.ellipse
        shape((left, top, left + box_width, top + box_height), fill=tuple(random.integers(0, 256, 3).tolist()))
        objects.append((int(random.integers(0, CLASSES)), [left, top, box_width, box_height]))
    noisy = np.asarray(picture) + random.normal(0, 12, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), objects


def write_split(folder: Path, name: str, count: int, shrink: int) -> None:
    """Write the JPEG files of a split and its COCO annotations; the same bytes each time."""
    random = np.random.default_rng([count, *name.encode()])
    (folder / name).mkdir(parents=True)
    images, annotations = [], []
    for image_id in range(1, count + 1):
        width, height = (side // shrink for side in SIZES[random.choice(len(SIZES), p=SHARES)])
        picture, objects = photograph(random, width, height)
        picture.save(folder / name / f"{image_id}.jpg", quality=90)
        images.append({"id": image_id, "file_name": f"{image_id}.jpg", "width": width, "height": height})
        annotations += [
            {"image_id": image_id, "category_id": label + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for label, box in objects
        ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    categories = [{"id": k + 1, "name": f"class {k}"} for k in range(CLASSES)]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"{name}.json").write_text(json.dumps(tree))


def write_data(folder: Path, scale: Scale) -> None:
    """Write the pool and the test split, which is the reference split too."""
    write_split(folder, "train", scale.images, scale.shrink)
    write_split(folder, "test", scale.held_out, scale.shrink)


def photographs(folder: Path, scale: Scale, detector: str, *, amp: bool, device: str) -> ExperimentConfig:
    """Return an experiment with a randomly initialised ResNet-50 FPN; training as the bare loop trains."""
    splits = {name: {"annotations": str(folder / f"{name}.json"), "images": str(folder / name)} for name in _splits()}
    tree = {
        "data": {"train": splits["train"], "reference": splits["test"], "test": splits["test"]},
        "detector": {
            "name": detector,
            "backbone": "resnet50",
            "weights": "none",
            "short_side": scale.short_side,
            "long_side": scale.long_side,
            **({"proposals": scale.proposals} if detector == "faster_rcnn" else {}),
        },
        "training": {
            "lr": 0.001,
            "clip_norm": None,
            "schedule": "constant",
            "batch_size": scale.batch_size,
            "epochs": 4,
            "amp": amp,
            "device": device,
        },
        "loop": {"seed_set": scale.images // 2, "query_size": 2, "rounds": 1},
        "strategy": {"name": "random"},
        "random_seed": 0,
    }
    path = folder / f"{detector}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_config(path, [])


def _splits() -> tuple[str, str]:
    return "train", "test"
