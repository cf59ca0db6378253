"""A part of `gpu.py`: where the time of training, scoring and curvature goes, by torch's profiler."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from gpu_bench import Bench, trained
from gpu_selection import fitted_on
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler

STEPS = 4  # of a training that are recorded


def profile(bench: Bench, name: str) -> None:
    """Record warm training steps, scoring and curvature products: the device's share, and the slowest operations."""
    experiment, scale = bench.experiment(name), bench.scale
    cache, truth = bench.caches(experiment).training, experiment.splits.train.dataset.annotations
    recording = Recording(bench, f"{name}, training")
    warm = scale.images // scale.batch_size
    detector, _ = trained(experiment, cache, warm + STEPS, recording.between(warm, warm + STEPS))
    fitted = fitted_on(bench, bench.device, experiment, detector, scale.probed)
    ids = sorted(truth)[: scale.probed]
    v = fitted.loss_gradient(ids, truth)
    computed: dict[str, Callable[[], Any]] = {
        "scoring": lambda: fitted.detections(ids),
        "curvature": lambda: fitted.curvature_product(ids[:4], truth, v),
        "scores of influence": lambda: fitted.pseudo_label_slopes(ids, v, 0.1, "hard"),
    }
    for what, compute in computed.items():
        compute()
        with recorded(bench, f"{name}, {what}"):
            compute()


class Recording:
    """A recording between two steps of a training."""

    def __init__(self, bench: Bench, what: str) -> None:
        self._recorded = recorded(bench, what)

    def between(self, first: int, last: int) -> Callable[[int], None]:
        """Return what to call after each step."""

        def after_step(step: int) -> None:
            if step == first:
                self._recorded.__enter__()
            if step == last:
                self._recorded.__exit__(None, None, None)

        return after_step


@contextmanager
def recorded(bench: Bench, what: str) -> Iterator[None]:
    """Record inside a `with`: one row with the device's share of the time, and the slowest operations as text."""
    on_gpu = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profiler(activities=activities) as record:
        started = time.perf_counter()
        yield
        if on_gpu:
            torch.cuda.synchronize()
        wall = time.perf_counter() - started
    averages = record.key_averages()
    kernels = sum(a.self_device_time_total for a in averages if a.device_type == DeviceType.CUDA) / 1e6
    calls = sum(a.count for a in averages if a.device_type == DeviceType.CUDA)
    bench.row(what, seconds=round(wall, 3), device_share=round(kernels / wall, 3), kernels=calls)
    orders = ["self_cpu_time_total", *(["self_device_time_total"] if on_gpu else [])]
    tables = [averages.table(sort_by=order, row_limit=20, max_name_column_width=60) for order in orders]
    with (bench.folder / f"profile_{bench.part}.txt").open("a") as file:
        file.write("\n".join([what, *tables]) + "\n")
