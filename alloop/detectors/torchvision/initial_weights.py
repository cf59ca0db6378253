"""The weights that a detector starts from: none, published ones, or those of a file.

A file is recognised by its tensors. That of a backbone is loaded into the classifier that the backbone is taken from,
before the detector is built around it; that of a whole detector once the detector is built.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from alloop.detectors.loaded_weights import LoadedWeights, listed
from alloop.detectors.loss_prediction import NAME as LOSS_PREDICTION
from alloop.detectors.torchvision.efficientnet_lite import NAME as LITE0
from alloop.detectors.torchvision.efficientnet_lite import imagenet_lite0
from alloop.detectors.torchvision.published import CLASS_LAYERS, COCO, divide_as_published, imagenet, load_coco
from alloop.detectors.torchvision.weight_files import (
    BACKBONE,
    COUNTERS,
    PYRAMID,
    WeightsFile,
    load_module,
    load_weights,
    read_weights,
)
from alloop.errors import ConfigError, nearest

SHIPPED = Path(__file__).parent / "tiny_digits.safetensors"
_NAMED = ("none", "imagenet", COCO, "digits")
_CLASSIFIER = ("fc.", "classifier.")  # the last layers of a classifier, which a backbone does not have


class InitialWeights:
    """What a config says under `detector.weights`, and what came of it.

    Call `into_backbone` on the classifier, and then `into_detector` on the whole network.

    Attributes:
        name: `none`, `imagenet`, `coco`, `digits` or the path of a file.
        loaded: what was loaded from a file; None where there is no file, or before it was loaded.
    """

    def __init__(self, name: str, sha256: str | None = None) -> None:
        """Read the file, where `name` is one.

        Args:
            name: see above.
            sha256: the hash that the file must have; None for any.

        Raises:
            ConfigError: an unknown name; the file cannot be read, has another hash or holds numbers that are not
                finite; or a hash is given and `name` is no file.
        """
        if sha256 is not None and name in _NAMED:
            msg = f"detector.weights_sha256: it is the hash of a file, and detector.weights is {name}; remove it"
            raise ConfigError(msg)
        if name not in _NAMED and not Path(name).suffix and not Path(name).exists():
            msg = f"detector.weights: {name!r} is unknown{nearest(name, _NAMED)}; give one of these names or a file"
            raise ConfigError(msg)
        self.name = name
        self.loaded: LoadedWeights | None = None
        self._in_backbone: list[nn.Parameter] = []
        self._file = None if name in _NAMED else read_weights(Path(name), sha256)

    @property
    def pretrained(self) -> bool:
        """Whether the backbone comes with weights; its batch norm is frozen then."""
        return self.name != "none"

    def is_published(self, published: str) -> bool:
        """Whether these are torchvision's weights of the whole detector of this name."""
        return self.name == COCO or (self._file is not None and self._file.published == published)

    def into_backbone(self, body: nn.Module, classifier: str) -> None:
        """Load what belongs to the backbone alone.

        Args:
            body: the tiny backbone, or the whole classifier of which a backbone is a part.
            classifier: torchvision's name of it.

        Raises:
            ConfigError: weights that cannot be fetched, or do not fit.
        """
        if self.name == "imagenet":
            _load_imagenet(body, classifier)
        elif self.name == "digits":
            load_weights(body, SHIPPED)
        elif self._file is not None and self._file.kind == BACKBONE:
            self.loaded = load_module(body, self._file, _CLASSIFIER)
            self._in_backbone = list(body.parameters())

    def into_detector(self, model: nn.Module, published: str) -> None:
        """Load what belongs to the whole detector.

        Args:
            model: the detector, with fresh heads and the weights of `into_backbone`.
            published: torchvision's name of the detector of this architecture.

        Raises:
            ConfigError: weights that cannot be fetched, or do not fit.
        """
        if self.name == COCO:
            load_coco(model, published)
        elif self._file is not None and self._file.kind != BACKBONE:
            self.loaded = load_detector(model, self._file)
            divide_as_published(model, self._file.published)
        elif self.loaded is not None:
            loaded = {id(parameter) for parameter in self._in_backbone}
            names = [name for name, parameter in model.named_parameters() if id(parameter) not in loaded]
            self.loaded = replace(self.loaded, fresh=_parts(names))


