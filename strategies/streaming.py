"""Images in chunks, so that the results of a whole pool are never held at once.

A detector puts images of one padded size into a batch, so the more images it is asked for at once, the fuller its
batches are: at 800 x 1333 pixels there are at most 63 such sizes, so 8,192 images fill at least 94 % of batches of 8.
"""

from collections.abc import Iterator, Sequence

from alloop.query import Need, Query
from alloop.values import Detections, ImageId

IMAGES = 8192  # whose detections are in memory at once: 300 MB where each has 100 boxes and 80 classes
IMAGES_WITH_MASKS = 256  # a mask has as many bytes as its image has pixels
IMAGES_WITH_REGIONS = 2048  # whose region features are in memory at once


def chunked(image_ids: Sequence[ImageId], size: int) -> Iterator[Sequence[ImageId]]:
    """Yield the ids in order, `size` at a time."""
    for start in range(0, len(image_ids), size):
        yield image_ids[start : start + size]


def images_at_once(query: Query) -> int:
    """Return for how many images detections may be asked for at once."""
    return IMAGES_WITH_MASKS if Need.MASKS in query.detector.gives else IMAGES


def stream_detections(query: Query, image_ids: Sequence[ImageId]) -> Iterator[tuple[ImageId, Detections]]:
    """Yield each image with its detections, computed for many images at a time."""
    for chunk in chunked(image_ids, images_at_once(query)):
        yield from zip(chunk, query.detector.detections(chunk), strict=True)
