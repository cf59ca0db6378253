"""Images of the pool by the names that other tools give them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from alloop.values import ImageRecord


def last_part(name: str) -> str:
    """Return a file name without its folders."""
    return name.rpartition("/")[2]


def match_names(names: Iterable[str], images: Sequence[ImageRecord]) -> Mapping[str, ImageRecord]:
    """Find the image of each name: by the whole name, else by its last part where one image alone has it.

    Names that match nothing are left out.
    """
    whole = {image.file_name: image for image in images}
    counts = Counter(last_part(image.file_name) for image in images)
    short = {last_part(image.file_name): image for image in images if counts[last_part(image.file_name)] == 1}
    matches = {name: whole.get(name) or short.get(last_part(name)) for name in names}
    return {name: image for name, image in matches.items() if image is not None}
