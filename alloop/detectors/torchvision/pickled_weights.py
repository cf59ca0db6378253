"""Weights in a pickled file, `.pth` or `.pt`. Unpickling may run code, so torch's restricted reader alone is used.

That reader builds tensors and plain containers and refuses everything else that a pickle may ask for.
"""

import argparse
import io
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

PICKLED = (".pth", ".pt")  # endings of the names of pickled files
_WRAPPERS = ("model", "state_dict")  # keys under which training scripts keep the weights, beside their other state
_PARALLEL = "module."  # torch's wrapper for several GPUs puts this before every name
_UNREADABLE = (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError, AttributeError)


def tensors_of_pickle(data: bytes) -> dict[str, Tensor]:
    """Return the tensors by name: those of a state dict, or of one under the key `model` or `state_dict`.

    No code in the file runs.

    Raises:
        ValueError: no such file, one that asks for more than tensors, or one that holds something else.
    """
    try:
        # torchvision's training scripts keep their command line beside the weights; it is a class of plain values
        with torch.serialization.safe_globals([argparse.Namespace]):
            tree = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).split("\n", maxsplit=1)[0]  # torch goes on with advice to read it without the restriction
        msg = f"torch reads no weights from it: {reason}"
        raise ValueError(msg) from error
    state = _state_dict(tree)
    strip = all(name.startswith(_PARALLEL) for name in state)
    return {name.removeprefix(_PARALLEL) if strip else name: tensor.detach() for name, tensor in state.items()}


def _state_dict(tree: Any) -> dict[str, Tensor]:
    """Return the state dict that a file holds; raise ValueError where it holds none."""
    if not isinstance(tree, Mapping):
        raise _no_weights(type(tree).__name__)
    inner = next((tree[key] for key in _WRAPPERS if isinstance(tree.get(key), Mapping)), tree)
    for name, value in inner.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise _no_weights(f"{type(value).__name__} under {name!r}")
    return dict(inner)


def _no_weights(found: str) -> ValueError:
    return ValueError(f"expected tensors by name, alone or under one of the keys {', '.join(_WRAPPERS)}; found {found}")
