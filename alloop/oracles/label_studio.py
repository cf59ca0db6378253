"""People behind a Label Studio server, over its REST interface and nothing else.

A task is known by `data.alloop_id`; the server's own ids are looked up each time. When the outcome of a write is
unknown, the tasks are listed and only what is missing is sent.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import quote, urlsplit

import defusedxml.ElementTree
from defusedxml.ElementTree import ParseError
from pydantic import Field

from alloop.data.formats.label_studio_page import label_config
from alloop.data.images import FolderImages
from alloop.data.splits import Split
from alloop.errors import AlloopError, ConfigError, UnreachableError
from alloop.oracles.answers import AnswerRules, Policy, answer_of_task
from alloop.oracles.label_studio_server import PAUSE, TRIES, Server, UnknownOutcomeError
from alloop.oracles.oracle import Answer, Task
from alloop.oracles.tasks import task_tree
from alloop.values import ImageId, ImageRecord

TASKS = 200  # tasks per request
UPLOADS = 50  # files per request; the server takes 100
PAGE = 500  # tasks per page of a listing


@dataclass(frozen=True)
class LabelStudio:
    """A project of a Label Studio server, named by its title."""

    asks_people: ClassVar[bool] = True

    url: Annotated[str, Field(description="address of the server")]
    project: Annotated[str, Field(max_length=50, description="title of the project, at most 50 characters")]
    token: Annotated[str, Field(description="environment variable that holds the token")] = "LABEL_STUDIO_TOKEN"  # noqa: S105
    images_url: Annotated[
        str, Field(description="`upload`, or what stands before a file name, /data/local-files/?d=...")
    ] = "upload"
    policy: Annotated[Policy, Field(description="what to do where several people disagree")] = "newest"
    default_seconds: Annotated[float, Field(ge=0, description="seconds of an annotation that reports none")] = 0.0

    def connect(self, pool: Split) -> "LabelStudioOracle":
        """Return the oracle of a pool of image files; no request is sent yet.

        Raises:
            ConfigError: an address that is none, or a pool without image files.
        """
        if not isinstance(pool.images, FolderImages):
            msg = "oracle.name: people need a pool of image files; alloop export-digits writes the embedded set"
            raise ConfigError(msg)
        url = self.url.rstrip("/")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.username or parts.query:
            msg = f"oracle.url: expected http://host:port or https://host, found {self.url!r}"
            raise ConfigError(msg)
        rules = AnswerRules(pool.dataset.class_names, self.policy, self.default_seconds)
        return LabelStudioOracle(Server(url, self.token), self.project, pool.images, self.images_url, rules)


@dataclass(frozen=True)
class LabelStudioOracle:
    """A `HumanOracle`: a project of a server, and where its images come from."""

    server: Server
    title: str
    images: FolderImages
    images_url: str
    rules: AnswerRules

    def push(self, round_: int, tasks: Sequence[Task]) -> str:
        """Send the tasks that the project lacks; when a reply is lost, look at what arrived."""
        project, version = self._project(), f"r{round_:03d}"
        wanted = {int(task.image.image_id): task for task in tasks}
        there = self._tasks(project)
        self._renew([wanted[i] for i in wanted.keys() & there.keys()], there, version)
        missing = [task for i, task in wanted.items() if i not in there]
        for start in range(0, len(missing), TASKS):
            self._import(project, missing[start : start + TASKS], version)
        there = self._tasks(project)
        lost = wanted.keys() - there.keys()
        if lost:
            msg = f"{self.server.url}: {len(lost)} tasks did not arrive (image {min(lost)}); run the same command again"
            raise AlloopError(msg)
        if any(task.pre_annotations is not None for task in tasks):
            self._write("PATCH", f"/api/projects/{project}/", {"model_version": version})  # what the page fills in
        twice = sum(len(there[i]) > 1 for i in wanted)
        note = f"; {twice} images have more than one task, the annotated one counts" if twice else ""
        return f"{self.server.url}/projects/{project}/data{note}"

    def pull(self, round_: int, images: Sequence[ImageRecord]) -> dict[ImageId, Answer]:  # noqa: ARG002
        """Read all tasks of the project once and return where each image stands."""
        project = self._project()
        path = f"/api/projects/{project}/export"
        tasks = self.server.get(path, exportType="JSON", download_all_tasks="true")
        by_image: dict[int, Mapping[str, Any]] = {}
        for task in tasks:
            image_id = task["data"].get("alloop_id")
            if image_id not in by_image or (task.get("annotations") and not by_image[image_id].get("annotations")):
                by_image[image_id] = task
        gone = Answer("missing", remark="its task was deleted on the server; run again to send it anew")
        return {
            image.image_id: answer_of_task(by_image[int(image.image_id)], image, self.rules)
            if int(image.image_id) in by_image
            else gone
            for image in images
        }

    def _project(self) -> int:
        """Return the id of the project of this title, made if there is none; its labels have to be the classes."""
        listed = self.server.get("/api/projects/", title=self.title, page_size=100)["results"]
        same = [project for project in listed if project["title"] == self.title]
        if len(same) > 1:
            msg = f"{self.server.url}: {len(same)} projects are called {self.title!r}; rename all but one"
            raise ConfigError(msg)
        if not same:
            page = {"title": self.title, "label_config": label_config(self.rules.class_names)}
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
        if labels != set(self.rules.class_names):
            differing = sorted(str(name) for name in labels ^ set(self.rules.class_names))
            msg = (
                f"{self.server.url}: the labels of project {self.title!r} are not the classes of the data "
                f"({', '.join(differing[:5])}); restore its labeling interface"
            )
            raise ConfigError(msg)

    def _tasks(self, project: int) -> dict[int, list[int]]:
        """Return the server's task ids by alloop_id."""
        ids: dict[int, list[int]] = {}
        for task in self._listed(project):
            image_id = task["data"].get("alloop_id")
            if isinstance(image_id, int):
                ids.setdefault(image_id, []).append(task["id"])
        return ids

    def _listed(self, project: int) -> Iterator[Any]:
        """Yield every task of a project, page by page."""
        listed, page = 0, 1
        while True:
            reply = self.server.get("/api/tasks/", project=project, page=page, page_size=PAGE, include="id,data")
            yield from reply["tasks"]
            listed, page = listed + len(reply["tasks"]), page + 1
            if listed >= reply["total"]:
                return
            if not reply["tasks"]:
                msg = f"{self.server.url}: lists {listed} of {reply['total']} tasks of project {project}; try again"
                raise AlloopError(msg)

    def _import(self, project: int, tasks: Sequence[Task], version: str) -> None:
        """Send tasks; when the reply is lost, list what arrived and send the rest."""
        for _ in range(TRIES):
            addresses = self._addresses(project, [task.image for task in tasks])
            trees = [task_tree(task, self.rules.class_names, version) for task in tasks]
            for tree, address in zip(trees, addresses, strict=True):
                tree["data"] = {**tree["data"], "image": address, "alloop_round": version}  # type: ignore[dict-item]
            try:
                self.server.write("POST", f"/api/projects/{project}/import?return_task_ids=true", trees)
            except UnknownOutcomeError:
                time.sleep(PAUSE)
            there = self._tasks(project)
            tasks = [task for task in tasks if int(task.image.image_id) not in there]
            if not tasks:
                return
        msg = f"{self.server.url}: {len(tasks)} tasks could not be sent; run the same command again when it is back"
        raise UnreachableError(msg)

    def _addresses(self, project: int, images: Sequence[ImageRecord]) -> list[str]:
        """Return where the server finds each image: among its own local files, or uploaded now."""
        if self.images_url != "upload":
            return [self.images_url + quote(image.file_name) for image in images]
        addresses: list[str] = []
        for start in range(0, len(images), UPLOADS):
            part = images[start : start + UPLOADS]
            named = {f"{int(i.image_id)}_{Path(i.file_name).name}": i for i in part}
            data = {name: self.images.stored(i.image_id) for name, i in named.items()}
            try:
                reply = self.server.upload(f"/api/projects/{project}/import?commit_to_project=false", data)
            except UnknownOutcomeError as error:
                msg = f"{self.server.url}: images could not be uploaded ({error}); run the same command again"
                raise UnreachableError(msg) from None
            ids = json.dumps(reply["file_upload_ids"])
            files = self.server.get(f"/api/projects/{project}/file-uploads", ids=ids)
            uploaded = {upload["id"]: f"/data/{upload['file']}" for upload in files}
            addresses += [uploaded[number] for number in reply["file_upload_ids"]]
        return addresses

    def _renew(self, tasks: Sequence[Task], there: Mapping[int, Sequence[int]], version: str) -> None:
        """Let tasks of an earlier round that are requested again show the boxes of this round's detector."""
        for task in tasks:
            if task.pre_annotations is None:
                continue
            number = there[int(task.image.image_id)][0]
            known = self.server.get(f"/api/tasks/{number}/")
            if any(p["model_version"] == version for p in known["predictions"]) or known["annotations"]:
                continue
            tree: Any = task_tree(task, self.rules.class_names, version)
            self._write("POST", "/api/predictions/", {"task": number, **tree["predictions"][0]})

    def _write(self, method: str, path: str, body: Any) -> None:
        try:
            self.server.write(method, path, body)
        except UnknownOutcomeError as error:
            msg = f"{self.server.url}: the server did not answer ({error}); run the same command again when it is back"
            raise UnreachableError(msg) from None
