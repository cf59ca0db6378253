"""alloop on a GPU, as ratios to a bare torchvision loop and to the CPU of the same machine, measured in one run.

    python benchmarks/gpu.py [--device cpu] [--quick] [--seconds 420] [--out DIR] [PART ...]

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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_data import FULL, QUICK, Scale, photographs, write_data
from gpu_peer import Clock, bare_model, bare_scoring, bare_training, loader

from alloop.data.pixels import PixelCache
from alloop.detectors.fitted import FittedTorchDetector
from alloop.loop.context import pixel_caches
from alloop.loop.experiment import Experiment, prepare
from alloop.randomness import RoundSeed
from alloop.training.batches import TrainingBatches
from alloop.training.checkpoints import NoCheckpoints
from alloop.training.supervised import SupervisedObjective, train
from strategies import TABLE

EPOCHS = 3  # of each measured training and of the bare loop's scoring; its first one is left out


@dataclass(frozen=True)
class Bench:
    """Where a part measures, and the folder of the photographs, where it writes each figure as soon as it has it."""

    part: str
    device: torch.device
    scale: Scale
    folder: Path

    @property
    def with_amp(self) -> tuple[bool, ...]:
        """AMP on and off; on the CPU there is none."""
        return (True, False) if self.device.type == "cuda" else (False,)

    @property
    def detectors(self) -> tuple[str, ...]:
        """The detectors of parts that take them all; a quick run takes one."""
        return ("fcos", "faster_rcnn") if self.scale is FULL else ("fcos",)

    def row(self, what: str, **figures: Any) -> None:
        """Append one line of figures to the file of this part."""
        with (self.folder / f"{self.part}.jsonl").open("a") as file:
            file.write(json.dumps({"part": self.part, "what": what, **figures}) + "\n")

    def experiment(self, detector: str, *, amp: bool = True) -> Experiment:
        """Return an experiment on the photographs."""
        config = photographs(self.folder, self.scale, detector, amp=amp, device=self.device.type)
        return prepare(config, TABLE)

    def peak(self) -> float | None:
        """Return the peak of the allocated device memory in GiB since the last call."""
        if self.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
        return round(peak, 2)


class TimedBatches:
    """Training batches whose loading is counted as waiting."""

    def __init__(self, batches: TrainingBatches, clock: Clock) -> None:
        self._batches, self._clock = batches, clock

    def __call__(self, step: int) -> Any:
        """Return the batch of a step."""
        return self._clock.waiting(lambda: self._batches(step))


class TimedDetector(FittedTorchDetector):
    """A fitted detector whose reading of images is counted as waiting."""

    clock: Clock

    def _image(self, image_id: Any) -> Any:
        return self.clock.waiting(lambda: FittedTorchDetector._image(self, image_id))


def trained(experiment: Experiment, cache: PixelCache, steps: int) -> tuple[Any, Clock]:
    """Train a new detector with alloop's own loop; return it and the clock of its steps."""
    config, device, clock = experiment.config.training, experiment.device, Clock(experiment.device)
    labeled = experiment.splits.train.dataset.annotations
    batches: Any = TrainingBatches(cache, labeled, config, RoundSeed(0, 0), with_masks=False, device=device)
    detector = experiment.new_detector(0)
    train(
        detector,
        SupervisedObjective(detector, TimedBatches(batches, clock)),
        config,
        steps=steps,
        seed=RoundSeed(0, 0),
        device=device,
        store=NoCheckpoints(),
        progress=lambda _step, _loss: None,
    )
    clock.stop()
    return detector, clock


