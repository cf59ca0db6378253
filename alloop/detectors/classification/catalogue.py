"""Image classifiers as plug-ins: their parameters and what they give, known without importing torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from alloop.query import Need

if TYPE_CHECKING:
    from alloop.detectors.classification.classifier import ImageClassifier


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A small network, or a ResNet (He et al. 2016), that gives an image one class."""

    network: Annotated[
        Literal["tiny", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"],
        Field(description="tiny has three convolutions, for images of a few pixels"),
    ] = "resnet18"
    stem: Annotated[
        Literal["cifar", "imagenet"],
        Field(description="of a ResNet: cifar for images under 64 pixels, which are not halved at once, or imagenet"),
    ] = "cifar"
    image_size: Annotated[int, Field(ge=1, description="side in pixels of the square that images are scaled to")] = 32

    gives: ClassVar[frozenset[Need]] = frozenset(
        {Need.PREDICTIONS, Need.EMBEDDINGS, Need.LAST_LAYERS, Need.LOSS_PREDICTIONS}
    )

    @property
    def short_side(self) -> int:
        """Short side in pixels that images are scaled to before they become squares."""
        return self.image_size

    @property
    def long_side(self) -> int:
        """Upper limit of the long side in pixels."""
        return 4 * self.image_size

    def build(self, classes: int) -> "ImageClassifier":
        """Build the network with its initial weights."""
        from alloop.detectors.classification.classifier import ImageClassifier  # noqa: PLC0415  imports torch
        from alloop.detectors.classification.networks import build_resnet, build_tiny  # noqa: PLC0415

        module = build_tiny(classes) if self.network == "tiny" else build_resnet(self.network, classes, self.stem)
        return ImageClassifier(module, self.image_size)
