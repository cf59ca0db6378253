"""People as the oracle, behind a folder: asked once, paid once, waited for, never guessed."""

import dataclasses
import json
import shutil
import traceback
from http.server import BaseHTTPRequestHandler

import msgspec
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from alloop.budget.charges import Edits
from alloop.budget.prices import PriceList
from alloop.cli.app import app
from alloop.config import load_config, parse_config
from alloop.data.formats.label_studio_tasks import region
from alloop.data.formats.table import annotation_format
from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission
from alloop.errors import AlloopError, ConfigError, DataError, UnreachableError, WaitingError
from alloop.ledger.requests import AnnotationRequests
from alloop.ledger.store import open_ledger, read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.querying import QuerySession
from alloop.loop.scorer import scoring_detector
from alloop.oracles.answers import AnswerRules, answer_of, answer_of_task
from alloop.oracles.folder import FolderOracle
from alloop.oracles.label_studio_server import Server
from alloop.oracles.oracle import PreAnnotations, Task, edits
from alloop.oracles.tasks import records_of, task_tree
from alloop.predictions.counting import counting_threshold, expected_boxes
from alloop.strategy import make_strategy
from alloop.studies.grid import run_study
from alloop.tasks.detection import Detection
from alloop.testing import fake_annotations, make_query
from alloop.values import Detections, ImageId, ImageRecord, Selection
from strategies import TABLE
from tests.support import small_tree
from tests.support.people import Annotator, Serving, charges, revisions, tree_of
from tests.support.runs import write_run

FORMATS = ["coco", "voc", "yolo", "cvat", "label_studio", "hf"]


def finish(config, out, annotator):
    """Run, answer, run, ... to the end; how often people were waited for."""
    waited = 0
    while True:
        try:
            return run_experiment(config, out, TABLE), waited
        except WaitingError:
            annotator.answer(waited)
            waited += 1


@pytest.mark.parametrize("format_", FORMATS)
def test_people_in_any_format_give_the_curve_of_the_simulation(files, tmp_path, format_):
    run_experiment(parse_config(tree_of(files)), tmp_path / "simulated", TABLE)
    config = parse_config(tree_of(files, tmp_path / "people", oracle={"format": format_}))
    rounds, waited = finish(config, tmp_path / "asked", Annotator(files, tmp_path / "people", format_))
    assert waited == 3
    assert charges(tmp_path / "asked") == charges(tmp_path / "simulated")
    with read_ledger(tmp_path / "simulated") as ledger:
        expected = [(r.images, r.boxes) for r in ledger.rounds()]
        aps = [r.metrics["ap"] for r in ledger.rounds()]
    assert [(r.images, r.boxes) for r in rounds] == expected
    assert [r.metrics["ap"] for r in rounds] == pytest.approx(aps, abs=1e-3)
    assert len(run_experiment(config, tmp_path / "asked", TABLE)) == 3, "a finished run asks nobody"


def test_nothing_is_booked_before_it_is_answered_and_nothing_twice(files, tmp_path):
    config = parse_config(tree_of(files, tmp_path / "people"))
    people = Annotator(files, tmp_path / "people")
    for _ in range(2):
        with pytest.raises(WaitingError, match="6 images: 6 todo"):
            run_experiment(config, tmp_path / "run", TABLE)
        assert charges(tmp_path / "run") == []
    names = people.tasks(0)
    people.answer(0, names[:4])
    with pytest.raises(WaitingError, match="4 done, 2 todo"):
        run_experiment(config, tmp_path / "run", TABLE)
    assert charges(tmp_path / "run") == []
    with pytest.raises(WaitingError, match="round 1 waits"):
        run_experiment(config, tmp_path / "run", TABLE, accept_partial=True)
    paid = charges(tmp_path / "run")
    assert len(paid) == 4
    with read_ledger(tmp_path / "run") as ledger:
        told = AnnotationRequests(ledger).answered()
        assert told[0].states == {"done": 4, "left": 2}
        assert told[0].boxes == sum(c.boxes for c in paid) == ledger.spent().boxes
    with pytest.raises(WaitingError, match="round 1 waits"):
        run_experiment(config, tmp_path / "run", TABLE)
    assert charges(tmp_path / "run") == paid


