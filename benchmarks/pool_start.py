"""The start of a run over a large pool: microseconds an image of each part, and the peak memory of a whole run.

    python benchmarks/pool_start.py [--images N] [--before CHECKOUT] [--out FOLDER]
    python benchmarks/pool_start.py --images 1000000 --memory

The pool is a COCO file with 3 boxes per image, and hard links to 64 generated JPEG files of 320 x 240. Hashing is
compared with its floor in the same process: opening and reading each file, its sha256, and decoding it at reduced
scale, in one thread. `--before` measures another checkout as well, in turns with this one. `--memory` runs two rounds
of a simulated run with a detector and a strategy that do nothing, and reads no image: it prints the peak memory, and
what the round takes beside training, scoring and evaluation.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

FILES = 64
LINKS = 50_000  # of one file; ext4 allows 65,000
BOXES = 3
CLASSES = 80
ROUNDS = 3  # of alternating measurements
US = 1e6


def make_pool(folder: Path, images: int, *, files: bool = True) -> None:
    """Write `train.json`, `test.json` with a hundredth of the images, and the images; keep what is there."""
    for part, count, first in (("train", images, 1), ("test", max(50, images // 100), 10_000_001)):
        names = [f"{part}/{row // 10_000:03d}/{row:08d}.jpg" for row in range(count)]
        if not (folder / f"{part}.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{part}.json").write_text(json.dumps(_coco(names, first)))
        if files and not (folder / "images" / names[-1]).exists():
            _link(folder, names)


def _coco(names: list[str], first: int) -> dict[str, Any]:
    rows = range(len(names))
    boxes = ((row, box) for row in rows for box in range(BOXES))
    return {
        "images": [{"id": first + row, "file_name": names[row], "width": 320, "height": 240} for row in rows],
        "annotations": [
            {
                "id": 1 + BOXES * row + box,
                "image_id": first + row,
                "category_id": 1 + (7 * row + 3 * box) % CLASSES,
                "bbox": [10.0 * box, float(row % 100), 60.5, 40.25],
                "area": 60.5 * 40.25,
                "iscrowd": 0,
            }
            for row, box in boxes
        ],
        "categories": [{"id": label + 1, "name": f"class {label}"} for label in range(CLASSES)],
    }


def _link(folder: Path, names: list[str]) -> None:
    random = np.random.default_rng(0)
    for row, name in enumerate(names):
        source = folder / "files" / f"{row % FILES}_{row // (FILES * LINKS)}.jpg"
        if not source.exists():
            source.parent.mkdir(exist_ok=True)
            coarse = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(source, quality=90)
        target = folder / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.link(source, target)


def experiment_tree(folder: Path) -> dict[str, Any]:
    """Return the config of a simulated run over the pool."""

    def split(name: str) -> dict[str, str]:
        return {"annotations": str(folder / f"{name}.json"), "images": str(folder / "images")}

    return {
        "data": {"train": split("train"), "test": split("test")},
        "detector": {"name": "fcos", "backbone": "tiny", "weights": "none"},
        "training": {"device": "cpu", "threads": 1, "iterations": 1},
        "loop": {"seed_set": "50 images", "query_size": "30 images", "rounds": 3},
        "strategy": {"name": "random"},
        "oracle": {"name": "simulated"},
        "random_seed": 0,
    }


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started


def measure(folder: Path, out: Path) -> dict[str, float]:
    """Return the microseconds an image of the pool of each part; this also runs in an older checkout."""
    from alloop.config import parse_config
    from alloop.loop import beginning
    from alloop.loop.experiment import prepare
    from alloop.loop.recorded_data import splits_by_name
    from alloop.progress import Progress
    from strategies import TABLE

    took: dict[str, float] = {}
    experiment, took["prepare"] = _timed(lambda: prepare(parse_config(experiment_tree(folder)), TABLE))
    pool, quiet = experiment.splits.train.dataset, Progress(quiet=True)
    for part, function in (
        ("class counts", pool.class_counts),
        ("class images", pool.class_images),
        ("fingerprint of the annotations", pool.fingerprint),
    ):
        took[part] = _timed(function)[1]
    paths = [str(folder / "images" / image.file_name) for image in pool.images.values()]
    took["floor of hashing, one thread"] = _timed(lambda: [_floor(path) for path in paths])[1]
    splits = splits_by_name(experiment.splits)
    images, took["hashing"] = _timed(lambda: beginning.checked_images(splits, quiet))
    took["begin_run beside reading the images"] = _begin_run(folder, out, images)
    return {part: seconds / len(paths) * US for part, seconds in took.items()}


def _floor(path: str) -> None:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  the floor makes no Path
        data = file.read()
    hashlib.sha256(data).digest()
    image = Image.open(io.BytesIO(data))
    image.draft("L", (64, 64))
    image.load()


class BegunError(Exception):
    """The run has begun; nothing more is measured."""


def _begin_run(folder: Path, out: Path, images: Any) -> float:
    """Begin a run whose images are hashed already; return the seconds."""
    from alloop.config import parse_config
    from alloop.loop import beginning, engine, opening
    from strategies import TABLE

    begin_run, took = opening.begin_run, []

    def timed(*arguments: Any, **options: Any) -> None:
        took.append(_timed(lambda: begin_run(*arguments, **options))[1])
        raise BegunError

    shutil.rmtree(out, ignore_errors=True)
    with (
        mock.patch.object(beginning, "checked_images", return_value=images),
        mock.patch.object(opening, "begin_run", timed),
        contextlib.suppress(BegunError),
    ):
        engine.run_experiment(parse_config(experiment_tree(folder)), out, TABLE)
    return took[0]


def again(folder: Path, out: Path) -> dict[str, float]:
    """Return the microseconds an image of hashing when the fingerprints are kept: the first time and the second."""
    from alloop.config import parse_config
    from alloop.data.cache_folder import CacheFolder
    from alloop.data.splits import load_splits
    from alloop.loop.recorded_data import splits_by_name
    from alloop.loop.split_leaks import checked_images
    from alloop.progress import Progress

    splits = splits_by_name(load_splits(parse_config(experiment_tree(folder)).data))
    kept, quiet = CacheFolder(out / "kept", 1 << 30), Progress(quiet=True)
    count = len(splits["train"].dataset.images)
    names = ("hashing, fingerprints kept for the next start", "hashing, found by a second start")
    return {name: _timed(lambda: checked_images(splits, quiet, kept))[1] / count * US for name in names}


def whole_run(folder: Path, out: Path) -> dict[str, float]:
    """Run two rounds without reading, training or scoring; return the peak memory in MiB and the seconds by part."""
    from alloop.config import parse_config
    from alloop.data.fingerprints import Fingerprint
    from alloop.evaluation.metrics import Metrics
    from alloop.loop import engine, split_leaks
    from alloop.loop.querying import QuerySession
    from alloop.loop.round_files import model_path
    from strategies import TABLE

    def fingerprints(_source: Any, image_ids: list[int], *_: Any, **__: Any) -> dict[int, Fingerprint]:
        numbers = ((image_id, hashlib.sha256(str(image_id).encode())) for image_id in image_ids)
        return {i: Fingerprint(h.hexdigest(), int.from_bytes(h.digest()[:8], "big")) for i, h in numbers}

    def stub(context: Any, round_: int, *_: Any) -> tuple[None, dict[str, Any]]:
        context.ledger.store(model_path(round_), b"a model", round_)
        return None, Metrics({"ap": 0.0, "ap50": 0.0, "ap75": 0.0}, {}).to_json()

    shutil.rmtree(out, ignore_errors=True)
    config = parse_config(experiment_tree(folder))
    with (
        mock.patch.object(split_leaks, "fingerprints", fingerprints),
        mock.patch.object(engine, "trained_and_evaluated", stub),
        mock.patch("alloop.loop.querying.fitted", return_value=mock.Mock()),
        mock.patch.object(QuerySession, "predicted_boxes", lambda _, chosen: [3.0] * len(chosen.image_ids)),
    ):
        rounds, seconds = _timed(lambda: engine.run_experiment(config, out, TABLE))
    queries = sum(record.timings.get("query", 0.0) for record in rounds)
    return {"peak memory, MiB": peak_memory(), "whole run, s": seconds, "queries, s": queries}


def peak_memory() -> float:
    """Return the peak memory of this process in MiB; `getrusage` also counts the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


