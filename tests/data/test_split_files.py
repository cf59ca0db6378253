"""Files of splits: they hold the whole set once, in every format, or are not there at all."""

import json
from collections import Counter

import msgspec
import pytest
import yaml

from alloop.config.blocks import DataConfig
from alloop.data import split_files
from alloop.data.formats.table import FORMATS, annotation_format
from alloop.data.groups import group_rule
from alloop.data.split_files import FileSplitting
from alloop.data.splits import load_splits
from alloop.data.validation import validate
from alloop.errors import DataError
from tests.support.annotations import folder_of, write_json

SHARES = {"train": 0.6, "reference": 0.2, "test": 0.2}
NAMES = [f"{folder}/{number}.png" for folder in "abcdef" for number in range(3)]


def tree_of(names=NAMES, **fields):
    """Return a COCO file: each third image is empty, image 7 is unlabeled, each fifth box marks a crowd."""
    images = [{"id": 7 + n, "file_name": name, "width": 200, "height": 100} for n, name in enumerate(names)]
    owners = [n for n in range(1, len(names)) if n % 3 for _ in range(n % 4)]
    boxes = [
        {"id": 50 + k, "image_id": 7 + n, "category_id": 90 * (k % 2), "bbox": [k, 2, 30, 40], "iscrowd": k % 5 == 0}
        | {"segmentation": [[k, 2, k + 30, 2, k, 42]]}
        for k, n in enumerate(owners)
    ]
    boxes = [box | {"iscrowd": int(box["iscrowd"])} for box in boxes]
    categories = [{"id": 90, "name": "dog"}, {"id": 0, "name": "cat"}, {"id": 4, "name": "never seen"}]
    return {"images": images, "annotations": boxes, "categories": categories, "unlabeled": [7], **fields}


def splitting(tmp_path, tree=None, **changes):
    source = write_json(tmp_path / "all.json", tree or tree_of())
    values = {"annotations": source, "out": tmp_path / "out", "shares": SHARES, "from_": "coco", "to": "coco"}
    return FileSplitting(**(values | changes))