def test_a_stop_between_asking_and_handing_over_loses_nothing(files, tmp_path, monkeypatch):
    config = parse_config(tree_of(files, tmp_path / "people"))

    def stop(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FolderOracle, "push", stop)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(config, tmp_path / "run", TABLE)
    with pytest.raises(WaitingError):
        run_experiment(config, tmp_path / "run", TABLE)
    people = Annotator(files, tmp_path / "people")
    assert len(people.tasks(0)) == 6
    people.answer(0)
    with monkeypatch.context() as patch:
        patch.setattr("alloop.ledger.requests.edits", stop)
        patch.setattr("alloop.ledger.store.Ledger.charge", stop)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(config, tmp_path / "run", TABLE)
    assert charges(tmp_path / "run") == [], "booking is one transaction"
    with pytest.raises(WaitingError, match="round 1"):
        run_experiment(config, tmp_path / "run", TABLE)
    assert len(charges(tmp_path / "run")) == 6


def test_a_renamed_image_is_named(files, tmp_path):
    shutil.copytree(files, tmp_path / "moved")
    config = parse_config(tree_of(tmp_path / "moved", tmp_path / "people"))
    with pytest.raises(WaitingError):
        run_experiment(config, tmp_path / "run", TABLE)
    lost = next(p for p in (tmp_path / "people" / "round_000" / "images").rglob("*.png"))
    (tmp_path / "moved" / "images" / lost.relative_to(tmp_path / "people" / "round_000" / "images")).unlink()
    lost.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        run_experiment(config, tmp_path / "run", TABLE)
    assert charges(tmp_path / "run") == []


def test_skipped_images_cost_no_image_and_are_not_asked_about_again(files, tmp_path):
    config = parse_config(
        tree_of(
            files, tmp_path / "people", oracle={"format": "cvat"}, loop={"seed_set": 6, "query_size": 18, "rounds": 2}
        )
    )
    people = Annotator(files, tmp_path / "people", "cvat")
    with pytest.raises(WaitingError):
        run_experiment(config, tmp_path / "run", TABLE)
    people.answer(0)
    path = tmp_path / "people" / "round_000" / "answers" / "annotations.xml"
    skipped = people.tasks(0)[0]
    head, _, tail = path.read_text().partition(f'name="{skipped}"')
    path.write_text(head + f'name="{skipped}"' + tail.replace("alloop_done", "alloop_skip", 1))
    (path.parent / "alloop.json").unlink()
    left_out = pytest.warns(UserWarning, match="set aside by the tag alloop_skip; its boxes are left out")
    not_labeled = pytest.warns(UserWarning, match="not labeled: it has no box that counts")
    with not_labeled, left_out, pytest.raises(WaitingError, match="round 1"):
        run_experiment(config, tmp_path / "run", TABLE)
    assert len(charges(tmp_path / "run")) == 5
    assert len(people.tasks(1)) == 18
    assert skipped not in people.tasks(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["categories"].__setitem__(0, {"id": t["categories"][0]["id"], "name": "zero"}), "label 'zero'"),
        (lambda t: t["images"][0].__setitem__("width", 65), "drawn on 65 x 64"),
    ],
)
def test_answers_that_cannot_be_used_are_named_and_not_booked(files, tmp_path, change, words):
    config = parse_config(tree_of(files, tmp_path / "people"))
    people = Annotator(files, tmp_path / "people")
    with pytest.raises(WaitingError):
        run_experiment(config, tmp_path / "run", TABLE)
    people.answer(0)
    path = tmp_path / "people" / "round_000" / "answers.json"
    tree = json.loads(path.read_bytes())
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(WaitingError, match=words):
        run_experiment(config, tmp_path / "run", TABLE)
    assert charges(tmp_path / "run") == []
    (path.parent / "answers").mkdir()
    with pytest.raises(ConfigError, match=r"answers and answers\.json"):
        run_experiment(config, tmp_path / "run", TABLE)


