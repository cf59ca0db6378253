"""What a program answers is checked before anything is kept: every fault is named by file and image."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from alloop.config import parse_config
from alloop.data.images import FolderImages
from alloop.data.notes import Notes
from alloop.data.splits import load_splits
from alloop.errors import DataError, StrategyError
from alloop.external.answers import Answers
from alloop.external.asking import Ask
from alloop.external.telling import read_answers
from alloop.predictions.rows import Classes
from tests.support.outside import answered, digit_files, exchange, external_tree, guesses


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    data = digit_files(tmp_path_factory.mktemp("digits"))
    return load_splits(parse_config(external_tree(data)).data)


def ask_of(splits, *, sigmas=(8.0,), embeddings=True, regions=True, labeled=5, **changes):
    pool = splits.train.dataset
    return Ask(
        **{
            "round": 2,
            "random_seed": 0,
            "classes": Classes(pool.class_names, pool.category_ids),
            "labeled": {i: pool.annotations[i] for i in sorted(pool.images)[:labeled]},
            "predict": {"pool": splits.train, "test": splits.test},
            "sigmas": sigmas,
            "embeddings": embeddings,
            "regions": regions,
            "labeled_as": (),
        }
        | changes
    )


@pytest.fixture
def told(splits, tmp_path):
    """Return what was asked and a folder that answers it."""
    ask = ask_of(splits)
    ask.write(tmp_path / "ask")
    answered(tmp_path / "ask", tmp_path / "tell")
    return ask, tmp_path / "tell"


def read(ask, tell, notes=None):
    return read_answers(tell, ask, notes or Notes())


def manifest(tell):
    return json.loads((tell / "manifest.json").read_text())


def rewrite(tell, **changes):
    """Change keys of the manifest and bring the hashes up to date."""
    tree = manifest(tell) | changes
    files = sorted(p for p in tell.rglob("*") if p.is_file() and p.name != "manifest.json")
    module = exchange()
    tree["files"] = {p.relative_to(tell).as_posix(): module._sha256(p) for p in files}
    (tell / "manifest.json").write_text(json.dumps(tree))


def rows_of(tell, name="pool"):
    return json.loads((tell / f"{name}.json").read_text())


def put_rows(tell, rows, name="pool"):
    (tell / f"{name}.json").write_text(json.dumps(rows))
    rewrite(tell)


def test_every_answer_arrives(told):
    ask, tell = told
    answers = read(ask, tell)
    pool, test = answers.detector_of("pool"), answers.detector_of("test")
    boxes = {image.image_id: guesses(image, 10) for image in exchange().Ask(tell.parent / "ask").images("pool")}
    for image_id, expected in boxes.items():
        (found,) = pool.detections([image_id])
        assert found.labels.tolist() == [box.label for box in expected]
        np.testing.assert_allclose(found.scores, [box.score for box in expected], rtol=1e-6)
        np.testing.assert_array_equal(found.boxes[:, 2:] - found.boxes[:, :2], [box.xywh[2:] for box in expected])
    assert len(test.detections(sorted(ask.predict["test"].dataset.images))) == 8
    assert pool.embeddings(sorted(ask.predict["pool"].dataset.images)).shape == (24, 3)
    assert len(pool.noisy_detections(list(boxes), 8.0, 0)) == 19


def test_the_file_of_answers_gives_them_back(told):
    ask, tell = told
    answers = read(ask, tell)
    data = answers.to_bytes()
    again = Answers.from_bytes(data, ask.classes.names, "the file")
    assert again.to_bytes() == data
    assert (again.predictions.keys(), again.noisy.keys()) == ({"pool", "test"}, {8.0})
    for name in ("pool", "test"):
        ids = [image.image_id for image in ask.images(name)]
        for one, other in zip(*(a.detector_of(name).detections(ids) for a in (answers, again)), strict=True):
            np.testing.assert_array_equal(one.boxes, other.boxes)
            np.testing.assert_array_equal(one.probabilities, other.probabilities)
    labeled = {i: ask.labeled[i].boxes for i in ask.labeled}
    for one, other in zip(
        *(a.detector_of("pool").region_features(list(labeled), labeled) for a in (answers, again)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert again.detector_of("pool").gives == answers.detector_of("pool").gives


def test_posteriors_arrive_and_are_never_made_up(splits, tmp_path):
    ask = ask_of(splits, sigmas=(), embeddings=False, regions=False)
    ask.write(tmp_path / "ask")
    p = [0.05] * 9 + [0.3]
    module = exchange()
    answered(tmp_path / "ask", tmp_path / "tell", lambda *_: [module.Box(9, (1, 1, 9, 9), 0.3, p)])
    (found,) = read(ask, tmp_path / "tell").detector_of("pool").detections([ask.images("pool")[0].image_id])
    np.testing.assert_allclose(found.probabilities[0], p, rtol=1e-6)
    answered(tmp_path / "ask", tmp_path / "tell", lambda *_: [module.Box(9, (1, 1, 9, 9), 0.3)])
    (found,) = read(ask, tmp_path / "tell").detector_of("pool").detections([ask.images("pool")[0].image_id])
    np.testing.assert_allclose(found.probabilities[0], [0.0] * 9 + [0.3], rtol=1e-6)


def as_csv(ask, rows, path):
    names = dict(zip(ask.classes.category_ids, ask.classes.names, strict=True))
    lines = ["image,class,x1,y1,x2,y2,score"]
    for row in rows:
        x, y, w, h = row["bbox"]
        lines.append(f"{row['image_id']},{names[row['category_id']]},{x},{y},{x + w},{y + h},{row['score']}")
    path.write_text("\n".join(lines) + "\n")


def as_yolo(ask, rows, folder):
    records = {image.image_id: image for image in ask.images("pool")}
    for row in rows:
        image, (x, y, w, h) = records[row["image_id"]], row["bbox"]
        path = (folder / image.file_name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        label = ask.classes.category_ids.index(row["category_id"])
        values = (x + w / 2) / image.width, (y + h / 2) / image.height, w / image.width, h / image.height
        with path.open("a") as handle:
            handle.write(f"{label} {' '.join(repr(v) for v in values)} {row['score']}\n")


def test_all_forms_of_predictions_say_the_same(told):
    ask, tell = told
    rows, expected = rows_of(tell), read(ask, tell)
    ids = [image.image_id for image in ask.images("pool")]
    for form in ("gz", "csv", "yolo"):
        for path in tell.glob("pool.*"):
            path.unlink()
        if form == "gz":
            (tell / "pool.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
        elif form == "csv":
            as_csv(ask, rows, tell / "pool.csv")
        else:
            as_yolo(ask, rows, tell / "pool")
        rewrite(tell)
        found = read(ask, tell)
        for one, other in zip(*(a.detector_of("pool").detections(ids) for a in (expected, found)), strict=True):
            np.testing.assert_array_equal(one.labels, other.labels)
            np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-4)
            np.testing.assert_allclose(one.scores, other.scores, rtol=1e-6)


@pytest.mark.parametrize("form", [str, "name"])
def test_images_may_be_named_by_text(told, form):
    ask, tell = told
    records = {i.image_id: i for name in ("pool", "test") for i in ask.images(name)}
    text = form if form is str else lambda image_id: records[image_id].file_name
    images = {name: [text(i) for i in ids] for name, ids in manifest(tell)["images"].items()}
    rows = [row | {"image_id": text(row["image_id"])} for row in rows_of(tell)]
    (tell / "pool.json").write_text(json.dumps(rows))
    rewrite(tell, images=images)
    pool = read(ask, tell).detector_of("pool")
    assert len(pool.detections([image.image_id for image in ask.images("pool")])) == 19


def test_boxes_over_the_edge_are_clipped_and_counted(told):
    ask, tell = told
    rows = rows_of(tell)
    rows[0]["bbox"], rows[1]["bbox"] = [-5.0, -5.0, 20.0, 20.0], [60.0, 60.0, 50.0, 50.0]
    put_rows(tell, rows)
    notes = Notes()
    read(ask, tell, notes)
    (note,) = [note for note in notes.listed() if "clipped" in note.rule]
    assert note.count == 2
    assert "pool.json: row 0" in note.first


def first_image(tell):
    return rows_of(tell)[0]["image_id"]


def changed_row(expected="pool.json: row 0", **changes):
    def change(tell):
        rows = rows_of(tell)
        rows[0] |= changes
        put_rows(tell, rows)
        return expected

    return change


def without_image(tell):
    image_id = first_image(tell)
    images = manifest(tell)["images"]
    images["pool"].remove(image_id)
    put_rows(tell, [row for row in rows_of(tell) if row["image_id"] != image_id])
    rewrite(tell, images=images)
    return f"images.pool: image {image_id} ("


def without_test(tell):
    images = manifest(tell)["images"]
    del images["test"]
    rewrite(tell, images=images)
    return "images.test: image 3000000"


def other_image(tell):
    images = manifest(tell)["images"]
    images["pool"].append(77)
    rewrite(tell, images=images)
    return "'77' is no image"


def unlisted_rows(tell):
    """Leave an image out of the list and keep its predictions."""
    images = manifest(tell)["images"]
    images["pool"].remove(first_image(tell))
    rewrite(tell, images=images)
    return f"image {first_image(tell)} ("


def not_a_number(tell):
    text = json.dumps(rows_of(tell)).replace(str(rows_of(tell)[0]["score"]), "NaN", 1)
    (tell / "pool.json").write_text(text)
    rewrite(tell)
    return "tell/pool.json"


def half_written(tell):
    (tell / "pool.json").write_bytes((tell / "pool.json").read_bytes()[:50])
    return "tell/pool.json: expected sha256"


def half_written_before_its_hash(tell):
    (tell / "pool.json").write_bytes((tell / "pool.json").read_bytes()[:50])
    rewrite(tell)
    return "tell/pool.json"


def changed_later(tell):
    path = tell / "test.json"
    path.write_text(path.read_text().replace("0.9", "0.8", 1))
    return "tell/test.json: expected sha256"


def gone(tell):
    (tell / "test.json").unlink()
    return "tell/test.json: manifest.json lists it, and it is not there"


def never_written(tell):
    (tell / "test.json").unlink()
    rewrite(tell)
    return "test.json, test.json.gz, test.csv or a folder test"


def twice(tell):
    (tell / "pool.csv").write_text("image,class,x1,y1,x2,y2,score\n")
    rewrite(tell)
    return "found pool.json and pool.csv"


def older_round(tell):
    rewrite(tell, ask="0" * 64)
    return "answers another round"


def half_a_manifest(tell):
    path = tell / "manifest.json"
    path.write_bytes(path.read_bytes()[:-10])
    return "tell/manifest.json: expected the keys ask, images and files"


def list_for_manifest(tell):
    (tell / "manifest.json").write_text("[]")
    return "tell/manifest.json: expected the keys ask, images and files"


def file_elsewhere(tell):
    (tell.parent / "secret.json").write_text("[]")
    tree = manifest(tell)
    tree["files"]["../secret.json"] = exchange()._sha256(tell.parent / "secret.json")
    (tell / "manifest.json").write_text(json.dumps(tree))
    return "leads out of"


def no_noise(tell):
    (tell / "noisy_8.json").unlink()
    rewrite(tell)
    return "noisy_8.json"


def no_embeddings(tell):
    (tell / "embeddings.npy").unlink()
    rewrite(tell)
    return "embeddings.npy"


def no_list_of_embeddings(tell):
    (tell / "embeddings.txt").unlink()
    rewrite(tell)
    return "embeddings.txt"


def embeddings_of_fewer_images(tell):
    vectors = np.load(tell / "embeddings.npy")
    lines = (tell / "embeddings.txt").read_text().splitlines()
    np.save(tell / "embeddings.npy", vectors[1:])
    (tell / "embeddings.txt").write_text("\n".join(lines[1:]))
    rewrite(tell)
    return "has no embedding of image"


def infinite_embeddings(tell):
    vectors = np.load(tell / "embeddings.npy")
    vectors[3, 1] = np.inf
    np.save(tell / "embeddings.npy", vectors)
    rewrite(tell)
    return "row 3 holds a number that is not finite"


def no_features(tell):
    (tell / "pool_features.npy").unlink()
    rewrite(tell)
    return "pool_features.npy"


def features_of_fewer_rows(tell):
    np.save(tell / "pool_features.npy", np.load(tell / "pool_features.npy")[1:])
    rewrite(tell)
    return "tell/pool_features.npy: expected a row for each of the 57 rows of the file of predictions, found 56"


def features_of_fewer_labels(tell):
    np.save(tell / "labeled_features.npy", np.load(tell / "labeled_features.npy")[1:])
    rewrite(tell)
    return "tell/labeled_features.npy: expected a row for each of the"


def features_of_two_lengths(tell):
    np.save(tell / "labeled_features.npy", np.load(tell / "labeled_features.npy")[:, 1:])
    rewrite(tell)
    return "tell/labeled_features.npy: vectors of 3 numbers, and those of pool_features.npy have 4"


FAULTS = [
    no_features,
    features_of_fewer_rows,
    features_of_fewer_labels,
    features_of_two_lengths,
    changed_row(image_id=77),
    changed_row("give ids or file names, not both", image_id="nobody.png"),
    changed_row(category_id=77),
    changed_row(score=1.5),
    changed_row(score=-0.1),
    changed_row("NaN and Infinity are no JSON", bbox=[1.0, 2.0, 1e400, 4.0]),
    changed_row("$[0].bbox", bbox=[1.0, 2.0, 4.0]),
    changed_row("$[0].score", score="high"),
    changed_row("$[0].score", score=None),
    without_image,
    without_test,
    other_image,
    unlisted_rows,
    not_a_number,
    half_written,
    half_written_before_its_hash,
    changed_later,
    gone,
    never_written,
    twice,
    older_round,
    half_a_manifest,
    list_for_manifest,
    file_elsewhere,
    no_noise,
    no_embeddings,
    no_list_of_embeddings,
    embeddings_of_fewer_images,
    infinite_embeddings,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(told, fault):
    ask, tell = told
    read(ask, tell)
    expected = fault(tell)
    with pytest.raises(DataError) as refused:
        read(ask, tell)
    message = str(refused.value)
    assert expected.removeprefix("tell/") in message
    assert "/tell" in message


def test_an_answer_belongs_to_one_ask(splits, told):
    ask, tell = told
    others = [
        replace(ask, round=3),
        replace(ask, random_seed=1),
        ask_of(splits, labeled=6),
        replace(ask, sigmas=(8.0, 16.0)),
        replace(ask, classes=Classes(ask.classes.names[::-1], ask.classes.category_ids)),
    ]
    assert len({other.identity for other in [ask, *others]}) == 6
    for other in others:
        with pytest.raises(DataError, match="answers another round or another run"):
            read(other, tell)


def test_the_ask_does_not_depend_on_where_the_images_lie(splits, told, tmp_path):
    ask, _ = told
    moved = FolderImages(tmp_path / "elsewhere", splits.train.images.records)
    assert replace(ask, predict={**ask.predict, "pool": replace(splits.train, images=moved)}).identity == ask.identity


def test_predictions_of_labeled_images_may_come_along(told):
    ask, tell = told
    labeled = min(ask.labeled)
    images = manifest(tell)["images"]
    images["pool"].append(labeled)
    rows = rows_of(tell)
    put_rows(tell, [*rows, rows[0] | {"image_id": labeled}])
    vectors = np.load(tell / "pool_features.npy")
    np.save(tell / "pool_features.npy", np.concatenate([vectors, vectors[:1]]))
    rewrite(tell, images=images)
    (found,) = read(ask, tell).detector_of("pool").detections([labeled])
    assert len(found) == 1


def test_every_box_has_the_vector_of_its_row(told):
    """Rows are sorted by score when they are read, and one without area is left out; their vectors go with them."""
    ask, tell = told
    rows = rows_of(tell)
    rows[1]["bbox"] = [5.0, 5.0, 0.0, 4.0]
    rows[0]["score"], rows[2]["score"] = rows[2]["score"], rows[0]["score"]
    put_rows(tell, rows)
    pool = read(ask, tell).detector_of("pool")
    images = exchange().Ask(tell.parent / "ask")
    for image in images.images("pool"):
        (found,) = pool.detections([image.image_id])
        (vectors,) = pool.region_features([image.image_id], {image.image_id: found.boxes})
        assert vectors[:, 0].tolist() == [image.image_id % 1000] * len(found)
        np.testing.assert_array_equal(vectors[:, 1], found.boxes[:, 0])
        np.testing.assert_array_equal(vectors[:, 2], found.boxes[:, 1])
    for image in images.images("labeled"):
        boxes = ask.labeled[image.image_id].boxes[::-1]
        (vectors,) = pool.region_features([image.image_id], {image.image_id: boxes})
        np.testing.assert_array_equal(vectors[:, 1], boxes[:, 0])
    first = images.images("pool")[0].image_id
    with pytest.raises(StrategyError, match=f"image {first}: box .* was neither predicted nor labeled"):
        pool.region_features([first], {first: np.array([[0, 0, 1, 1]], dtype=np.float32)})


def test_an_image_that_was_not_predicted_is_no_image_without_objects(told):
    ask, tell = told
    with pytest.raises(StrategyError, match=f"image {min(ask.labeled)} was not predicted"):
        read(ask, tell).detector_of("pool").detections([min(ask.labeled)])


def test_writing_the_ask_again_changes_nothing(told):
    ask, tell = told
    folder = tell.parent / "ask"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    ask.write(folder)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
    (folder / "pool.json").write_text("{}")
    ask.write(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == {path: data for path, (data, _) in before.items()}
