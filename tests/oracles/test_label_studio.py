"""A real Label Studio server as the oracle. Needs its executable: `make label-studio` installs it.

One server for all tests, on loopback, with a data folder of its own; each test has a project of its own.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.config import parse_config
from alloop.data.formats.label_studio_tasks import region
from alloop.data.images import FolderImages
from alloop.errors import AlloopError, ConfigError, WaitingError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.oracles.label_studio import LabelStudio
from alloop.oracles.oracle import PreAnnotations, Task
from alloop.values import ImageId, ImageRecord
from strategies import TABLE
from tests.support import small_tree
from tests.support.browser import browser
from tests.support.commands import ROOT
from tests.support.people import Annotator, Serving, charges, revisions, tree_of

pytestmark = pytest.mark.labelstudio
TOKEN = "5ec7e7c0ffee5ec7e7c0ffee5ec7e7c0ffee5ec7"
NAMES = [str(k) for k in range(10)]


def executable():
    """The server's program, where `make label-studio` or the environment put it."""
    place = ROOT / ".label-studio" / "bin" / "label-studio"
    found = os.environ.get("ALLOOP_LABEL_STUDIO") or (str(place) if place.is_file() else None)
    if found is None:
        pytest.skip("Label Studio is not installed: `make label-studio` installs it for these tests")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LabelStudioServer:
    """A server process that can be stopped and started again, and a person who uses its REST interface."""

    def __init__(self, folder, images):
        self.folder, self.images, self.port = folder, images, free_port()
        self.url, self.process = f"http://127.0.0.1:{self.port}", None

    def start(self):
        silence = {
            "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
            "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
            "LABEL_STUDIO_SENTRY_DSN": "",
            "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        }
        account = {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.folder),
            "LABEL_STUDIO_USERNAME": "alloop@example.com",
            "LABEL_STUDIO_PASSWORD": "alloop-pass-1",
            "LABEL_STUDIO_USER_TOKEN": TOKEN,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.images),
        }
        command = [executable(), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **silence, **account},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5) as reply:
                if reply.status == 200:
                    return
            assert self.process.poll() is None, "the server ended while it was starting"
            time.sleep(0.5)
        raise AssertionError("the server did not start within five minutes")

    def stop(self, how=signal.SIGTERM):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        self.process.wait(30)

    def call(self, method, path, body=None, token=TOKEN):
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Token {token}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            data = reply.read()
        return json.loads(data) if data else None

    def project(self, title):
        found = self.call("GET", "/api/projects/?page_size=1000")["results"]
        return next(project["id"] for project in found if project["title"] == title)

    def tasks(self, title):
        """The tasks of a project as exported."""
        return self.call("GET", f"/api/projects/{self.project(title)}/export?exportType=JSON&download_all_tasks=true")

    def colleague(self, email):
        """Somebody else signs up by an invitation; their token."""
        opened = urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open
        page = self.url + self.call("GET", "/api/invite")["invite_url"]
        form = {"email": email, "password": "alloop-pass-2", "csrfmiddlewaretoken": ""}
        with opened(page) as reply:
            form["csrfmiddlewaretoken"] = re.search(r'csrfmiddlewaretoken" value="(\w+)"', reply.read().decode())[1]
        opened(urllib.request.Request(page, urllib.parse.urlencode(form).encode(), {"Referer": page})).close()
        with opened(f"{self.url}/api/current-user/token") as reply:
            return json.loads(reply.read())["token"]

    def annotate(self, task, boxes, token=TOKEN, **more):
        """Draw (label, corners) boxes as a person would."""
        size = (task["data"]["width"], task["data"]["height"])
        result = [region(tuple(map(float, corners)), label, size, k) for k, (label, corners) in enumerate(boxes)]
        body = {"result": result, "lead_time": 4.5, **more}
        return self.call("POST", f"/api/tasks/{task['id']}/annotations/", body, token)