def test_late_edits_are_recorded_once_and_change_nothing(files, tmp_path):
    config = parse_config(tree_of(files, tmp_path / "people"))
    people = Annotator(files, tmp_path / "people")
    for number in range(2):
        with pytest.raises(WaitingError):
            run_experiment(config, tmp_path / "run", TABLE)
        people.answer(number) if number == 0 else None
    before = charges(tmp_path / "run")
    path = tmp_path / "people" / "round_000" / "answers.json"
    tree = json.loads(path.read_bytes())
    tree["annotations"] = tree["annotations"][1:]
    path.write_text(json.dumps(tree))
    for _ in range(2):
        with pytest.raises(WaitingError):
            run_experiment(config, tmp_path / "run", TABLE)
        assert revisions(tmp_path / "run") == 1
    assert charges(tmp_path / "run") == before


def test_people_see_the_detectors_boxes_but_for_a_blind_share(files, tmp_path):
    tree = tree_of(files, tmp_path / "people", oracle={"blind": 0.5, "show_threshold": 0.0})
    tree["loop"] = {"seed_set": 6, "query_size": 18, "rounds": 2}
    people = Annotator(files, tmp_path / "people")
    rounds, _ = finish(parse_config(tree), tmp_path / "run", people)
    assert len(rounds) == 2
    with read_ledger(tmp_path / "run") as ledger:
        first, second = AnnotationRequests(ledger).of_round(0), AnnotationRequests(ledger).of_round(1)
        told = AnnotationRequests(ledger).answered()[1]
    assert all(q.pre_annotations is None for q in first), "nothing is trained before the first round"
    blind = [q for q in second if q.pre_annotations is None]
    assert 3 <= len(blind) <= 15
    shown = sum(len(q.pre_annotations) for q in second if q.pre_annotations is not None)
    assert shown > 0
    written = json.loads((tmp_path / "people" / "round_001" / "tasks.json").read_bytes())
    assert len(written["annotations"]) == shown
    assert told.edits.accepted + told.edits.moved + told.edits.deleted == shown
    assert told.predicted_boxes == pytest.approx(sum(q.predicted_boxes for q in second))


def test_the_first_batch_needs_no_label(files, tmp_path):
    tree = tree_of(files, tmp_path / "people", oracle={"first_batch": "k_center"})
    with pytest.raises(WaitingError):
        run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    asked = Annotator(files, tmp_path / "people").tasks(0)
    assert len(asked) == 6
    newer = tree_of(files, tmp_path / "others")
    newer["loop"]["first_batch"] = "k_center"
    with pytest.raises(WaitingError):
        run_experiment(parse_config(newer), tmp_path / "newer", TABLE)
    assert Annotator(files, tmp_path / "others").tasks(0) == asked
    tree["oracle"]["first_batch"] = "entropy"
    with pytest.raises(ConfigError, match="needs predictions, and nothing is trained yet"):
        run_experiment(parse_config(tree), tmp_path / "other", TABLE)


def test_what_is_labeled_already_is_the_seed_set(files, tmp_path):
    ids = [image.image_id for image in annotation_format("coco", "test").read(files / "instances_pool.json").images][:5]
    (tmp_path / "labeled.txt").write_text("\n".join(map(str, ids)))
    tree = tree_of(files, tmp_path / "people")
    tree["data"]["train"]["annotations"] = str(files / "instances_pool.json")
    tree["loop"] = {"seed_set": 5, "seed_images": str(tmp_path / "labeled.txt"), "query_size": 4, "rounds": 2}
    with pytest.raises(WaitingError, match="round 1 waits"):
        run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    assert {c.image_id for c in charges(tmp_path / "run")} == set(ids)


