"""The labeling page of a project, `label_config.xml`: the classes in its order, and the key of the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from alloop.data.formats.xml_file import parse_xml

CONFIG = "label_config.xml"
FROM_NAME, TO_NAME = "label", "image"
# distinguishable also for readers who see colours differently
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5A2B", "#6A3D9A")
_OF_BOXES = ("RectangleLabels", "PolygonLabels", "EllipseLabels", "Labels")


@dataclass(frozen=True, slots=True)
class Page:
    """What is known of a labeling page: its labels of boxes in order, and the key of the data that it shows."""

    labels: tuple[str, ...] = ()
    key: str = ""


def label_config(class_names: Sequence[str]) -> str:
    """Return the labeling page of a project: boxes that show, cannot be turned, and have one label each."""
    view = ET.Element("View")
    ET.SubElement(view, "Image", name=TO_NAME, value="$image", zoom="true")
    look = {"name": FROM_NAME, "toName": TO_NAME, "strokeWidth": "3", "opacity": "0.2", "canRotate": "false"}
    labels = ET.SubElement(view, "RectangleLabels", look)
    for number, name in enumerate(class_names):
        ET.SubElement(labels, "Label", value=name, background=COLOURS[number % len(COLOURS)])
    return ET.tostring(view, encoding="unicode")


def parsed_page(data: bytes, path: Path) -> Page:
    """Read a labeling page; `path` is how messages call it.

    Raises:
        DataError: it is not XML.
    """
    root = parse_xml(data, path, "labeling page of Label Studio, a")
    listed = [
        label.get("alias") or label.get("value") or ""
        for group in root.iter()
        if group.tag in _OF_BOXES
        for label in group.iter("Label")
    ]
    keys = [image.get("value", "") for image in root.iter("Image")]
    key = next((value.removeprefix("$") for value in keys if value.startswith("$")), "")
    return Page(tuple(dict.fromkeys(label for label in listed if label and not label.startswith("$"))), key)
