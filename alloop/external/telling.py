"""What a program outside answers: predictions in files, and a manifest that is written last.

pool.json        predictions of the images of ask/pool.json: COCO results (`pool.json`, `pool.json.gz`), `pool.csv`,
                 or a folder `pool` of YOLO text files
test.json        the same for ask/test.json; reference.json where it was asked
noisy_8.json     predictions of the pool with noise of sigma 8; where they are wanted
embeddings.npy   a row for each image of ask/labeled.json and ask/pool.json, and embeddings.txt with the id or file
                 name of the image of each row; where they are wanted
pool_features.npy, labeled_features.npy   a row for each row of the predictions of the pool, and for each annotation of
                 ask/labeled.json, in the order of those files; where they are wanted
manifest.json    {"ask": as in ask/manifest.json,
                  "images": {"pool": [ids or file names of the images that were predicted], "test": [...]},
                  "files": {"pool.json": its sha256, ...}}

The manifest proves that the answer belongs to this round, that no file is half written or was changed since, and that
every image was looked at: an image without a row in a file of predictions may have no object, or may be forgotten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from alloop.data.notes import Notes
from alloop.errors import DataError
from alloop.external.answers import Answers
from alloop.external.asking import Ask, noisy_name
from alloop.external.folders import MANIFEST
from alloop.files import sha256_file
from alloop.predictions.embeddings import Embeddings, read_embeddings
from alloop.predictions.predictions import Predictions
from alloop.predictions.reading import read_predictions
from alloop.predictions.regions import RegionFeatures, read_region_features
from alloop.predictions.rows import KnownImages
from alloop.values import ImageId, ImageRecord

_MATRICES = ("embeddings", "pool_features", "labeled_features")
_SUFFIXES = (".json", ".json.gz", ".csv")


class Manifest(msgspec.Struct, forbid_unknown_fields=False):
    """The manifest of an answer.

    Attributes:
        ask: the identity of what was asked, copied from its manifest.
        images: for each set the images that were predicted, by id or file name.
        files: the sha256 of each file, by its path inside the folder.
    """

    ask: str
    images: dict[str, list[int | str]]
    files: dict[str, str]


def read_answers(folder: Path, ask: Ask, notes: Notes) -> Answers:
    """Read and check what a program answered.

    Args:
        folder: the folder `tell`, whose manifest is there.
        ask: what was asked.
        notes: counts what was read leniently.

    Raises:
        DataError: an answer to something else, a file that is missing, changed or half written, an image that was not
            predicted, or predictions that cannot be used; file and image are named.
    """
    manifest = _manifest(folder, ask)
    _refuse_changed(folder, manifest)
    found = {name: _found(folder, name, manifest) for name in ask.wanted}
    reader = _Reader(folder, ask, manifest, notes)
    predictions = {name: reader.predictions(name, found[name]) for name in ask.predict}
    return Answers(
        class_names=ask.classes.names,
        predictions=predictions,
        noisy={sigma: reader.predictions("pool", found[noisy_name(sigma)]) for sigma in ask.sigmas},
        embeddings=reader.embeddings(found["embeddings"]) if ask.embeddings else None,
        regions=_regions(found, predictions["pool"], ask) if ask.regions else None,
    )


def _regions(found: Mapping[str, Path], predictions: Predictions, ask: Ask) -> RegionFeatures:
    labeled = {image_id: ask.labeled[image_id] for image_id in sorted(ask.labeled)}  # the order of ask/labeled.json
    return read_region_features(found["pool_features"], found["labeled_features"], predictions, labeled)


def _manifest(folder: Path, ask: Ask) -> Manifest:
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = (
            f"{path}: expected the keys ask, images and files, but it cannot be read ({error}); write it last, at once"
        )
        raise DataError(msg) from error
    if manifest.ask != ask.identity:
        msg = (
            f"{path}: `ask` is {manifest.ask[:16]!r}…, and round {ask.round} asks {ask.identity[:16]!r}…: this answers "
            "another round or another run. Predict again from the folder ask, and copy `ask` from its manifest."
        )
        raise DataError(msg)
    return manifest


def _refuse_changed(folder: Path, manifest: Manifest) -> None:
    for name, sha256 in manifest.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{folder / MANIFEST}: files: {name!r} leads out of {folder}")
        if not path.is_file():
            raise DataError(f"{path}: {MANIFEST} lists it, and it is not there; write it, then the manifest again")
        found = sha256_file(path)
        if found != sha256:
            msg = (
                f"{path}: expected sha256 {sha256[:16]}… as in {MANIFEST}, found {found[:16]}…: the file is half "
                "written, or was changed. Write it again, and then the manifest."
            )
            raise DataError(msg)


def _found(folder: Path, name: str, manifest: Manifest) -> Path:
    """Return the file or folder of that name, which the manifest lists."""
    if name in _MATRICES:
        candidates, expected = [path for path in (f"{name}.npy",) if path in manifest.files], f"{name}.npy"
    else:
        candidates = [name + suffix for suffix in _SUFFIXES if name + suffix in manifest.files]
        candidates += [name] if any(path.startswith(f"{name}/") for path in manifest.files) else []
        expected = f"{name}.json, {name}.json.gz, {name}.csv or a folder {name}"
    if len(candidates) != 1:
        there = " and ".join(candidates) or "none"
        msg = f"{folder}: expected one of {expected} in the `files` of {MANIFEST}, found {there}"
        raise DataError(msg)
    return folder / candidates[0]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the files of one answer."""

    folder: Path
    ask: Ask
    manifest: Manifest
    notes: Notes

    def predictions(self, name: str, path: Path) -> Predictions:
        """Return the predictions of a set, which know only the images that the manifest lists for it.

        Predictions of labeled images are read and kept as well.
        """
        known = self.ask.pool_images if name == "pool" else self.ask.images(name)
        predicted = self._predicted(name, known)
        missing = [image for image in self.ask.images(name) if image.image_id not in predicted]
        if missing:
            msg = (
                f"{self.folder / MANIFEST}: images.{name}: image {missing[0].image_id} ({missing[0].file_name}) of "
                f"ask/{name}.json is missing ({len(missing)} in all); predict every image, and list also those in "
                "which nothing was found"
            )
            raise DataError(msg)
        kept = [image for image in known if image.image_id in predicted]
        return read_predictions([path], KnownImages(kept), self.ask.classes, self.notes)

    def _predicted(self, name: str, known: Sequence[ImageRecord]) -> frozenset[ImageId]:
        place, listed = f"{self.folder / MANIFEST}: images.{name}", self.manifest.images.get(name, [])
        texts = [str(image) for image in listed]
        rows = KnownImages(known).rows_of_texts(texts, place, self.notes)
        return frozenset(known[row].image_id for row in rows.tolist())

    def embeddings(self, path: Path) -> Embeddings:
        """Return the vectors, of which there is one for every image of the pool."""
        known = self.ask.pool_images
        listed = self.folder / "embeddings.txt"
        if listed.name not in self.manifest.files:
            msg = (
                f"{listed}: is not in the `files` of {MANIFEST}; write the id or file name of each row's image into it"
            )
            raise DataError(msg)
        embeddings = read_embeddings(path, listed, KnownImages(known), self.notes)
        embeddings.of_images([image.image_id for image in known])
        return embeddings
