"""Human oracles: configs that use them, an annotator who knows the truth, and HTTP servers of the tests."""

import contextlib
import shutil
import sqlite3
import threading
from http.server import ThreadingHTTPServer

from alloop.data.formats.table import annotation_format
from alloop.data.records import Box, Category, Records
from alloop.geometry.boxes import xywh_from_corners
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from tests.support import small_tree


def tree_of(files, folder=None, **changes):
    """Return a config tree over exported files; with `folder`, its oracle asks people there."""
    pool = "unlabeled.json" if folder else "instances_pool.json"
    names = {"train": pool, "reference": "instances_reference.json", "test": "instances_test.json"}
    data = {key: {"annotations": str(files / name), "images": str(files / "images")} for key, name in names.items()}
    tree = small_tree(**changes)
    tree["data"] = data
    if folder:
        tree["oracle"] = {"name": "folder", "folder": str(folder), **changes.get("oracle", {})}
    return tree


def write_answers(round_folder, format_, records):
    """Write records as the answers of a round, in a format."""
    target = round_folder / ("answers.json" if format_ == "coco" else "answers")
    shutil.rmtree(target, ignore_errors=True)
    for path, data in annotation_format(format_, "test").files(records, target).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if format_ == "label_studio":
        shutil.copy(target / "tasks.json", round_folder / "answers.json")
        shutil.rmtree(target)


class Annotator:
    """Writes the true boxes of some images as answers, in one format."""

    def __init__(self, files, folder, format_="coco"):
        self.folder, self.format = folder, format_
        self.records = annotation_format("coco", "test").read(files / "instances_pool.json")

    def tasks(self, round_):
        """Return the file names of the images that a round asks for."""
        root = self.folder / f"round_{round_:03d}" / "images"
        return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())

    def part(self, names):
        """Return the true records of some images."""
        images = [image for image in self.records.images if image.file_name in names]
        ids = {image.image_id for image in images}
        return Records(images, self.records.categories, [b for b in self.records.annotations if b.image_id in ids])

    def answer(self, round_, names=None):
        """Answer a round: all images, or those of some names."""
        records = self.part(self.tasks(round_) if names is None else names)
        write_answers(self.folder / f"round_{round_:03d}", self.format, records)


def charges(folder):
    """Return the charges of a run folder that passes the audit."""
    with read_ledger(folder) as ledger:
        assert audit(ledger) == []
        return ledger.charges()


class Serving:
    """An HTTP server on a free port, inside a `with` block."""

    def __init__(self, handler):
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"

    def __enter__(self):
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error):
        self.httpd.shutdown()
        self.httpd.server_close()


def revisions(folder):
    """Return how many annotations were changed after they were booked, read without the code under test."""
    with contextlib.closing(sqlite3.connect(folder / "run.db")) as database:
        return database.execute("SELECT COUNT(*) FROM revision").fetchone()[0]


def answer_in_folder(round_folder, format_, pool, given):
    """Write annotations as the answers of a round, in a format; images are those of a pool."""
    names = pool.dataset.class_names
    categories = [Category(label, name) for label, name in enumerate(names)]
    drawn = [
        (image_id, int(label), xywh_from_corners(tuple(corners)))
        for image_id, truth in given.items()
        for corners, label in zip(truth.boxes.tolist(), truth.labels, strict=True)
    ]
    boxes = [Box(number, *box) for number, box in enumerate(drawn, start=1)]
    write_answers(round_folder, format_, Records([pool.dataset.images[i] for i in given], categories, boxes))
