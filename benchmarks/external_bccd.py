r"""Blood cells by torchvision's FCOS outside: the program of a round, written with torchvision alone.

    OMP_NUM_THREADS=1 alloop study configs/bccd_fcos.yaml --seeds 0,1,2,3,4 --set training.threads=1 --out inside \
        --set detector.short_side=160 --set detector.long_side=213 --strategies random
    OMP_NUM_THREADS=1 alloop study benchmarks/external_bccd.yaml --seeds 0,1,2,3,4 --out outside --strategies random
    python benchmarks/two_recipes.py outside inside

The network and the recipe are those of `configs/bccd_fcos.yaml`; nothing of alloop is imported. So both studies
should have one curve, within the noise of the training: the weights of the heads and the order of the images differ.
Known to differ is how images are made smaller: without antialiasing here. `benchmarks/results/studies.md` has what
other differences cost while there were some.
"""

import math
import sys
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "external"))
from exchange import Ask, Tell
from torchvision_detector import example, found

SIZE = (160, 213)
STEPS, BATCH, WARM, LR, DECAY, AVERAGE = 150, 8, 20, 1e-3, 1e-4, 0.95
CHANNELS, CONVOLUTIONS = 96, 2


def network(classes: int) -> FCOS:
    """Return FCOS over a pyramid of an ImageNet MobileNetV2 that is frozen up to stride 8."""
    features = torchvision.models.mobilenet_v2(weights="IMAGENET1K_V1", norm_layer=FrozenBatchNorm2d).features
    for layer in features[:7]:  # up to stride 8, as alloop does for a MobileNet
        layer.requires_grad_(requires_grad=False)
    levels = {"6": "0", "13": "1", "17": "2"}  # the last blocks at strides 8, 16 and 32
    widths = [32, 96, 320]
    backbone = nn.Sequential(IntermediateLayerGetter(features, levels), FeaturePyramidNetwork(widths, CHANNELS))
    backbone.out_channels = CHANNELS
    anchors = torchvision.models.detection.anchor_utils.AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    head = FCOSHead(CHANNELS, 1, classes, num_convs=CONVOLUTIONS)
    short_side, long_side = SIZE
    limits = {"score_thresh": math.sqrt(0.05), "nms_thresh": 0.5}  # torchvision's score is the root of alloop's
    return FCOS(backbone, classes, short_side, long_side, anchor_generator=anchors, head=head, **limits)


def train(model: FCOS, ask: Ask) -> dict[str, Tensor]:
    """Train with AdamW, a warm-up and a cosine, and return the average of the weights."""
    images = ask.images("labeled")
    draw = torch.Generator().manual_seed(ask.random_seed * 100 + ask.round)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR, weight_decay=DECAY)
    average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    order: list[int] = []
    for step in range(STEPS):
        while len(order) < BATCH:
            order += torch.randperm(len(images), generator=draw).tolist()
        rows, order = order[:BATCH], order[BATCH:]
        mirrored = (torch.rand(BATCH, generator=draw) < 0.5).tolist()
        batch = [example(images[row], mirrored=flip) for row, flip in zip(rows, mirrored, strict=True)]
        targets = [{**target, "labels": target["labels"] - 1} for _, target in batch]  # no class for the background
        for group in optimizer.param_groups:
            group["lr"] = LR * rate(step)
        loss = sum(model([pixels for pixels, _ in batch], targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        decay = min(AVERAGE, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                average[name].lerp_(tensor, 1 - decay)
    print(f"loss {loss.item():.3f}", flush=True)
    return average


def rate(step: int) -> float:
    """Return the share of the learning rate: from a tenth up during the warm-up, then a cosine to 0."""
    if step < WARM:
        return 0.1 + 0.9 * step / WARM
    return 0.5 * (1 + math.cos(math.pi * step / STEPS))


def main(ask: Ask, tell: Tell) -> None:
    torch.manual_seed(ask.random_seed * 100 + ask.round)
    model = network(len(ask.classes)).train()
    model.load_state_dict(train(model, ask))
    model.eval()
    for name in ask.predicted:
        for image in ask.images(name):
            boxes = found(model, image, "cpu")
            tell.add(name, image, [type(box)(box.label + 1, box.xywh, box.score) for box in boxes])
    tell.close(ask)


if __name__ == "__main__":
    main(Ask(Path(sys.argv[1])), Tell(Path(sys.argv[2])))
