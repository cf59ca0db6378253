"""Small pictures of the images that each strategy bought first and last, with the boxes that were paid for."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from alloop.data.digits import digit_pixels, digit_scenes_parameters
from alloop.data.image_folder import ImageFolder
from alloop.data.images import decode
from alloop.errors import AlloopError, DataError
from alloop.ledger.image_audit import data_of, image_folders
from alloop.ledger.split_images import HashedImage, pool_images
from alloop.ledger.store import read_ledger
from alloop.results.runs import Run
from alloop.values import Annotations, ImageId

SIDE = 176  # pixels of the long side
MOST_PICTURES = 160  # on a page, so that it stays small
_INK, _HALO = (255, 212, 0), (0, 0, 0)  # yellow on black stands out from any picture

Read = Callable[[HashedImage], UInt8[np.ndarray, "h w 3"]]
"""Returns the pixels of an image of the pool, given as the ledger records it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One bought image.

    Attributes:
        uri: a JPEG as data URI.
        text: the text for readers who do not see the picture.
        caption: the text below it.
    """

    uri: str
    text: str
    caption: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures of one run.

    Attributes:
        strategy: the strategy of the run.
        run: the name of its folder.
        first: the images of the first purchase that have the highest utility.
        last: the images of the last purchase that have the lowest utility.
    """

    strategy: str
    run: str
    first: list[Picture]
    last: list[Picture]


def galleries(runs: Sequence[Run]) -> tuple[list[Gallery], str]:
    """Return the gallery of each strategy's first seed.

    The second value is the reason where there is none because the images cannot be read, else empty.
    """
    first_runs = list({run.strategy: run for run in reversed(runs) if not run.full_label}.values())[::-1]
    each = min(6, MOST_PICTURES // (2 * max(1, len(first_runs))))
    if not first_runs or not each:
        return [], ""
    try:
        read = _reader(first_runs[0])
        built = [_gallery(run, read, each) for run in first_runs]
        return [gallery for gallery in built if gallery is not None], ""
    except (AlloopError, OSError) as error:
        return [], f"The images could not be read: {error}"


def _reader(run: Run) -> Read:
    """Return what reads an image of the pool, also where the data were moved together with the run.

    Annotations are not read: the ledger has the name and the hash of each file, and the boxes that were paid for.
    """
    data = data_of(run.facts, run.folder)
    if data is None:
        msg = "the config of the run names no data"
        raise DataError(msg)
    if data.digit_scenes is not None:
        parameters = digit_scenes_parameters(data.digit_scenes, "data.digit_scenes.")
        return lambda image: digit_pixels(parameters, "pool", image[0])
    folder = ImageFolder(image_folders(data)["train"])

    def read(image: HashedImage) -> UInt8[np.ndarray, "h w 3"]:
        return decode(folder.verified(*image), f"{folder.root / image[1]} (image {image[0]})")

    return read


def _gallery(run: Run, read: Read, each: int) -> Gallery | None:
    """Return the gallery of one run with up to `each` pictures of a purchase; None where nothing was bought."""
    with read_ledger(run.folder) as ledger:
        selections = ledger.selections()
        if not selections:
            return None
        last_round = selections[-1][0]
        first = [chosen for chosen in selections if chosen[0] == selections[0][0]][:each]
        last = [chosen for chosen in selections if chosen[0] == last_round][-each:]
        shown = [image_id for _, _, image_id, _, _ in (*first, *last)]
        truths, images = ledger.annotations(shown), pool_images(ledger, shown)
    pictures = [
        [_picture(image_id, read(images[image_id]), utility, truths[image_id]) for _, _, image_id, utility, _ in part]
        for part in (first, last)
    ]
    return Gallery(run.strategy, run.name, *pictures)


def _picture(image_id: ImageId, pixels: UInt8[np.ndarray, "h w 3"], utility: float, truth: Annotations) -> Picture:
    uri = f"data:image/jpeg;base64,{base64.b64encode(drawn(pixels, truth.boxes)).decode()}"
    boxes = f"{len(truth)} box{'' if len(truth) == 1 else 'es'}"
    return Picture(uri, f"image {image_id} with {boxes}", f"{image_id}: {boxes}, {utility:.3g}")


def drawn(pixels: UInt8[np.ndarray, "h w 3"], boxes: Iterable[np.ndarray], side: int = SIDE) -> bytes:
    """Return a JPEG whose long side has `side` pixels, with boxes drawn on it; they are xyxy in pixels of the image."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        x1, y1, x2, y2 = (float(corner) * scale for corner in box)
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=_HALO, width=4)
        draw.rectangle((x1, y1, x2, y2), outline=_INK, width=2)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80, subsampling=0)  # halved colour would smear the thin boxes
    return buffer.getvalue()
