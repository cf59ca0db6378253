"""Train the weights of `tiny_digits.safetensors`: `python benchmarks/pretrain_tiny.py OUT.safetensors`.

Trains the tiny FCOS on scenes of the 400 handwritten originals that no split of `digit_scenes` uses,
all classes alike, and keeps the backbone. About 15 minutes on one CPU core, deterministic.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save

from alloop.config.training import TrainingConfig
from alloop.data.digits import DigitScenes, digit_scenes
from alloop.data.pixels import PixelCache
from alloop.detectors.seeding import seeded
from alloop.detectors.torchvision.catalogue import FCOS
from alloop.files import atomic_write
from alloop.progress import Progress
from alloop.randomness import RoundSeed
from alloop.training.batches import TrainingBatches
from alloop.training.checkpoints import NoCheckpoints
from alloop.training.supervised import SupervisedObjective, train

SCENES = 12_000
STEPS = 10_000


def pretrain(scenes_count: int = SCENES, steps: int = STEPS, progress: Progress | None = None) -> bytes:
    """Return the backbone's weights as safetensors."""
    progress = progress or Progress()
    scenes = digit_scenes(DigitScenes(imbalance=1.0, duplicates=0.0), "pretrain", scenes_count)
    plugin = FCOS(backbone="tiny", weights="none", channels=64, tower_convs=1, short_side=64, long_side=64)
    training = TrainingConfig(
        optimizer="adamw",
        lr=3e-3,
        weight_decay=1e-3,
        batch_size=32,
        iterations=steps,
        warmup_iterations=100,
        schedule="cosine",
        ema=0.995,
        flip=0.0,
        checkpoint_seconds=1e9,
    )
    device = torch.device("cpu")
    with seeded(0):
        detector = plugin.build(classes=10)
    labeled = scenes.dataset.annotations
    cache = PixelCache(scenes.images, 64, 64)
    batches = TrainingBatches(
        cache,
        labeled,
        training,
        RoundSeed(0, 0),
        with_masks=False,
        device=device,
    )
    train(
        detector,
        SupervisedObjective(detector, batches),
        training,
        steps=steps,
        seed=RoundSeed(0, 0),
        device=device,
        store=NoCheckpoints(),
        progress=lambda step, loss: progress.step("pretraining", step, steps, f"loss {loss:.3f}"),
    )
    state = detector.module.get_submodule("backbone").state_dict()
    return save({name: tensor.contiguous() for name, tensor in state.items() if "num_batches" not in name})


if __name__ == "__main__":
    torch.set_num_threads(1)
    atomic_write(Path(sys.argv[1]), pretrain())
