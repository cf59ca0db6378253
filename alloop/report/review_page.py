"""What people have answered so far, as a page with pictures."""

from pathlib import Path

from alloop.report.picture_page import class_counts, figure_of, write_pictures
from alloop.results.review import Review, ReviewedImage


def write_review(review: Review, path: Path, name: str) -> None:
    """Write the page.

    Args:
        review: what came back.
        path: the HTML file.
        name: how the title calls the run.

    Raises:
        DataError: an image that cannot be read.
    """
    figures = [_reviewed(review, image) for image in review.images]
    write_pictures(path, f"{name}: round {review.round}", review.lines(), figures, review.table())


def _reviewed(review: Review, image: ReviewedImage) -> str:
    """Return the picture of an image with the boxes that came back, or else those that people are shown."""
    came, shown = image.answer.annotations, image.request.pre_annotations
    boxes = came if came is not None else shown
    classes = class_counts([] if boxes is None else boxes.labels.tolist(), review.class_names)
    what = "came back" if came is not None else "predicted" if shown is not None else "no boxes yet"
    caption = f"{image.file_name}: {image.answer.state}; {what}{classes}"
    if image.answer.remark:
        caption += f" ({image.answer.remark})"
    return figure_of(review.pool, image.request.image_id, () if boxes is None else boxes.boxes, caption)
