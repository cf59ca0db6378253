"""Show that two versions of alloop give the same results, byte by byte, on the same jobs.

    python benchmarks/same.py record CHECKOUT OUT.json [--jobs demo,study,...] [--data DIR]
    python benchmarks/same.py compare BEFORE.json AFTER.json [--expected predicted_boxes]

`record` runs the jobs with the package that lies in CHECKOUT and writes what must not change: the ledger as CSV,
`compare --format json`, every selection, the hash of every model, and what `prune` keeps. Run folders are read
with sqlite3 alone, so that neither version is judged by its own code. `compare` prints one line per job; exit 1
when one differs. Differences whose path holds the `--expected` text are counted apart and fail nothing.

Jobs: `demo` (`alloop demo`), `study` (six strategies, two seeds, embedded digits), `people` (two rounds through
the folder oracle), `tfdp` and `csod` (`alloop prune` on real data; they need DIR, the folder that holds
`coco_mini_ccby` and `bccd`).
"""

import argparse
import csv
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "data": {"digit_scenes": {"pool": 60, "reference": 8, "test": 24, "max_digits": 3}},
    "detector": {
        "name": "faster_rcnn",
        "backbone": "tiny",
        "weights": "digits",
        "channels": 64,
        "head_width": 64,
        "anchor_size": 12,
        "short_side": 64,
        "long_side": 64,
        "proposals": 50,
        "sampled_regions": 32,
        "max_detections": 10,
    },
    "training": {"optimizer": "adamw", "lr": 0.002, "batch_size": 4, "iterations": 20, "ema": 0.9},
    "loop": {"seed_set": 12, "query_size": "20 boxes", "rounds": 3},
    "strategy": {"name": "entropy"},
    "random_seed": 0,
}
STRATEGIES = "entropy,k_center,influence,learning_loss,localization_tightness,csod"


