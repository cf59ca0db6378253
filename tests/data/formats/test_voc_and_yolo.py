"""VOC and YOLO folders as other tools lay them out."""

import json

import numpy as np
import pytest
from PIL import Image

from alloop.data.formats.table import annotation_format
from alloop.data.records import Box, Category, Records
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord


def test_real_files_of_other_tools(tmp_path):
    voc = tmp_path / "voc"
    (voc / "Annotations").mkdir(parents=True)
    (voc / "Annotations" / "x.xml").write_text(
        "<annotation><folder>f</folder><filename>x.jpg</filename><size><width>50</width><height>40</height>"
        "<depth>3</depth></size><object><name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>1"
        "</difficult><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>15</xmax><ymax>26</ymax></bndbox></object></annotation>"
    )
    records = annotation_format("voc", "test").read(voc)
    assert records.annotations[0].bbox == (5, 6, 10, 20)
    assert (records.annotations[0].iscrowd, records.annotations[0].ignore) == (0, 1)
    yolo = tmp_path / "yolo"
    for name in ("labels", "images"):
        (yolo / name).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (100, 50)).save(yolo / "images" / f"{name}.png")
    (yolo / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (yolo / "data.yaml").write_text("names: [cat, dog]\n")
    records = annotation_format("yolo", "test").read(yolo)
    assert len(records.images) == 2
    assert np.allclose(records.annotations[0].bbox, (40, 15, 20, 20))
    assert records.annotations[0].category_id == 1


def test_splits_of_voc_and_yolo_as_other_tools_lay_them_out(tmp_path):
    voc = tmp_path / "VOC2012"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (voc / name).mkdir(parents=True)
    for stem in ("a", "b", "c"):
        (voc / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><filename>{stem}.jpg</filename><size><width>50</width><height>40</height></size></annotation>"
        )
    (voc / "ImageSets/Main/train.txt").write_text("a\nc\n")
    (voc / "ImageSets/Main/cat_train.txt").write_text("a  1\nb -1\n")
    assert [i.file_name for i in annotation_format("voc", "test").read(voc / "ImageSets/Main/train.txt").images] == [
        "a.jpg",
        "c.jpg",
    ]
    assert [
        i.file_name for i in annotation_format("voc", "test").read(voc / "ImageSets/Main/cat_train.txt").images
    ] == ["a.jpg"]
    assert annotation_format("voc", "test").image_folder(voc / "ImageSets/Main/train.txt") == voc / "JPEGImages"
    yolo = tmp_path / "yolo"
    for split in ("train", "val"):
        for name in ("labels", "images"):
            (yolo / name / split).mkdir(parents=True)
        Image.new("RGB", (100, 50)).save(yolo / "images" / split / f"{split}.png")
        (yolo / "labels" / split / f"{split}.txt").write_text("0 0.1 0.2 0.5 0.2 0.5 0.6\n")
    (yolo / "data.yaml").write_text("names: {0: cat}\n")
    records = annotation_format("yolo", "test").read(yolo / "labels" / "val")
    assert [i.file_name for i in records.images] == ["val.png"]
    assert np.allclose(records.annotations[0].bbox, (10, 10, 40, 20))
    assert json.loads(bytes(records.annotations[0].segmentation)) == [pytest.approx([10, 10, 50, 10, 50, 30])]
    assert annotation_format("yolo", "test").image_folder(yolo / "labels" / "val") == yolo / "images" / "val"
    assert len(annotation_format("yolo", "test").read(yolo).images) == 2


@pytest.mark.parametrize(
    "line", ["x 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1", "0 nan 0.5 0.1 0.1", "7 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1 0.1 0.9"]
)
def test_bad_yolo_lines_name_file_and_line(tmp_path, line):
    for name in ("labels", "images"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (10, 10)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text(line)
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"a\.txt: line 1"):
        annotation_format("yolo", "test").read(tmp_path)


@pytest.mark.parametrize(
    "xml",
    [
        "<annotation>",
        "<annotation><filename>a.jpg</filename></annotation>",
        "<annotation><filename>a.jpg</filename><size><width>nan</width><height>5</height></size></annotation>",
        '<!DOCTYPE a [<!ENTITY b "c">]><annotation><filename>&b;</filename></annotation>',
        "<annotation><filename>a</filename><size><width>9</width><height>5</height></size><object><name>x</name></object></annotation>",
    ],
)
def test_bad_voc_files_are_named(tmp_path, xml):
    (tmp_path / "bad.xml").write_text(xml)
    with pytest.raises(DataError, match=r"bad\.xml"):
        annotation_format("voc", "test").read(tmp_path)


@pytest.mark.parametrize(("kind", "name"), [("voc", "a.xml"), ("yolo", "labels/a.txt")])
def test_images_that_would_share_a_file_are_refused_before_anything_is_written(tmp_path, kind, name):
    twins = [ImageRecord(ImageId(1), "a.jpg", 20, 20), ImageRecord(ImageId(2), "a.png", 30, 30)]
    with pytest.raises(DataError, match=f"image 2: {name} is taken"):
        annotation_format(kind, "test").files(Records(twins, [Category(0, "cat")], []), tmp_path)


def test_a_label_file_without_its_image_is_refused(tmp_path):
    for name in ("labels", "images"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (10, 10)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "b.txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"b\.txt: labels an image that is not in"):
        annotation_format("yolo", "test").read(tmp_path)


def test_a_crowd_is_difficult_and_only_a_difficult_box_can_be_one(tmp_path):
    """The sidecar knows crowds by their position; where somebody removed a box, the position is of another one."""
    voc = annotation_format("voc", "test")
    images = [ImageRecord(ImageId(4), "a.jpg", 50, 40)]
    drawn = [Box(1, ImageId(4), 1, (1, 1, 9, 9)), Box(2, ImageId(4), 1, (0, 0, 50, 40), iscrowd=1)]
    drawn.append(Box(3, ImageId(4), 1, (5, 5, 9, 9), ignore=1))
    for path, data in voc.files(Records(images, [Category(1, "dog")], drawn), tmp_path).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    file = tmp_path / "Annotations" / "a.xml"
    assert file.read_text().count("<difficult>1") == 2
    assert [(box.iscrowd, box.ignore) for box in voc.read(tmp_path).annotations] == [(0, 0), (1, 0), (0, 1)]
    file.write_text(file.read_text().replace("<difficult>1", "<difficult>0", 1))
    assert [(box.iscrowd, box.ignore) for box in voc.read(tmp_path).annotations] == [(0, 0), (0, 0), (0, 1)]
