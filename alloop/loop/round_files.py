"""The files of one round in the run folder, all recorded in the ledger: weights, losses, detections, states."""

from collections.abc import Callable
from functools import partial

from alloop.errors import DamagedFileError
from alloop.files import read_verified
from alloop.ledger.store import Ledger


def model_path(round_: int) -> str:
    """Return where the final weights of a round lie in the run folder."""
    return f"models/round_{round_:03d}.safetensors"


def training_log_path(round_: int) -> str:
    """Return where the log of a semi-supervised training lies, one record per epoch."""
    return f"models/round_{round_:03d}_course.json"


def losses_path(round_: int) -> str:
    """Return where the losses along the training of a round lie, as CSV; runs of older versions have none."""
    return f"losses/round_{round_:03d}.csv"


def detections_path(round_: int) -> str:
    """Return where the detections of a round on the test images lie, if they are kept."""
    return f"detections/round_{round_:03d}.npz"


def snapshot_path(round_: int, step: int) -> str:
    """Return where a state along the training of a round lies."""
    return f"snapshots/round_{round_:03d}_step_{step:08d}.safetensors"


def trained_weights(ledger: Ledger, round_: int) -> bytes:
    """Return the final weights of a round.

    Raises:
        DamagedFileError: none are recorded, or they are not what was recorded.
    """
    weights = ledger.stored(model_path(round_))
    if weights is None:
        msg = f"{model_path(round_)}: no trained detector is recorded for round {round_}"
        raise DamagedFileError(msg)
    return weights


def model_sha256(ledger: Ledger, round_: int) -> str:
    """Return the hash of the final weights of a round, which are recorded."""
    return {path: sha256 for path, sha256, _ in ledger.files(round_)}[model_path(round_)]


def drop_older_models(ledger: Ledger, round_: int) -> None:
    """Remove the models of the rounds before one, and their states along the training; nothing needs them any more."""
    for earlier in range(round_):
        for path, _, _ in ledger.files(earlier):
            if path == model_path(earlier) or path.startswith("snapshots/"):
                ledger.drop(path)


def snapshot_readers(ledger: Ledger, round_: int) -> list[Callable[[], bytes]]:
    """Return a function for each state kept along the training of a round, in order, that reads and verifies it."""
    return [
        partial(read_verified, ledger.folder / path, sha256)
        for path, sha256, _ in ledger.files(round_)
        if path.startswith("snapshots/")
    ]


class Checkpoints:
    """Checkpoints inside one round's training; see `alloop.training.supervised.CheckpointStore`.

    Attributes:
        snapshot_steps: the numbers of finished steps after which a snapshot is kept.
    """

    def __init__(self, ledger: Ledger, round_: int, snapshots: tuple[int, ...], after: int = 0) -> None:
        """Keep nothing yet. The last of the `snapshots` is the trained detector itself and is not kept twice.

        `after` is the number of steps of the trainings that came before in the same round (`following`).
        """
        self._ledger, self._round, self._after = ledger, round_, after
        self.snapshot_steps = snapshots[:-1]

    def following(self, steps: int) -> "Checkpoints":
        """Return the checkpoints of a second training, which begins when this one has finished its `steps`."""
        return Checkpoints(self._ledger, self._round, (), self._after + steps)

    def _recorded(self) -> list[tuple[str, int]]:
        return [(path, step) for path, _, step in self._ledger.files(self._round) if step is not None]

    def _newest(self) -> str | None:
        """Return the path of the newest state where it is one of this training and not of one before it."""
        recorded = self._recorded()
        return recorded[-1][0] if recorded and recorded[-1][1] > self._after else None

    @property
    def begun(self) -> bool:
        """Whether a state of this training is recorded; then the trainings before it are finished."""
        return self._newest() is not None

    def load(self) -> bytes | None:
        """Return the newest recorded state."""
        path = self._newest()
        return None if path is None else self._ledger.stored(path)

    def save(self, state: bytes, step: int) -> None:
        """Record a state, then drop the older ones."""
        older = self._recorded()
        path = f"checkpoints/round_{self._round:03d}_step_{self._after + step:08d}.safetensors"
        self._ledger.store(path, state, self._round, self._after + step)
        for name, _ in older:
            if name != path:
                self._ledger.drop(name)

    def snapshot(self, weights: bytes, step: int) -> None:
        """Keep a state for strategies that look at states along the training."""
        self._ledger.store(snapshot_path(self._round, step), weights, self._round)

    def clear(self) -> None:
        """Drop all checkpoints; snapshots stay."""
        for name, _ in self._recorded():
            self._ledger.drop(name)
