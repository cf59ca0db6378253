"""A detector of torchvision in a round of alloop, trained as torchvision's reference scripts train it.

    detector:
      name: external
      command: "{python} docs/external/torchvision_detector.py {ask} {tell} --model fcos_resnet50_fpn --weights coco"

SGD with momentum 0.9 and weight decay 1e-4, a linear warm-up over the first epoch, and a learning rate that drops to a
tenth after two thirds and eleven twelfths of the epochs, on randomly mirrored images. The difference to alloop's own
`fcos` is that this is another program: a place to start from when your training needs what alloop has not.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
import torchvision
from exchange import Ask, Box, Image, Tell
from PIL import Image as Pillow
from PIL import ImageOps
from torch import Tensor
from torchvision.transforms.functional import to_tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("ask", "tell"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--model", default="fcos_resnet50_fpn", help="a detection model of torchvision")
    parser.add_argument("--weights", choices=["none", "imagenet", "coco"], default="imagenet")
    parser.add_argument("--epochs", type=int, default=26)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.0025, help="0.02 for 16 images a step")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), help="short side, and limit of the long side")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    ask, tell = Ask(options.ask), Tell(options.tell)
    torch.manual_seed(ask.random_seed)
    model = network(len(ask.classes), options).to(options.device)
    train(model, ask, options)
    model.eval()
    for name in ask.predicted:
        for image in ask.images(name):
            tell.add(name, image, found(model, image, options.device))
    tell.close(ask)


def network(classes: int, options: argparse.Namespace) -> torch.nn.Module:
    """Return the network with an output for each class, and one for the background in front of them."""
    short_side, long_side = options.size
    sizes = (
        {} if options.model.startswith("ssd") else {"min_size": short_side, "max_size": long_side}
    )  # SSD has its own
    if options.weights != "coco":
        backbone = "DEFAULT" if options.weights == "imagenet" else None
        return torchvision.models.get_model(
            options.model, weights=None, weights_backbone=backbone, num_classes=classes + 1, **sizes
        )
    fresh = network(classes, argparse.Namespace(model=options.model, weights="none", size=options.size))
    entry = torchvision.models.get_model_weights(options.model).DEFAULT
    shapes = {name: tensor.shape for name, tensor in fresh.state_dict().items()}
    state = entry.get_state_dict(weights_only=True)
    fresh.load_state_dict({name: t for name, t in state.items() if t.shape == shapes.get(name)}, strict=False)
    return fresh


def train(model: torch.nn.Module, ask: Ask, options: argparse.Namespace) -> None:
    """Train for the given epochs."""
    images = ask.images("labeled")
    steps = -(-len(images) // options.batch)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=options.lr, momentum=0.9, weight_decay=1e-4)
    drops = [options.epochs * 2 // 3, options.epochs * 11 // 12]

    def share(step: int) -> float:
        warm = min(1.0, 0.001 + step / max(1, steps - 1)) if step < steps else 1.0
        return warm * 0.1 ** sum(step >= epoch * steps for epoch in drops)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    model.train()
    for epoch in range(options.epochs):
        for batch in batches(images, options.batch, ask.random_seed * 1000 + epoch):
            pixels, targets = zip(*(example(image, mirrored=mirrored) for image, mirrored in batch), strict=True)
            losses = model(
                [one.to(options.device) for one in pixels],
                [{key: value.to(options.device) for key, value in one.items()} for one in targets],
            )
            loss = sum(losses.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}", flush=True)


def batches(images: list[Image], size: int, seed: int) -> Iterator[list[tuple[Image, bool]]]:
    """Yield the images in random order, each with whether it is mirrored."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=draw).tolist()
    mirrored = (torch.rand(len(images), generator=draw) < 0.5).tolist()
    for first in range(0, len(order), size):
        yield [(images[row], mirrored[row]) for row in order[first : first + size]]


def example(image: Image, *, mirrored: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Return pixels and target; labels begin with 1, since 0 is the background."""
    pixels = to_tensor(ImageOps.exif_transpose(Pillow.open(image.path)).convert("RGB"))
    boxes = torch.tensor([box.xywh for box in image.boxes], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    if mirrored:
        pixels = pixels.flip(-1)
        boxes[:, [0, 2]] = image.width - boxes[:, [2, 0]]
    labels = torch.tensor([box.label + 1 for box in image.boxes], dtype=torch.int64)
    return pixels, {"boxes": boxes, "labels": labels}


@torch.no_grad()
def found(model: torch.nn.Module, image: Image, device: str) -> list[Box]:
    """Return the detections of an image."""
    (output,) = model([example(image, mirrored=False)[0].to(device)])
    boxes, labels, scores = (output[key].tolist() for key in ("boxes", "labels", "scores"))
    corners = zip(boxes, labels, scores, strict=True)
    return [Box(label - 1, (x1, y1, x2 - x1, y2 - y1), score) for (x1, y1, x2, y2), label, score in corners]


if __name__ == "__main__":
    main()