@pytest.fixture(scope="session")
def server(tmp_path_factory, files):
    """The one server of these tests."""
    running = LabelStudioServer(tmp_path_factory.mktemp("ls"), files)
    executable()
    running.start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def token(monkeypatch):
    """The token is known through the environment alone."""
    monkeypatch.setenv("ALLOOP_TEST_TOKEN", TOKEN)


def oracle(server, title, **more):
    return {"name": "label_studio", "url": server.url, "project": title, "token": "ALLOOP_TEST_TOKEN", **more}


def config_of(files, server, title, **more):
    tree = tree_of(files, "unused", oracle=oracle(server, title, **more))
    del tree["oracle"]["folder"]
    return tree


class Person:
    """Answers a round over REST with the true boxes, as the script says."""

    def __init__(self, files, server, title):
        records = Annotator(files, files).records
        names = {category.id: category.name for category in records.categories}
        self.truth = {image.image_id: [] for image in records.images}
        for box in records.annotations:
            x, y, w, h = box.bbox
            self.truth[box.image_id].append((names[box.category_id], (x, y, x + w, y + h)))
        self.server, self.title = server, title

    def open_tasks(self):
        return [task for task in self.server.tasks(self.title) if not task["annotations"]]

    def answer(self, tasks=None):
        for task in self.open_tasks() if tasks is None else tasks:
            self.server.annotate(task, self.truth[task["data"]["alloop_id"]])


def test_three_rounds_with_skips_empties_corrections_and_kills(files, server, tmp_path):
    """The ledger equals what an independent count on the server says."""
    title, chance = "three rounds", random.Random(0)
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(config_of(files, server, title, show_threshold=0.0)))
    command = [sys.executable, "-m", "alloop", "run", str(config), "--out", str(tmp_path / "run"), "--quiet"]
    person, skipped, codes = Person(files, server, title), set(), []
    for number in range(40):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            if number == 0 or chance.random() < 0.6:  # the first is killed for certain, before it can have ended
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.5 if number == 0 else chance.uniform(1, 5))
                assert sys.executable in process_list(), "that is where one would look"
                assert TOKEN not in process_list()
                process.send_signal(signal.SIGKILL)
            _, error = process.communicate()
        codes.append(process.returncode)
        assert TOKEN not in error
        if process.returncode == 0:
            break
        if process.returncode == 3:
            tasks = person.open_tasks()
            for place, task in enumerate(tasks):
                if place == 0 and len(skipped) < 2:
                    server.annotate(task, [], was_cancelled=True)
                    skipped.add(task["data"]["alloop_id"])
                else:
                    person.answer([task])
    assert codes[-1] == 0, codes
    assert -signal.SIGKILL in codes
    paid = charges(tmp_path / "run")
    on_server = {task["data"]["alloop_id"]: task for task in server.tasks(title)}
    assert len(on_server) == len(server.tasks(title)), "no image has two tasks"
    done = {i: t for i, t in on_server.items() if not t["annotations"][0]["was_cancelled"]}
    assert {c.image_id for c in paid} == set(done)
    assert all(c.boxes == len(done[c.image_id]["annotations"][0]["result"]) for c in paid)
    assert all(c.seconds == 4.5 for c in paid)
    assert set(on_server) - set(done) == skipped
    assert any(c.boxes == 0 for c in paid) == any(not t["annotations"][0]["result"] for t in done.values())


