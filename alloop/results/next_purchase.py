"""What a run would buy or ask for next, in words and as a table."""

from collections.abc import Iterator

from alloop.budget.amounts import Spent
from alloop.ledger.store import Bought
from alloop.loop.preview import Preview
from alloop.loop.purchase_rules import passed_over_lines
from alloop.tables import Table


def preview_table(preview: Preview) -> Table:
    """Return a row for each image, in the order in which they would be taken."""
    columns = ["image", "utility", "predicted boxes", *(["boxes"] if isinstance(preview.chosen, Bought) else [])]
    images, chosen = preview.pool.dataset.images, preview.chosen
    rows = []
    for image_id, utility, boxes in zip(
        chosen.selection.image_ids, chosen.selection.utilities, chosen.predicted_boxes, strict=True
    ):
        truth = [f"{len(chosen.annotations[image_id])}"] if isinstance(chosen, Bought) else []
        predicted = "" if boxes is None else f"{boxes:.0f}"
        rows.append([images[image_id].file_name, f"{utility:.3g}", predicted, *truth])
    return Table(columns, rows, left=1)


def preview_lines(preview: Preview) -> list[str]:
    """Return what the next round would take, what that costs and leaves of the budget, and what to do."""
    return [*_purchase(preview), *passed_over_lines(preview.chosen.passed_over), _next_command(preview)]


def _purchase(preview: Preview) -> Iterator[str]:
    chosen, prices = preview.chosen, preview.config.oracle.rates
    images = len(chosen.selection.image_ids)
    if isinstance(chosen, Bought):
        boxes = sum(map(len, chosen.annotations.values()))
        yield f"round {preview.round} would buy {images} images with {boxes} boxes"
    else:
        boxes = round(sum(chosen.predicted_boxes))
        cost = prices.cost(images=images, boxes=boxes)
        yield f"round {preview.round} would ask people for {images} images, with {boxes} boxes by prediction"
        yield f"cost     about {cost:.2f}, if every predicted box is drawn and no other"
    yield f"spent    {_spent(preview.spent)} so far, {_spent(_after(preview.spent, images, boxes))} with these"
    if preview.config.loop.budget is not None:
        yield f"budget   {preview.config.loop.budget}"


def _after(spent: Spent, images: int, boxes: int) -> Spent:
    return Spent(spent.images + images, spent.boxes + boxes)


def _spent(spent: Spent) -> str:
    return f"{spent.images} images and {spent.boxes} boxes"


def _next_command(preview: Preview) -> str:
    if isinstance(preview.chosen, Bought):
        return "nothing of this is booked; the next `alloop run` buys these images"
    return "nothing of this is recorded or sent; the next `alloop run` asks for these images"
