"""Parts of `gpu.py`: embeddings, k-center and influence on the device and on the CPU of the same machine."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gpu_bench import Bench, trained

from alloop.detectors.fitted import FittedTorchDetector
from alloop.loop.experiment import Experiment
from strategies.inverse_hessian import norm
from strategies.k_center import k_center_greedy

CPU = torch.device("cpu")
KINDS = ("detections", "embeddings", "reference gradient", "first curvature product", "curvature product", "scores")


def seconds(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and the seconds until the device has finished it."""
    started = time.perf_counter()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - started


def k_center_on(features: np.ndarray, k: int, metric: str, device: torch.device) -> list[int]:
    """Return the picks of `k_center_greedy` from row 0, computed by torch with the features on a device."""
    x = torch.from_numpy(features).to(device)
    norms = (x * x).sum(dim=1)
    distance = torch.full_like(norms, torch.inf)
    distance[0] = -torch.inf
    row, picked = torch.zeros((), dtype=torch.int64, device=device), []
    for number in range(k + 1):
        product = x @ x[row]
        if metric == "euclidean":
            product = norms + norms[row] - 2 * product
        else:
            product = 1 - product / (norms.sqrt() * norms[row].sqrt())
        distance = torch.minimum(distance, product)
        distance[row] = -torch.inf
        if number < k:
            row = distance.argmax()
            picked.append(row)
    return torch.stack(picked).tolist()


def k_center(bench: Bench) -> None:
    """Time alloop's k-center, which computes on the CPU, beside the same arithmetic on the device."""
    scale = bench.scale
    features = np.random.default_rng(0).normal(size=(scale.rows, 512)).astype(np.float32)
    for metric in ("euclidean", "cosine"):
        k_center_on(features, 2, metric, bench.device)
        on_device, fast = seconds(lambda metric=metric: k_center_on(features, scale.picks, metric, bench.device))
        k_center_greedy(features, [0], 2, metric)
        ours, slow = seconds(lambda metric=metric: k_center_greedy(features, [0], scale.picks, metric))
        same = float(np.mean(np.array(ours) == np.array(on_device)))
        bench.row(
            f"{metric}, {scale.picks} of {scale.rows} rows",
            unit="s",
            alloop=round(slow, 4),
            peer=round(fast, 4),
            ratio=round(fast / slow, 3),
            same_picks=same,
            note="alloop on the CPU; peer: torch on the device",
        )


def fitted_on(
    bench: Bench, device: torch.device, experiment: Experiment, detector: Any, count: int
) -> FittedTorchDetector:
    """Return a fitted detector on a device, the first `count` images of the pool decoded."""
    pool, cache = experiment.splits.train, bench.caches(experiment).pool
    for image_id in sorted(pool.dataset.images)[:count]:
        cache.read(image_id)
    detector.module.to(device)
    return FittedTorchDetector(
        detector,
        pool.images,
        cache,
        pool.dataset.class_names,
        gives=experiment.detector.gives,
        batch_size=experiment.config.training.batch_size,
        device=device,
    )


def influence(bench: Bench, name: str) -> None:
    """Time the derivatives that influence takes of one image, on the device and on the CPU, and compare them."""
    experiment, scale = bench.experiment(name), bench.scale
    truth = experiment.splits.train.dataset.annotations
    steps = scale.images // scale.batch_size
    detector, _ = trained(experiment, bench.caches(experiment).training, steps)
    bench.peak()
    device = derivatives(fitted_on(bench, bench.device, experiment, detector, scale.probed), truth, scale.probed)
    peak, few = bench.peak(), sorted(truth)[: scale.probed_cpu]
    for what in KINDS:
        bench.row(f"{name}, {what}, one image", unit="s", alloop=round(device[what], 5), gib=peak)
    cpu = derivatives(fitted_on(bench, CPU, experiment, detector, scale.probed_cpu), truth, scale.probed_cpu)
    for what in KINDS:
        bench.row(
            f"{name}, {what}, device against CPU",
            unit="s",
            alloop=round(device[what], 5),
            peer=round(cpu[what], 5),
            ratio=round(cpu[what] / device[what], 2),
            note="peer: alloop on the CPU of this machine",
        )
    again = fitted_on(bench, bench.device, experiment, detector, scale.probed_cpu)
    slopes = again.loss_slopes(few, truth, cpu["v"])
    bench.row(
        f"{name}, distance of device and CPU",
        gradient=_distance(again.loss_gradient(few, truth), cpu["gradient"]),
        curvature=_distance(again.curvature_product(few, truth, cpu["v"]), cpu["product"]),
        slopes=float(np.linalg.norm(slopes - cpu["slopes"]) / np.linalg.norm(cpu["slopes"])),
        note="relative; two-stage detectors draw other anchors and regions on another device",
    )


def derivatives(fitted: FittedTorchDetector, truth: Any, count: int) -> dict[str, Any]:
    """Return seconds per image of each computation, and the derivatives themselves."""
    ids = sorted(truth)[:count]
    v = fitted.loss_gradient(ids, truth)  # also warms up
    fitted.curvature_product(ids[:1], truth, v)
    fitted.pseudo_label_slopes(ids, v, 0.1, "hard")
    fitted._kept.clear()
    gradient, reference = seconds(lambda: fitted.loss_gradient(ids, truth))
    product, first = seconds(lambda: fitted.curvature_product(ids, truth, v))
    _, curved = seconds(lambda: fitted.curvature_product(ids, truth, v))
    _, scored = seconds(lambda: fitted.pseudo_label_slopes(ids, v, 0.1, "hard"))
    _, detected = seconds(lambda: fitted.detections(ids))
    _, embedded = seconds(lambda: fitted.embeddings(ids))
    times = (detected, embedded, reference, first, curved, scored)
    return {
        "v": v,
        "gradient": gradient,
        "product": product,
        "slopes": fitted.loss_slopes(ids, truth, v),
        **{kind: time_ / count for kind, time_ in zip(KINDS, times, strict=True)},
    }


def _distance(found: Any, expected: Any) -> float:
    """Return |found - expected| / |expected|."""
    return float(norm({name: found[name] - expected[name] for name in expected}) / norm(expected))
