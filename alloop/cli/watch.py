"""The command `watch`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from alloop.cli.options import AnyFolder
from alloop.errors import ConfigError


def watch(
    folder: AnyFolder,
    out: Annotated[Path | None, typer.Option(help="HTML file; watch.html in the folder by default.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show the page at an address of this machine alone, and write no file.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of --serve; a free one by default.", min=0, max=65535)] = 0,
    every: Annotated[float, typer.Option(help="Seconds between two looks at the run.", min=1)] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Write the page once, and end.")] = False,
) -> None:
    """Show what a run or a study is doing in a page that loads itself again while it goes on.

    The page has what is being done, about how long it still takes, AP over boxes so far, the losses of the trainings
    and the last lines of log.txt. It reads only: the run is not slowed down, and may be started, stopped and resumed
    meanwhile. The command ends when the run is finished or waits for people; until then it writes the page again and
    again. Put & behind it to go on in the same terminal, or write the page once with --once.

    Example: alloop watch runs/cells --serve
    """
    if serve and (out is not None or once):
        msg = "--serve writes no file and goes on until the run ends; leave out --out and --once"
        raise ConfigError(msg)
    if serve:
        from alloop.report.page_server import serving  # noqa: PLC0415

        with serving(port) as server:

            def show(page: bytes) -> None:
                server.page = page

            print(f"{server.url} (end it with Ctrl-C)", flush=True)
            _follow(folder, every, show)
            time.sleep(2 * every)  # browsers still load the last page, which no longer loads itself again
        return
    from alloop.files import atomic_write  # noqa: PLC0415

    path = out or folder / "watch.html"
    _follow(folder, every, lambda page: print(path, flush=True) if atomic_write(path, page) else None, once=once)


def _follow(folder: Path, every: float, show: Callable[[bytes], None], *, once: bool = False) -> None:
    """Show the page again and again until nothing more happens by itself, then print the state."""
    from alloop.report.watch_page import WatchPage  # noqa: PLC0415
    from alloop.results.watching import read_watched  # noqa: PLC0415

    page = WatchPage()
    while True:
        watched = read_watched(folder)
        show(page.render(watched, every).encode(errors="backslashreplace"))
        if watched.ended or once:
            print(f"{folder}: {watched.state}")
            return
        time.sleep(every)
