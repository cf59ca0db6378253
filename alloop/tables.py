"""Tables: framed on a terminal, aligned plain text elsewhere, and as CSV."""

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_UNLIMITED = 100_000  # columns of text; plain tables are never cut or wrapped


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings.

    Attributes:
        columns: one heading for each column.
        rows: the cells of each row; a line break in a cell is kept.
        left: how many columns, counted from the left, are aligned to the left; the others, numbers, to the right.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


def show(*blocks: str | Table) -> None:
    """Print texts and tables to standard output, one after the other."""
    if not sys.stdout.isatty():
        print(plain(*blocks))
        return
    from rich.console import Console  # noqa: PLC0415  loaded only where a table is printed

    console = Console()
    for block in blocks:
        if isinstance(block, Table):
            console.print(_rich(block, framed=True))
        else:
            print(block)


def plain(*blocks: str | Table) -> str:
    """Return texts and tables as lines of plain text, without frames, colours or a limit of width."""
    return "\n".join(_aligned(block) if isinstance(block, Table) else block for block in blocks)


def html(*blocks: str | Table) -> str:
    """Return texts and tables as HTML, with every character of theirs escaped."""
    return "\n".join(_html_table(block) if isinstance(block, Table) else f"<p>{escape(block)}</p>" for block in blocks)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV with a line of headings."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def figure(value: float | None, form: str = ".3f") -> str:
    """Return a number as text, and `-` where there is none."""
    return "-" if value is None else format(value, form)


def _html_table(table: Table) -> str:
    sides = ["left" if number < table.left else "right" for number in range(len(table.columns))]

    def line(tag: str, cells: Sequence[str]) -> str:
        written = zip(sides, cells, strict=True)
        return "".join(f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>' for side, cell in written)

    rows = "\n".join(f"<tr>{line('td', row)}</tr>" for row in table.rows)
    return f"<table>\n<thead><tr>{line('th', table.columns)}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _aligned(table: Table) -> str:
    from rich.console import Console  # noqa: PLC0415

    console = Console(file=io.StringIO(), width=_UNLIMITED, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(_rich(table, framed=False))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _rich(table: Table, *, framed: bool) -> Any:
    from rich import box  # noqa: PLC0415
    from rich import table as rich_table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    frame = box.SIMPLE_HEAD if framed else None  # rich draws it with ASCII where the encoding has nothing else
    drawn = rich_table.Table(box=frame, pad_edge=False, padding=(0, 1) if framed else (0, 2, 0, 0))
    drawn.show_header = any(table.columns)
    for number, column in enumerate(table.columns):
        # Text instead of a string: rich would read square brackets in a class name as colours
        drawn.add_column(Text(column), justify="left" if number < table.left else "right", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    return drawn
