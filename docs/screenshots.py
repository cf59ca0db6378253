"""Make the pictures of the docs that show pages: `make demo`, then `python docs/screenshots.py demo`.

A Chromium that is on the machine takes them; none is downloaded. The pages are made anew from the runs of the study.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).parent
WIDTH, HEIGHT = 1200, 760
SHOTS = {  # file: the page, and the section at its top; None begins at the top of the page
    "report_summary.png": ("report", None),
    "report_pictures.png": ("report", "#images-bought-first-and-last"),
    "watch.png": ("watch", None),
}


def made(study: Path, folder: Path) -> dict[str, Path]:
    """Write the pages of a study into a folder."""
    pages = {name: folder / f"{name}.html" for name in ("report", "watch")}
    alloop = [sys.executable, "-m", "alloop"]
    subprocess.run([*alloop, "report", study, "--out", pages["report"], "--metric", "ap50"], check=True)
    subprocess.run([*alloop, "watch", study, "--out", pages["watch"], "--once"], check=True)
    return pages


def shoot(page: Page, address: str, section: str | None, out: Path) -> None:
    """Take a picture of the window, which begins with a section."""
    page.goto(address)
    if section is not None:
        page.locator(section).evaluate("section => section.scrollIntoView()")
    page.screenshot(path=out)
    print(out)


def main(study: Path) -> None:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        sys.exit("screenshots: no Chromium on this machine")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        pages = made(study, Path(folder))
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        for name, (which, section) in SHOTS.items():
            shoot(page, pages[which].resolve().as_uri(), section, DOCS / name)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
