"""A detector of MMDetection in a round of alloop. Nobody has run this program here: see docs/external_detector.md.

    detector:
      name: external
      command: python docs/external/mmdetection_detector.py {ask} {tell} {work} --config CONFIG.py --weights FILE.pth

MMDetection reads COCO files, and `ask/labeled.json` is one.
"""

import argparse
from pathlib import Path

from exchange import Ask, Box, Image, Tell
from mmdet.apis import inference_detector, init_detector
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.runner import Runner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("ask", "tell", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--config", type=Path, required=True, help="a config of MMDetection")
    parser.add_argument("--weights", help="weights to start from")
    parser.add_argument("--device", default="cuda:0")
    options = parser.parse_args()
    ask, tell = Ask(options.ask), Tell(options.tell)
    register_all_modules()
    config = training_config(ask, options)
    Runner.from_cfg(config).train()
    model = init_detector(config, str(last_checkpoint(options.work)), device=options.device)
    for name in ask.predicted:
        for image in ask.images(name):
            tell.add(name, image, found(model, image))
    tell.close(ask)


def training_config(ask: Ask, options: argparse.Namespace) -> Config:
    """Return the config with the labeled images as its data, the classes of the round, and no evaluation."""
    config = Config.fromfile(options.config)
    config.work_dir, config.load_from = str(options.work), options.weights
    config.randomness = {"seed": ask.random_seed}
    data = config.train_dataloader.dataset
    data = data.dataset if "dataset" in data else data
    data.update(
        data_root="",
        ann_file=str((options.ask / "labeled.json").resolve()),
        data_prefix={"img": ask.manifest["image_folders"]["labeled"]},
        metainfo={"classes": tuple(ask.classes)},
    )
    for head in heads(config.model):
        head.num_classes = len(ask.classes)
    for key in ("val_dataloader", "val_evaluator", "val_cfg", "test_dataloader", "test_evaluator", "test_cfg"):
        config[key] = None
    return config


def heads(model: Config) -> list[Config]:
    """Return the parts of a model that predict classes."""
    parts = [model[key] for key in ("bbox_head",) if key in model]
    in_stages = model.get("roi_head", {}).get("bbox_head", [])
    return parts + (in_stages if isinstance(in_stages, list) else [in_stages])


def last_checkpoint(work: Path) -> Path:
    """Return the checkpoint that the runner wrote last."""
    return Path((work / "last_checkpoint").read_text().strip())


def found(model: object, image: Image) -> list[Box]:
    """Return the detections of an image."""
    instances = inference_detector(model, str(image.path)).pred_instances.cpu()
    rows = zip(instances.bboxes.tolist(), instances.labels.tolist(), instances.scores.tolist(), strict=True)
    return [Box(label, (x1, y1, x2 - x1, y2 - y1), score) for (x1, y1, x2, y2), label, score in rows]


if __name__ == "__main__":
    main()
