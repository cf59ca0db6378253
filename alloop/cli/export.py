"""`alloop export`: what a round trained on, as a data set."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from alloop.cli.data import FORMATS_HELP
from alloop.cli.options import Quiet, RunFolder


def export(
    folder: RunFolder,
    to: Annotated[str, typer.Option("--to", help=f"Format: {FORMATS_HELP}.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist yet, or be empty.")],
    round_: Annotated[
        int | None,
        typer.Option("--round", help="Write what this round trained on; the last finished round by default.", min=0),
    ] = None,
    images: Annotated[
        Literal["copy", "link", "none"],
        typer.Option(help="Copy the image files, make hard links to them, or leave them out."),
    ] = "copy",
    quiet: Quiet = False,
) -> None:
    """Write what a round trained on as a data set: all images labeled up to then, with the labels that were paid for.

    Example: alloop export runs/entropy --round 4 --to yolo --out labeled_4
    """
    from alloop.exporting.export import export as write  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415

    for line in write(folder, out, to=to, round_=round_, images=images, progress=Progress(quiet=quiet)).lines():
        print(line)
