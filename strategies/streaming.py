"""Images in chunks, so that the detections of a whole pool are never held at once."""

from collections.abc import Iterator, Sequence

from alloop.query import Query
from alloop.values import Detections, ImageId


def chunked(image_ids: Sequence[ImageId], size: int) -> Iterator[Sequence[ImageId]]:
    """Yield the ids in order, `size` at a time."""
    for start in range(0, len(image_ids), size):
        yield image_ids[start : start + size]


def stream_detections(query: Query, image_ids: Sequence[ImageId], size: int) -> Iterator[tuple[ImageId, Detections]]:
    """Yield each image with its detections, computed for `size` images at a time."""
    for chunk in chunked(image_ids, size):
        yield from zip(chunk, query.detector.detections(chunk), strict=True)
