"""People behind a Label Studio server, over its REST interface and nothing else.

A task is known by `data.alloop_id`; the server's ids are looked up each time. Reading is tried again after
a while; writing never is: when the outcome of a write is unknown, the tasks are listed and only what is
missing is sent. The token is read from the environment when it is needed and stands in no file or message.
"""

import json
import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import defusedxml.ElementTree
from defusedxml.ElementTree import ParseError

from alloop.config.blocks import OracleConfig
from alloop.data.formats.label_studio_tasks import label_config
from alloop.data.images import FolderImages
from alloop.errors import AlloopError, ConfigError, UnreachableError
from alloop.oracles.answers import AnswerRules, answer_of_task
from alloop.oracles.oracle import Answer, Task
from alloop.oracles.tasks import task_tree
from alloop.values import ImageId, ImageRecord

TIMEOUT, TRIES, PAUSE = 60.0, 4, 0.5  # seconds of one request, attempts at reading, first pause between them
CHUNK, UPLOADS, PAGE = 200, 50, 500  # tasks a request, files a request (the server takes 100), tasks a page


class _UnknownOutcomeError(Exception):
    """A write whose answer was lost: the server may or may not have done it."""


class _Direct(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: nothing is sent anywhere but to the configured server."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        """Refuse."""


@dataclass(frozen=True)
class Server:
    """One Label Studio server; the only place that opens a connection."""

    url: str
    token_name: str

    def get(self, path: str, **query: Any) -> Any:
        """Read, again after a while when the server does not answer.

        Raises:
            AlloopError: not reachable, or refused.
        """
        address = f"{path}?{urlencode(query)}" if query else path
        for number in range(TRIES):
            try:
                return self._send("GET", address)
            except _UnknownOutcomeError as error:
                if number + 1 == TRIES:
                    msg = f"{self.url}: the server did not answer ({error}); try again when it is back"
                    raise UnreachableError(msg) from None
                time.sleep(PAUSE * 2**number)
        raise AssertionError

    def write(self, method: str, path: str, body: Any = None) -> Any:
        """Write once.

        Raises:
            _UnknownOutcomeError: nobody knows whether it was done.
            AlloopError: not reachable, or refused.
        """
        return self._send(method, path, json.dumps(body, allow_nan=False).encode(), "application/json")

    def upload(self, path: str, files: Mapping[str, bytes]) -> Any:
        """Send files; each has a field of its own, since the server keeps the last of a name only."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="file{k}"; filename="{quote(name)}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode()
            + data
            + b"\r\n"
            for k, (name, data) in enumerate(files.items())
        ]
        body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
        return self._send("POST", path, body, f"multipart/form-data; boundary={boundary}")

    def _send(self, method: str, path: str, body: bytes | None = None, content: str = "") -> Any:
        return self._request(method, path, body, {"Authorization": self._authorization(), "Content-Type": content})

    def _authorization(self) -> str:
        token = os.environ.get(self.token_name, "").strip()
        if not token:
            msg = f"oracle.token: the environment variable {self.token_name} is not set; it holds the access token"
            raise ConfigError(msg)
        if not token.isascii() or not token.isprintable():
            msg = f"oracle.token: the environment variable {self.token_name} holds characters that no token has"
            raise ConfigError(msg)
        if token.count(".") != 2:
            return f"Token {token}"
        body = json.dumps({"refresh": token}).encode()  # a personal access token is exchanged for a short-lived one
        found = self._request("POST", "/api/token/refresh/", body, {"Content-Type": "application/json"})
        return f"Bearer {found['access']}"

    def _request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(self.url + path, body, {k: v for k, v in headers.items() if v}, method=method)  # noqa: S310  the scheme is checked where the config is read
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Direct())
        try:
            with opener.open(request, timeout=TIMEOUT) as reply:
                data = reply.read()
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(method, path, error) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                msg = f"{self.url}: no server answers there; start it, or mend oracle.url"
                raise UnreachableError(msg) from None
            raise _UnknownOutcomeError(str(error.reason)) from None
        except (HTTPException, OSError) as error:
            raise _UnknownOutcomeError(type(error).__name__) from None
        try:
            return json.loads(data) if data else None
        except ValueError:
            msg = f"{self.url}{path.partition('?')[0]}: expected JSON from Label Studio, found something else"
            raise AlloopError(msg) from None

    def _refused(self, method: str, path: str, error: urllib.error.HTTPError) -> Exception:
        if error.code >= 500:
            return _UnknownOutcomeError(f"status {error.code}")
        where = f"{self.url}: {method} {path.partition('?')[0]}"
        if error.code in (401, 403):
            return ConfigError(
                f"{where}: the token in {self.token_name} was refused (status {error.code}); give one that may use the "
                "project, and allow legacy tokens in the organization's settings if it is one"
            )
        if 300 <= error.code < 400:
            return AlloopError(f"{where}: the server points elsewhere (status {error.code}); give its own address")
        said = error.read(2000).decode(errors="replace") if error.code == 400 else ""
        return AlloopError(f"{where}: refused with status {error.code} {said[:300]}".rstrip())


