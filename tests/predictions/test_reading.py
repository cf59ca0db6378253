"""Bad predictions are refused with file, row and image; what is read leniently is counted."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.data.notes import Notes
from alloop.errors import ConfigError, DataError
from alloop.predictions.embeddings import read_embeddings
from alloop.predictions.reading import read_predictions
from alloop.predictions.rows import Classes, KnownImages
from alloop.values import ImageId, ImageRecord
from tests.support.predictions import CATEGORY_IDS, CLASSES

IMAGES = [ImageRecord(ImageId(k), f"d/{k}.jpg", 100, 80) for k in (7, 3, 12)]
KNOWN, NAMED = KnownImages(IMAGES), Classes(CLASSES, CATEGORY_IDS)
GOOD = {"image_id": 3, "category_id": 90, "bbox": [10, 20, 30, 40], "score": 0.5}


def read(path, format_=None, notes=None):
    paths = path if isinstance(path, list) else [path]
    return read_predictions(paths, KNOWN, NAMED, notes or Notes(), format_)


def written(folder, *results, name="p.json"):
    (folder / name).write_text(json.dumps(results))
    return folder / name


def test_results_are_grouped_by_image_with_the_highest_score_first(tmp_path):
    rows = [GOOD | {"score": s, "image_id": i} for s, i in ((0.2, 3), (0.9, 7), (0.4, 3), (0.4, 3))]
    rows[3]["bbox"] = [0, 0, 5, 5]
    predictions = read(written(tmp_path, *rows))
    assert predictions.of_image(ImageId(7)).scores.tolist() == [np.float32(0.9)]
    found = predictions.of_image(ImageId(3))
    assert found.scores.tolist() == pytest.approx([0.4, 0.4, 0.2])
    assert found.boxes.tolist() == [[10, 20, 40, 60], [0, 0, 5, 5], [10, 20, 40, 60]], "ties keep their order"
    assert found.labels.tolist() == [2, 2, 2]
    assert found.probabilities[:, 2].tolist() == found.scores.tolist()
    assert found.probabilities[:, :2].sum() == 0
    assert len(predictions.of_image(ImageId(12))) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 99}, r"p.json: row 1: image_id 99 is no image of the pool"),
        ({"image_id": 5}, r"p.json: row 1: image_id 5 is no image of the pool"),
        ({"image_id": "99.jpg"}, r"row 1: image_id is '99.jpg'; give ids or file names, not both"),
        (
            {"category_id": 5},
            r"row 1: category_id 5 is none of the classes; they are 7 \(cat\), 3 \(dog\), 90 \(bird\)",
        ),
        ({"score": 1.5}, r"row 1 \(image 3, d/3.jpg\): score 1.5 is no confidence between 0 and 1"),
        ({"score": -0.1}, r"score -0.1 is no confidence"),
        ({"bbox": [1, 2, 3]}, r"expected COCO results"),
        ({"bbox": [1, 2, 3, None]}, r"expected COCO results"),
        ({"score": None}, r"expected COCO results"),
        ({"probabilities": [0.5, 0.2]}, r"row 0: expected probabilities of all 3 classes, in their order, found none"),
    ],
)
def test_a_bad_result_is_refused_by_file_row_and_image(tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        read(written(tmp_path, GOOD, GOOD | change))


def test_rounding_may_lift_a_score_above_1(tmp_path):
    assert read(written(tmp_path, GOOD | {"score": 1.0005})).of_image(ImageId(3)).scores.tolist() == [1.0]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("key", ["score", "bbox"])
def test_a_number_that_is_not_finite_never_enters(tmp_path, key, number):
    text = json.dumps([GOOD])
    text = text.replace("0.5", number) if key == "score" else text.replace("[10,", f"[{number},")
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(DataError, match=r"p.json"):
        read(tmp_path / "p.json")


@pytest.mark.parametrize("probabilities", [[0.5, 0.2, 1.5], [-0.1, 0.2, 0.3]])
def test_a_posterior_lies_between_0_and_1(tmp_path, probabilities):
    with pytest.raises(DataError, match=r"row 0 \(image 3, d/3.jpg\): probabilities .* are not all between 0 and 1"):
        read(written(tmp_path, GOOD | {"probabilities": probabilities}))


def test_boxes_outside_are_clipped_or_left_out_and_counted(tmp_path):
    outside = [[-5, -5, 30, 30], [90, 70, 40, 40], [200, 0, 10, 10], [5, 5, 0, 10], [5, 5, -4, 10]]
    notes = Notes()
    found = read(written(tmp_path, GOOD, *(GOOD | {"bbox": box} for box in outside)), notes=notes).of_image(ImageId(3))
    assert found.boxes.tolist() == [[10, 20, 40, 60], [0, 0, 25, 25], [90, 70, 100, 80]]
    clipped, left_out = notes.listed()
    assert (clipped.count, left_out.count) == (2, 3)
    assert "row 1 (image 3, d/3.jpg)" in clipped.first
    assert "row 3" in left_out.first


def test_files_of_several_machines_hold_other_images(tmp_path):
    one, other = written(tmp_path, GOOD, name="1.json"), written(tmp_path, GOOD | {"image_id": 7}, name="2.json")
    both = read([one, other])
    assert [len(both.of_image(image.image_id)) for image in IMAGES] == [1, 1, 0]
    with pytest.raises(DataError, match=r"1.json and .*1.json both have predictions for image 3 \(d/3.jpg\)"):
        read([one, one])
    third = written(tmp_path, GOOD | {"image_id": 12, "probabilities": [0.1, 0.2, 0.3]}, name="3.json")
    with pytest.raises(DataError, match=r"1.json: has scores alone, the other files have class posteriors"):
        read([one, third])


def test_images_are_found_by_name_as_everywhere(tmp_path):
    for name in ("d/3.jpg", "3.jpg", "3", "./d/3.jpg", "/data/d/3.jpg"):
        found = read(written(tmp_path, GOOD | {"image_id": name})).of_image(ImageId(3))
        assert len(found) == 1, name
    with pytest.raises(DataError, match=r"p.json: 'nowhere.jpg' is no image of the pool"):
        read(written(tmp_path, GOOD | {"image_id": "nowhere.jpg"}))


def test_an_empty_list_is_a_detector_that_found_nothing(tmp_path):
    assert not any(len(read(written(tmp_path)).of_image(image.image_id)) for image in IMAGES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "image, class, x1, y1, x2, y2, score missing"),
        ("image,class,x1,y1,x2,y2\n", r"score missing in 'image, class"),
        ("image,class,x1,y1,x2,y2,score\n3,bird,1,2,3\n", r"row 0: expected 7 cells, found 5"),
        ("image,class,x1,y1,x2,y2,score\n3,bird,1,2,x,4,0.5\n", r"row 0: x2: expected a number, found 'x'"),
        ("image,class,x1,y1,x2,y2,score\n3,bird,1,2,nan,4,0.5\n", r"row 0 \(image 3, d/3.jpg\): bbox .* not finite"),
        ("image,class,x1,y1,x2,y2,score\n3,cow,1,2,3,4,0.5\n", r"row 0: class 'cow' is none of the classes"),
        ("image,class,x1,y1,x2,y2,score\n4,bird,1,2,3,4,0.5\n", r"'4' is no image of the pool"),
        ("image,class,x1,y1,x2,y2,score,p:cat\n3,bird,1,2,3,4,0.5,1\n", r"p:bird is missing or odd"),
        ("image,class,x1,y1,x2,y2,score,score\n", "a heading stands twice"),
    ],
)
def test_a_bad_csv_is_refused(tmp_path, text, words):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read(tmp_path / "p.csv")


def test_csv_has_ids_or_names_and_posteriors(tmp_path):
    (tmp_path / "p.csv").write_text(
        "\ufeffimage,score,class,x1,y1,x2,y2,p:cat,p:dog,p:bird\n3, 0.5 ,bird,10,20,40,60,0.1,0.2,0.5\n",
        encoding="utf-8",
    )
    found = read(tmp_path / "p.csv").of_image(ImageId(3))
    assert found.boxes.tolist() == [[10, 20, 40, 60]]
    assert found.probabilities.tolist() == [pytest.approx([0.1, 0.2, 0.5])]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2 0.2", r"3.txt: line 2: has no confidence"),
        ("0 0.5 0.5 0.2 0.2 0.5 1", r"line 2: expected class, x, y, width, height, confidence"),
        ("0.5 0.5 0.5 0.2 0.2 0.5", r"line 2: expected class"),
        ("cat 0.5 0.5 0.2 0.2 0.5", r"line 2: expected numbers"),
        ("3 0.5 0.5 0.2 0.2 0.5", r"row 1: class 3 is none of the classes; they are 0 \(cat\), 1 \(dog\), 2 \(bird\)"),
        ("0 nan 0.5 0.2 0.2 0.5", r"3.txt: line 2: bbox .* is not finite"),
        ("nan 0.5 0.5 0.2 0.2 0.5", r"line 2: expected class"),
        ("0 0.5 0.5 0.2 0.2 nan", r"3.txt: line 2: score nan is no confidence"),
    ],
)
def test_a_bad_line_of_yolo_is_refused(tmp_path, line, words):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "3.txt").write_text(f"2 0.25 0.5 0.3 0.5 0.7\n{line}\n")
    with pytest.raises(DataError, match=words):
        read(tmp_path)


def test_yolo_counts_in_shares_of_the_image_from_its_centre(tmp_path):
    (tmp_path / "3.txt").write_text("2 0.25 0.5 0.3 0.5 0.7\n\n")
    found = read(tmp_path).of_image(ImageId(3))
    assert found.boxes.tolist() == [pytest.approx([10, 20, 40, 60], abs=1e-4)]
    assert (found.labels.tolist(), found.scores.tolist()) == ([2], [np.float32(0.7)])
    with pytest.raises(DataError, match="expected a folder of YOLO text files, found none"):
        read(tmp_path / "nowhere", "yolo")


def test_an_unknown_format_names_those_that_there_are(tmp_path):
    with pytest.raises(ConfigError, match=r"'cocoo' is no format of predictions .*did you mean 'coco'"):
        read(written(tmp_path, GOOD), "cocoo")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.binary(max_size=60), st.sampled_from(["p.json", "p.csv", "e.npy", "3.txt"]))
def test_garbage_raises_nothing_but_data_error(tmp_path_factory, data, name):
    folder = tmp_path_factory.mktemp("g")
    (folder / name).write_bytes(data)
    try:
        if name == "e.npy":
            read_embeddings(folder / name, None, KNOWN, Notes())
        else:
            read(folder if name == "3.txt" else folder / name)
    except DataError as error:
        assert str(folder) in str(error)


def test_embeddings_belong_to_the_images_of_the_pool_in_order_or_to_those_listed(tmp_path):
    vectors = np.arange(6, dtype=np.float64).reshape(3, 2)
    np.save(tmp_path / "e.npy", vectors)
    plain = read_embeddings(tmp_path / "e.npy", None, KNOWN, Notes())
    assert plain.of_images([ImageId(12), ImageId(7)]).tolist() == [[4, 5], [0, 1]]
    (tmp_path / "ids.txt").write_text("12\n3\n7\n")
    listed = read_embeddings(tmp_path / "e.npy", tmp_path / "ids.txt", KNOWN, Notes())
    assert listed.of_images([ImageId(12), ImageId(7)]).tolist() == [[0, 1], [4, 5]]
    (tmp_path / "ids.txt").write_text("d/12.jpg\n3.jpg\nd/7\n")
    named = read_embeddings(tmp_path / "e.npy", tmp_path / "ids.txt", KNOWN, Notes())
    assert named.rows == listed.rows


@pytest.mark.parametrize(
    ("vectors", "listed", "words"),
    [
        (np.zeros((2, 4)), None, "expected a row for each of the 3 images of the pool, found 2"),
        (np.zeros((3, 4)), "3\n7\n", "names 2 images, .* has 3 rows"),
        (np.zeros((3, 4)), "3\n7\n7\n", "image 7 stands twice"),
        (np.zeros((3, 4)), "3\n7\n99\n", "'99' is no image of the pool"),
        (np.zeros(3), None, r"expected one matrix of numbers \[images, length\], found \(3,\)"),
        (np.array([["a"], ["b"], ["c"]]), None, "expected one matrix of numbers"),
        (np.array([[1.0], [np.nan], [2.0]]), None, "row 1 holds a number that is not finite"),
        (np.array([[object()]]), None, "cannot be read"),
    ],
)
def test_bad_embeddings_are_refused(tmp_path, vectors, listed, words):
    np.save(tmp_path / "e.npy", vectors, allow_pickle=True)
    if listed is not None:
        (tmp_path / "ids.txt").write_text(listed)
    with pytest.raises(DataError, match=words):
        read_embeddings(tmp_path / "e.npy", tmp_path / "ids.txt" if listed else None, KNOWN, Notes())
