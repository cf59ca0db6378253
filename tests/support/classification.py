"""A small classification experiment, and images of one class each on disk."""

import numpy as np
from PIL import Image

from alloop.config.reading import parse_config
from strategies import TABLE

CLASSES = ("red", "green", "blue")


def class_tree(**changes):
    """Return the config tree of a classification run that takes seconds, with some dotted keys changed."""
    tree = {
        "task": "classification",
        "data": {"digits": True},
        "detector": {"name": "classifier", "network": "tiny", "image_size": 8},
        "training": {
            "optimizer": "adamw",
            "lr": 0.005,
            "batch_size": 16,
            "iterations": 25,
            "flip": 0.0,
            "threads": 1,
            "device": "cpu",
        },
        "loop": {"seed_set": 20, "query_size": 10, "rounds": 2},
        "strategy": {"name": "random"},
        "random_seed": 0,
    }
    for key, value in changes.items():
        node = tree
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def class_config(**changes):
    """Return the same as a config."""
    return parse_config(class_tree(**changes))


def draw(folder, name, label, seed, size=(9, 8)):
    """Write an image that is mostly of one colour."""
    chance = np.random.default_rng(seed)
    pixels = chance.integers(0, 120, (size[1], size[0], 3), dtype=np.uint8)
    pixels[..., label] += 120
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def write_class_folders(folder, each=6, first_seed=0):
    """Write `each` images of three classes into class folders, and return the folder."""
    for label, name in enumerate(CLASSES):
        for k in range(each):
            draw(folder, f"{name}/{k}.png", label, first_seed + 100 * label + k)
    return folder


__all__ = ["CLASSES", "TABLE", "class_config", "class_tree", "draw", "write_class_folders"]
