"""The page of `alloop watch`: it loads itself again while something goes on, takes names for data, and is offline."""

import http.client
import re
from datetime import datetime, timedelta

import pytest

from alloop.files import atomic_write
from alloop.ledger.store import open_ledger
from alloop.loop.round_files import losses_path
from alloop.progress import LOG
from alloop.report.page_server import serving
from alloop.report.watch_page import WatchPage
from alloop.results.watching import read_watched
from tests.support.browser import browser
from tests.support.runs import write_run, write_study

EVIL = "<script>alert(1)</script>"
LOSSES = b"step,lr,loss,<b>term</b>,boxes\n5,0.1,3,1,2\n10,0.01,2,1,1\n"


def reopened(folder):
    """Make a finished run one whose last round goes on."""
    with open_ledger(folder) as ledger, ledger.transaction():
        ledger.database.write("UPDATE round SET metrics = NULL WHERE round = 1")
    return folder


def reported(folder, *texts, ago=0):
    stamps = (datetime.now().astimezone() - timedelta(seconds=ago + 5 * k) for k in reversed(range(len(texts))))
    lines = (
        f"{stamp.isoformat(sep=' ', timespec='seconds')}  {text}\n" for stamp, text in zip(stamps, texts, strict=True)
    )
    (folder / LOG).write_text("".join(lines))


def training(done):
    return f"round 1: training on 30 images: {done}/100 loss {200 / (done + 1):.3f} (about 9 min left in this run)"


@pytest.fixture
def run(tmp_path):
    """A run in its second round, with the losses of its first one."""
    folder = tmp_path / f"run {EVIL.replace('/', '')}"
    write_run(folder, EVIL, 0, [0.1, 0.2])
    reopened(folder)
    with open_ledger(folder) as ledger:
        ledger.store(losses_path(0), LOSSES, 0)
    reported(folder, f"warning: {EVIL}", *map(training, (20, 40, 60)))
    return folder


def page_of(folder, every=7.0):
    return WatchPage().render(read_watched(folder), every)


def test_a_run_that_goes_on_is_shown_with_all_it_has_and_loaded_again(run):
    page = page_of(run)
    assert '<meta http-equiv="refresh" content="7">' in page
    assert "<strong>round 1: training on 30 images: 60/100 loss 3.279</strong>" in page
    assert re.search(r"<p>At least \d+ s left.</p>", page)
    assert re.findall("<h2>(?:run .*: )?(.*)</h2>", page) == [
        "Now",
        "AP over boxes so far",
        "loss in round 1, which is training",
        "loss of each round",
        "Rounds",
    ]
    assert "<td>0.100</td>" in page


def test_names_are_data_and_nothing_is_loaded_from_elsewhere(run):
    page = page_of(run)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:)", re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page


def test_a_finished_run_is_not_loaded_again_and_a_silent_one_says_so(tmp_path, run):
    reported(run, training(20), ago=3600)
    assert "Nothing was reported for 60 min." in page_of(run)
    assert " left." not in page_of(run)
    write_run(tmp_path / "old", "random", 0, [0.1, 0.2])  # without log and losses, as older versions wrote them
    watched = read_watched(tmp_path / "old")
    assert watched.ended
    page = page_of(tmp_path / "old")
    assert 'http-equiv="refresh"' not in page
    assert "This run has no log yet." in page


def test_a_study_shows_each_run_and_ends_with_the_rounds_that_it_was_to_have(tmp_path):
    folder = write_study(tmp_path / "study")
    assert read_watched(folder).ended
    reported(folder, "run 4 of 5: entropy_seed1 (6 of 10 rounds done)")
    assert not read_watched(folder).ended, "a fifth run has not begun"
    assert read_watched(folder).left == "", "nothing goes on"
    reported(reopened(folder / "entropy_seed1"), *map(training, (20, 40)))
    watched = read_watched(folder)
    assert watched.rounds == (7, 10)
    assert watched.left == "about 6 s", "three rounds of 2 s"
    (folder / "new").mkdir()
    (folder / "new" / "run.db").touch()
    page = page_of(folder)
    for text in ("entropy_seed1: round 1: training on 30 images: 40/100", "cannot be read", "1 of 2", "2 of 2"):
        assert text in page


def test_reading_locks_no_writer_out_and_sees_only_what_is_committed(run):
    with open_ledger(run) as ledger:
        with ledger.transaction():
            ledger.database.write("UPDATE round SET metrics = NULL WHERE round = 0")
            assert read_watched(run).rounds == (1, 2)
        assert read_watched(run).rounds == (0, 2)


def test_the_server_gives_the_page_to_this_machine_alone():
    with serving(0) as server:
        server.page = b"<p>here</p>"
        assert server.server_address[0] == "127.0.0.1"

        def status(host, method="GET", path="/"):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request(method, path, headers={} if host is None else {"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read()

        for host in (None, f"127.0.0.1:{server.port}", f"localhost:{server.port}", "localhost"):
            assert status(host) == (200, b"<p>here</p>")
        for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", ""):
            found, body = status(host)
            assert (found, b"here" in body) == (403, False)
        assert status("localhost", path="/run.db")[0] == 404
        assert status("localhost", path="/./x")[0] == 404
        assert {status("localhost", method)[0] for method in ("POST", "PUT", "DELETE", "OPTIONS")} == {501}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_in_a_browser_the_page_changes_by_itself_until_the_run_ends(run, tmp_path):
    path = tmp_path / "page.html"
    asked, broken = [], []
    with browser() as chromium, serving(0) as server:

        def write(every=1.0):
            server.page = page_of(run, every).encode()
            atomic_write(path, server.page)

        for address in (path.as_uri(), server.url):
            reopened(run)
            reported(run, *map(training, (20, 40)))
            write(1000.0)
            page = chromium.new_page(color_scheme="dark", viewport={"width": 480, "height": 800})
            page.set_default_timeout(120_000)
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: broken.append(message.text) if message.type == "error" else None)
            page.goto(address)
            assert page.text_content("strong").endswith("40/100 loss 4.878")
            assert page.locator("svg").count() == 3
            assert page.evaluate("document.body.scrollWidth <= 480"), "it fits a phone"
            assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"
            write()
            page.goto(address)
            reported(run, *map(training, (20, 40, 60)))
            write()
            page.locator("strong", has_text="60/100 loss 3.279").wait_for()
            with open_ledger(run) as ledger, ledger.transaction():
                ledger.database.write("UPDATE round SET metrics = (SELECT metrics FROM round WHERE round = 0)")
            write()
            page.locator("header", has_text="Finished.").wait_for()
            loads = len(asked)
            page.wait_for_timeout(2500)
            assert len(asked) == loads, "it is not loaded again"
            page.close()
    assert {url for url in asked if not url.endswith("favicon.ico")} == {path.as_uri(), server.url}
    assert [text for text in broken if "favicon" not in text and "404" not in text] == []
