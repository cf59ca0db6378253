"""A detector of Hugging Face transformers in a round of alloop.

    detector:
      name: external
      command: python docs/external/transformers_detector.py {ask} {tell} --model hustvl/yolos-tiny --steps 2000

`--model` names a published model or a folder with one; `--config FILE.json` builds a network of this configuration
with random weights. It writes the probabilities of all classes, so strategies of uncertainty see the whole posterior.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from exchange import Ask, Box, Image, Tell
from PIL import Image as Pillow
from PIL import ImageOps
from torch import Tensor
from transformers import AutoConfig, AutoModelForObjectDetection

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("ask", "tell"):
        parser.add_argument(name, type=Path)
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--model", help="a published model, or a folder")
    start.add_argument("--config", type=Path, help="a configuration, with its model_type, to start from random weights")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--size", type=int, default=512, help="width and height that images are scaled to")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    ask, tell = Ask(options.ask), Tell(options.tell)
    torch.manual_seed(ask.random_seed)
    model = network(ask, options).to(options.device)
    train(model, ask, options)
    model.eval()
    for name in ask.predicted:
        for image in ask.images(name):
            tell.add(name, image, found(model, image, options))
    tell.close(ask)


def network(ask: Ask, options: argparse.Namespace) -> torch.nn.Module:
    """Return the network with an output for each class."""
    labels = dict(enumerate(ask.classes))
    if options.model:
        return AutoModelForObjectDetection.from_pretrained(
            options.model,
            id2label=labels,
            label2id={name: label for label, name in labels.items()},
            ignore_mismatched_sizes=True,
        )
    tree = json.loads(options.config.read_text())
    config = AutoConfig.for_model(tree.pop("model_type"), **tree, num_labels=len(labels))
    return AutoModelForObjectDetection.from_config(config)


def pixels(image: Image, size: int) -> Tensor:
    """Return an image as displayed, scaled to a square and normalized, as [3, size, size]."""
    shown = ImageOps.exif_transpose(Pillow.open(image.path)).convert("RGB").resize((size, size))
    values = (np.asarray(shown, dtype=np.float32) / 255 - MEAN) / DEVIATION
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)


def target(image: Image, device: str) -> dict[str, Tensor]:
    """Return labels and boxes as centre and size in shares of the image."""
    boxes = torch.tensor([box.xywh for box in image.boxes]).reshape(-1, 4)
    boxes[:, :2] += boxes[:, 2:] / 2
    scale = torch.tensor([image.width, image.height, image.width, image.height])
    labels = torch.tensor([box.label for box in image.boxes], dtype=torch.int64)
    return {"class_labels": labels.to(device), "boxes": (boxes / scale).to(device)}


def train(model: torch.nn.Module, ask: Ask, options: argparse.Namespace) -> None:
    """Train with AdamW, whose learning rate falls as a cosine; every step draws its images at random."""
    images = [image for image in ask.images("labeled") if image.boxes] or ask.images("labeled")
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    draw = torch.Generator().manual_seed(ask.random_seed)
    model.train()
    for step in range(options.steps):
        rows = torch.randint(len(images), (options.batch,), generator=draw).tolist()
        batch = torch.stack([pixels(images[row], options.size) for row in rows]).to(options.device)
        loss = model(pixel_values=batch, labels=[target(images[row], options.device) for row in rows]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


@torch.no_grad()
def found(model: torch.nn.Module, image: Image, options: argparse.Namespace) -> list[Box]:
    """Return the best of the network's queries, each with the probabilities of all classes."""
    output = model(pixel_values=pixels(image, options.size)[None].to(options.device))
    logits = output.logits[0].cpu()
    classes = len(model.config.id2label)
    # a network of this library has either an output for "no object" behind the classes, or a sigmoid for each class
    p = logits.softmax(-1)[:, :classes] if logits.shape[-1] == classes + 1 else logits.sigmoid()
    centre, size = output.pred_boxes[0].cpu().split(2, dim=-1)
    scale = torch.tensor([image.width, image.height, image.width, image.height])
    boxes = torch.cat([centre - size / 2, size], dim=-1) * scale
    scores, labels = p.max(-1)
    best = scores.argsort(descending=True)[:100].tolist()
    return [Box(int(labels[i]), tuple(boxes[i].tolist()), float(scores[i]), p[i].tolist()) for i in best]


if __name__ == "__main__":
    main()