@dataclass(frozen=True)
class LabelStudioPeople:
    """A project of a server, and where its images come from."""

    server: Server
    title: str
    images: FolderImages
    images_url: str
    reading: AnswerRules

    @classmethod
    def of(cls, oracle: OracleConfig, images: FolderImages, reading: AnswerRules) -> "LabelStudioPeople":
        """As configured.

        Raises:
            ConfigError: an address that is none.
        """
        url = (oracle.url or "").rstrip("/")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.username or parts.query:
            msg = f"oracle.url: expected http://host:port or https://host, found {oracle.url!r}"
            raise ConfigError(msg)
        return cls(Server(url, oracle.token), oracle.project or "", images, oracle.images_url, reading)

    def push(self, round_: int, tasks: Sequence[Task]) -> str:
        """Send the tasks that the project lacks; see the module for what happens when an answer is lost."""
        project, version = self._project(), f"r{round_:03d}"
        wanted = {int(task.image.image_id): task for task in tasks}
        there = self._tasks(project)
        self._renew(project, [wanted[i] for i in wanted.keys() & there.keys()], there, version)
        missing = [task for i, task in wanted.items() if i not in there]
        for start in range(0, len(missing), CHUNK):
            self._import(project, missing[start : start + CHUNK], version)
        there = self._tasks(project)
        lost = wanted.keys() - there.keys()
        if lost:
            msg = f"{self.server.url}: {len(lost)} tasks did not arrive (image {min(lost)}); run the same command again"
            raise AlloopError(msg)
        if any(task.shown is not None for task in tasks):
            self._write("PATCH", f"/api/projects/{project}/", {"model_version": version})  # what the page fills in
        twice = sum(len(there[i]) > 1 for i in wanted)
        told = f"; {twice} images have more than one task, the annotated one counts" if twice else ""
        return f"{self.server.url}/projects/{project}/data{told}"

    def pull(self, round_: int, images: Sequence[ImageRecord]) -> dict[ImageId, Answer]:  # noqa: ARG002
        """Read all tasks of the project once and tell where each image stands."""
        project = self._project()
        path = f"/api/projects/{project}/export"
        tasks = self.server.get(path, exportType="JSON", download_all_tasks="true")
        of: dict[int, Mapping[str, Any]] = {}
        for task in tasks:
            image_id = task["data"].get("alloop_id")
            if image_id not in of or (task.get("annotations") and not of[image_id].get("annotations")):
                of[image_id] = task
        gone = Answer("missing", remark="its task was deleted on the server; run again to send it anew")
        return {
            image.image_id: answer_of_task(of[int(image.image_id)], image, self.reading)
            if int(image.image_id) in of
            else gone
            for image in images
        }

    def _project(self) -> int:
        """The project of this title, made if there is none; its labels have to be the classes."""
        found = self.server.get("/api/projects/", title=self.title, page_size=100)["results"]
        same = [project for project in found if project["title"] == self.title]
        if len(same) > 1:
            msg = f"{self.server.url}: {len(same)} projects are called {self.title!r}; rename all but one"
            raise ConfigError(msg)
        if not same:
            page = {"title": self.title, "label_config": label_config(self.reading.class_names)}
            options = {"maximum_annotations": 1, "enable_empty_annotation": True, "show_skip_button": True}
            self._write("POST", "/api/projects/", page | options)
            return self._project()
        self._guard_labels(same[0]["label_config"])
        return int(same[0]["id"])

    def _guard_labels(self, config: str) -> None:
        try:
            labels = {element.get("value") for element in defusedxml.ElementTree.fromstring(config).iter("Label")}
        except (ParseError, ValueError):
            labels = set()
        if labels != set(self.reading.class_names):
            differing = sorted(str(name) for name in labels ^ set(self.reading.class_names))
            msg = (
                f"{self.server.url}: the labels of project {self.title!r} are not the classes of the data "
                f"({', '.join(differing[:5])}); restore its labeling interface"
            )
            raise ConfigError(msg)

    def _tasks(self, project: int) -> dict[int, list[int]]:
        """The server's task ids by alloop_id."""
        found: dict[int, list[int]] = {}
        for task in self._listed(project):
            image_id = task["data"].get("alloop_id")
            if isinstance(image_id, int):
                found.setdefault(image_id, []).append(task["id"])
        return found

    def _listed(self, project: int) -> Iterator[Any]:
        seen, page = 0, 1
        while True:
            reply = self.server.get("/api/tasks/", project=project, page=page, page_size=PAGE, include="id,data")
            yield from reply["tasks"]
            seen, page = seen + len(reply["tasks"]), page + 1
            if seen >= reply["total"]:
                return
            if not reply["tasks"]:
                msg = f"{self.server.url}: lists {seen} of {reply['total']} tasks of project {project}; try again"
                raise AlloopError(msg)

    def _import(self, project: int, tasks: Sequence[Task], version: str) -> None:
        """Send tasks once; when the answer is lost, list what arrived and send the rest."""
        for _ in range(TRIES):
            addresses = self._addresses(project, [task.image for task in tasks])
            trees = [task_tree(task, self.reading.class_names, version) for task in tasks]
            for tree, address in zip(trees, addresses, strict=True):
                tree["data"] = {**tree["data"], "image": address, "alloop_round": version}  # type: ignore[dict-item]
            try:
                self.server.write("POST", f"/api/projects/{project}/import?return_task_ids=true", trees)
            except _UnknownOutcomeError:
                time.sleep(PAUSE)
            there = self._tasks(project)
            tasks = [task for task in tasks if int(task.image.image_id) not in there]
            if not tasks:
                return
        msg = f"{self.server.url}: {len(tasks)} tasks could not be sent; run the same command again when it is back"
        raise UnreachableError(msg)

    def _addresses(self, project: int, images: Sequence[ImageRecord]) -> list[str]:
        """Where the server finds each image: its own local files, or what is uploaded now."""
        if self.images_url != "upload":
            return [self.images_url + quote(image.file_name) for image in images]
        addresses: list[str] = []
        for start in range(0, len(images), UPLOADS):
            part = images[start : start + UPLOADS]
            named = {f"{int(i.image_id)}_{Path(i.file_name).name}": i for i in part}
            data = {name: self.images.stored(i.image_id) for name, i in named.items()}
            try:
                reply = self.server.upload(f"/api/projects/{project}/import?commit_to_project=false", data)
            except _UnknownOutcomeError as error:
                msg = f"{self.server.url}: images could not be uploaded ({error}); run the same command again"
                raise UnreachableError(msg) from None
            ids = json.dumps(reply["file_upload_ids"])
            files = self.server.get(f"/api/projects/{project}/file-uploads", ids=ids)
            place = {upload["id"]: f"/data/{upload['file']}" for upload in files}
            addresses += [place[number] for number in reply["file_upload_ids"]]
        return addresses

    def _renew(self, project: int, tasks: Sequence[Task], there: Mapping[int, Sequence[int]], version: str) -> None:
        """Tasks of an earlier round that are asked about again show the boxes of this round's detector."""
        del project
        for task in tasks:
            if task.shown is None:
                continue
            number = there[int(task.image.image_id)][0]
            known = self.server.get(f"/api/tasks/{number}/")
            if any(p["model_version"] == version for p in known["predictions"]) or known["annotations"]:
                continue
            tree: Any = task_tree(task, self.reading.class_names, version)
            self._write("POST", "/api/predictions/", {"task": number, **tree["predictions"][0]})

    def _write(self, method: str, path: str, body: Any) -> None:
        try:
            self.server.write(method, path, body)
        except _UnknownOutcomeError as error:
            msg = f"{self.server.url}: the server did not answer ({error}); run the same command again when it is back"
            raise UnreachableError(msg) from None
