"""A browser that is on the machine already."""

import shutil
from contextlib import contextmanager

import pytest

_QUIET = ["disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"]
_FLAGS = [f"--{name}" for name in ("no-sandbox", "disable-gpu", *_QUIET)]


def browser_program():
    """Return the path of Chromium; none is downloaded, and a test without one is skipped."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: the page is not tried in a browser")
    return found


@contextmanager
def browser():
    """Start Chromium without a window."""
    from playwright.sync_api import sync_playwright

    program = browser_program()
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=_FLAGS)
        yield started
        started.close()
