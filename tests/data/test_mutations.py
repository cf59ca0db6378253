"""Whatever is done to a valid set: it is refused, or every box of the file counts, on the image it was drawn on."""

import copy
import random

from alloop.data.formats.coco import read_coco
from alloop.data.importing import import_project
from alloop.data.validation import validate
from alloop.errors import ConfigError, DataError
from tests.support.annotations import folder_of, write_json

ODD = [None, True, False, 0, 1, 2, -1, 7, 2.0, 1.5, "", "1", "2", "07", "a.jpg", "x/a.jpg", "nan", [], {}, [1, 2, 3, 4]]


def valid_tree():
    names = ["a.jpg", "x/b.jpg", "y/c.jpg"]
    images = [{"id": k, "file_name": name, "width": 200, "height": 100} for k, name in enumerate(names, start=1)]
    boxes = [
        {"id": k, "image_id": 1 + k % 3, "category_id": 1 + k % 2, "bbox": [10, 10, 20 + k, 30], "iscrowd": 0}
        for k in range(6)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": boxes, "categories": categories, "unlabeled": []}


def mutated(tree, chance):
    """Change one value, drop one key, or repeat or drop one record."""
    rows = tree[chance.choice(["images", "annotations", "categories"])]
    if not rows:
        return
    row = chance.choice(rows)
    kind = chance.randrange(5)
    if kind == 0:
        rows.append(copy.deepcopy(row))
    elif kind == 1:
        rows.remove(row)
    elif kind == 2:
        row.pop(chance.choice(sorted(row)), None) if row else None
    elif kind == 3:
        tree["unlabeled"].append(chance.choice([1, 2, 3, "1", 99]))
    elif row:
        row[chance.choice(sorted(row))] = chance.choice(ODD)


def drawn(tree):
    """The widths of the boxes of each file by the ids as they are written; 5, 5.0 and "5" are the same id."""

    def text(value):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()

    names = {text(image.get("id")): image.get("file_name") for image in tree["images"]}
    return sorted((names.get(text(box.get("image_id"))), float(box["bbox"][2])) for box in tree["annotations"])


def widths(dataset):
    """The widths of the boxes of each file as they were read."""
    return sorted(
        (image.file_name, round(float(box[2] - box[0]), 3))
        for image_id, image in dataset.images.items()
        for box in dataset.annotations[image_id].boxes
    )


def test_a_mutated_file_is_refused_or_counts_every_box_on_its_own_image(tmp_path):
    chance, outcomes = random.Random(1), {True: 0, False: 0}
    for _ in range(3000):
        tree = valid_tree()
        for _ in range(chance.randint(1, 3)):
            mutated(tree, chance)
        path = write_json(tmp_path / "a.json", tree)
        try:
            records = read_coco(path)
            dataset = validate(records, "a.json")
        except DataError:
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        assert dataset.boxes == len(tree["annotations"]), tree
        assert not any(len(dataset.annotations[image_id]) for image_id in dataset.unlabeled), tree
        names = {image.image_id: image.file_name for image in records.images}
        assert sorted((names[box.image_id], box.bbox[2]) for box in records.annotations) == drawn(tree), tree
    assert min(outcomes.values()) > 300, outcomes


def test_an_import_of_a_mutated_file_is_refused_or_puts_every_box_on_its_own_image(tmp_path):
    images = folder_of(tmp_path, ["a.jpg", "x/b.jpg", "y/c.jpg", "y/d.jpg"])
    chance, outcomes = random.Random(2), {True: 0, False: 0}
    for number in range(400):
        tree = valid_tree()
        for _ in range(chance.randint(1, 2)):
            mutated(tree, chance)
        path = write_json(tmp_path / "a.json", tree)
        try:
            made = import_project(images, tmp_path / f"p{number}", annotations=path)
        except (DataError, ConfigError):
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        listed = made.labeled.read_text().split() if made.labeled else []
        assert (made.boxes, made.images) == (len(tree["annotations"]), 4), tree
        assert {int(text) for text in listed} == made.dataset.images.keys() - made.dataset.unlabeled
        expected = [(name.rpartition("/")[2], width) for name, width in drawn(tree) if 1 <= width <= 150]
        found = [(name.rpartition("/")[2], width) for name, width in widths(made.dataset) if 1 <= width <= 150]
        assert sorted(found) == sorted(expected), tree
    assert min(outcomes.values()) > 50, outcomes