def process_list():
    """The command lines of everything that runs here."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(lines)


def test_a_run_that_waits_outlives_a_network_that_is_gone_for_a_while(files, server, tmp_path, monkeypatch):
    title = "gone for a while"
    proxy, person = Dropping(server.port, lambda _path: False), Person(files, server, title)
    tree = config_of(files, server, title, url=proxy.url, images_url=local(server))
    tree["loop"]["rounds"] = 2
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr("alloop.oracles.label_studio.PAUSE", 0.01)
    silent = []

    def meanwhile(seconds):
        """Between two looks: nothing answers twice, then people have worked."""
        proxy.down = len(silent) % 3 < 2
        silent.append(proxy.down)
        if not proxy.down:
            person.answer()

    monkeypatch.setattr("alloop.cli.runs.time", SimpleNamespace(sleep=meanwhile))
    with proxy:
        told = CliRunner().invoke(app, ["run", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run"), "--wait"])
    assert told.exit_code == 0, told.output
    assert sum(silent) >= 4
    names = [task["data"]["alloop_id"] for task in server.tasks(title)]
    assert len(names) == len(set(names)) == len(charges(tmp_path / "run")), "each image was asked for and paid once"


def test_people_on_the_server_give_the_curve_of_the_simulation(files, server, tmp_path):
    run_experiment(parse_config(tree_of(files)), tmp_path / "simulated", TABLE)
    config, person = parse_config(config_of(files, server, "same curve")), Person(files, server, "same curve")
    while True:
        try:
            rounds = run_experiment(config, tmp_path / "run", TABLE)
            break
        except WaitingError:
            person.answer()
    paid, expected = charges(tmp_path / "run"), charges(tmp_path / "simulated")
    assert [(c.round, c.image_id, c.boxes) for c in paid] == [(c.round, c.image_id, c.boxes) for c in expected]
    with read_ledger(tmp_path / "simulated") as ledger:
        assert [r.metrics["ap"] for r in rounds] == pytest.approx([r.metrics["ap"] for r in ledger.rounds()], abs=1e-3)
    secrets = [p for p in tmp_path.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
    assert secrets == []


def test_bccd_with_a_script_as_the_annotator_gives_the_simulated_curve(server, tmp_path, real_data):
    source, title = real_data / "bccd", "blood cells"
    truth = json.loads((source / "annotations" / "instances_train.json").read_bytes())
    (tmp_path / "unlabeled.json").write_text(json.dumps(truth | {"annotations": []}))
    splits = {"train": "instances_train.json", "reference": "instances_val.json", "test": "instances_test.json"}
    data = {
        key: {"annotations": str(source / "annotations" / name), "images": str(source / "images")}
        for key, name in splits.items()
    }
    changes = {"loop": {"seed_set": 8, "query_size": 8, "rounds": 3}, "training.iterations": 20}
    run_experiment(parse_config(small_tree(data=data, **changes)), tmp_path / "simulated", TABLE)
    unlabeled = {"annotations": str(tmp_path / "unlabeled.json"), "images": str(source / "images")}
    asked = small_tree(data=data | {"train": unlabeled}, oracle=oracle(server, title), **changes)
    names = {category["id"]: category["name"] for category in truth["categories"]}
    drawn = {image["id"]: [] for image in truth["images"]}
    for box in truth["annotations"]:
        x, y, w, h = box["bbox"]
        drawn[box["image_id"]].append((names[box["category_id"]], (x, y, x + w, y + h)))
    while True:
        try:
            rounds = run_experiment(parse_config(asked), tmp_path / "run", TABLE)
            break
        except WaitingError:
            for task in server.tasks(title):
                if not task["annotations"]:
                    server.annotate(task, drawn[task["data"]["alloop_id"]])
    paid, expected = charges(tmp_path / "run"), charges(tmp_path / "simulated")
    assert [(c.round, c.image_id, c.boxes) for c in paid] == [(c.round, c.image_id, c.boxes) for c in expected]
    with read_ledger(tmp_path / "simulated") as ledger:
        assert [r.metrics["ap"] for r in rounds] == pytest.approx([r.metrics["ap"] for r in ledger.rounds()], abs=1e-3)


def people(server, title, images=(), **more):
    config = {key: value for key, value in oracle(server, title, **more).items() if key != "name"}
    return LabelStudio(**config).connect(pool_of(server.images / "images", images))


def pool_of(folder, images=()):
    records = {record.image_id: record for record in images}
    dataset = SimpleNamespace(class_names=tuple(NAMES), images=records)
    return SimpleNamespace(dataset=dataset, images=FolderImages(folder, records))


def tasks_of(count, shown=True):
    records = [ImageRecord(ImageId(k), f"pool/{k:04d}.png", 64, 64) for k in range(1, count + 1)]
    boxes = PreAnnotations(np.array([[8.0, 8.0, 24.0, 40.0]]), np.array([3]), np.array([0.75]))
    return [Task(record, boxes if shown else None) for record in records]


def local(server):
    return "/data/local-files/?d=images/"


def test_pushing_again_sends_nothing_and_lost_answers_send_nothing_twice(server):
    title, tasks = "dropped answers", tasks_of(30)
    proxy = Dropping(server.port, lambda path: "/import?" in path)
    with proxy:
        crippled = people(server, title, url=proxy.url, images_url=local(server))
        crippled.push(0, tasks)
    assert proxy.dropped == 1
    direct = people(server, title, images_url=local(server))
    direct.push(0, tasks)
    found = server.tasks(title)
    assert sorted(t["data"]["alloop_id"] for t in found) == list(range(1, 31))
    assert all(len(t["predictions"]) == 1 for t in found) or all(t["total_predictions"] == 1 for t in found)
    assert {a.state for a in direct.pull(0, [t.image for t in tasks]).values()} == {"todo"}


class Dropping(Serving):
    """A proxy that drops the reply to the first request that matches, after the server did the work.

    While it is `down`, it answers nothing and forwards nothing.
    """

    def __init__(self, port, matches):
        self.dropped, self.down = 0, False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.forward()

            do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815  the names that http.server looks for

            def forward(self):
                if outer.down:
                    self.connection.close()
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}{self.path}", body, headers, method=self.command
                )
                with urllib.request.urlopen(request, timeout=60) as reply:
                    data, status = reply.read(), reply.status
                if matches(self.path) and self.command == "POST" and not outer.dropped:
                    outer.dropped += 1
                    self.connection.close()
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments):
                pass

            def handle(self):
                with contextlib.suppress(OSError, ValueError):
                    super().handle()

        super().__init__(Handler)


def test_states_on_the_server(server):
    title, tasks = "states", tasks_of(7)
    asked = people(server, title, images_url=local(server))
    asked.push(0, tasks)
    on = {t["data"]["alloop_id"]: t for t in server.tasks(title)}
    server.annotate(on[1], [("3", (8, 8, 24, 40))])
    server.annotate(on[2], [])
    server.annotate(on[3], [("3", (8, 8, 24, 40))], was_cancelled=True)
    server.annotate(on[4], [("cow", (8, 8, 24, 40))])
    server.call("POST", f"/api/tasks/{on[5]['id']}/drafts", {"result": [], "lead_time": 2})
    server.call("DELETE", f"/api/tasks/{on[6]['id']}/")
    found = asked.pull(0, [task.image for task in tasks])
    states = {int(i): answer.state for i, answer in found.items()}
    assert states == {1: "done", 2: "done", 3: "skipped", 4: "invalid", 5: "draft", 6: "missing", 7: "todo"}
    assert found[ImageId(1)].annotations.boxes.tolist() == [[8, 8, 24, 40]]
    assert len(found[ImageId(2)].annotations) == 0
    assert list(found[ImageId(3)].work.values()) == [4.5]
    assert "cow" in found[ImageId(4)].remark
    server.call("POST", f"/api/projects/{server.project(title)}/import", [{"data": on[7]["data"]}])
    assert "1 images have more than one task" in asked.push(1, tasks)
    assert asked.pull(1, [task.image for task in tasks])[ImageId(6)].state == "todo", "a deleted task is sent anew"


def test_several_people_on_one_task(server):
    title, tasks, boxes = "several people", tasks_of(3), [("3", (8, 8, 24, 40))]
    newest = people(server, title, images_url=local(server))
    newest.push(0, tasks)
    on, other = {t["data"]["alloop_id"]: t for t in server.tasks(title)}, server.colleague("second@example.com")
    for image_id, theirs in ((1, boxes), (2, [("3", (30, 8, 60, 40))])):
        server.annotate(on[image_id], boxes)
        server.annotate(on[image_id], theirs, token=other, lead_time=2.5)
    server.annotate(on[3], boxes)
    server.annotate(on[3], [], token=other, was_cancelled=True)
    assert len({a["completed_by"] for a in server.tasks(title)[0]["annotations"]}) == 2, "two people drew"
    images = [task.image for task in tasks]
    found = newest.pull(0, images)
    assert {int(i): a.state for i, a in found.items()} == {1: "done", 2: "done", 3: "done"}
    assert found[ImageId(2)].annotations.boxes.tolist() == [[30, 8, 60, 40]]
    assert sorted(found[ImageId(2)].work.values()) == [2.5, 4.5], "the work of both is paid"
    held = people(server, title, images_url=local(server), policy="hold").pull(0, images)
    assert {int(i): a.state for i, a in held.items()} == {1: "done", 2: "conflict", 3: "done"}


def test_uploaded_images_are_the_servers_own(server, files):
    title = "uploads"
    names = sorted(p.relative_to(files / "images").as_posix() for p in (files / "images").rglob("*.png"))[:3]
    tasks = [Task(ImageRecord(ImageId(k), name, 64, 64)) for k, name in enumerate(names, start=1)]
    people(server, title, [task.image for task in tasks]).push(0, tasks)
    for task, name in zip(sorted(server.tasks(title), key=lambda t: t["data"]["alloop_id"]), names, strict=True):
        request = urllib.request.Request(
            server.url + task["data"]["image"], headers={"Authorization": f"Token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert reply.read() == (files / "images" / name).read_bytes()


def test_wrong_tokens_servers_labels_and_titles_are_told(server, monkeypatch):
    asked = people(server, "guards", images_url=local(server))
    asked.push(0, tasks_of(1))
    monkeypatch.setenv("ALLOOP_TEST_TOKEN", "0" * 40)
    with pytest.raises(ConfigError, match="token in ALLOOP_TEST_TOKEN was refused") as refused:
        asked.push(0, tasks_of(1))
    assert "0" * 40 not in str(refused.value)
    monkeypatch.delenv("ALLOOP_TEST_TOKEN")
    with pytest.raises(ConfigError, match="ALLOOP_TEST_TOKEN is not set"):
        asked.push(0, tasks_of(1))
    monkeypatch.setenv("ALLOOP_TEST_TOKEN", TOKEN)
    with pytest.raises(AlloopError, match="no server answers there"):
        people(server, "x", url=f"http://127.0.0.1:{free_port()}").push(0, tasks_of(1))
    server.call("POST", "/api/projects/", {"title": "guards"})
    with pytest.raises(ConfigError, match="2 projects are called 'guards'"):
        asked.push(0, tasks_of(1))
    server.call("POST", "/api/projects/", {"title": "other labels"})
    with pytest.raises(ConfigError, match="labels of project 'other labels' are not the classes"):
        people(server, "other labels").push(0, tasks_of(1))


def test_personal_access_tokens_work_too(server, monkeypatch):
    server.call("POST", "/api/jwt/settings", {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True})
    minted = server.call("POST", "/api/token/")["token"]
    assert minted.count(".") == 2
    monkeypatch.setenv("ALLOOP_TEST_TOKEN", minted)
    people(server, "with a pat", images_url=local(server)).push(0, tasks_of(2))
    assert len(server.tasks("with a pat")) == 2


def test_a_server_that_dies_and_comes_back(server):
    title, tasks = "comes back", tasks_of(400, shown=False)
    asked = people(server, title, images_url=local(server))
    asked.push(0, tasks[:1])
    killer = threading.Timer(0.4, lambda: server.stop(signal.SIGKILL))
    killer.start()
    with contextlib.suppress(AlloopError):
        asked.push(0, tasks)
    killer.join()
    server.process.wait(30)
    server.start()
    asked.push(0, tasks)
    assert sorted(t["data"]["alloop_id"] for t in server.tasks(title)) == list(range(1, 401))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_person_accepts_draws_submits_nothing_and_skips_in_the_real_page(server, files):
    names = sorted(p.relative_to(files / "images").as_posix() for p in (files / "images").rglob("*.png"))[:4]
    shown = PreAnnotations(np.array([[8.0, 8.0, 24.0, 40.0]]), np.array([3]), np.array([0.75]))
    records = [ImageRecord(ImageId(k), name, 64, 64) for k, name in enumerate(names, start=1)]
    asked = people(server, "page", records)
    asked.push(0, [Task(record, shown if record.image_id == 1 else None) for record in records])
    hosts = set()
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)  # the page is slow where other tests have the cores
        page.on("request", lambda request: hosts.add(request.url.split("/")[2] if "://" in request.url else ""))
        page.goto(f"{server.url}/user/login/")
        page.fill("input[name=email]", "alloop@example.com")
        page.fill("input[name=password]", "alloop-pass-1")
        page.keyboard.press("Enter")
        page.wait_for_load_state("networkidle")
        page.goto(f"{server.url}/projects/{server.project('page')}/data?labeling=1")
        ids = {task["id"]: task["data"]["alloop_id"] for task in server.tasks("page")}
        for number in (1, 2, 3, 4):
            page.wait_for_selector("img[alt='image']")
            page.wait_for_function("window.Htx && window.Htx.task && window.Htx.task.id")
            page.wait_for_timeout(1000)
            task = page.evaluate("window.Htx.task.id")
            assert ids[task] == number
            if number == 2:
                box = page.query_selector("img[alt='image']").bounding_box()
                page.keyboard.press("4")  # the fourth label is the digit 3
                page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
                page.mouse.down()
                page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"], steps=8)
                page.mouse.up()
                page.wait_for_timeout(500)
            page.get_by_label("skip-task" if number == 4 else "Submit current annotation").click()
            if number < 4:
                page.wait_for_function(f"window.Htx && window.Htx.task && window.Htx.task.id !== {task}")
            page.wait_for_timeout(1500)
    found = asked.pull(0, records)
    assert [found[ImageId(k)].state for k in (1, 2, 3, 4)] == ["done", "done", "done", "skipped"]
    assert found[ImageId(1)].annotations.boxes.tolist() == [[8, 8, 24, 40]]
    assert found[ImageId(1)].annotations.labels.tolist() == [3]
    assert np.allclose(found[ImageId(2)].annotations.boxes, [[16, 16, 48, 32]], atol=0.5)
    assert found[ImageId(2)].annotations.labels.tolist() == [3]
    assert len(found[ImageId(3)].annotations) == 0
    assert all(seconds > 0 for answer in found.values() for seconds in answer.work.values())
    assert hosts <= {f"127.0.0.1:{server.port}", ""}, "the page asks nobody else"


def test_late_edits_on_the_server_are_revisions(files, server, tmp_path):
    title = "late edits"
    tree = config_of(files, server, title)
    tree["loop"]["rounds"] = 2
    config, person = parse_config(tree), Person(files, server, title)
    with pytest.raises(WaitingError):
        run_experiment(config, tmp_path / "run", TABLE)
    person.answer()
    with pytest.raises(WaitingError):
        run_experiment(config, tmp_path / "run", TABLE)
    before = charges(tmp_path / "run")
    task = next(t for t in server.tasks(title) if t["annotations"] and t["annotations"][0]["result"])
    annotation = task["annotations"][0]
    server.call("PATCH", f"/api/annotations/{annotation['id']}/", {"result": [], "lead_time": 60})
    for _ in range(2):
        with pytest.raises(WaitingError):
            run_experiment(config, tmp_path / "run", TABLE)
    assert revisions(tmp_path / "run") == 1
    assert charges(tmp_path / "run") == before


def test_addresses_that_are_none_are_refused(tmp_path):
    for url in ("localhost:8080", "ftp://x", "http://", "http://user:pass@host", "file:///etc/passwd"):
        with pytest.raises(ConfigError, match=r"oracle\.url"):
            LabelStudio(url=url, project="p").connect(pool_of(tmp_path))
