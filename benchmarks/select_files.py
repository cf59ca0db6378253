"""How long `alloop select` takes over a large pool, and how far reading is from the decoding of the same bytes.

    python benchmarks/select_files.py [--images 100000] [--predictions 10] [--classes 20]

Prints the seconds and the peak memory of the whole command in a process of its own, and reading of the COCO results
beside a decoding into the same fields by msgspec alone, in turn, least of three.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from alloop.data.notes import Notes
from alloop.predictions.reading import read_predictions
from alloop.predictions.rows import Classes, KnownImages
from alloop.values import ImageId, ImageRecord


class Plain(msgspec.Struct):
    """The fields of a COCO result, as anybody would write them down for msgspec."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


def write_files(folder: Path, images: int, per_image: int, classes: int) -> tuple[list[ImageRecord], Classes]:
    """Write `pool.json` and `predictions.json`."""
    chance = np.random.default_rng(0)
    records = [ImageRecord(ImageId(k), f"{k:07}.jpg", 640, 480) for k in range(1, images + 1)]
    categories = [{"id": k + 1, "name": f"class {k}"} for k in range(classes)]
    tree = {"images": records, "categories": categories, "annotations": [], "unlabeled": list(range(1, images + 1))}
    (folder / "pool.json").write_bytes(msgspec.json.encode(tree))
    count = images * per_image
    corners, sides = chance.uniform(0, [500, 380], (count, 2)).round(2), chance.uniform(5, 100, (count, 2)).round(2)
    results = [
        {"image_id": int(i), "category_id": int(c), "bbox": [*map(float, xy), *map(float, wh)], "score": float(s)}
        for i, c, xy, wh, s in zip(
            np.repeat(np.arange(1, images + 1), per_image),
            chance.integers(1, classes + 1, count),
            corners,
            sides,
            chance.uniform(0.02, 0.98, count).round(5),
            strict=True,
        )
    ]
    (folder / "predictions.json").write_text(json.dumps(results))
    return records, Classes(tuple(c["name"] for c in categories), tuple(c["id"] for c in categories))


def reading(folder: Path, records: list[ImageRecord], classes: Classes) -> None:
    """Print the time of reading and its ratio to msgspec alone."""
    path, decoder = folder / "predictions.json", msgspec.json.Decoder(list[Plain])
    ours, theirs = [], []
    for _ in range(3):
        started = time.perf_counter()
        rows = decoder.decode(path.read_bytes())
        theirs.append(time.perf_counter() - started)
        count = len(rows)
        del rows
        started = time.perf_counter()
        read_predictions([path], KnownImages(records), classes, Notes())
        ours.append(time.perf_counter() - started)
    ratio = min(ours) / min(theirs)
    alone = f"msgspec alone {min(theirs):.2f} s"
    print(f"reading      {count} results {min(ours):.2f} s, {alone}; ratio {ratio:.2f} (at most 2)")


def selecting(folder: Path, strategy: str) -> None:
    """Print the time and memory of the whole command."""
    out = folder / f"{strategy}.csv"
    command = [sys.executable, "-m", "alloop", "select", str(folder / "pool.json"), "--strategy", strategy, "--quiet"]
    command += ["--predictions", str(folder / "predictions.json"), "--images", "1000", "--out", str(out)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(
        f"select       {strategy}: {seconds:.1f} s (at most 10), {cpu:.1f} s of CPU, peak {peak:.0f} MiB (at most 954)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--predictions", type=int, default=10, help="an image")
    parser.add_argument("--classes", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records, classes = write_files(folder, options.images, options.predictions, options.classes)
        selecting(folder, "entropy")
        reading(folder, records, classes)


if __name__ == "__main__":
    main()
