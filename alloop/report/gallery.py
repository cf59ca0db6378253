"""Small pictures of the images that each strategy bought first and last, with the boxes that were paid for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from alloop.class_values import ClassLabel, Truth
from alloop.errors import AlloopError
from alloop.ledger.split_images import HashedImage, pool_images
from alloop.ledger.store import read_ledger
from alloop.report.pictures import Picture, PictureBox, Thumbnail, counted_boxes, counted_classes, thumbnail
from alloop.report.run_images import image_reader
from alloop.report.settings import purpose
from alloop.results.runs import Run
from alloop.values import Annotations, ImageId

MOST_PICTURES = 160  # on a page, so that it stays small
EACH = 6  # of one purchase, at most

Show = Callable[[HashedImage], Thumbnail]
Chosen = tuple[int, int, ImageId, float, float | None]
"""Round, rank from 0, image, utility and predicted boxes."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures of one run.

    Attributes:
        strategy: the strategy of the run.
        run: the name of its folder.
        first: the images of the first purchase that have the highest utility.
        last: the images of the last purchase that have the lowest utility.
        why: which images the strategy chooses, in a sentence; empty where that is unknown.
    """

    strategy: str
    run: str
    first: list[Picture]
    last: list[Picture]
    why: str = ""


def galleries(runs: Sequence[Run], table: Mapping[str, str]) -> tuple[list[Gallery], str]:
    """Return the gallery of each strategy's first seed.

    The second value is the reason where there is none because the images cannot be read, else empty.

    Args:
        runs: runs that finished a round.
        table: the built-in strategies, which say what they choose.
    """
    first_runs = list({run.strategy: run for run in reversed(runs) if not run.full_label}.values())[::-1]
    each = min(EACH, MOST_PICTURES // (2 * max(1, len(first_runs))))
    if not first_runs or not each:
        return [], ""
    try:
        read = image_reader(first_runs[0])
        show = cache(lambda image: thumbnail(read(image)))  # strategies choose the same images
        built = [_gallery(run, show, each, purpose(run, table)) for run in first_runs]
        return [gallery for gallery in built if gallery is not None], ""
    except (AlloopError, OSError) as error:
        return [], f"The images could not be read: {error}"


def _gallery(run: Run, show: Show, each: int, why: str) -> Gallery | None:
    """Return the gallery of one run with up to `each` pictures of a purchase; None where nothing was bought."""
    with read_ledger(run.folder) as ledger:
        selections: list[Chosen] = ledger.selections()
        if not selections:
            return None
        purchases = [[one for one in selections if one[0] == selections[end][0]] for end in (0, -1)]
        parts = (purchases[0][:each], purchases[1][-each:])
        shown = [one[2] for part in parts for one in part]
        truths, images = ledger.annotations(shown), pool_images(ledger, shown)
    names = run.facts.classes or ()
    first, last = (
        [_picture(one, len(purchase), images[one[2]], show, truths[one[2]], names) for one in part]
        for part, purchase in zip(parts, purchases, strict=True)
    )
    return Gallery(run.strategy, run.name, first, last, why)


def _picture(chosen: Chosen, among: int, image: HashedImage, show: Show, truth: Truth, names: Sequence[str]) -> Picture:
    round_, rank, image_id, utility, _ = chosen
    value = "" if utility is None else f"; utility {utility:.3g}"
    chosen_as = f"round {round_}, choice {rank + 1} of {among}{value}"
    if isinstance(truth, ClassLabel):
        label = class_name(names, truth.label)
        return Picture(show(image), (), image[1], (chosen_as, label), f"image {image_id} of class {label}")
    boxes = _boxes(truth, names)
    lines = (chosen_as, *counted_classes(boxes))
    return Picture(show(image), boxes, image[1], lines, f"image {image_id} with {counted_boxes(boxes)}")


def _boxes(truth: Annotations, names: Sequence[str]) -> tuple[PictureBox, ...]:
    """Return the boxes of an annotation; a crowd says that it is one."""
    return tuple(
        PictureBox(box.tolist(), f"{class_name(names, label)}{' (crowd)' if crowd else ''}")
        for box, label, crowd in zip(truth.boxes, truth.labels, truth.crowd, strict=True)
    )


def class_name(names: Sequence[str], label: int) -> str:
    """Return the name of a class, or its number where the run recorded no names."""
    return names[label] if label < len(names) else f"class {label}"
