"""What a run would take next, as a page with pictures."""

from pathlib import Path

import numpy as np

from alloop.loop.preview import Preview
from alloop.report.picture_page import class_counts, figure_of, write_pictures
from alloop.results.next_purchase import preview_lines, preview_table


def write_preview(preview: Preview, path: Path, name: str) -> None:
    """Write the page about the next purchase; the boxes are those by which an image would be priced.

    Args:
        preview: what the run would take next.
        path: the HTML file.
        name: how the title calls the run.

    Raises:
        DataError: an image that cannot be read.
    """
    figures = [_previewed(preview, rank) for rank in range(len(preview.chosen.selection.image_ids))]
    write_pictures(
        path, f"{name}: before round {preview.round}", preview_lines(preview), figures, preview_table(preview)
    )


def _previewed(preview: Preview, rank: int) -> str:
    """Return the picture of an image with its most confident detections, as many as boxes are predicted for it."""
    chosen = preview.chosen
    image_id, count = chosen.selection.image_ids[rank], round(chosen.predicted_boxes[rank] or 0)
    found = preview.detections[image_id]
    first = np.argsort(-found.scores, kind="stable")[:count]
    classes = class_counts(found.labels[first].tolist(), preview.pool.dataset.class_names)
    name = preview.pool.dataset.images[image_id].file_name
    caption = f"{rank + 1}. {name}: utility {chosen.selection.utilities[rank]:.3g}; predicted{classes or ' no box'}"
    return figure_of(preview.pool, image_id, found.boxes[first], caption)
