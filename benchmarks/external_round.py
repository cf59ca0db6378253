"""What a round around another program costs beside that program: `python benchmarks/external_round.py [IMAGES]`.

A pool of IMAGES (10,000) and a tenth as many test images, 10 predictions an image. The program writes predictions and
trains nothing. Printed are the seconds of a round without those of the program, and as the floor the seconds that
reading and hashing the same files takes with the json module and hashlib.
"""

import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from alloop.config import parse_config
from alloop.external.program import Program
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from strategies import TABLE

TARGET = 2.0  # seconds
ROUNDS = 4
PROGRAM = """
import random, sys
from pathlib import Path
sys.path[:0] = [{exchange!r}]
from exchange import Ask, Box, Tell
ask, tell = Ask(Path(sys.argv[1])), Tell(Path(sys.argv[2]))
draw = random.Random(0)
for name in ask.predicted:
    for image in ask.images(name):
        tell.add(name, image, [Box(draw.randrange(3), (1.0, 2.0, 30.0, 20.0), draw.random()) for _ in range(10)])
tell.close(ask)
"""


def data_set(folder: Path, images: int) -> dict[str, object]:
    """Write images and COCO files, and return the data block of a config."""
    pixels = np.random.default_rng(0).integers(0, 255, (images, 1, 1, 3), dtype=np.uint8)
    blocks: dict[str, object] = {}
    for name, first, count in (("train", 0, images), ("test", images, images // 10)):
        (folder / name).mkdir()
        for number in range(count):
            Image.fromarray(np.broadcast_to(pixels[number], (64, 64, 3))).save(folder / name / f"{number}.png")
        records = [{"id": first + n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(count)]
        boxes = [
            {"id": k, "image_id": r["id"], "category_id": 1 + k % 3, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0}
            for k, r in enumerate(records)
        ]
        categories = [{"id": 1 + k, "name": f"class {k}"} for k in range(3)]
        path = folder / f"{name}.json"
        path.write_text(json.dumps({"images": records, "annotations": boxes, "categories": categories}))
        blocks[name] = {"annotations": str(path), "images": str(folder / name)}
    return blocks


def floor(folder: Path) -> float:
    """Return the seconds that reading and hashing the files of one exchange takes at least."""
    started = time.perf_counter()
    for path in [*folder.glob("ask/*.json"), *folder.glob("tell/*.json")]:
        data = path.read_bytes()
        hashlib.sha256(data).digest()
        json.loads(data)
    return time.perf_counter() - started


def main(images: int) -> None:
    inside: list[float] = []
    run = Program.run

    def timed(self: Program) -> None:
        started = time.perf_counter()
        run(self)
        inside.append(time.perf_counter() - started)

    Program.run = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        program = folder / "program.py"
        program.write_text(PROGRAM.format(exchange=str(Path(__file__).parents[1] / "docs" / "external")))
        config = {
            "data": data_set(folder, images),
            "detector": {"name": "external", "command": f"{sys.executable} {program} {{ask}} {{tell}}"},
            "loop": {"seed_set": 100, "query_size": 100, "rounds": ROUNDS},
            "strategy": {"name": "entropy"},
        }
        run_experiment(parse_config(config), folder / "run", TABLE)
        with read_ledger(folder / "run") as ledger:
            whole = [sum(record.timings.values()) for record in ledger.rounds()]
        beside = [total - own for total, own in zip(whole, inside, strict=True)]
        least = floor(folder / "run" / "external" / "round_001")
    seconds = float(np.median(beside[:-1]))  # the last round chooses nothing
    verdict = "ok" if seconds < TARGET else "MISSED"
    print(
        f"round    {images} images in the pool, {images // 10} in the test split: {seconds:.2f} s beside the program "
        f"({np.median(inside):.1f} s), reading and hashing its files {least:.2f} s; ratio {seconds / least:.1f} "
        f"(target under {TARGET:.0f} s) {verdict}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
