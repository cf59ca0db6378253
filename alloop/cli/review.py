"""The command `review`."""

from pathlib import Path
from typing import Annotated

import typer

from alloop.cli.options import RunFolder


def review(
    folder: RunFolder,
    page: Annotated[Path | None, typer.Option(help="Also write an HTML page with pictures of the boxes.")] = None,
) -> None:
    """Show what people have answered so far and what booking it would cost. Nothing is booked or changed.

    Each image that was asked for is listed with its state, the boxes that came back and the changes to those that were
    shown. Images with far more or fewer boxes than predicted are named. Example: alloop review runs/cells --page r.html
    """
    from alloop.results.review import read_review  # noqa: PLC0415
    from alloop.tables import show  # noqa: PLC0415

    found = read_review(folder)
    show(found.table(), "", *found.lines())
    if page is not None:
        from alloop.report.review_page import write_review  # noqa: PLC0415

        write_review(found, page, folder.name)
        print(page)
