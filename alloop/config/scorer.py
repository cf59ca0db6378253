"""The block `scorer` of a config."""

from pathlib import Path

from pydantic import Field, model_validator

from alloop.config.blocks import Block
from alloop.config.plugin_blocks import DetectorBlock
from alloop.config.training import TrainingConfig


class ScorerConfig(Block):
    """The detector by which `prune` and `prune-study` choose images, where it is not the one that is trained on them.

    It sees the whole annotated set. What is left out is as in the experiment.
    """

    detector: DetectorBlock | None = Field(None, description="its network; null for that of the experiment")
    training: TrainingConfig | None = Field(None, description="its training; null for that of the experiment")
    weights: Path | None = Field(
        None, description="safetensors file of a trained detector, such as a model of a run; then nothing is trained"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "ScorerConfig":
        if self.weights is not None and self.training is not None:
            msg = "give training or weights: a detector with trained weights is not trained"
            raise ValueError(msg)
        return self
