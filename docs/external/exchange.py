"""Both ends of an exchange with alloop, for a program outside it. Copy this file beside yours; it needs Python alone.

    ask, tell = Ask(Path(sys.argv[1])), Tell(Path(sys.argv[2]))
    train(ask.images("labeled"), ask.classes)            # each image has its path, its size and its boxes
    for name in ask.predicted:                           # pool, test
        for image in ask.images(name):
            tell.add(name, image, detections)            # also where nothing was found
    tell.close(ask)

Boxes are x, y, width, height in pixels of the image as displayed. Classes are numbered in the order of `ask.classes`.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Box:
    """A box of a class; `probabilities` of all classes if the detector has them, `features` where they are wanted.

    `number` is the place of a labeled box in `labeled.json`, from 1.
    """

    label: int
    xywh: tuple[float, float, float, float]
    score: float = 1.0
    probabilities: Sequence[float] = ()
    features: Sequence[float] = ()
    number: int = 0


@dataclass(frozen=True)
class Image:
    """An image: the path of its file, its size in pixels, and its boxes where it is labeled.

    `ignored` are boxes that nothing should be learned from: crowds, and objects marked difficult.
    """

    image_id: int
    path: Path
    width: int
    height: int
    boxes: tuple[Box, ...] = ()
    ignored: tuple[Box, ...] = ()


class Ask:
    """What a round asks.

    Attributes:
        folder: where its files are.
        round: its number, from 0.
        random_seed: draw everything random from it, and another run will be another one.
        classes: names in label order.
        predicted: the sets of images to predict.
        wanted: the names of everything that is wanted, such as `pool`, `noisy_8` or `embeddings`.
    """

    def __init__(self, folder: Path) -> None:
        """Read the manifest."""
        self.folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        self.round: int = self.manifest["round"]
        self.random_seed: int = self.manifest["random_seed"]
        self.classes: list[str] = self.manifest["classes"]
        self.wanted: list[str] = self.manifest["wanted"]
        self.predicted = [name for name in self.wanted if (folder / f"{name}.json").is_file()]

    def images(self, name: str) -> list[Image]:
        """Return the images of `labeled` or of a set to predict."""
        tree = json.loads((self.folder / f"{name}.json").read_text())
        root = Path(self.manifest["image_folders"][name])
        labels = {category["id"]: self.classes.index(category["name"]) for category in tree["categories"]}
        boxes: dict[int, list[Box]] = {}
        ignored: dict[int, list[Box]] = {}
        for row in tree.get("annotations", []):
            side = ignored if row["iscrowd"] or row.get("ignore") else boxes
            side.setdefault(row["image_id"], []).append(
                Box(labels[row["category_id"]], tuple(row["bbox"]), number=row["id"])
            )
        return [
            Image(
                row["id"],
                root / row["file_name"],
                row["width"],
                row["height"],
                tuple(boxes.get(row["id"], ())),
                tuple(ignored.get(row["id"], ())),
            )
            for row in tree["images"]
        ]

    def category_ids(self) -> list[int]:
        """Return the ids of the classes in COCO files, in label order."""
        tree = json.loads((self.folder / "labeled.json").read_text())
        ids = {category["name"]: category["id"] for category in tree["categories"]}
        return [ids[name] for name in self.classes]


@dataclass
class Tell:
    """What is answered. Nothing counts before `close` has written the manifest."""

    folder: Path
    _rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _images: dict[str, list[int]] = field(default_factory=dict)
    _embedded: dict[int, Sequence[float]] = field(default_factory=dict)
    _features: list[Sequence[float]] = field(default_factory=list)
    _of_labels: dict[int, Sequence[float]] = field(default_factory=dict)

    def add(self, name: str, image: Image, boxes: Iterable[Box]) -> None:
        """Add what was found on an image, possibly nothing. `name` is a set of images, or `noisy_8` and the like."""
        self._images.setdefault(name, []).append(image.image_id)
        rows = self._rows.setdefault(name, [])
        for box in boxes:
            if box.features and name == "pool":
                self._features.append(box.features)
            row = {"image_id": image.image_id, "category_id": box.label, "bbox": list(box.xywh), "score": box.score}
            rows.append(row | ({"probabilities": list(box.probabilities)} if box.probabilities else {}))

    def embed(self, image: Image, vector: Sequence[float]) -> None:
        """Describe an image of `labeled` or `pool`, where `embeddings` are wanted."""
        self._embedded[image.image_id] = vector

    def describe(self, box: Box, features: Sequence[float]) -> None:
        """Describe a box of `labeled`, where `labeled_features` are wanted: every one, ignored ones too."""
        self._of_labels[box.number] = features

    def close(self, ask: Ask) -> None:
        """Write the predictions, and then the manifest, which lists also other files of the folder: embeddings."""
        ids = ask.category_ids()
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self._rows.items():
            named = [row | {"category_id": ids[row["category_id"]]} for row in rows]
            (self.folder / f"{name}.json").write_text(json.dumps(named, allow_nan=False))
        if self._embedded:
            _write_matrix(self.folder / "embeddings.npy", list(self._embedded.values()))
            (self.folder / "embeddings.txt").write_text("".join(f"{image_id}\n" for image_id in self._embedded))
        if "pool_features" in ask.wanted:
            _write_matrix(self.folder / "pool_features.npy", self._features)
            _write_matrix(self.folder / "labeled_features.npy", [self._of_labels[n] for n in sorted(self._of_labels)])
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and path.name != "manifest.json")
        hashes = {path.relative_to(self.folder).as_posix(): _sha256(path) for path in files}
        manifest = {"ask": ask.manifest["ask"], "images": self._images, "files": hashes}
        temporary = self.folder / ".manifest.json"
        temporary.write_text(json.dumps(manifest))
        temporary.replace(self.folder / "manifest.json")


def _write_matrix(path: Path, rows: Sequence[Sequence[float]]) -> None:
    """Write rows of numbers as numpy does, in float32."""
    shape = (len(rows), len(rows[0]) if rows else 0)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(-(-(len(header) + 11) // 64) * 64 - 11) + "\n"
    numbers = [number for row in rows for number in row]
    data = struct.pack(f"<{len(numbers)}f", *numbers)
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin1") + data)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
