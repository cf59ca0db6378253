"""The command `watch`: where the page goes, when it ends, and what it refuses."""

import re
import threading
import urllib.request

import pytest
from typer.testing import CliRunner

from alloop.cli import watch as module
from alloop.cli.app import app
from tests.support.runs import write_run


def call(*texts):
    return CliRunner().invoke(app, ["watch", *map(str, texts)])


@pytest.fixture
def finished(tmp_path):
    write_run(tmp_path / "run", "random", 0, [0.1, 0.2])
    return tmp_path / "run"


def test_it_ends_with_the_run_and_writes_where_it_is_told(finished, tmp_path):
    result = call(finished, "--out", tmp_path / "pages" / "one.html")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{tmp_path / 'pages' / 'one.html'}", f"{finished}: finished"]
    assert not (finished / "watch.html").exists()
    assert call(finished).exit_code == 0
    assert (finished / "watch.html").read_text().startswith("<!doctype html>")


def test_ctrl_c_ends_it_as_other_commands(finished, monkeypatch):
    def stopped(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("alloop.results.watching.Watched.ended", property(lambda _: False))
    monkeypatch.setattr(module.time, "sleep", stopped)
    assert call(finished).exit_code == 130


def test_it_serves_without_writing_and_shows_the_last_page_a_little_longer(finished, monkeypatch):
    seen = threading.Event()
    pages = []

    def look(_):
        pages.append(urllib.request.urlopen(addresses[0], timeout=30).read())
        seen.set()

    from alloop.report import page_server

    addresses, bind = [], page_server.PageServer.__init__

    def noted(self, port):
        bind(self, port)
        addresses.append(self.url)

    monkeypatch.setattr(page_server.PageServer, "__init__", noted)
    monkeypatch.setattr(module.time, "sleep", look)
    result = call(finished, "--serve")
    assert seen.is_set()
    assert pages[0].startswith(b"<!doctype html>")
    assert re.match(r"http://127\.0\.0\.1:\d+/ ", result.stdout)
    assert not (finished / "watch.html").exists()


def test_serving_and_a_file_at_once_is_refused(finished, tmp_path):
    for options in (["--out", tmp_path / "x.html"], ["--once"]):
        result = call(finished, "--serve", *options)
        assert result.exit_code == 2
        assert "--serve writes no file" in result.stderr
