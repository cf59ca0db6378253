"""A distance between images, in bits of their perceptual hashes or as the cosine distance of their embeddings."""

import re
from dataclasses import dataclass
from typing import Literal

from alloop.errors import ConfigError

DistanceUnit = Literal["bits", "cosine"]
_LIMITS: dict[DistanceUnit, float] = {"bits": 64, "cosine": 2}


@dataclass(frozen=True, slots=True)
class Distance:
    """A distance and its unit: 1 to 64 `bits`, or a `cosine` distance above 0, at most 2."""

    value: float
    unit: DistanceUnit

    @classmethod
    def parse(cls, text: object, key: str) -> "Distance":
        """Read `10`, `"10 bits"` or `"0.1 cosine"`; raise ConfigError naming `key` otherwise."""
        if isinstance(text, Distance):
            return text
        match = re.fullmatch(r"\s*(\d+)\s*(?:bits?)?\s*|\s*(\d*\.?\d+)\s*cosine\s*", str(text))
        unit: DistanceUnit = "cosine" if match and match[2] else "bits"
        value = float(match[1] or match[2]) if match else 0.0
        if isinstance(text, bool) or not 0 < value <= _LIMITS[unit]:
            msg = f"{key}: expected 1 to 64 bits such as '10 bits', or a distance such as '0.1 cosine', found {text!r}"
            raise ConfigError(msg)
        return cls(value, unit)

    def __str__(self) -> str:
        """As it is written in a config."""
        return f"{self.value:g} {self.unit}"