class Version:
    """The `alloop` command of one checkout."""

    def __init__(self, checkout: Path) -> None:
        threads = {"OMP_NUM_THREADS": "1"}
        self._environment = os.environ | threads | {"PYTHONPATH": str(checkout.resolve())}

    def __call__(self, *arguments: str | Path, allowed: tuple[int, ...] = (0,)) -> str:
        """Run one command; its standard output."""
        command = [sys.executable, "-m", "alloop", *map(str, arguments)]
        done = subprocess.run(command, env=self._environment, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode not in allowed:
            sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout


def run_facts(alloop: Version, folder: Path) -> dict[str, Any]:
    """What must not change of one run."""
    with sqlite3.connect(folder / "run.db") as database:
        models = database.execute("SELECT path, sha256 FROM file WHERE step IS NULL ORDER BY path").fetchall()
        rounds = database.execute("SELECT round, model_sha256, metrics, notes FROM round ORDER BY round").fetchall()
        chosen = database.execute(
            "SELECT round, rank, image_id, utility FROM selection ORDER BY round, rank"
        ).fetchall()
        boxes = database.execute("SELECT predicted_boxes FROM selection ORDER BY round, rank").fetchall()
    ledger = alloop("ledger", folder)
    return {"ledger": ledger, "models": models, "rounds": rounds, "selections": chosen, "predicted_boxes": boxes}


def study_facts(alloop: Version, folder: Path) -> dict[str, Any]:
    """What must not change of a study."""
    runs = {path.parent.name: run_facts(alloop, path.parent) for path in sorted(folder.glob("*/run.db"))}
    return {"runs": runs, "compare": json.loads(alloop("compare", folder, "--format", "json"))}


def demo(alloop: Version, folder: Path, _data: Path | None) -> Any:
    alloop("demo", "--out", folder / "demo", "--quiet")
    return study_facts(alloop, folder / "demo")


def study(alloop: Version, folder: Path, _data: Path | None) -> Any:
    config = folder / "study.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    options = ["--strategies", STRATEGIES, "--seeds", "0,1", "--workers", "2", "--quiet", "--out", folder / "study"]
    alloop("study", config, *options)
    return study_facts(alloop, folder / "study")


def people(alloop: Version, folder: Path, _data: Path | None) -> Any:
    """Two rounds: the seed set and one query; the answers are the hidden labels of the embedded set."""
    alloop("export-digits", folder / "digits", "--set", "pool=24", "--set", "reference=4", "--set", "test=8")
    truth = json.loads((folder / "digits/instances_pool.json").read_text())
    (folder / "digits/unlabeled.json").write_text(json.dumps(truth | {"annotations": []}))
    splits = {"train": "unlabeled", "test": "instances_test"}
    data = {s: {"annotations": f"digits/{n}.json", "images": "digits/images"} for s, n in splits.items()}
    oracle = {"name": "folder", "folder": "tasks", "format": "coco"}
    loop = {"seed_set": 6, "query_size": 4, "rounds": 2}
    config = folder / "people.yaml"
    config.write_text(yaml.safe_dump(CONFIG | {"data": data, "oracle": oracle, "loop": loop}))
    for round_ in range(2):
        alloop("run", config, "--quiet", "--out", folder / "run", allowed=(3,))
        tasks = folder / f"tasks/round_{round_:03d}"
        asked = {image["file_name"] for image in json.loads((tasks / "tasks.json").read_text())["images"]}
        images = [image for image in truth["images"] if image["file_name"] in asked]
        ids = {image["id"] for image in images}
        boxes = [box for box in truth["annotations"] if box["image_id"] in ids]
        (tasks / "answers.json").write_text(json.dumps(truth | {"images": images, "annotations": boxes}))
    alloop("run", config, "--quiet", "--out", folder / "run")
    return run_facts(alloop, folder / "run")


def tfdp(alloop: Version, folder: Path, data: Path | None) -> Any:
    if data is None:
        return None
    kept, scores = folder / "kept.json", folder / "scores.csv"
    annotations = next((data / "coco_mini_ccby").rglob("*.json"))
    options = ["--keep", "0.5", "--quiet", "--out", kept, "--scores", scores, "--set", f"instances={folder / 'i.csv'}"]
    alloop("prune", annotations, "--strategy", "tfdp", *options)
    return {"kept": digest(kept), "instances": digest(folder / "i.csv"), "scores": rows(scores)}


def csod(alloop: Version, folder: Path, data: Path | None) -> Any:
    if data is None:
        return None
    bccd, config = data / "bccd", folder / "bccd.yaml"
    parts = {"train": "train", "reference": "val", "test": "test"}
    splits = {
        split: {"annotations": f"{bccd}/annotations/instances_{part}.json", "images": f"{bccd}/images"}
        for split, part in parts.items()
    }
    detector = CONFIG["detector"] | {"short_side": 120, "long_side": 160}
    config.write_text(yaml.safe_dump(CONFIG | {"data": splits, "detector": detector}))
    kept, scores = folder / "kept.json", folder / "scores.csv"
    options = ["--keep", "0.3", "--quiet", "--out", kept, "--scores", scores, "--config", config]
    alloop("prune", bccd / "annotations/instances_train.json", "--strategy", "csod", *options)
    return {"kept": digest(kept), "scores": rows(scores), "model": run_facts(alloop, folder / "kept.model")}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as handle:
        return list(csv.reader(handle))


JOBS: dict[str, Callable[[Version, Path, Path | None], Any]] = {
    "demo": demo,
    "study": study,
    "people": people,
    "tfdp": tfdp,
    "csod": csod,
}


def record(checkout: Path, out: Path, jobs: list[str], data: Path | None) -> int:
    alloop, found = Version(checkout), {}
    for name in jobs:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = JOBS[name](alloop, Path(folder), data)
            print(f"{name}: recorded" if found[name] else f"{name}: left out, --data is not given", flush=True)
        out.write_text(json.dumps(found, indent=1))
    return 0


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Where two recordings differ; a key that only the later one has is not a difference."""
    if isinstance(before, dict) and isinstance(after, dict):
        gone = [f"{where}/{key} is gone" for key in before.keys() - after.keys()]
        shared = [key for key in before if key in after]
        return gone + [text for key in shared for text in differences(before[key], after[key], f"{where}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [text for k, (a, b) in pairs for text in differences(a, b, f"{where}/{k}")]
    return [] if before == after else [f"{where}: {str(before)[:80]!r} became {str(after)[:80]!r}"]


def compare(before: Path, after: Path, expected: str | None) -> int:
    """Print one line per job; return 1 when a job differs otherwise than expected."""
    old, new = (json.loads(path.read_text()) for path in (before, after))
    failed = False
    for name in [job for job in old if old[job] and new.get(job)]:
        found = differences(old[name], new[name])
        allowed = [text for text in found if expected and expected in text.partition(":")[0]]
        others = [text for text in found if text not in allowed]
        failed |= bool(others)
        line = f"{name}: {f'{len(others)} differences, first {others[0]}' if others else 'identical'}"
        print(line + (f"; {len(allowed)} expected differences in {expected}" if allowed else ""))
    return int(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording, comparing = commands.add_parser("record"), commands.add_parser("compare")
    recording.add_argument("checkout", type=Path)
    recording.add_argument("out", type=Path)
    recording.add_argument("--jobs", default=",".join(JOBS))
    recording.add_argument("--data", type=Path, default=os.environ.get("ALLOOP_DATA"))
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--expected")
    options = parser.parse_args()
    if options.command == "compare":
        return compare(options.before, options.after, options.expected)
    data = options.data and Path(options.data).resolve()
    return record(options.checkout, options.out.resolve(), options.jobs.split(","), data)


if __name__ == "__main__":
    sys.exit(main())
