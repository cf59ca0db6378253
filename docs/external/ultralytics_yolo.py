"""A detector of Ultralytics in a round of alloop.

    detector:
      name: external
      command: .venv-external/bin/python docs/external/ultralytics_yolo.py {ask} {tell} {work} --model yolov8n.pt

Ultralytics is licensed under the AGPL; this program runs it as a separate process, and alloop does not import it.
A model file `.yaml` is trained from scratch, a `.pt` from its weights. Scores alone are known: the package gives the
probability of the best class, not of all.
"""

import argparse
import ast
import shutil
from pathlib import Path

from exchange import Ask, Box, Image, Tell
from ultralytics import YOLO, settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("ask", "tell", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--model", default="yolov8n.yaml", help="a model file of Ultralytics")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--size", type=int, default=640, help="side that images are scaled to, a multiple of 32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another training argument")
    options = parser.parse_args()
    ask, tell = Ask(options.ask), Tell(options.tell)
    settings.update({"sync": False})  # sends nothing home
    model = YOLO(options.model)
    model.train(
        data=str(data_set(ask, options.work)),
        epochs=options.epochs,
        imgsz=options.size,
        batch=options.batch,
        device=options.device,
        seed=ask.random_seed,
        project=str(options.work.resolve()),
        name="train",
        exist_ok=True,
        workers=0,
        val=False,
        plots=False,
        **{key: value(text) for key, text in (pair.split("=", 1) for pair in options.set)},
    )
    for name in ask.predicted:
        for image in ask.images(name):
            tell.add(name, image, found(model, image, options))
    tell.close(ask)


def value(text: str) -> object:
    """Return a number or a truth value where the text is one."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def data_set(ask: Ask, work: Path) -> Path:
    """Write the labeled images as Ultralytics reads them, and return the file that describes them."""
    root = (work / "data").resolve()
    shutil.rmtree(root, ignore_errors=True)
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for image in ask.images("labeled"):
        stem = f"{image.image_id:012d}"
        (root / "images" / f"{stem}{image.path.suffix}").symlink_to(image.path)
        lines = [yolo_line(box, image) for box in image.boxes]
        (root / "labels" / f"{stem}.txt").write_text("".join(lines))
    names = "".join(f"  {label}: {name!r}\n" for label, name in enumerate(ask.classes))
    path = root / "data.yaml"
    path.write_text(f"path: {root}\ntrain: images\nval: images\nnames:\n{names}")
    return path


def yolo_line(box: Box, image: Image) -> str:
    """Return a box as class, centre and size in shares of the image."""
    x, y, width, height = box.xywh
    shares = (
        (x + width / 2) / image.width,
        (y + height / 2) / image.height,
        width / image.width,
        height / image.height,
    )
    return f"{box.label} {' '.join(f'{share:.6f}' for share in shares)}\n"


def found(model: YOLO, image: Image, options: argparse.Namespace) -> list[Box]:
    """Return what the model finds on an image, also with low scores: AP and strategies look at them."""
    (result,) = model.predict(
        str(image.path), imgsz=options.size, conf=0.01, max_det=100, device=options.device, verbose=False
    )
    boxes = zip(result.boxes.xyxy.tolist(), result.boxes.cls.tolist(), result.boxes.conf.tolist(), strict=True)
    return [Box(int(label), (x1, y1, x2 - x1, y2 - y1), score) for (x1, y1, x2, y2), label, score in boxes]


if __name__ == "__main__":
    main()
