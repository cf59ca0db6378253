"""A part of `gpu.py`: small runs of every strategy and way of training, each stopped and resumed on the device."""

import math
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_bench import Bench
from gpu_data import FULL

from alloop.config import ExperimentConfig, load_config
from alloop.loop.engine import run_experiment
from alloop.loop.parts import detector_gives, lacking
from alloop.progress import Progress
from alloop.strategy import make_strategy
from strategies import TABLE

CONFIGS = Path(__file__).parent.parent / "configs"
SMALL = [
    "data.digit_scenes.pool=48",
    "data.digit_scenes.reference=8",
    "data.digit_scenes.test=12",
    "training.iterations=8",
    "training.batch_size=4",
    "training.warmup_iterations=2",
    "loop.seed_set=16",
    "loop.query_size=6",
]
QUICK_RUNS = {"k_center", "tfdp", "semi-supervised, soft_teacher"}


class StoppedError(Exception):
    """A run that is stopped on purpose."""


class StopAt(Progress):
    """Progress that stops a training of the second round after some steps."""

    def step(self, task: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
        """Raise StoppedError after five steps of the second training."""
        if task.startswith("round 1: training") and done == 5:
            raise StoppedError


def runs(device: str) -> Iterator[tuple[str, ExperimentConfig]]:
    """Yield small runs: each strategy, each detector, semi-supervised training in both styles."""
    sets = [*SMALL, f"training.device={device}"]
    for name in TABLE:
        demo = load_config(CONFIGS / "demo.yaml", [*sets, "loop.rounds=2", "strategy.name=random"])
        strategy = make_strategy(name, {}, TABLE)
        file = "digits_mask_rcnn" if lacking(strategy, detector_gives(demo)) else "demo"
        yield name, _config(file, [*sets, "loop.rounds=2"], name)
    long_tailed = [*sets, "training.semi_supervised.burn_in=0.25", "loop.rounds=2"]
    for style in ("soft_teacher", "unbiased_teacher"):
        more = [f"training.semi_supervised.style={style}", "training.semi_supervised.threshold=0.05"]
        yield f"semi-supervised, {style}", load_config(CONFIGS / "digits_long_tailed.yaml", [*long_tailed, *more])


def _config(file: str, sets: list[str], strategy: str) -> ExperimentConfig:
    """Return a config with another strategy; parameters of the file's own strategy are left out."""
    import yaml

    tree = yaml.safe_load((CONFIGS / f"{file}.yaml").read_text())
    tree["strategy"] = {"name": strategy}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as copy:
        copy.write(yaml.safe_dump(tree))
        copy.flush()
        return load_config(Path(copy.name), sets)


def works(bench: Bench) -> None:
    """Run everything on the device, each run stopped in the middle of a training and resumed from a checkpoint."""
    for name, config in runs(bench.device.type):
        if bench.scale is not FULL and name not in QUICK_RUNS:
            continue
        started = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory() as folder:
                rounds = _stopped_and_resumed(config, Path(folder))
            problem = None if all(map(math.isfinite, _numbers(rounds))) else "numbers that are not finite"
        except Exception as error:  # noqa: BLE001  one failure must not hide the others
            traceback.print_exc()
            problem = f"{type(error).__name__}: {error}"[:300]
        seconds = round(time.perf_counter() - started, 1)
        bench.row(name, unit="s", alloop=seconds, **({"error": problem} if problem else {}))


def _stopped_and_resumed(config: ExperimentConfig, folder: Path) -> Any:
    training = config.training.model_copy(update={"checkpoint_seconds": 0.0})
    config = config.model_copy(update={"training": training})
    try:
        run_experiment(config, folder, TABLE, progress=StopAt(quiet=True), report_warnings=False)
    except StoppedError:
        return run_experiment(config, folder, TABLE, progress=Progress(quiet=True), report_warnings=False)
    raise AssertionError("the run was not stopped")


def _numbers(rounds: Any) -> list[float]:
    return [float(record.metrics["ap"]) for record in rounds]
