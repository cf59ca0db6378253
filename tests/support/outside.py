"""A data set of files, a config whose detector is trained outside, and programs that stand for it."""

import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from alloop.data.digit_files import export_digit_scenes
from alloop.query import Need

ADAPTERS = Path(__file__).parents[2] / "docs" / "external"


def exchange():
    """Return the module that outside programs use."""
    if "exchange" not in sys.modules:
        spec = importlib.util.spec_from_file_location("exchange", ADAPTERS / "exchange.py")
        sys.modules["exchange"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["exchange"])
    return sys.modules["exchange"]


def digit_files(folder):
    """Write a small data set and return the data block of a config."""
    export_digit_scenes(folder, ["pool=24", "reference=4", "test=8", "max_digits=3"])
    return {
        name: {"annotations": str(folder / f"instances_{part}.json"), "images": str(folder / "images")}
        for name, part in (("train", "pool"), ("reference", "reference"), ("test", "test"))
    }


def external_tree(data, command=None, strategy="entropy", **blocks):
    """Return the config tree of a run with a detector outside."""
    detector = {"name": "external"} | ({} if command is None else {"command": command})
    loop = {"seed_set": 6, "query_size": 4, "rounds": 3}
    return {"data": data, "detector": detector, "loop": loop, "strategy": {"name": strategy}, **blocks}


def write_config(path, tree):
    path.write_text(yaml.safe_dump(tree))
    return path


def guesses(image, classes, count=3):
    """Return boxes that depend on the image alone."""
    box = exchange().Box
    return [
        box(
            (image.image_id + k) % classes,
            (1.5 + k, 2.0 + k, 12.25, 14.0),
            round(0.9 / (1 + k) - (image.image_id % 7) / 100, 6),
        )
        for k in range(count)
    ]


def features_of(image, box):
    """Return a vector that tells its image and its box."""
    return [float(image.image_id % 1000), box.xywh[0], box.xywh[1], box.xywh[2]]


def answered(ask_folder, tell_folder, find=guesses, features_of=features_of):
    """Answer a round by `find(image, classes)` and `features_of(image, box)`, with everything that is wanted."""
    module = exchange()
    ask, tell = module.Ask(Path(ask_folder)), module.Tell(Path(tell_folder))
    for name in ask.predicted:
        for image in ask.images(name):
            boxes = find(image, len(ask.classes))
            if "pool_features" in ask.wanted:
                boxes = [replace(box, features=features_of(image, box)) for box in boxes]
            tell.add(name, image, boxes)
    for name in ask.wanted:
        if name.startswith("noisy_"):
            for image in ask.images("pool"):
                tell.add(name, image, find(image, len(ask.classes)))
    if "embeddings" in ask.wanted:
        for image in [*ask.images("labeled"), *ask.images("pool")]:
            tell.embed(image, [image.image_id % 5, image.image_id % 3, 1.0])
    if "labeled_features" in ask.wanted:
        for image in ask.images("labeled"):
            for box in [*image.boxes, *image.ignored]:
                tell.describe(box, features_of(image, box))
    tell.close(ask)
    return ask


PROGRAM = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parents[2])!r}]
from pathlib import Path
from tests.support.outside import answered
ask, tell, count = map(Path, sys.argv[1:4])
with count.open("a") as handle:
    print(ask, file=handle)
print("training on", ask)
answered(ask, tell)
"""


def program(folder, text=PROGRAM):
    """Write a program and return its command; it adds a line to `folder/count` whenever it is started."""
    path = folder / "program.py"
    path.write_text(text)
    return f"{{python}} {path} {{ask}} {{tell}} {folder / 'count'}"


def starts(folder):
    """Return how often the program was started, by round folder."""
    path = folder / "count"
    return path.read_text().splitlines() if path.is_file() else []


@dataclass(frozen=True)
class LooksAtReference:
    """A strategy that gives every image the number of detections on the reference images as its utility."""

    @property
    def needs(self):
        return frozenset({Need.DETECTIONS, Need.REFERENCE})

    def select(self, query):
        found = sum(map(len, query.reference_detector.detections(sorted(query.reference))))
        image_ids = query.candidates()
        return query.top(image_ids, np.full(len(image_ids), float(found)))