PARTS = {"measure": measure, "again": again, "whole_run": whole_run}


def in_process(checkout: Path, part: str, folder: Path, out: Path) -> dict[str, float]:
    """Return what one part measures in a process of its own, with the code of a checkout."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, cwd=out.parent)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def best_of(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the least of each figure."""
    return {name: min(run[name] for run in runs) for name in runs[0]}


def compare(folder: Path, out: Path, before: Path | None, parts: list[str], rounds: int) -> None:
    """Print each figure of this checkout, that of the other one, and their ratio."""
    here, there = Path(__file__).parents[1], before.resolve() if before else None
    own: dict[str, float] = {}
    old: dict[str, float] = {}
    for part in parts:
        runs: list[dict[str, float]] = []
        others: list[dict[str, float]] = []
        for _ in range(rounds):
            runs.append(in_process(here, part, folder, out))
            if there is not None and part != "again":  # which an older checkout may not have
                others.append(in_process(there, part, folder, out))
        own |= best_of(runs)
        old |= best_of(others) if others else {}
    for name, figure in own.items():
        ratio = f"   before {old[name]:10.2f}, ratio {old[name] / figure:8.1f}" if name in old else ""
        print(f"{name:48} {figure:10.2f}{ratio}", flush=True)


def main() -> None:
    """Make the pool and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--before", type=Path, help="another checkout, measured in turns with this one")
    parser.add_argument("--folder", type=Path, help="where the pool is made; a temporary folder by default")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory", action="store_true", help="run two rounds and print the peak memory")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(PARTS[asked.part](asked.folder, asked.out)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary) / "pool"
        make_pool(folder, asked.images, files=not asked.memory)
        print(f"{asked.images:,} images with {BOXES} boxes; microseconds an image unless another unit is named")
        parts = ["whole_run"] if asked.memory else ["measure", "again"]
        compare(folder, Path(temporary) / "run", asked.before, parts, 1 if asked.memory else asked.rounds)


if __name__ == "__main__":
    main()
