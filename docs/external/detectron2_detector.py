"""A detector of detectron2 in a round of alloop. Nobody has run this program here: see docs/external_detector.md.

    detector:
      name: external
      command: python docs/external/detectron2_detector.py {ask} {tell} {work} --config COCO-Detection/NAME.yaml

The config is one of detectron2's model zoo, with its published weights. The learning rate and the length are those of
the options, since the zoo's are made for the whole of COCO.
"""

import argparse
from pathlib import Path

import cv2
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultPredictor, DefaultTrainer
from exchange import Ask, Box, Image, Tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("ask", "tell", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--config", default="COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    ask, tell = Ask(options.ask), Tell(options.tell)
    config = training_config(ask, options)
    trainer = DefaultTrainer(config)
    trainer.resume_or_load(resume=False)
    trainer.train()
    config.MODEL.WEIGHTS = str(options.work / "model_final.pth")
    config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = config.MODEL.RETINANET.SCORE_THRESH_TEST = 0.01
    predictor = DefaultPredictor(config)
    for name in ask.predicted:
        for image in ask.images(name):
            tell.add(name, image, found(predictor, image))
    tell.close(ask)


def training_config(ask: Ask, options: argparse.Namespace) -> CfgNode:
    """Return the config with the labeled images as its data and the classes of the round."""
    folder = ask.manifest["image_folders"]["labeled"]
    register_coco_instances("labeled", {}, str(options.ask / "labeled.json"), folder)
    config = get_cfg()
    config.merge_from_file(model_zoo.get_config_file(options.config))
    config.MODEL.WEIGHTS, config.MODEL.DEVICE = model_zoo.get_checkpoint_url(options.config), options.device
    config.MODEL.ROI_HEADS.NUM_CLASSES = config.MODEL.RETINANET.NUM_CLASSES = len(ask.classes)
    config.DATASETS.TRAIN, config.DATASETS.TEST = ("labeled",), ()
    config.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False  # an empty image was looked at, and says where nothing is
    config.SOLVER.IMS_PER_BATCH, config.SOLVER.BASE_LR = options.batch, options.lr
    config.SOLVER.MAX_ITER, config.SOLVER.STEPS = options.steps, (options.steps * 2 // 3, options.steps * 11 // 12)
    config.SEED, config.OUTPUT_DIR = ask.random_seed, str(options.work)
    return config


def found(predictor: DefaultPredictor, image: Image) -> list[Box]:
    """Return the detections of an image, which the predictor reads as blue, green, red."""
    instances = predictor(cv2.imread(str(image.path)))["instances"].to("cpu")
    boxes = instances.pred_boxes.tensor.tolist()
    rows = zip(boxes, instances.pred_classes.tolist(), instances.scores.tolist(), strict=True)
    return [Box(label, (x1, y1, x2 - x1, y2 - y1), score) for (x1, y1, x2, y2), label, score in rows]


if __name__ == "__main__":
    main()
