"""YOLO folders: texts with one line a box, and a list of the class names. `yolo_layout` describes the layouts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import yaml

from alloop.data.formats.carried_names import refuse_lost_names
from alloop.data.formats.format import NO_HINTS, Format, Hints
from alloop.data.formats.sidecar import NO_SIDECAR, Sidecar, read_sidecar, sidecar_file
from alloop.data.formats.yolo_layout import (
    Names,
    class_names,
    images_of,
    label_files,
    looks_like_yolo,
    names_files,
    yolo_roots,
)
from alloop.data.formats.yolo_lines import LabelLine, LineRules, label_lines
from alloop.data.image_index import ImageIndex, index_of_records, match_names
from alloop.data.notes import Notes
from alloop.data.records import Box, Category, Records
from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission, Submissions
from alloop.errors import DataError
from alloop.geometry.boxes import Xywh
from alloop.values import ImageId, ImageRecord


def read_yolo(path: Path, hints: Hints = NO_HINTS) -> Records:
    """Read a YOLO folder, one split of it, or the folder of its `data.yaml`.

    An image without a label file is unlabeled; one with an empty label file is empty. Sizes come from the sidecar,
    else from the images.

    Raises:
        DataError: no class names, no images, a label file without its image, or a line that is not a box.
    """
    notes, side = Notes(), read_sidecar(path)
    label_folder, image_folder = yolo_roots(path)
    if side is not None:
        names = Names(tuple(category.name for category in side.categories), 0, None)
        images, index = side.images, index_of_records(side.images, str(image_folder))
    else:
        names = class_names(path, label_folder, hints, notes)
        index = images_of(image_folder, label_folder, hints)
        images = _listed(index)
    files = _files_by_image(images, index, label_folder, notes)
    unlabeled = _without_file(path, images, files, label_folder, side, notes)
    categories = side.categories if side else [Category(number, name) for number, name in enumerate(names.classes)]
    rules = LineRules(names.keypoint_numbers, notes, is_ours=side is not None)
    boxes: list[Box] = []
    for image in images:
        if image.image_id in files:
            file = label_folder / files[image.image_id]
            for position, line in enumerate(label_lines(file, image, rules)):
                flags = (side or NO_SIDECAR).flags(image.image_id, position)
                category_id = _category(line, categories, file, position, names).id
                box = Box(len(boxes) + 1, image.image_id, category_id, line.bbox, flags.iscrowd, ignore=flags.ignore)
                box.segmentation = msgspec.Raw(line.polygon)
                boxes.append(box)
    return Records(list(images), list(categories), boxes, unlabeled, notes=notes.listed())


def _listed(index: ImageIndex) -> list[ImageRecord]:
    return [ImageRecord(ImageId(k), name, *index.size_of(name)) for k, name in enumerate(index.names, start=1)]


def _category(line: LabelLine, categories: Sequence[Category], file: Path, position: int, names: Names) -> Category:
    if not 0 <= line.label < len(categories):
        named = f"{names.file or file.parent} names {len(categories)} classes"
        raise DataError(f"{file}: line {position + 1}: class {line.label} has no name; {named}")
    return categories[line.label]


def _files_by_image(
    images: Sequence[ImageRecord], index: ImageIndex, label_folder: Path, notes: Notes
) -> dict[ImageId, str]:
    """Return the label file of each image that has one, as its name in the folder of the labels.

    Raises:
        DataError: two images that share a label file, a label file of no image, or two label files of one image.
    """
    by_stem: dict[str, ImageRecord] = {}
    for image in images:
        stem = Path(image.file_name).with_suffix("").as_posix()
        if stem in by_stem:
            both = f"{by_stem[stem].file_name} and {image.file_name}"
            msg = f"{index.place}: {both} differ only in their suffix, so they share a label file; rename one"
            raise DataError(msg)
        by_stem[stem] = image
    by_name = {image.file_name: image for image in images}
    files: dict[ImageId, str] = {}
    for name in label_files(label_folder, by_name, notes):
        stem = name.removesuffix(".txt")
        image_found = by_stem.get(stem) or _found(stem, by_name, index, label_folder / name, notes)
        if image_found.image_id in files:
            both = f"{label_folder / files[image_found.image_id]} and {label_folder / name}"
            raise DataError(f"{both} both label {image_found.file_name}; keep one of them")
        files[image_found.image_id] = name
    return files


def _found(stem: str, by_name: Mapping[str, ImageRecord], index: ImageIndex, file: Path, notes: Notes) -> ImageRecord:
    """Return the image of a label file that lies in another folder than its image, or is called `a.jpg.txt`."""
    found = index.find(stem)
    if found is None:
        msg = (
            f"{file}: labels an image that is not in {index.place}{index.near(stem)}; add the image or remove the file"
        )
        raise DataError(msg)
    notes.add("the image of a label file was found by the end of its name", f"{file} is of {found.name}")
    return by_name[found.name]


def _without_file(
    path: Path,
    images: Sequence[ImageRecord],
    files: Mapping[ImageId, str],
    label_folder: Path,
    side: Sidecar | None,
    notes: Notes,
) -> frozenset[ImageId]:
    """Return the images without a label file. Where the sidecar says that there was one, it was lost.

    Raises:
        DataError: a lost label file.
    """
    unlabeled = [image for image in images if image.image_id not in files]
    for image in unlabeled:
        if side is None:
            notes.add("no label file; the image is not labeled", image.file_name)
        elif image.image_id not in side.unlabeled:
            lost = label_folder / Path(image.file_name).with_suffix(".txt")
            msg = f"{path}: image {image.image_id} is listed in alloop.json, but {lost} is missing; restore it"
            raise DataError(msg)
    return frozenset(image.image_id for image in unlabeled)


def _label_texts(records: Records, target: Path) -> dict[Path, bytes]:
    """Return `data.yaml` and one label file per image, also for empty images.

    Raises:
        DataError: two images whose names differ only in the suffix, or a name that lines of text cannot carry.
    """
    refuse_lost_names(records, "YOLO")
    labels = {category.id: number for number, category in enumerate(records.categories)}
    boxes = records.boxes_by_image()
    files = {target / "data.yaml": _data_yaml(records.categories)}
    for image in records.images:
        name = f"labels/{Path(image.file_name).with_suffix('.txt').as_posix()}"
        if target / name in files:
            msg = f"image {image.image_id}: {name} is taken; YOLO needs names that differ before the suffix"
            raise DataError(msg)
        if image.image_id in records.unlabeled:
            continue
        lines = (_label_line(labels[box.category_id], box.bbox, image) for box in boxes[image.image_id])
        files[target / name] = "".join(f"{line}\n" for line in lines).encode()
    return files


def _label_line(label: int, bbox: Xywh, image: ImageRecord) -> str:
    x, y, w, h = bbox
    numbers = ((x + w / 2) / image.width, (y + h / 2) / image.height, w / image.width, h / image.height)
    return " ".join([str(label), *(f"{number:.12g}" for number in numbers)])


def _data_yaml(categories: Sequence[Category]) -> bytes:
    names = {number: category.name for number, category in enumerate(categories)}
    tree = {"path": ".", "train": "images", "val": "images", "names": names}
    return yaml.safe_dump(tree, allow_unicode=True).encode()


def _files(records: Records, target: Path) -> dict[Path, bytes]:
    return _label_texts(records, target) | sidecar_file(records, target)


def _task_files(folder: Path, records: Records, _scores: Mapping[ImageId, Sequence[float]]) -> dict[Path, bytes]:
    return _label_texts(records, folder / "tasks")


def _submissions(path: Path, images: Sequence[ImageRecord], class_names_: Sequence[str]) -> Submissions:
    """Return a submission for each image of the pool whose label file is there, in whatever folder of the answers.

    Class numbers follow the list that the answers bring, such as LabelImg's `classes.txt`, else the pool's classes.
    """
    folder, notes = _answer_folder(path), Notes()
    stems = {name.removesuffix(".txt"): name for name in label_files(folder, [i.file_name for i in images], notes)}
    matches = match_names(stems, images, str(folder))
    names = _answer_names(path, folder, class_names_, notes)
    rules = LineRules(names.keypoint_numbers, notes)
    by_image = {
        image.image_id: ImageSubmissions((_submission(folder / stems[stem], image, names.classes, rules),))
        for stem, image in matches.by_name.items()
    }
    return Submissions(by_image, matches.unknown, (*matches.notes, *notes.listed()))


def _answer_folder(path: Path) -> Path:
    folder = next((path / name for name in ("labels", "obj_train_data") if (path / name).is_dir()), path)
    if not folder.is_dir():
        msg = f"{path}: expected a folder with label files"
        raise DataError(msg)
    return folder


def _answer_names(path: Path, folder: Path, class_names_: Sequence[str], notes: Notes) -> Names:
    sources = [file for place in {path, folder} for file in names_files(place)]
    return class_names(path, folder, NO_HINTS, notes) if sources else Names(tuple(class_names_), 0, None)


def _submission(file: Path, image: ImageRecord, class_names_: Sequence[str], rules: LineRules) -> Submission:
    names = dict(enumerate(class_names_))
    lines = label_lines(file, image, rules)
    return Submission(tuple(DrawnBox(names.get(line.label, f"class {line.label}"), line.bbox) for line in lines))


YOLO = Format(
    title="YOLO, a folder or one split of it",
    how_to_answer="Write answers/labels/NAME.txt for every finished image, an empty file for an empty one.",
    read=read_yolo,
    files=_files,
    guess=looks_like_yolo,
    image_folder=lambda path: yolo_roots(path)[1],
    task_files=_task_files,
    submissions=_submissions,
)
