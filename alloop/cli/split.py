"""The command `split`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from alloop.data.formats.table import FORMATS, guess_format

_NAMES = f"{', '.join(FORMATS)} or your own 'package.module:FORMAT'"


def split(
    annotations: Annotated[Path, typer.Argument(help="File or folder with annotations.")],
    out: Annotated[Path, typer.Option(help="Folder for the splits; must not exist yet, or be empty.")],
    shares: Annotated[
        str, typer.Option(help="Two or three splits, each with its share of the images and boxes.")
    ] = "train=0.7,reference=0.1,test=0.2",
    group: Annotated[
        str | None,
        typer.Option(
            help="How images that belong together are found: folder, field:NAME, pattern:REGEX or csv:FILE. "
            "By default by the field 'group' of COCO where it is there, and else each image stands alone."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help=f"Format: {_NAMES}. Guessed by default.")] = None,
    to: Annotated[str | None, typer.Option(help="Format of the splits; the one that is read by default.")] = None,
    random_seed: Annotated[int, typer.Option(help="Another seed gives another division that is as good.")] = 0,
    output: Annotated[Literal["table", "json"], typer.Option("--format", help="Print a table or JSON.")] = "table",
) -> None:
    """Make train, reference and test splits of annotations: each has its share of every class, none shares a group.

    Example: alloop split all.json --out splits --images photos --group folder
    """
    from alloop.data.groups import group_rule  # noqa: PLC0415
    from alloop.data.split_files import FileSplitting  # noqa: PLC0415
    from alloop.data.split_summary import split_blocks, split_tree  # noqa: PLC0415
    from alloop.data.splitting import parsed_shares  # noqa: PLC0415
    from alloop.tables import show  # noqa: PLC0415

    format_ = from_ or guess_format(annotations)
    written = FileSplitting(
        annotations=annotations,
        out=out,
        shares=parsed_shares(shares),
        from_=format_,
        to=to or format_,
        images=images,
        groups=None if group is None else group_rule(group),
        random_seed=random_seed,
    ).run()
    if output == "json":
        print(json.dumps(split_tree(written), indent=2))
        return
    show(*split_blocks(written))
