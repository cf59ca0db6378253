"""The file in which a round keeps its test detections: arrays in an npz, without pickle, always the same bytes.

numpy writes the time into an npz, so the archive is written here. Nothing is compressed: another version of the
compressor would give other bytes.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt16

from alloop.errors import DamagedFileError
from alloop.evaluation.matching import IOU_THRESHOLDS, MatchedDetections

_BITS = 1 << np.arange(IOU_THRESHOLDS)[:, None]
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold


def detections_to_bytes(kept: MatchedDetections) -> bytes:
    """Return the content of the file.

    `groups` has each group once and `image_groups` its row for each image; bit t of `matched` and `ignored` stands for
    the IoU threshold 0.50 + 0.05 t. The other arrays are those of `MatchedDetections`.
    """
    names, rows = np.unique(np.array(kept.groups, dtype=np.str_), return_inverse=True)
    return _npz(
        {
            "image_ids": kept.image_ids.astype("<i8"),
            "groups": names.astype(names.dtype.newbyteorder("<")),
            "image_groups": rows.astype("<i4"),
            "class_names": np.array(kept.class_names, dtype="<U"),
            "truth_images": kept.truth_images.astype("<i4"),
            "truth_labels": kept.truth_labels.astype("<i4"),
            "images": kept.images.astype("<i4"),
            "labels": kept.labels.astype("<i4"),
            "scores": kept.scores.astype("<f4"),
            "boxes": kept.boxes.astype("<f4"),
            "matched": _packed(kept.matched),
            "ignored": _packed(kept.ignored),
        }
    )


def detections_from_bytes(data: bytes, path: Path) -> MatchedDetections:
    """Read what `detections_to_bytes` returned.

    Raises:
        DamagedFileError: it is no such file; `path` is named.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            names = arrays["groups"].tolist()
            return MatchedDetections(
                image_ids=arrays["image_ids"].astype(np.int64),
                groups=tuple(names[row] for row in arrays["image_groups"]),
                class_names=tuple(arrays["class_names"].tolist()),
                **{
                    name: arrays[name].astype(np.int64) for name in ("truth_images", "truth_labels", "images", "labels")
                },
                scores=arrays["scores"].astype(np.float32),
                boxes=arrays["boxes"].astype(np.float32),
                matched=_unpacked(arrays["matched"]),
                ignored=_unpacked(arrays["ignored"]),
            )
    except (ValueError, KeyError, IndexError, EOFError, OSError, zipfile.BadZipFile) as error:
        msg = f"{path}: cannot be read as test detections ({error}); restore it, or start a new run"
        raise DamagedFileError(msg) from error


def _packed(flags: Bool[np.ndarray, "t n"]) -> UInt16[np.ndarray, " n"]:
    packed: np.ndarray = (flags * _BITS).sum(axis=0).astype("<u2")
    return packed


def _unpacked(bits: UInt16[np.ndarray, " n"]) -> Bool[np.ndarray, "t n"]:
    flags: np.ndarray = (bits.astype(np.int64) & _BITS) > 0
    return flags


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", _TIME)
            member.create_system = 3  # else it names the system that wrote it
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(member, content.getvalue())
    return buffer.getvalue()
