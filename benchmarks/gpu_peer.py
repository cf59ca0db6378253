"""The peer of `gpu.py`: torchvision's detectors trained and scored as its tutorial does it, and a clock for both."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_data import CLASSES, Scale
from pycocotools.coco import COCO
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, tv_tensors
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from alloop.detectors.protocol import Detector


class Clock:
    """The time that a device spends on a loop, and the part of it in which it waits for input.

    On a GPU marks are events in its queue: between the marks around a loading the device has nothing to do but the
    copies of that input.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._begins: list[Any] = []
        self._readies: list[Any] = []

    def mark(self) -> Any:
        """Return the present moment in the device's queue; on the CPU the time in seconds."""
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def waiting(self, load: Callable[[], Any]) -> Any:
        """Load an input, and count the time that it takes as waiting."""
        begin = self.mark()
        loaded = load()
        self._begins.append(begin)
        self._readies.append(self.mark())
        return loaded

    @property
    def inputs(self) -> int:
        """Number of inputs that were loaded."""
        return len(self._readies)

    def stop(self) -> None:
        """End the last input's work."""
        self._begins.append(self.mark())
        if self._on_gpu:
            torch.cuda.synchronize()

    def between(self, first: int, last: int | None = None) -> tuple[float, float]:
        """Return the seconds from one input to another (by default the end), and the share of them spent waiting."""
        last = len(self._readies) if last is None else last
        total = self._seconds(self._begins[first], self._begins[last])
        pairs = zip(self._begins[first:last], self._readies[first:last], strict=True)
        return total, sum(itertools.starmap(self._seconds, pairs)) / total

    def _seconds(self, begin: Any, end: Any) -> float:
        return begin.elapsed_time(end) / 1e3 if self._on_gpu else end - begin


class Photographs(Dataset[Any]):
    """COCO images and targets with the tutorial's transforms: a flip, then floats in 0..1."""

    def __init__(self, annotations: Path, images: Path, *, first_label: int, flip: float) -> None:
        with contextlib.redirect_stdout(None):
            self._coco = COCO(str(annotations))
        self._ids, self._images, self._first = sorted(self._coco.imgs), images, first_label
        self._transforms = v2.Compose(
            [v2.RandomHorizontalFlip(flip), v2.ToDtype(torch.float, scale=True), v2.ToPureTensor()]
        )

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> Any:
        record = self._coco.imgs[self._ids[row]]
        objects = self._coco.imgToAnns[record["id"]]
        size = (record["height"], record["width"])
        boxes = tv_tensors.BoundingBoxes([o["bbox"] for o in objects], format="XYWH", canvas_size=size)
        target = {
            "boxes": v2.functional.convert_bounding_box_format(boxes, new_format="XYXY").float(),
            "labels": torch.tensor([o["category_id"] - 1 + self._first for o in objects]),
        }
        image = tv_tensors.Image(decode_image(str(self._images / record["file_name"]), ImageReadMode.RGB))
        return self._transforms(image, target)


def loader(folder: Path, split: str, scale: Scale, detector: str, *, training: bool) -> DataLoader[Any]:
    """Return the loader of a split, with workers that stay from epoch to epoch."""
    first_label = 1 if detector == "faster_rcnn" else 0
    data = Photographs(folder / f"{split}.json", folder / split, first_label=first_label, flip=0.5 * training)
    return DataLoader(
        data,
        batch_size=scale.batch_size,
        shuffle=training,
        num_workers=scale.workers,
        collate_fn=_collated,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=scale.workers > 0,
    )


def _collated(batch: list[Any]) -> tuple[Any, ...]:
    return tuple(zip(*batch, strict=True))


def bare_model(detector: Detector, name: str, scale: Scale) -> nn.Module:
    """Return torchvision's own model with the same weights, thresholds and number of proposals."""
    sizes = {"weights": None, "weights_backbone": None, "min_size": scale.short_side, "max_size": scale.long_side}
    if name == "fcos":
        build, more = models.detection.fcos_resnet50_fpn, {"score_thresh": 0.05, "nms_thresh": 0.5}
        model = build(num_classes=CLASSES, **sizes, **more)
    else:
        more = {
            f"rpn_{when}_nms_top_n_{mode}": scale.proposals for when in ("pre", "post") for mode in ("train", "test")
        }
        more["rpn_pre_nms_top_n_train"] *= 2
        more["rpn_batch_size_per_image"] = min(256, scale.proposals)
        model = models.detection.fasterrcnn_resnet50_fpn(num_classes=CLASSES + 1, **sizes, **more)
    model.load_state_dict(detector.module.state_dict())
    return model


def autocast(device: torch.device, *, amp: bool) -> contextlib.AbstractContextManager[Any]:
    """Use bfloat16 on a GPU where wanted."""
    return torch.autocast("cuda", torch.bfloat16, enabled=amp) if device.type == "cuda" else contextlib.nullcontext()


def batches(data: DataLoader[Any], epochs: int, device: torch.device, clock: Clock) -> Iterator[tuple[Any, Any]]:
    """Yield images and targets on the device."""

    def load(iterator: Iterator[Any]) -> Any:
        images, targets = next(iterator)
        on_device = [{key: value.to(device) for key, value in target.items()} for target in targets]
        return [image.to(device) for image in images], on_device

    for _ in range(epochs):
        iterator = iter(data)
        for _ in range(len(data)):
            yield clock.waiting(lambda: load(iterator))  # noqa: B023  called at once


def bare_training(
    model: nn.Module, data: DataLoader[Any], epochs: int, device: torch.device, *, amp: bool, lr: float
) -> Clock:
    """Train as the tutorial's `train_one_epoch` does."""
    clock = Clock(device)
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    for images, targets in batches(data, epochs, device, clock):
        with autocast(device, amp=amp):
            loss = sum(model(images, targets).values())
        if not math.isfinite(loss.item()):
            raise FloatingPointError("the loss of the bare loop is not finite")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    clock.stop()
    return clock


@torch.inference_mode()
def bare_scoring(model: nn.Module, data: DataLoader[Any], epochs: int, device: torch.device, *, amp: bool) -> Clock:
    """Score as the tutorial's `evaluate` does, results on the CPU; no metric is computed."""
    clock = Clock(device)
    model.to(device).eval()
    for images, _ in batches(data, epochs, device, clock):
        with autocast(device, amp=amp):
            outputs = model(images)
        [{key: value.cpu() for key, value in output.items()} for output in outputs]
    clock.stop()
    return clock