def test_a_quota_in_boxes_is_met_by_predicted_boxes(files, tmp_path):
    tree = tree_of(files, tmp_path / "people", loop={"seed_set": 6, "query_size": "9 boxes", "rounds": 2})
    people = Annotator(files, tmp_path / "people")
    with pytest.raises(WaitingError):
        run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    people.answer(0)
    with pytest.raises(WaitingError, match="round 1"):
        run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    with read_ledger(tmp_path / "run") as ledger:
        predicted = [round(q.predicted_boxes) for q in AnnotationRequests(ledger).of_round(1)]
    assert sum(predicted) >= 9 > sum(predicted[:-1])


def test_expected_boxes_are_counted_as_people_counted_the_labeled_images():
    def found(*scores):
        n = len(scores)
        return Detections(np.tile([0, 0, 5, 5], (n, 1)), np.array(scores), np.zeros(n), np.zeros((n, 2)))

    labeled = [found(0.9, 0.6, 0.2), found(0.8, 0.1), found()]
    assert counting_threshold(labeled, 3) == pytest.approx(0.6)
    assert expected_boxes(labeled, counting_threshold(labeled, 3)).tolist() == [2, 1, 0]
    assert expected_boxes([found(0.7, 0.65, 0.5)], 0.6).tolist() == [2]
    assert counting_threshold(labeled, 99) == 0
    assert expected_boxes(labeled, counting_threshold(labeled, 0)).tolist() == [0, 0, 0]
    assert counting_threshold([], 5) == 0


def test_a_server_that_is_away_is_waited_for(files, tmp_path, monkeypatch):
    config, pauses = tmp_path / "c.yaml", []
    config.write_text(yaml.safe_dump(tree_of(files, "people", loop={"seed_set": 6, "query_size": 4, "rounds": 1})))
    people, pull = Annotator(files, tmp_path / "people"), FolderOracle.pull

    def away(*arguments):
        if len(pauses) < 2:
            raise UnreachableError("nobody is there")
        people.answer(0)
        return pull(*arguments)

    monkeypatch.setattr(FolderOracle, "pull", away)
    monkeypatch.setattr("alloop.cli.runs.time.sleep", pauses.append)
    command = ["run", str(config), "--out", str(tmp_path / "run"), "--quiet"]
    assert CliRunner().invoke(app, command).exit_code == 1
    assert CliRunner().invoke(app, [*command, "--wait"]).exit_code == 0
    assert len(pauses) == 2


class Answering(Serving):
    """Answers every request alike and remembers what it was asked."""

    def __init__(self, status, headers=(), body=b"{}"):
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append((self.path, self.headers.get("Authorization")))
                self.send_response(status)
                for name, value in (*headers, ("Content-Length", str(len(body)))):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815  the name that http.server looks for

            def log_message(self, *_arguments):
                pass

        super().__init__(Handler)


