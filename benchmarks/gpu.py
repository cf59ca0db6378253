"""alloop on a GPU, as ratios to a bare torchvision loop and to the CPU of the same machine, measured in one run.

    python benchmarks/gpu.py [--device cpu] [--quick] [--seconds 600] [--out DIR] [PART ...]

It prints a table and leaves two files in DIR: gpu.json with all figures, gpu.log with messages and profiles.

The bare loop follows torchvision's object detection tutorial: a DataLoader with 8 workers, resizing on the device.
Both train and score FCOS and Faster R-CNN with ResNet-50 FPN and the same random weights on generated JPEG files.
Each part runs in a process of its own with a time limit; what it measured before it failed is kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from gpu_bench import Bench
from gpu_data import FULL, QUICK, write_data

LIMITS = {  # seconds; the first ones matter most
    "training_fcos": 110,
    "training_faster_rcnn": 110,
    "scoring_fcos": 70,
    "scoring_faster_rcnn": 70,
    "k_center": 60,
    "influence_fcos": 90,
    "influence_faster_rcnn": 90,
    "works": 150,
    "profile_fcos": 90,
    "profile_faster_rcnn": 60,
}


def measure(part: str, bench: Bench) -> None:
    """Run one part in this process."""
    import gpu_loops
    import gpu_profile
    import gpu_selection
    import gpu_works

    if part == "works":
        return gpu_works.works(bench)
    if part == "k_center":
        return gpu_selection.k_center(bench)
    kind, _, name = part.partition("_")
    by_kind = {
        "training": gpu_loops.training,
        "scoring": gpu_loops.scoring,
        "influence": gpu_selection.influence,
        "profile": gpu_profile.profile,
    }
    return by_kind[kind](bench, name)


def run_all(parts: list[str], arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Run each part in a process with a time limit; return all rows, and one row for each failure."""
    deadline, rows = time.monotonic() + arguments.seconds, []
    for part in parts:
        started = time.monotonic()
        limit = min(LIMITS[part], deadline - started)
        problem = run_part(part, limit, arguments, folder) if limit > 5 else "not run, no time was left"
        results = folder / f"{part}.jsonl"
        rows += [json.loads(text) for text in results.read_text().splitlines()] if results.exists() else []
        if problem:
            rows.append({"part": part, "what": "failed", "error": problem})
        print(f"{part}: {time.monotonic() - started:.0f} s{f', {problem}' if problem else ''}", flush=True)
        write(arguments, rows, folder)
    return rows


def run_part(part: str, limit: float, arguments: argparse.Namespace, folder: Path) -> str | None:
    """Run one part in a process; return what went wrong, None if nothing."""
    log = folder / f"{part}.log"
    command = [sys.executable, __file__, "--part", part, "--data", folder, *_passed_on(arguments)]
    with log.open("w") as file:
        try:
            code = subprocess.run(command, stdout=file, stderr=file, timeout=limit, check=False).returncode
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s"
    last = (log.read_text().strip().splitlines() or [""])[-1]
    return f"exit code {code}: {last}" if code else None


def write(arguments: argparse.Namespace, rows: list[dict[str, Any]], folder: Path) -> None:
    """Write all figures so far, and all messages and profiles."""
    tree = {"machine": machine(arguments.device), "quick": arguments.quick, "rows": rows}
    (arguments.out / "gpu.json").write_text(json.dumps(tree, indent=1) + "\n")
    logs = sorted([*folder.glob("*.log"), *folder.glob("profile_*.txt")])
    (arguments.out / "gpu.log").write_text("\n".join(f"== {path.name}\n{path.read_text()}" for path in logs))


def _passed_on(arguments: argparse.Namespace) -> list[str]:
    return ["--device", arguments.device, *(["--quick"] if arguments.quick else [])]


def machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    import torchvision

    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cpu_cores": os.cpu_count(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": sys.version.split()[0],
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "command": " ".join(["benchmarks/gpu.py", *sys.argv[1:]]),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text, one line each."""
    lines = []
    for row in rows:
        figures = (f"{key} {value}" for key, value in row.items() if key not in ("part", "what") and value is not None)
        lines.append(f"{row['part']:<22} {row['what']:<44} {', '.join(figures)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(LIMITS)}; all by default")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see whether everything runs")
    parser.add_argument("--seconds", type=float, default=600, help="of all parts together")
    parser.add_argument("--out", type=Path, default=Path("gpu_results"))
    parser.add_argument("--part", help=argparse.SUPPRESS)  # these two are for the processes of the parts
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else FULL
    if arguments.part:
        measure(arguments.part, Bench(arguments.part, torch.device(arguments.device), scale, arguments.data))
        return
    if unknown := set(arguments.parts) - LIMITS.keys():
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), scale)
        rows = run_all(arguments.parts or list(LIMITS), arguments, Path(folder))
    print(table(rows))


if __name__ == "__main__":
    main()