@pytest.mark.parametrize("rule", [None, "folder"])
@pytest.mark.parametrize("to", FORMATS)
def test_every_format_holds_every_image_box_crowd_and_class_once(tmp_path, to, rule):
    split = splitting(tmp_path, to=to, groups=rule and group_rule(rule)).run()
    names = ["train", "reference", "test"]
    files = {name: tmp_path / "out" / (f"{name}.json" if to == "coco" else name) for name in names}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(file.name for file in files.values())
    read = {name: validate(annotation_format(to, "").read(path), name) for name, path in files.items()}
    images = [image for own in read.values() for image in own.images.values()]
    assert sorted(image.file_name for image in images) == sorted(NAMES)
    assert {image.image_id: image for image in images} == split.dataset.images
    for own in read.values():
        assert own.class_names == ("dog", "cat", "never seen")
        assert own.category_ids == (90, 0, 4)
        for image_id, truth in own.annotations.items():
            whole = split.dataset.annotations[image_id]
            assert truth.labels.tolist() == whole.labels.tolist()
            assert truth.crowd.tolist() == whole.crowd.tolist()
            assert abs(truth.boxes - whole.boxes).max(initial=0) < 0.01
            if to == "coco":
                assert (truth.ids.tolist(), truth.masks) == (whole.ids.tolist(), whole.masks)
    assert [own.unlabeled for own in read.values()] == [split.splits[name].unlabeled for name in names]
    if rule:
        folders = [{image.file_name[0] for image in own.images.values()} for own in read.values()]
        assert sum(map(len, folders)) == len(set.union(*folders)) == 6


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("rule", ["folder", "pattern:^.", "field:clip", "csv", None])
def test_the_printed_config_loads_with_the_same_groups(tmp_path, to, rule):
    folder_of(tmp_path, NAMES)
    tree = tree_of()
    for image in tree["images"]:
        image |= {"clip" if rule else "group": ord(image["file_name"][0]) % 5}
    (tmp_path / "own.csv").write_text("file_name,group\n" + "".join(f"{name},{name[0]}\n" for name in NAMES))
    given = group_rule(f"csv:{tmp_path / 'own.csv'}" if rule == "csv" else rule) if rule else None
    split = splitting(tmp_path, tree, to=to, images=tmp_path / "images", groups=given).run()
    config = yaml.safe_load(yaml.safe_dump(dict(split.config)))
    loaded = load_splits(DataConfig.model_validate(config["data"]), for_people=True)
    for name, part in split.splits.items():
        assert getattr(loaded, name).dataset.groups == part.groups
        assert set(part.groups) == set(part.images)
    groups = [set(part.groups.values()) for part in split.splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == (6 if given and not given.field else 5)
    expected = "field" if to == "coco" else {"folder": "folder", "pattern:^.": "pattern"}.get(rule, "csv")
    assert list(config["data"]["groups"]) == [expected]


def test_unlabeled_images_follow_their_group_into_train_or_are_left_out(tmp_path):
    tree = tree_of(unlabeled=[7 + n for n in range(len(NAMES)) if n % 3 == 0])
    split = splitting(tmp_path, tree, groups=group_rule("folder")).run()
    assert split.left_out == 6 - len(split.splits["train"].unlabeled) == 3
    assert [len(part.images) for part in split.splits.values()] == [9, 2, 4]
    alone = splitting(tmp_path, tree, out=tmp_path / "alone").run()
    assert (alone.left_out, len(alone.splits["train"].unlabeled)) == (0, 6)
    without = splitting(tmp_path, tree, out=tmp_path / "b", shares={"reference": 0.5, "test": 0.5}).run()
    assert without.left_out == 6
    assert json.loads((tmp_path / "b" / "test.json").read_bytes()).keys() == {"images", "annotations", "categories"}


def test_images_are_called_as_their_files_are_and_sizes_come_from_them(tmp_path):
    images = folder_of(tmp_path, NAMES)
    tree = tree_of([f"/home/ann/{name}" for name in NAMES])
    for image in tree["images"]:
        image |= {"width": 0, "height": 0}
    split = splitting(tmp_path, tree, images=images, groups=group_rule("folder")).run()
    found = [image for part in split.splits.values() for image in part.images.values()]
    assert sorted(image.file_name for image in found) == sorted(NAMES)
    assert {(image.width, image.height) for image in found} == {(200, 100)}
    assert split.config["data"]["train"]["images"] == str(images)
    plain = splitting(tmp_path, out=tmp_path / "plain").run()
    assert plain.config["data"]["train"]["images"] == "FOLDER_OF_THE_IMAGES"


def test_nothing_is_overwritten_and_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    splitting(tmp_path).run()
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(DataError, match="out: exists already; give a new name, nothing is overwritten"):
        splitting(tmp_path).run()
    with pytest.raises(DataError, match="exists already"):
        splitting(tmp_path, out=tmp_path / "all.json").run()
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("exists", [True, False])
def test_a_write_that_fails_in_the_middle_leaves_nothing(tmp_path, monkeypatch, exists):
    write, calls = split_files.write_checked, []

    def fails_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(split_files, "write_checked", fails_at_the_second)
    if exists:
        (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="No space"):
        splitting(tmp_path).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", *["out"] * exists]
    assert not exists or list((tmp_path / "out").iterdir()) == []


def lose_an_image(parts):
    parts["test"].images.pop()


def lose_a_box(parts):
    parts["train"].annotations.pop()


def take_an_image_twice(parts):
    parts["test"].images.append(msgspec.structs.replace(parts["train"].images[-1], image_id=1))


def forget_a_crowd(parts):
    box = next(box for box in parts["train"].annotations if box.iscrowd)
    box.iscrowd = 0


@pytest.mark.parametrize("harm", [lose_an_image, lose_a_box, take_an_image_twice, forget_a_crowd])
def test_splits_that_are_not_the_whole_set_once_are_refused(tmp_path, monkeypatch, harm):
    divide = split_files.split_records

    def harmful(*arguments):
        parts = divide(*arguments)
        harm(parts)
        return parts

    monkeypatch.setattr(split_files, "split_records", harmful)
    with pytest.raises(DataError, match=r"all\.json: the splits would have .*(in no split|boxes of the classes)"):
        splitting(tmp_path, tree_of(unlabeled=[])).run()
    assert not (tmp_path / "out").exists()


def test_a_group_in_two_splits_is_refused_whoever_made_them(tmp_path, monkeypatch):
    divide = split_files.split_records
    monkeypatch.setattr(
        split_files,
        "split_records",
        lambda records, *rest: {
            name: msgspec.structs.replace(part, groups={i.image_id: records.groups[i.image_id] for i in part.images})
            for name, part in divide(msgspec.structs.replace(records, groups={}), *rest).items()
        },
    )
    with pytest.raises(DataError, match="groups are in more than one split"):
        splitting(tmp_path, tree_of(unlabeled=[]), groups=group_rule("folder")).run()


def test_a_table_that_would_give_other_groups_once_it_is_read_again_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        split_files, "csv_text", lambda _, rows: "file_name,group\n" + "".join(f"{n},x\n" for n, _ in rows)
    )
    tree = tree_of()
    for image in tree["images"]:
        image["clip"] = image["file_name"][0]
    with pytest.raises(DataError, match="1 groups are in more than one split, first: 'x'"):
        splitting(tmp_path, tree, to="yolo", groups=group_rule("field:clip")).run()
    assert not (tmp_path / "out").exists()


def test_a_file_name_that_leads_out_of_the_folder_is_refused(tmp_path):
    names = ["../../x.png", *NAMES[1:]]
    with pytest.raises(DataError, match="leads out of"):
        splitting(tmp_path, tree_of(names, unlabeled=[]), to="yolo").run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json"]


def test_too_few_groups_and_images_without_a_group_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"all\.json: has 1 groups with annotated images for 3 splits; give fewer"):
        splitting(tmp_path, groups=group_rule("pattern:png$")).run()
    with pytest.raises(DataError, match="have no group"):
        splitting(tmp_path, groups=group_rule("field:clip")).run()
    tree = tree_of()
    tree["images"][3]["group"] = "one"
    with pytest.raises(DataError, match=r"17 images have no group, first: .*; give each image the field 'group'"):
        splitting(tmp_path, tree).run()


def test_the_same_bytes_come_again_and_another_order_gives_the_same_splits(tmp_path):
    tree = tree_of()
    first, again = (splitting(tmp_path, tree, out=tmp_path / name).run() for name in ("a", "b"))
    for name in ("train.json", "reference.json", "test.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    turned = splitting(tmp_path, tree | {"images": tree["images"][::-1]}, out=tmp_path / "c").run()
    for name, part in turned.splits.items():
        assert part.images == first.splits[name].images == again.splits[name].images
    assert Counter(len(part.images) for part in turned.splits.values()).total() == 3
