"""`alloop export`: what a round trained on, in any annotation format, with its images and a hash of its content."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alloop.data.convert import is_one_file, summary_of, write_checked
from alloop.data.formats.format import Format
from alloop.data.formats.table import annotation_format
from alloop.data.image_folder import image_path
from alloop.errors import ConfigError, DataError
from alloop.exporting.pool_images import PoolImages, pool_images
from alloop.exporting.round_records import RoundLabels, round_labels
from alloop.files import atomic_folder, atomic_write
from alloop.ledger.labeled_images import LabeledImage, labeled_round
from alloop.ledger.store import read_ledger
from alloop.progress import Progress

ImageFiles = Literal["copy", "link", "none"]
NAME = "export.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        out: the folder.
        annotations: the file or folder that a reader of the format is given; give it to `data.train.annotations`.
        image_folder: the folder of the images; None where none were written.
        round: the round that trained on this.
        images: number of images.
        boxes: number of boxes that were paid for.
        content_sha256: the hash of file names, sizes, labels and class names, as `alloop status` shows it.
        summary: one line that counts what was written and what the format has no place for.
    """

    out: Path
    annotations: Path
    image_folder: Path | None
    round: int
    images: int
    boxes: int
    content_sha256: str
    summary: str

    def lines(self) -> Iterator[str]:
        """Yield the lines that `alloop export` prints."""
        yield self.summary
        yield f"images   {self.image_folder or 'not written'}"
        yield f"content  sha256 {self.content_sha256}"


def export(
    run: str | Path,
    out: str | Path,
    *,
    to: str = "coco",
    round_: int | None = None,
    images: ImageFiles = "copy",
    progress: Progress | None = None,
) -> Exported:
    """Write what a round trained on: all images that were labeled up to then, with the labels that were paid for.

    Everything is written into a folder beside `out`, read again, compared and then renamed. The same round of the same
    run gives the same bytes each time.

    Args:
        run: the folder of the run.
        out: the folder to write; it does not exist, or is empty.
        to: name of the annotation format, or an import path.
        round_: the round; the last finished one by default.
        images: `copy` writes the image files, `link` makes hard links to them, which takes no space, `none` leaves
            them out. Each file is compared with the hash that was recorded when the run began.
        progress: where to report progress.

    Raises:
        ConfigError: no run, an unknown format, or a round without labels.
        DataError: `out` is not empty, or the format cannot hold the data set without loss.
        DamagedFileError: an image or a stored annotation is not what the run recorded.
    """
    run, out, progress = Path(run), Path(out), progress or Progress(quiet=True)
    writer = annotation_format(to, "--to")
    if images not in ("copy", "link", "none"):
        msg = f"images: expected copy, link or none, found {images!r}"
        raise ConfigError(msg)
    with read_ledger(run) as ledger:
        round_ = labeled_round(ledger, round_)
        labels = round_labels(ledger, round_)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        msg = f"{out}: exists already; give a new name or an empty folder, nothing is overwritten"
        raise DataError(msg)
    with atomic_folder(out) as folder:
        target = folder / "annotations.json" if is_one_file(writer, labels.records) else folder
        write_checked(labels.records, labels.dataset, writer, target, shown=out)
        if images != "none":
            pool = pool_images(labels.facts, run)
            _write_images(labels, pool, folder / writer.images, progress, link=images == "link")
        atomic_write(folder / NAME, _about(labels, round_, to))
    return _exported(out, out / target.relative_to(folder), writer, labels, round_, to, images)


def _exported(
    out: Path, annotations: Path, writer: Format, labels: RoundLabels, round_: int, to: str, images: ImageFiles
) -> Exported:
    return Exported(
        out=out,
        annotations=annotations,
        image_folder=None if images == "none" else out / writer.images,
        round=round_,
        images=len(labels.images),
        boxes=labels.dataset.boxes,
        content_sha256=labels.content_sha256,
        summary=summary_of(labels.dataset, annotations, "" if writer.keeps_masks else to),
    )


def _write_images(labels: RoundLabels, pool: PoolImages, folder: Path, progress: Progress, *, link: bool) -> None:
    for done, image in enumerate(labels.images, start=1):
        target = image_path(folder, image.file_name)
        if target.exists():
            msg = f"{image.file_name}: an image has the name of a file of the annotations; rename that image"
            raise DataError(msg)
        data = pool.data(image)  # verified, also where it is only linked
        source = pool.file(image) if link else None
        if source is None:
            atomic_write(target, data)
        else:
            _link(source, target, image)
        progress.step("images", done, len(labels.images))


def _link(source: Path, target: Path, image: LabeledImage) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        reason = f"image {image.image_id} cannot be linked ({error.strerror})"
        msg = f"{source}: {reason}; links need one file system for both folders, so give --images copy"
        raise DataError(msg) from error


def _about(labels: RoundLabels, round_: int, to: str) -> bytes:
    tree = {
        "content_sha256": labels.content_sha256,
        "run_config_sha256": labels.facts.config_sha256,
        "round": round_,
        "images": len(labels.images),
        "boxes": labels.dataset.boxes,
        "format": to,
    }
    return f"{json.dumps(tree, indent=2)}\n".encode()
