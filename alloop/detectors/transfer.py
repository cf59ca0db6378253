"""Arrays as tensors on a device. All arrays of a batch go to a GPU in one copy, for which the program does not wait."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

ALIGNMENT = 16  # bytes; a multiple of the size of every number


def to_tensors(pixels: Sequence[UInt8[np.ndarray, "_ _ 3"]], device: torch.device) -> list[Float32[Tensor, "3 _ _"]]:
    """Return pixels `[h, w, 3]` of 0..255 as tensors of 0..1, each `[3, h, w]`."""
    if device.type == "cuda":
        return [channels_first(image) for image in sent_together(pixels, device)]
    planes = (torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in pixels)
    return [image.to(device).float().div_(255) for image in planes]


def on_device(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Return arrays as tensors of the same numbers."""
    if device.type == "cuda":
        return sent_together(arrays, device)
    return [torch.from_numpy(np.array(array, order="C")).to(device) for array in arrays]


def sent_together(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Return arrays as tensors that share one memory, which is copied to the device once.

    The memory is pinned for a GPU, since the program would wait for a copy from any other.
    """
    starts = np.cumsum([0, *(-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays)]).tolist()
    memory = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    own = [slice(start, start + array.nbytes) for start, array in zip(starts, arrays, strict=False)]
    for part, array in zip(own, arrays, strict=True):
        memory.numpy()[part].view(array.dtype).reshape(array.shape)[...] = array
    sent = memory.to(device, non_blocking=True)
    dtypes = [torch.from_numpy(np.empty(0, array.dtype)).dtype for array in arrays]
    return [sent[part].view(d).view(a.shape) for part, d, a in zip(own, dtypes, arrays, strict=True)]


def channels_first(pixels: UInt8[Tensor, "h w 3"]) -> Float32[Tensor, "3 h w"]:
    """Return bytes of 0..255 as a contiguous tensor of 0..1, on their device."""
    return pixels.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
