"""Trained and evaluated models that runs of a study share by content.

The key is the hash of everything that determines the training: data, labeled images, detector,
training, seed, round, threads, device, versions. So round 0 is trained once for all strategies of a
seed, and two runs that label the same images share that round too.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from alloop.errors import DamagedFileError
from alloop.files import atomic_copy, atomic_write, read_verified

_RECORDED = {"npz": "detections_sha256", "csv": "losses_sha256"}  # keys of the record, by the suffix of the file


@dataclass(frozen=True, slots=True)
class SharedModel:
    """Final weights as safetensors, the metrics measured with them, as JSON, test detections and losses where kept.

    `file` is where the weights lie already, in a run or among the shared models: nothing is stored twice.
    """

    weights: bytes
    metrics: dict[str, Any]
    detections: bytes | None
    file: Path
    losses: bytes | None = None


class SharedModels:
    """A folder of models by key; the JSON beside a model is its record and is written last."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self._folder = folder

    @contextmanager
    def working_on(self, key: str) -> Iterator[None]:
        """Let one process at a time make a model; the others wait, and then it is there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / f"{key}.lock"):
            yield

    def get(self, key: str) -> SharedModel | None:
        """Return the model of this key, verified; None where there is none.

        Raises:
            DamagedFileError: the weights differ from their record.
        """
        path = self._folder / f"{key}.json"
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_bytes())
            file = self._folder / f"{key}.safetensors"
            weights = read_verified(file, record["sha256"])
            detections, losses = self._kept(key, "npz", record), self._kept(key, "csv", record)
            return SharedModel(weights, record["metrics"], detections, file, losses)
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{path}: cannot be read as the record of a shared model ({error}); remove it to train again"
            raise DamagedFileError(msg) from error

    def _kept(self, key: str, suffix: str, record: Mapping[str, Any]) -> bytes | None:
        sha256 = record.get(_RECORDED[suffix])
        return None if sha256 is None else read_verified(self._folder / f"{key}.{suffix}", sha256)

    def put(self, key: str, model: SharedModel) -> None:
        """Store a model, its detections and its losses, then their record."""
        sha256 = atomic_copy(model.file, self._folder / f"{key}.safetensors", model.weights)
        record = {"sha256": sha256, "metrics": model.metrics}
        for suffix, data in (("npz", model.detections), ("csv", model.losses)):
            if data is not None:
                record[_RECORDED[suffix]] = atomic_write(self._folder / f"{key}.{suffix}", data)
        atomic_write(self._folder / f"{key}.json", json.dumps(record, allow_nan=False).encode())
