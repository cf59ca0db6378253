"""One page for browsers of this machine: bound to 127.0.0.1, GET alone, and nothing but the page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"


class PageServer(ThreadingHTTPServer):
    """Serves `page`, which may be replaced at any time. Its `url` is where."""

    def __init__(self, port: int) -> None:
        """Bind to a port of this machine; 0 takes a free one."""
        super().__init__((HOST, port), _Handler)
        self.page = b""

    @property
    def port(self) -> int:
        """The port."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.port}/"


class _Handler(BaseHTTPRequestHandler):
    timeout = 10.0  # of a browser that sends nothing
    server: PageServer

    def do_GET(self) -> None:
        """Send the page; not under a foreign name, by which a foreign page could read it (DNS rebinding)."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN, "This page is for 127.0.0.1 and localhost")
        elif self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            page = self.server.page
            self.send_response(HTTPStatus.OK)
            for name, value in (
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Length", str(len(page))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Frame-Options", "DENY"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name in the base class
        """Print nothing."""


@contextmanager
def serving(port: int) -> Iterator[PageServer]:
    """Serve inside a `with`."""
    with PageServer(port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
