"""Files of weights: reading and checking them, and loading a module's weights by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from alloop.detectors.loaded_weights import LoadedWeights, listed
from alloop.detectors.torchvision.pickled_weights import PICKLED, tensors_of_pickle
from alloop.detectors.torchvision.published import published_as
from alloop.errors import ConfigError
from alloop.files import sha256_of

DETECTOR, PYRAMID, BACKBONE = "a whole detector", "a backbone with its pyramid", "a backbone"
COUNTERS = "num_batches_tracked"  # batch norms count their batches; a frozen one has no counter
_HEADS = ("head.", "rpn.", "roi_heads.")  # what follows the backbone in torchvision's detectors


@dataclass(frozen=True, slots=True, eq=False)
class WeightsFile:
    """The tensors of a file, all of them finite.

    Attributes:
        path: the file.
        key: the key of the config that names it, for messages.
        tensors: the tensors by name, in the order of the names.
        published: torchvision's name of the model that it publishes the file for; None for any other file.
    """

    path: Path
    key: str
    tensors: Mapping[str, Tensor]
    published: str | None = None

    @property
    def kind(self) -> str:
        """`DETECTOR`, `PYRAMID` or `BACKBONE`, recognised by the names of the tensors.

        Torchvision's detectors, and so the models of a run, call their parts `backbone.body`, `backbone.fpn`, and
        `head` or `rpn` and `roi_heads`.
        """
        inside = [name for name in self.tensors if name.startswith("backbone.")]
        if inside and any(name.startswith(_HEADS) for name in self.tensors):
            return DETECTOR
        named_as_parts = any(name.startswith("backbone.body.") for name in inside)
        return PYRAMID if named_as_parts and len(inside) == len(self.tensors) else BACKBONE

    def refusal(self, reason: str) -> ConfigError:
        """Return the error that names key and file."""
        return ConfigError(f"{self.key}: {self.path}: {reason}")


def read_weights(path: Path, sha256: str | None = None) -> WeightsFile:
    """Read the file that `detector.weights` names, a safetensors file or a pickled one (`.pth`, `.pt`).

    A pickled file is opened only if its hash is known: one that torchvision publishes, or the one that is given.

    Args:
        path: the file.
        sha256: the hash that it must have, 64 hexadecimal digits; None for any that a file of its format may have.

    Raises:
        ConfigError: no such file, another or an unknown hash, another format, no tensor, or one with a number that is
            not finite.
    """
    key, data = "detector.weights", _content(path, "detector.weights")
    found = sha256_of(data)
    if sha256 is not None and found != sha256.lower():
        msg = f"{key}_sha256: expected {sha256.lower()}, found {found} in {path}. It is another file, or was changed"
        raise ConfigError(msg)
    if path.suffix.lower() not in PICKLED:
        return _of_safetensors(data, path, key)
    published = published_as(found)
    if sha256 is None and published is None:
        msg = (
            f"{key}: {path}: a pickled file is opened only if its sha256 is known, and torchvision publishes no file "
            f"of sha256 {found}. Convert it to safetensors, or compare this hash with that of its source and set "
            f"{key}_sha256"
        )
        raise ConfigError(msg)
    try:
        tensors = tensors_of_pickle(data)
    except ValueError as error:
        msg = f"{key}: {path} cannot be read as a pickled file of weights ({error})"
        raise ConfigError(msg) from error
    return _checked(WeightsFile(path, key, dict(sorted(tensors.items())), published))


def read_safetensors(path: Path, key: str) -> WeightsFile:
    """Read a safetensors file.

    Args:
        path: the file.
        key: the key of the config that names it, for messages.

    Raises:
        ConfigError: no such file, another format, no tensor, or one with a number that is not finite.
    """
    return _of_safetensors(_content(path, key), path, key)


def _content(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{key}: {path} cannot be read as a file of weights ({error})"
        raise ConfigError(msg) from error


def _of_safetensors(data: bytes, path: Path, key: str) -> WeightsFile:
    try:
        tensors = load_safetensors(data)
    except SafetensorError as error:
        msg = f"{key}: {path} cannot be read as a safetensors file ({error})"
        raise ConfigError(msg) from error
    return _checked(WeightsFile(path, key, dict(sorted(tensors.items()))))


def _checked(file: WeightsFile) -> WeightsFile:
    """Return a file of weights that a network may start from.

    Raises:
        ConfigError: it has no tensor, or one with a number that is not finite.
    """
    if not file.tensors:
        raise file.refusal("it holds no tensor; name a file of weights")
    broken = [name for name, tensor in file.tensors.items() if not _is_finite(tensor)]
    if broken:
        reason = f"numbers that are not finite in {listed(broken)}; the training that wrote it failed"
        raise file.refusal(f"{reason}. Name another file")
    return file


def _is_finite(tensor: Tensor) -> bool:
    numbers = tensor.float() if tensor.is_floating_point() else tensor  # not every format of 8 bits can be asked
    return bool(torch.isfinite(numbers).all())


def load_weights(module: nn.Module, path: Path, key: str = "detector.weights") -> None:
    """Load a safetensors file; every tensor of the module must be in it, under its name or `backbone.` + its name.

    Raises:
        ConfigError: no such file, another format, missing tensors or other shapes, numbers that are not finite.
    """
    load_module(module, read_safetensors(path, key))


def load_module(module: nn.Module, file: WeightsFile, dispensable: Sequence[str] = ()) -> LoadedWeights:
    """Load a module's weights from a file, under their own names or `backbone.` + their names.

    Args:
        module: the module.
        file: the file.
        dispensable: beginnings of names that may be missing or of another shape; none of them is loaded then.

    Raises:
        ConfigError: other tensors that are missing or have other shapes.
    """
    own = {name: value for name, value in module.state_dict().items() if COUNTERS not in name}
    found = {name: _name_in(file, name) for name in own}
    wrong = [name for name, value in own.items() if _shape(file, found[name]) != value.shape]
    lacking = [name for name in wrong if not name.startswith(tuple(dispensable))]
    if lacking:
        raise file.refusal(_difference(file, own, found, lacking, nothing_fits=len(wrong) == len(own)))
    spared = {name for name in own if name.startswith(tuple(dispensable))} if wrong else set()
    weights = {name: file.tensors[found[name]] for name in own if name not in spared}
    module.load_state_dict(weights, strict=False)
    used = {found[name] for name in weights}
    unused = tuple(name for name in file.tensors if name not in used and COUNTERS not in name)
    return LoadedWeights(str(file.path), BACKBONE, len(weights), unused=unused)


def _name_in(file: WeightsFile, name: str) -> str:
    """Return the name under which a file may hold a tensor of a module."""
    return name if name in file.tensors else f"backbone.{name}"


def _shape(file: WeightsFile, name: str) -> torch.Size | None:
    return file.tensors[name].shape if name in file.tensors else None


def _difference(
    file: WeightsFile,
    own: Mapping[str, Tensor],
    found: Mapping[str, str],
    lacking: Sequence[str],
    *,
    nothing_fits: bool,
) -> str:
    """Return in words what is missing in a file or has another shape, the first of it in detail."""
    name, shape = lacking[0], _shape(file, found[lacking[0]])
    actual = "no such tensor" if shape is None else f"shape {tuple(shape)}"
    text = f"expected {name} of shape {tuple(own[name].shape)}, found {actual}"
    if nothing_fits:
        return f"{text}. Nothing in it fits; it has {listed(list(file.tensors))}. Name a file of this architecture"
    more = f", and {len(lacking) - 1} more tensors do not fit: {listed(lacking[1:])}" if lacking[1:] else ""
    return f"{text}{more}. Give the detector the values that the file was trained with"
