"""The methods by which a training balances its classes, each with its parameters, known without importing torch.

`alloop.training.class_balance` has one file for each of them, with its equation and its source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from alloop.config.plugin_blocks import PluginBlock
from alloop.config.tables import CLASS_BALANCE
from alloop.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class LogitAdjustment:
    """Logit adjustment (Menon et al. 2021): after the training, the logits are corrected for the class frequencies."""

    tau: Annotated[
        float, Field(gt=0, description="strength of the correction; the paper's 1 is exact for cross entropy")
    ] = 1.0

    one_stage: ClassVar[str] = (
        "it shifts the logits of a softmax over the classes. With a sigmoid for each class, the detections of a class "
        "would keep their order, and AP would stay as it is"
    )
    beside_gbr: ClassVar[str | None] = (
        "logit_adjustment takes back what cross entropy learns of the class frequencies, and GbR has done so already"
    )
    beside_focal_regions: ClassVar[str | None] = None


@dataclass(frozen=True, kw_only=True)
class ClassifierRetraining:
    """Classifier retraining, cRT (Kang et al. 2020): after the training, the last classification layer is learned anew.

    It is learned on images that are drawn class by class, with everything else frozen.
    """

    share: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="steps of the retraining as a share of the training's; the paper has 10 of 90 epochs, and a "
            "training of a few hundred steps needs up to 1",
        ),
    ] = 1 / 9

    one_stage: ClassVar[str] = (
        "it retrains the linear layer that classifies the regions of a second stage. A one-stage detector classifies "
        "every location, and nearly all of them are background, whichever images are drawn"
    )
    beside_gbr: ClassVar[str | None] = None
    beside_focal_regions: ClassVar[str | None] = None


@dataclass(frozen=True, kw_only=True)
class EqualizationLoss:
    """Equalization Loss v2 (Tan et al. 2021): a sigmoid for each class, with weights that balance its gradients."""

    gamma: Annotated[
        float,
        Field(gt=0, description="how steeply the weights change with the ratio of positive to negative gradients"),
    ] = 12.0
    mu: Annotated[float, Field(gt=0, description="ratio at which negative gradients have half their weight")] = 0.8
    alpha: Annotated[float, Field(ge=0, description="positive gradients have at most 1 + alpha times their weight")] = (
        4.0
    )

    one_stage: ClassVar[str] = (
        "it weighs the logits of the regions of a second stage, the background among them. A one-stage detector has no "
        "such logit, and its focal loss has weights of its own"
    )
    beside_gbr: ClassVar[str | None] = "equalization_loss and GbR both replace the loss by which regions are classified"
    beside_focal_regions: ClassVar[str | None] = (
        "equalization_loss replaces the loss by which regions are classified, and so does the focal loss of "
        "style: unbiased_teacher; take style: soft_teacher"
    )


Method = LogitAdjustment | ClassifierRetraining | EqualizationLoss


class ClassBalanceBlock(PluginBlock):
    """How the classes are balanced in a training of a two-stage detector. Keys of another method are refused."""

    kind = "training.class_balance"
    table = CLASS_BALANCE

    name: str = Field(description="a method below")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """Refuse a name that is not in the table: the training knows these methods and no other."""
        name = given.get("name") if isinstance(given, Mapping) else None
        if isinstance(name, str) and name not in cls.table:
            msg = f"{cls.kind}.name: there is no method {name!r}{nearest(name, cls.table)}"
            raise ConfigError(msg)
        return given

    @classmethod
    def path_keys(cls, tree: Mapping[str, Any]) -> frozenset[str]:
        """Return nothing: no method has a path among its parameters."""
        del tree
        return frozenset()

    @classmethod
    def siblings(cls, plugin: Any) -> Mapping[str, str]:
        """Return nothing: one config has one method, so a key of another one is a mistake."""
        del plugin
        return {}

    @property
    def method(self) -> Method:
        """The method with its parameters."""
        made: Method = self.make()
        return made

    def conflict(self, style: str, *, gradient_balance: bool) -> str | None:
        """Return why the method contradicts a semi-supervised training, None where it does not.

        Args:
            style: of the teacher.
            gradient_balance: whether GbR is on.
        """
        method = self.method
        if gradient_balance and method.beside_gbr:
            return f"{method.beside_gbr}; take one of class_balance and semi_supervised.gradient_balance"
        return method.beside_focal_regions if style == "unbiased_teacher" else None
