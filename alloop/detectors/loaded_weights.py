"""What a network took from a file of weights when it was built, and what it did not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

_LISTED = 4  # names in a sentence; more are counted


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """What was loaded from a file; `str` gives one sentence.

    Attributes:
        file: the file.
        kind: what the file holds: `a whole detector`, `a backbone with its pyramid` or `a backbone`.
        loaded: the number of its tensors that are in the network now.
        fresh: the layers of the network that keep their first, random weights.
        unused: the tensors of the file that the network has no use for.
        classes: whether the layers whose size follows from the number of classes were loaded too. Then the file must be
            of the same classes in the same order, which its tensors do not tell.
    """

    file: str
    kind: str
    loaded: int
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    classes: bool = False

    def __str__(self) -> str:
        """Return one sentence for people."""
        text = f"{self.file} is {self.kind}: {self.loaded} tensors loaded"
        text += f"; not used from the file: {listed(self.unused)}" if self.unused else ""
        text += f"; layers that start fresh: {listed(self.fresh)}" if self.fresh else ""
        return text + ("; its classes must be those of the data, in the same order" if self.classes else "")


@runtime_checkable
class InitializedDetector(Protocol):
    """A detector that says what it took from a file of weights.

    Attributes:
        loaded_weights: None where no file was read.
    """

    loaded_weights: LoadedWeights | None


def listed(names: Sequence[str]) -> str:
    """Return names as text, the first few and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