def _load_imagenet(body: nn.Module, classifier: str) -> None:
    state = imagenet_lite0() if classifier == LITE0 else imagenet(classifier)
    missing = [k for k in body.load_state_dict(state, strict=False).missing_keys if COUNTERS not in k]
    if missing:
        msg = f"detector.weights: the ImageNet weights of {classifier} lack {listed(missing)}; use a file instead"
        raise ConfigError(msg)


def load_detector(model: nn.Module, file: WeightsFile) -> LoadedWeights:
    """Load the weights of a whole detector, or of its backbone with the pyramid.

    Layers whose size follows from the number of classes are loaded where the number is the same, and stay fresh where
    it is another one. Everything else must fit: a detector of which a part is missing is another detector. A file
    without heads may also lack the pyramid.

    Args:
        model: a detector with the parts of torchvision's.
        file: of the kind `DETECTOR` or `PYRAMID`.

    Raises:
        ConfigError: naming the tensors that are missing, that have no place in the detector, or whose shape is another.
    """
    own = model.state_dict()
    state = OrderedDict(item for item in file.tensors.items() if not item[0].startswith(f"{LOSS_PREDICTION}."))
    unused = [name for name in file.tensors if name not in state]
    fresh = [name for name, value in state.items() if name in own and _other_classes(name, value, own[name])]
    loaded = OrderedDict((name, value) for name, value in state.items() if name not in fresh)
    _refuse_other_shapes(file, loaded, own)
    try:
        result = model.load_state_dict(loaded, strict=False)  # it also knows the names of older versions of torchvision
    except RuntimeError as error:
        raise file.refusal(f"it holds {file.kind} that does not fit this detector: {error}") from error
    absent = [name for name in result.missing_keys if name not in fresh and COUNTERS not in name]
    required = [name for name in absent if file.kind != PYRAMID or name.startswith("backbone.body.")]
    homeless = [name for name in result.unexpected_keys if COUNTERS not in name]
    if required or homeless:
        raise file.refusal(_other_detector(file, required, homeless))
    count = sum(COUNTERS not in name for name in loaded)
    has_classes = any(name.startswith(CLASS_LAYERS) for name in loaded)
    return LoadedWeights(str(file.path), file.kind, count, _layers([*fresh, *absent]), tuple(unused), has_classes)


def _other_classes(name: str, value: Tensor, own: Tensor) -> bool:
    """Whether a tensor differs from that of the detector by the number of classes alone."""
    return name.startswith(CLASS_LAYERS) and value.shape != own.shape and value.shape[1:] == own.shape[1:]


def _refuse_other_shapes(file: WeightsFile, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    wrong = [
        f"{name} {tuple(value.shape)} where this detector has {tuple(own[name].shape)}"
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    if wrong:
        reason = f"it holds {file.kind} of other shapes: {listed(wrong)}"
        raise file.refusal(f"{reason}. Give the detector the values that the file was trained with")


def _other_detector(file: WeightsFile, absent: Sequence[str], homeless: Sequence[str]) -> str:
    """Say which tensors a file lacks, and which it has too many."""
    parts = [f"it holds {file.kind}, but of another detector than this"]
    parts += [f"{len(absent)} tensors of this detector are not in it ({listed(absent)})"] if absent else []
    parts += [f"{len(homeless)} of its tensors have no place ({listed(homeless)})"] if homeless else []
    return f"{'; '.join(parts)}. Name the detector that it was trained with, or give a file of a backbone"


def _layers(names: Iterable[str]) -> tuple[str, ...]:
    """Return the layers that tensors belong to."""
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in names))


def _parts(names: Iterable[str]) -> tuple[str, ...]:
    """Return the parts of a detector that tensors belong to, such as `backbone.fpn`."""
    return tuple(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
