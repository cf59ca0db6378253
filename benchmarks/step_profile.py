"""Where the time of a training step and of scoring goes, by torch's profiler, in a second round on the CPU.

    ALLOOP_DATA=... TORCH_HOME=... python benchmarks/step_profile.py [--steps N] [CONFIG ...]

Shares are of the time that operations take themselves. What lies between them is Python.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bare_loop import Setting
from torch.profiler import ProfilerActivity, profile

GROUPS = {  # by the beginning of an operation's name; the first that fits counts
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution", "aten::_convolution", "aten::thnn_conv"),
    "matrix products": ("aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm", "aten::linear"),
    "optimizer and averages": ("aten::_fused", "aten::_foreach", "aten::lerp", "Optimizer"),
    "norms and activations": ("aten::native_group_norm", "aten::group_norm", "aten::relu", "aten::clamp", "aten::thre"),
    "pooling, suppression": ("torchvision::", "aten::max_pool", "aten::sort", "aten::topk"),
    "copies and layouts": ("aten::copy_", "aten::contiguous", "aten::clone", "aten::cat", "aten::fill_", "aten::zero_"),
}


def group_of(name: str) -> str:
    """Return the group of an operation."""
    return next((group for group, begins in GROUPS.items() if name.startswith(begins)), "everything else")


def shares(work: Callable[[], object]) -> tuple[dict[str, float], float, float]:
    """Return the share of each group, the seconds of all operations, and the seconds on the clock."""
    work()
    with profile(activities=[ProfilerActivity.CPU]) as record:
        started = time.perf_counter()
        work()
        wall = time.perf_counter() - started
    groups: dict[str, float] = {}
    for entry in record.key_averages():
        group = group_of(entry.key)
        groups[group] = groups.get(group, 0.0) + entry.self_cpu_time_total / 1e6
    total = sum(groups.values())
    ordered = sorted(groups.items(), key=lambda item: -item[1])
    return {name: seconds / total for name, seconds in ordered}, total, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=["bccd_fcos", "bccd_faster_rcnn"])
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.configs:
        with tempfile.TemporaryDirectory() as folder:
            setting = Setting(name, Path(folder), options.steps, [])
            scoring, _ = setting.scoring()
            for what, work in (("training", setting.train), ("scoring", scoring)):
                found, total, wall = shares(work)
                text = ", ".join(f"{group} {share:.1%}" for group, share in found.items())
                print(f"{name}, {what}: {text} of {total:.1f} s in operations, {wall:.1f} s on the clock", flush=True)


if __name__ == "__main__":
    main()
