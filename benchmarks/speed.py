"""Speed and memory as ratios, each measured in this run against a named peer or a physical floor.

    python benchmarks/speed.py [training] [overhead] [k_center] [evaluation] [startup]

Best of several repetitions each, peer and own code in turn, so that a busy machine disturbs both.
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from alloop.config import ExperimentConfig, load_config
from strategies import TABLE
from strategies.k_center import k_center_greedy

DEMO = Path(__file__).parent.parent / "configs" / "demo.yaml"


def best(*functions: Callable[[], object], repetitions: int = 5) -> list[float]:
    """Return the least seconds of each function, measured in turn."""
    seconds = [float("inf")] * len(functions)
    for _ in range(repetitions):
        for number, function in enumerate(functions):
            started = time.perf_counter()
            function()
            seconds[number] = min(seconds[number], time.perf_counter() - started)
    return seconds


def line(name: str, text: str, ratio: float, target: str, *, met: bool) -> None:
    print(f"{name:<12} {text}; ratio {ratio:.3f} (target {target}) {'ok' if met else 'MISSED'}", flush=True)


def demo(**sets: object) -> ExperimentConfig:
    return load_config(DEMO, [f"{key.replace('__', '.')}={value}" for key, value in sets.items()])


def training() -> None:
    """Time training. Peer: a bare torchvision loop with the same model, batches and optimizer, images in memory."""
    import torch
    from bare_loop import as_torchvision

    from alloop.data.pixels import PixelCache
    from alloop.loop.experiment import prepare
    from alloop.randomness import RoundSeed
    from alloop.training.batches import TrainingBatches
    from alloop.training.checkpoints import NoCheckpoints
    from alloop.training.supervised import SupervisedObjective, make_optimizer, train

    steps = 40
    experiment = prepare(demo(training__ema=0.0, training__clip_norm="null", training__device="cpu"), TABLE)
    config, pool = experiment.config, experiment.splits.train
    ids = sorted(pool.dataset.images)[:200]
    labeled = {i: pool.dataset.annotations[i] for i in ids}
    batches = TrainingBatches(
        PixelCache(pool.images, 64, 64),
        labeled,
        config.training.model_copy(update={"flip": 0.0}),
        RoundSeed(0, 0),
        with_masks=False,
        device=torch.device("cpu"),
    )
    memory = [batches(step)[:2] for step in range(steps)]  # the peer pays nothing for loading

    def ours() -> None:
        detector = experiment.new_detector(0)
        train(
            detector,
            SupervisedObjective(detector, batches),
            config.training,
            steps=steps,
            seed=RoundSeed(0, 0),
            device=torch.device("cpu"),
            store=NoCheckpoints(),
            progress=lambda *_: None,
        )

    def bare() -> None:
        module = as_torchvision(experiment.new_detector(0).module).train()
        optimizer = make_optimizer(module, config.training)
        for images, targets in memory:
            loss = sum(module(images, targets).values())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    mine, peer = best(ours, bare, repetitions=4)
    images = steps * config.training.batch_size
    text = f"{images / mine:.0f} images/s, bare torchvision loop {images / peer:.0f}"
    line("training", text, peer / mine, ">= 0.95", met=peer / mine >= 0.95)


def overhead() -> None:
    """Time what a round does besides training and evaluation: random selection, ledger, records."""
    from alloop.ledger.store import read_ledger
    from alloop.loop.engine import run_experiment

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        config = demo(strategy__name="random", loop__rounds=3)
        run_experiment(config, Path(folder), TABLE)
        whole = time.perf_counter() - started
        with read_ledger(Path(folder)) as ledger:
            timings = [record.timings for record in ledger.rounds()]
    working = sum(t["train"] + t["evaluate"] for t in timings)
    between = sum(sum(t.values()) for t in timings) - working
    share = between / working
    text = f"{between:.3f} s in 3 rounds of {working:.1f} s ({whole:.1f} s with start)"
    line("overhead", text, share, "< 0.02", met=share < 0.02)


def read_bandwidth(array: np.ndarray) -> float:
    """Return the bytes per second at which this process reads an array with all its threads, the best of four reads."""
    import torch

    flat, vector = array.reshape(-1), np.ones(array.shape[1], dtype=array.dtype)
    shared = torch.from_numpy(flat)
    return array.nbytes / min(best(lambda: flat @ flat, flat.sum, shared.sum, lambda: array @ vector, repetitions=9))


def k_center() -> None:
    """Time k-center. Floor: one read of all features per pick at the measured memory bandwidth of this process."""
    n, d, k = 100_000, 512, 60
    features = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    k_center_greedy(features, [0], 3, "euclidean")
    for metric in ("euclidean", "cosine"):
        few, many = best(
            lambda metric=metric: k_center_greedy(features, [0], 10, metric),
            lambda metric=metric: k_center_greedy(features, [0], 10 + k, metric),
            repetitions=4,
        )
        bandwidth = read_bandwidth(features)
        ours = k * features.nbytes / (many - few)
        text = f"{metric}: {ours / 1e9:.1f} GB/s, reading alone {bandwidth / 1e9:.1f} GB/s"
        line("k_center", text, ours / bandwidth, ">= 0.7", met=ours / bandwidth >= 0.7)
    tracemalloc.start()
    k_center_greedy(features, range(200), 10, "cosine")
    extra = tracemalloc.get_traced_memory()[1] / features.nbytes
    tracemalloc.stop()
    line("k_center", "memory beside the features, as a share of them", extra, "<= 0.10", met=extra <= 0.10)


def evaluation() -> None:
    """Time evaluation. Peer: pycocotools on the same 2,000 images, from dictionaries to the precision table."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from alloop.evaluation.coco_ap import coco_dicts, precision_table
    from alloop.values import Annotations, Detections

    chance, classes = np.random.default_rng(0), 20
    truth, detections = {}, {}
    for image_id in range(2000):
        corner, side = chance.uniform(0, 400, (8, 2)), chance.uniform(8, 150, (8, 2))
        boxes = np.concatenate([corner, corner + side], axis=1)
        labels = chance.integers(0, classes, 8)
        truth[image_id] = Annotations(boxes, labels, np.zeros(8, bool), np.ones(8, bool))
        rows = chance.integers(0, 8, 40)
        jitter = boxes[rows] + chance.normal(0, 8, (40, 4))
        scores = np.sort(chance.random(40))[::-1]
        wrong = np.where(chance.random(40) < 0.3, chance.integers(0, classes, 40), labels[rows])
        detections[image_id] = Detections(jitter, scores, wrong, np.zeros((40, classes)))
    tree, results = coco_dicts(truth, detections, classes, "bbox")
    tables = {}

    def ours() -> None:
        tables["ours"] = precision_table(tree, [dict(r) for r in results], "bbox")

    def peer() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            real = COCO()
            real.dataset = tree
            real.createIndex()
            evaluator = COCOeval(real, real.loadRes([dict(r) for r in results]), "bbox")
            evaluator.evaluate()
            evaluator.accumulate()
        tables["peer"] = evaluator.eval["precision"][..., -1]

    mine, theirs = best(ours, peer, repetitions=2)
    assert np.allclose(tables["ours"], tables["peer"])
    text = f"{mine:.2f} s, pycocotools {theirs:.2f} s, 2,000 images, 80,000 detections, equal tables"
    line("evaluation", text, theirs / mine, ">= 5", met=theirs / mine >= 5)


def startup() -> None:
    """Time commands. Floor: an empty Python process."""
    program = Path(sys.executable).with_name("alloop")
    with tempfile.TemporaryDirectory() as folder:
        from alloop.loop.engine import run_experiment

        config = demo(strategy__name="random", loop__rounds=1, training__iterations=1, data__digit_scenes__pool=100)
        run_experiment(config, Path(folder), TABLE)
        commands = ([sys.executable, "-c", "pass"], [program, "--help"], [program, "status", folder])
        bare, *ours = best(
            *(lambda c=c: subprocess.run(c, stdout=subprocess.DEVNULL, check=True) for c in commands), repetitions=5
        )
    for name, seconds in zip(("--help", "status"), ours, strict=True):
        text = f"alloop {name} {seconds:.2f} s, empty Python {bare:.2f} s"
        line("startup", text, seconds / bare, "under 0.5 s", met=seconds < 0.5)


PARTS = {"training": training, "overhead": overhead, "k_center": k_center, "evaluation": evaluation, "startup": startup}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