def test_nothing_is_sent_to_another_host(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "5ec7e7")
    with Answering(200) as other, Answering(302, [("Location", f"{other.url}/stolen")]) as server:
        monkeypatch.setenv("http_proxy", other.url)
        with pytest.raises(AlloopError, match="points elsewhere"):
            Server(server.url, "A_TOKEN").get("/api/projects/")
        assert server.asked == [("/api/projects/", "Token 5ec7e7")]
        assert other.asked == []


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 500])
def test_the_token_is_nowhere(files, tmp_path, monkeypatch, status):
    canary = "ca11a4bca11a4bca11a4bca11a4bca11a4bca11a"
    monkeypatch.setenv("A_TOKEN", canary)
    monkeypatch.setattr("alloop.oracles.label_studio.PAUSE", 0.0)
    with Answering(status, body=b"[not json") as server:
        asked = {"name": "label_studio", "url": server.url, "project": "p", "token": "A_TOKEN"}
        tree = tree_of(files, "unused", oracle=asked)
        del tree["oracle"]["folder"]
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
        for debug in ([], ["--debug"]):
            told = CliRunner().invoke(app, ["run", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run"), *debug])
            assert told.exit_code in (1, 2), told.output
            trace = "".join(traceback.format_exception(told.exception))
            assert canary not in told.output + trace
        assert server.asked[0][1] == f"Token {canary}", "it was sent where it belongs"
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()]


def test_configs_that_cannot_ask_people_are_refused(files, tmp_path):
    for changes, words in (
        ({"oracle": {"name": "folder"}}, "oracle.folder: 'folder' needs this parameter"),
        ({"oracle": {"name": "label_studio", "url": "http://x"}}, "project"),
        ({"oracle": {"name": "label_studio", "url": "u", "project": "p" * 51}}, "50 characters"),
        ({"oracle": {"name": "folder", "folder": "f"}}, "digit_scenes has none"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_config(small_tree(**changes))
    tree = tree_of(files, tmp_path, loop={"seed_set": "9 boxes", "query_size": 4, "rounds": 2})
    with pytest.raises(ConfigError, match="the number of boxes is unknown"):
        parse_config(tree)
    tree = tree_of(files, tmp_path, strategy={"name": "csod", "annotations": "true"})
    with pytest.raises(ConfigError, match="have not drawn yet"):
        parse_config(tree)


def test_a_study_asks_nobody(files, tmp_path):
    config = parse_config(tree_of(files, tmp_path / "people"))
    with pytest.raises(ConfigError, match="a study needs labels that are there"):
        run_study(config, tmp_path / "out", TABLE, strategies=["entropy"], seeds=[0])
    with pytest.raises(ConfigError, match="pruning needs labels"):
        scoring_detector(config, tmp_path / "out", TABLE)


def test_the_command_waits_accepts_and_ends_with_3(files, tmp_path, monkeypatch):
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(tree_of(files, "people")))
    assert load_config(config).oracle.make().folder == tmp_path / "people"
    people, command = Annotator(files, tmp_path / "people"), ["run", str(config), "--out", str(tmp_path / "run")]
    told = CliRunner().invoke(app, [*command, "--quiet"])
    assert told.exit_code == 3
    assert "round 0 waits for people" in told.output
    rounds = []

    def draw(_seconds):
        rounds.append(len(rounds))
        people.answer(rounds[-1])

    monkeypatch.setattr("alloop.cli.runs.time.sleep", draw)
    told = CliRunner().invoke(app, [*command, "--wait", "--quiet"])
    assert told.exit_code == 0, told.output
    assert rounds == [0, 1, 2]
    status = CliRunner().invoke(app, ["status", str(tmp_path / "run")])
    assert "people" in status.output
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "run")]).exit_code == 0
    assert CliRunner().invoke(app, ["report", str(tmp_path / "run")]).exit_code == 0
    assert "What people answered" in (tmp_path / "run" / "report.html").read_text()


# money and time


def test_edits_are_classified_exactly():
    random = np.random.default_rng(0)
    for _ in range(200):
        kinds = random.choice(["accepted", "moved", "renamed", "deleted"], random.integers(0, 8))
        corner = np.array([[100.0 * k, 100.0 * random.integers(0, 5)] for k in range(len(kinds))]).reshape(-1, 2)
        boxes = np.concatenate([corner, corner + 40], axis=1).astype(np.float32)
        labels = random.integers(0, 3, len(kinds))
        after, names = [], []
        for kind, box, label in zip(kinds, boxes, labels, strict=True):
            if kind == "deleted":
                continue
            after.append(box + (5 if kind == "moved" else 0.3))
            names.append((label + (kind == "renamed")) % 3)
        added = int(random.integers(0, 4))
        after += [np.array([1000.0 + 90 * k, 0, 1040 + 90 * k, 30]) for k in range(added)]
        names += [0] * added
        order = random.permutation(len(after))
        truth = fake_annotations(1)
        answered = type(truth)(
            np.array(after).reshape(-1, 4)[order],
            np.array(names, dtype=np.int64)[order],
            np.zeros(len(after), bool),
            np.ones(len(after), bool),
        )
        found = edits(PreAnnotations(boxes, labels, np.ones(len(boxes))), answered)
        count = {kind: int((kinds == kind).sum()) for kind in ("accepted", "moved", "renamed", "deleted")}
        assert found == Edits(count["accepted"], count["moved"] + count["renamed"], count["deleted"], added)