def training(bench: Bench, name: str) -> None:
    """Measure training: alloop in its first pass, which decodes, and in later ones; the bare loop without its first."""
    scale = bench.scale
    per_epoch = scale.images // scale.batch_size
    data = loader(bench.folder, "train", scale, name, training=True)
    for amp in bench.with_amp:
        experiment = bench.experiment(name, amp=amp)
        trained(experiment, pixel_caches(experiment).training, per_epoch)  # warm up
        bench.peak()
        _, clock = trained(experiment, pixel_caches(experiment).training, EPOCHS * per_epoch)
        ours_peak = bench.peak()
        model = bare_model(experiment.new_detector(0), name, scale)
        bare = bare_training(model, data, EPOCHS, bench.device, amp=amp, lr=experiment.config.training.lr)
        peer_peak = bench.peak()
        peer = _rate(bare, scale.batch_size, per_epoch)
        for pass_, first, last in (("first pass", 0, per_epoch), ("later passes", per_epoch, None)):
            ours = _rate(clock, scale.batch_size, first, last)
            label = f"{name}, AMP {'on' if amp else 'off'}, {pass_}"
            bench.row(label, **_compared(ours, peer), gib=ours_peak, peer_gib=peer_peak)
        del model


def scoring(bench: Bench, name: str) -> None:
    """Measure scoring with the weights of a short training: alloop (float32) while it decodes and from its cache."""
    scale, experiment = bench.scale, bench.experiment(name)
    caches = pixel_caches(experiment)
    detector, _ = trained(experiment, caches.training, 2 * scale.images // scale.batch_size)
    model = bare_model(detector, name, scale)
    pool, ids = experiment.splits.train, sorted(experiment.splits.train.dataset.images)

    def fitted(cls: type[FittedTorchDetector], cache: PixelCache) -> Any:
        names, gives = pool.dataset.class_names, experiment.detector.gives
        size, device = scale.batch_size, bench.device
        return cls(detector, pool.images, cache, names, gives=gives, batch_size=size, device=device)

    fitted(FittedTorchDetector, caches.pool).detections(ids)  # warm up
    timed = fitted(TimedDetector, pixel_caches(experiment).pool)
    rates, peaks = {}, {}
    for pass_ in ("first pass", "later passes"):
        timed.clock = Clock(bench.device)
        bench.peak()
        found = timed.detections(ids)
        timed.clock.stop()
        rates[pass_], peaks[pass_] = _rate(timed.clock, 1, 0), bench.peak()
    data = loader(bench.folder, "train", scale, name, training=False)
    for amp in bench.with_amp:
        bench.peak()
        clock = bare_scoring(model, data, EPOCHS, bench.device, amp=amp)
        peer, peer_peak = _rate(clock, scale.batch_size, len(data)), bench.peak()
        for pass_, ours in rates.items():
            label = f"{name}, bare AMP {'on' if amp else 'off'}, {pass_}"
            memory = {"gib": peaks[pass_], "peer_gib": peer_peak}
            bench.row(label, **_compared(ours, peer), **memory, detections=sum(map(len, found)) / len(ids))


def _rate(clock: Clock, images: int, first: int, last: int | None = None) -> tuple[float, float]:
    """Return images per second and the share of waiting between two inputs of `images` images each."""
    seconds, share = clock.between(first, last)
    steps = (clock.inputs if last is None else last) - first
    return images * steps / seconds, share


def _compared(ours: tuple[float, float], peer: tuple[float, float]) -> dict[str, Any]:
    return {
        "unit": "images/s",
        "alloop": round(ours[0], 2),
        "peer": round(peer[0], 2),
        "ratio": round(ours[0] / peer[0], 3),
        "waiting": round(ours[1], 3),
        "peer_waiting": round(peer[1], 3),
    }


def _more_parts() -> dict[str, Callable[[Bench], None]]:
    """Return the parts that compare the device with the CPU, look for failures, or profile."""
    import gpu_selection
    import gpu_works

    return {
        "influence": gpu_selection.influence,
        "k_center": gpu_selection.k_center,
        "works": gpu_works.works,
        "profile": gpu_works.profile,
    }


LIMITS = {  # seconds; the first ones matter most
    "training_fcos": 110,
    "training_faster_rcnn": 110,
    "scoring_fcos": 70,
    "scoring_faster_rcnn": 70,
    "influence": 90,
    "k_center": 60,
    "works": 150,
    "profile": 60,
}


def measure(part: str, bench: Bench) -> None:
    """Run one part in this process."""
    kind, _, name = part.partition("_")
    if kind == "training":
        training(bench, name)
    elif kind == "scoring":
        scoring(bench, name)
    else:
        _more_parts()[part](bench)


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
    parser.add_argument("--seconds", type=float, default=420, help="of all parts together")
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
