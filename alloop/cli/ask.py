"""The command `ask`."""

from pathlib import Path
from typing import Annotated

import typer

from alloop.cli.options import Quiet, RunFolder


def ask(
    folder: RunFolder,
    page: Annotated[Path | None, typer.Option(help="Also write an HTML page with pictures of the images.")] = None,
    quiet: Quiet = False,
) -> None:
    """Show which images the run would take next and what they would cost, before anybody is asked.

    Answers that are complete are booked, and the detector of the open round is trained, as `alloop run` would. The
    choice itself is not recorded: the next `alloop run` makes the same one.

    Example: alloop ask runs/cells --page next.html
    """
    from alloop.cli.strategies import strategy_table  # noqa: PLC0415
    from alloop.loop.preview import preview  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415
    from alloop.results.next_purchase import preview_lines, preview_table  # noqa: PLC0415
    from alloop.tables import show  # noqa: PLC0415

    found = preview(folder, strategy_table(), Progress(quiet=quiet))
    show(preview_table(found), "", *preview_lines(found))
    if page is not None:
        from alloop.report.preview_page import write_preview  # noqa: PLC0415

        write_preview(found, page, folder.name)
        print(page)