def test_prices_by_hand():
    prices = PriceList(image=1, box=2, second=0.1, accepted=0.5, deleted=0.25)
    assert prices.cost(boxes=3, seconds=10) == 1 + 6 + 1
    assert prices.cost(boxes=4, edits=Edits(2, 1, 3, 1)) == 1 + 2 * 0.5 + 2 + 2 + 3 * 0.25
    assert PriceList().cost(boxes=7, seconds=100, edits=Edits(3, 3, 3, 1)) == 7


RECORD = ImageRecord(ImageId(3), "a.jpg", 200, 100)


def labeled(seconds, *boxes, person=1, number=1, skipped=False, label="cat"):
    """One annotation as the server exports it."""
    result = [
        region((float(x), float(y), float(x + w), float(y + h)), label, (200, 100), k)
        for k, (x, y, w, h) in enumerate(boxes)
    ]
    return {
        "id": number,
        "unique_id": f"u{number}",
        "result": result,
        "lead_time": seconds,
        "was_cancelled": skipped,
        "completed_by": person,
        "updated_at": f"2026-01-{number:02d}",
    }


def state_of(*annotations, policy="newest", drafts=()):
    task = {"data": {"alloop_id": 3}, "annotations": list(annotations), "drafts": list(drafts)}
    return answer_of_task(task, RECORD, AnswerRules(["cat", "dog"], policy, 7.0))


def test_states_of_a_task():
    box = (10, 10, 40, 40)
    assert state_of().state == "todo"
    assert state_of(drafts=[{"id": 1}]).state == "draft"
    done = state_of(labeled(3.5, box))
    assert (done.state, len(done.annotations), done.work) == ("done", 1, {"u1": 3.5})
    assert state_of(labeled(1, skipped=False)).annotations is not None, "an empty annotation is an answer"
    skipped = state_of(labeled(3, box, skipped=True))
    assert (skipped.state, skipped.annotations, skipped.work) == ("skipped", None, {"u1": 3}), "though it holds boxes"
    assert state_of(labeled(3, box), labeled(1, box, number=2, skipped=True)).state == "skipped", (
        "the newest of a person"
    )
    untimed = state_of(labeled(None, box))
    assert untimed.work == {"u1": 7.0}
    assert "no time" in untimed.remark
    assert state_of(labeled(1, box, label="cow")).remark == "label 'cow' is not among the classes"
    assert state_of(labeled(1, box) | {"result": None}).state == "invalid"
    outside = state_of(labeled(1, (180, 80, 40, 40)))
    assert outside.state == "done"
    assert outside.annotations.boxes.tolist() == [[180, 80, 200, 100]]
    assert "clipped" in outside.remark


def test_people_who_disagree():
    a, b = labeled(1, (10, 10, 40, 40), person=1), labeled(1, (11, 10, 40, 40), person=2, number=2)
    c = labeled(1, (100, 10, 40, 40), person=2, number=2)
    assert state_of(a, b, policy="hold").state == "done"
    assert state_of(a, c, policy="hold").state == "conflict"
    assert np.allclose(state_of(a, c).annotations.boxes, [[100, 10, 140, 50]])


