"""Training and scoring on the CPU as ratios to a bare torchvision loop, written as torchvision's documentation does.

    ALLOOP_DATA=... TORCH_HOME=... python benchmarks/bare_loop.py [--threads N] [--steps N] [CONFIG ...]

Peer: the same network in torchvision's own classes, the same optimizer, batches and flips, its images decoded and
scaled before the clock starts. Own: the training and the scoring of a second round, whose images earlier rounds have
used, so that the features of frozen stages are in the cache folder. Both are timed in turn; the least time counts.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from setting import CONFIGS
from speed import best, line
from torch import nn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from alloop.config import load_config
from alloop.data.cache_folder import CacheFolder
from alloop.detectors.fitted import FittedTorchDetector
from alloop.detectors.frozen_features import FrozenFeatureCache
from alloop.loop.context import pixel_caches
from alloop.loop.experiment import prepare
from alloop.randomness import RoundSeed
from alloop.training.batches import TrainingBatches
from alloop.training.checkpoints import NoCheckpoints
from alloop.training.supervised import SupervisedObjective, make_optimizer, train
from strategies import TABLE

LABELED, SCORED = 40, 48
TORCHVISION = {
    "_NormedConv2d": nn.Conv2d,
    "_SilentNorm": FrozenBatchNorm2d,
    "StagedPyramid": BackboneWithFPN,
    "PosteriorFCOS": FCOS,
    "PerImageFCOSHead": FCOSHead,
    "PerImageRPN": RegionProposalNetwork,
    "PerImageRoIHeads": RoIHeads,
    "RegionPooling": MultiScaleRoIAlign,
}


def as_torchvision(module: nn.Module) -> nn.Module:
    """Give every part of a network torchvision's own class again."""
    for part in module.modules():
        part.__class__ = TORCHVISION.get(type(part).__name__, part.__class__)
        if hasattr(part, "proposal_matcher"):
            part.proposal_matcher.__class__ = Matcher
    return module


class Setting:
    """One config with its images, and the work of both sides."""

    def __init__(self, name: str, folder: Path, steps: int, sets: list[str]) -> None:
        config = load_config(CONFIGS / f"{name}.yaml", ["training.device=cpu", *sets])
        self.experiment, self.steps = prepare(config, TABLE), steps
        pool = self.experiment.splits.train
        self.ids, self.scored = sorted(pool.dataset.images)[:LABELED], sorted(pool.dataset.images)[-SCORED:]
        self.cache = pixel_caches(self.experiment).training
        self.kept = CacheFolder(folder, 2**33)
        self.labeled = {i: pool.dataset.annotations[i] for i in self.ids}
        plain = self._batches(None)
        self.memory = [plain(step)[:2] for step in range(steps)]
        pixels = self._fitted(self.experiment.new_detector(0), frozen=False)
        self.images = [images for _, images in pixels._batches("", self.scored)]  # noqa: SLF001  what the peer is given

    def _frozen(self, detector: Any) -> FrozenFeatureCache | None:
        layers = detector.frozen_layers()
        return layers and FrozenFeatureCache(layers, self.cache, self.kept, device=torch.device("cpu"))

    def _batches(self, frozen: FrozenFeatureCache | None) -> TrainingBatches:
        training, device = self.experiment.config.training, torch.device("cpu")
        return TrainingBatches(
            self.cache, self.labeled, training, RoundSeed(0, 0), with_masks=False, device=device, frozen=frozen
        )

    def _fitted(self, detector: Any, *, frozen: bool) -> FittedTorchDetector:
        return FittedTorchDetector(
            detector,
            self.cache.source,
            self.cache,
            self.experiment.splits.train.dataset.class_names,
            gives=self.experiment.detector.gives,
            batch_size=self.experiment.config.training.batch_size,
            device=torch.device("cpu"),
            frozen=self._frozen(detector) if frozen else None,
        )

    def train(self) -> None:
        """Train as a round does."""
        detector = self.experiment.new_detector(0)
        train(
            detector,
            SupervisedObjective(detector, self._batches(self._frozen(detector))),
            self.experiment.config.training,
            steps=self.steps,
            seed=RoundSeed(0, 0),
            device=torch.device("cpu"),
            store=NoCheckpoints(),
            progress=lambda *_: None,
        )

    def train_bare(self) -> None:
        """Train as torchvision's documentation does."""
        module = as_torchvision(self.experiment.new_detector(0).module).train()
        optimizer = make_optimizer(module, self.experiment.config.training)
        two_stage = "roi_heads" in dict(module.named_children())
        for images, targets in self.memory:
            given = [{**target, "labels": target["labels"] + two_stage} for target in targets]
            loss = sum(module(images, given).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def scoring(self) -> tuple[Callable[[], object], Callable[[], object]]:
        """Return own scoring, which makes its copy of the network each time, and that of the bare loop."""
        detector = self.experiment.new_detector(0)
        module = as_torchvision(self.experiment.new_detector(0).module).eval()

        def bare() -> None:
            with torch.no_grad():
                for images in self.images:
                    module(images)

        return lambda: self._fitted(detector, frozen=True).detections(self.scored), bare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=["bccd_fcos", "bccd_faster_rcnn"])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=4)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {options.threads or os.cpu_count()} threads, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.configs:
            for stages, target in ((None, 1.6), (0, 3.0)):
                sets = [f"training.threads={options.threads}"]
                sets += [] if stages is None else [f"detector.trainable_stages={stages}"]
                setting = Setting(name, Path(folder), options.steps, sets)
                setting.train()  # earlier rounds have filled the cache
                mine, peer = best(setting.train, setting.train_bare, repetitions=options.repetitions)
                what = f"{name}, {'as configured' if stages is None else f'trainable_stages: {stages}'}"
                images = options.steps * setting.experiment.config.training.batch_size
                report("training", what, mine, peer, images, target)
                if stages is None:
                    own, bare = setting.scoring()
                    own()
                    mine, peer = best(own, bare, repetitions=options.repetitions)
                    report("scoring", what, mine, peer, SCORED, 2.0)


def report(part: str, what: str, mine: float, peer: float, images: int, target: float) -> None:
    text = f"{what}: {images / mine:.1f} images/s, bare torchvision loop {images / peer:.1f}"
    line(part, text, peer / mine, f">= {target}", met=peer / mine >= target)


if __name__ == "__main__":
    main()
