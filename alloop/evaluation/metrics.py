"""The metrics of one round, and their JSON in the ledger and beside shared models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Metrics:
    """AP figures as fractions of 1; None where there is nothing to measure.

    Attributes:
        values: by name: `ap`, `ap50`, `ap75`, `ap_small`, `ap_medium`, `ap_large`, and the same of masks as `mask_ap`
            and so on; `voc_ap50` and `voc07_ap50` by the rules of Pascal VOC. `ap_at_100`, which counts 100 detections
            per image and class as COCO does, is there only where it differs from `ap`.
        per_class: AP by class name.
        training_log: one record per epoch of a semi-supervised training; None elsewhere.
    """

    values: Mapping[str, float | None]
    per_class: Mapping[str, float | None]
    training_log: Sequence[Mapping[str, Any]] | None = None

    def with_masks(self, masks: "Metrics") -> "Metrics":
        """Return these metrics with the values of masks added, each under its name with the prefix `mask_`."""
        return replace(self, values={**self.values, **{f"mask_{name}": ap for name, ap in masks.values.items()}})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that is stored; the training log has the key `course` there."""
        tree: dict[str, Any] = {"values": dict(self.values), "per_class": dict(self.per_class)}
        if self.training_log is not None:
            tree["course"] = [dict(record) for record in self.training_log]
        return tree

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "Metrics":
        """Read what `to_json` returned."""
        return cls(tree["values"], tree["per_class"], tree.get("course"))