def test_work_is_charged_by_its_increase_and_capped(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1])
    box = (10, 10, 40, 40)
    with open_ledger(tmp_path / "r") as ledger:
        questions, ids = AnnotationRequests(ledger), [ImageId(20), ImageId(21), ImageId(22)]
        questions.ask(1, Selection(tuple(ids), np.zeros(3)), [1.0, 2.0, 3.0], {})
        assert questions.pending() == 1
        answers = {
            ids[0]: state_of(labeled(30, box)),
            ids[1]: state_of(labeled(9999, box, number=2)),
            ids[2]: state_of(labeled(4, skipped=True, number=3)),
        }
        questions.book(1, answers, PriceList(second=0.5), seconds_cap=600)
        assert questions.pending() is None
        paid = {c.image_id: (c.boxes, c.seconds, c.cost) for c in ledger.charges() if c.round == 1}
        assert paid == {20: (1, 30.0, 16.0), 21: (1, 600.0, 301.0)}
        told = questions.answered()[0]
        assert (told.states, told.seconds, told.set_aside_seconds) == ({"done": 2, "skipped": 1}, 630.0, 4.0)
        assert told.predicted_boxes == 3.0
        assert questions.set_aside() == {ids[2]}
        questions.ask(2, Selection((ImageId(23),), np.zeros(1)), [1.0], {})
        again = answer_of_task({"annotations": [labeled(50, box)]}, RECORD, AnswerRules(["cat"]))
        ledger.database.write("UPDATE round SET metrics = '{}'")
        questions.book(2, {ImageId(23): again}, PriceList(), seconds_cap=600)
        assert next(c.seconds for c in ledger.charges() if c.image_id == 23) == 20.0, "30 of these 50 were paid"
        questions.ask(3, Selection((ImageId(24),), np.zeros(1)), [1.0], {})
        with pytest.raises(AlloopError, match="none of the 1 images came back"):
            questions.book(3, {ImageId(24): state_of()}, PriceList(), seconds_cap=600)


def test_boxes_shown_travel_as_records():
    shown = PreAnnotations(np.array([[1.0, 2.0, 11.0, 22.0]]), np.array([1]), np.array([0.5]))
    records = records_of([Task(RECORD, shown), Task(ImageRecord(ImageId(4), "b.jpg", 5, 5))], ["cat", "dog"])
    assert [(b.image_id, b.category_id, b.bbox) for b in records.annotations] == [(3, 1, (1.0, 2.0, 10.0, 20.0))]
    assert "predictions" not in task_tree(Task(RECORD), ["cat", "dog"], "r001")
    tree = task_tree(Task(RECORD, shown), ["cat", "dog"], "r001")
    assert tree["predictions"][0]["model_version"] == "r001"
    assert msgspec.json.encode(tree)
    given = ImageSubmissions((Submission((DrawnBox("cat", (0, 0, float("nan"), 1)),)),))
    assert answer_of(given, RECORD, AnswerRules(["cat"])).state == "invalid"


def test_the_loop_counts_what_images_will_cost_unless_the_strategy_knows():
    query = make_query(count=20)
    question = QuerySession(Detection(), make_strategy("random", {}, TABLE), query, mean_boxes=9.0, seed_boxes=1.5)
    chosen = question.select(20)
    threshold = counting_threshold(query.detector.detections(sorted(query.unlabeled)), 90)
    assert 0 < threshold < 1
    whole = dataclasses.replace(question, query=dataclasses.replace(query, count=60)).select(60)
    assert sum(question.predicted_boxes(whole)) == 90, "1.5 boxes an image, over all 60"
    predicted = question.predicted_boxes(chosen)
    assert predicted == expected_boxes(query.detector.detections(chosen.image_ids), threshold).tolist()
    assert len(set(predicted)) > 1
    own = Selection(chosen.image_ids, chosen.utilities, np.full(20, 2.5))
    assert question.predicted_boxes(own) == [2.5] * 20
