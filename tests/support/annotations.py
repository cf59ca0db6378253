"""Annotation files of the tests, as trees, texts and folders."""

import json

from PIL import Image

from alloop.data.formats.coco import read_coco
from alloop.data.validation import validate

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>cat</name></label><label><name>dog</name></label>
<label><name>alloop_done</name></label><label><name>alloop_skip</name></label></labels></task></meta>
<image id="4" name="a/x.jpg" width="200" height="100">
  <box label="dog" source="manual" occluded="0" xtl="10.5" ytl="20.25" xbr="30.5" ybr="60.25" z_order="0"></box>
  <box label="cat" source="manual" occluded="0" xtl="100" ytl="40" xbr="140" ybr="60" rotation="90.0" z_order="0"/>
</image>
<image id="7" name="empty.jpg" width="50" height="40"><tag label="alloop_done" source="manual"/></image>
<image id="8" name="bad.jpg" width="50" height="40"><tag label="alloop_skip" source="manual"/></image>
</annotations>"""


def coco_tree(**changes):
    base = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 100, "height": 80},
            {"id": 0, "file_name": "b.png", "width": 50, "height": 50},
        ],
        "categories": [{"id": 0, "name": "cat"}, {"id": 90, "name": "dog"}],
        "annotations": [
            {"id": 0, "image_id": 7, "category_id": 90, "bbox": [10, 20, 30, 40]},
            {
                "id": 5,
                "image_id": 7,
                "category_id": 0,
                "bbox": [0, 0, 100, 80],
                "iscrowd": 1,
                "segmentation": {"size": [80, 100], "counts": [8000]},
            },
        ],
    }
    return {**base, **changes}


def write_json(path, value):
    path.write_text(json.dumps(value))
    return path


def read_valid(path):
    return validate(read_coco(path), path.name)


def export(*regions, **data):
    """One task of 400 x 200 pixels with one annotation."""
    facts = {"alloop_id": 12, "file_name": "a.jpg", "image": "/data/local-files/?d=a.jpg", "width": 400, "height": 200}
    annotations = [{"id": 1, "result": list(regions), "was_cancelled": False, "updated_at": "2026-01-01"}]
    return [{"id": 900, "data": facts | data, "annotations": annotations}]


def value(x, y, w, h, rotation=0, label="cat", **more):
    inner = {"x": x, "y": y, "width": w, "height": h, "rotation": rotation, "rectanglelabels": [label]}
    return {"type": "rectanglelabels", "original_width": 400, "original_height": 200, "value": inner, **more}


def folder_of(tmp_path, names):
    for name in names:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100)).save(path)
    return tmp_path / "images"
