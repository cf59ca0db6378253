"""A detector whose losses, gradients and curvature are those of softmax regression."""

import json
from pathlib import Path

import numpy as np
import torch

from alloop.class_values import ClassLabel
from alloop.data.images import MemoryImages
from alloop.data.pixels import PixelCache
from alloop.detectors.classification.classifier import ImageClassifier
from alloop.detectors.classification.fitted import FittedTorchClassifier
from alloop.detectors.classification.networks import StagedClassifier
from alloop.query import Need
from alloop.testing import FakeDetector
from alloop.values import ImageId, ImageRecord


class Softmax(FakeDetector):
    """Softmax regression whose images are rows of X: losses, gradients and curvature are the textbook's."""

    def __init__(self, weight, rows, labels, ridge=0.0):
        super().__init__()
        self.weight = torch.tensor(np.asarray(weight), dtype=torch.float64)
        self.rows = {i: torch.as_tensor(row, dtype=torch.float64) for i, row in rows.items()}
        self.labels = {i: torch.tensor([int(label)]) for i, label in labels.items()}
        self.ridge = ridge

    def loss(self, weight, image_ids, labels=None):
        """Mean over the images."""
        logits = torch.stack([self.rows[i] for i in image_ids]) @ weight.T
        labels = torch.cat([self.labels[i] for i in image_ids]) if labels is None else labels
        return torch.nn.functional.cross_entropy(logits, labels) + 0.5 * self.ridge * (weight**2).sum()

    def gradient(self, image_id, label=None):
        return torch.func.grad(lambda w: self.loss(w, [image_id], label))(self.weight).numpy()

    def loss_gradient(self, image_ids, annotations):
        return {"weight": np.sum([self.gradient(i) for i in image_ids], axis=0)}

    def curvature_product(self, image_ids, annotations, vector):
        slope = torch.func.grad(lambda x: len(image_ids) * self.loss(x, image_ids))
        tangent = torch.as_tensor(vector["weight"])
        return {"weight": torch.func.jvp(slope, (self.weight,), (tangent,))[1].numpy()}

    def pseudo_label_slopes(self, image_ids, direction, score_threshold, labels):
        slopes = [float((self.gradient(i) * direction["weight"]).sum()) for i in image_ids]
        return np.array(slopes), np.ones(len(image_ids))


GOLDEN = Path(__file__).parents[1] / "golden" / "isal_stest.json"


class LinearNetwork(StagedClassifier):
    """One linear layer over the numbers of an image, as a network that `ImageClassifier` takes."""

    def __init__(self, weight):
        classes, features = np.shape(weight)
        super().__init__(torch.nn.Identity(), [torch.nn.Identity()], [features], classes)
        self.head = torch.nn.Linear(features, classes, bias=False, dtype=torch.float64)
        self.head.weight.data = torch.tensor(weight)

    def batch(self, images):
        return torch.stack(list(images))

    def forward(self, images):
        return self.head(images.flatten(1))


def padded(rows):
    """Return rows with zeros behind them, so that each can be an image of three channels."""
    rows = np.asarray(rows, dtype=np.float64)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 3)))


class RowsAsImages(FittedTorchClassifier):
    """The real classifier path over rows of numbers, which no file of pixels could hold."""

    def __init__(self, case):
        records = {i: ImageRecord(ImageId(i), "", 1, 1) for i in range(len(case["X"]))}
        source = MemoryImages({}, records)
        network = ImageClassifier(LinearNetwork(padded(case["W"])))
        settings = {"gives": frozenset({Need.LAST_LAYERS}), "batch_size": 4, "device": torch.device("cpu")}
        super().__init__(network, source, PixelCache(source, 1, 1), ("a", "b", "c"), **settings)
        self.rows = torch.tensor(padded(case["X"]))

    def _pixels(self, image_ids):
        return [self.rows[image_id].reshape(3, 1, -1) for image_id in image_ids]


def golden_classifier():
    """Return the golden case, and the same as `golden_detector` by the classifier that alloop trains."""
    case = json.loads(GOLDEN.read_text())["cases"][0]
    truth = {ImageId(i): ClassLabel(int(label)) for i, label in enumerate(case["Y"])}
    return case, RowsAsImages(case), truth


def golden_detector():
    case = json.loads(GOLDEN.read_text())["cases"][0]
    ids = range(len(case["X"]))
    return case, Softmax(case["W"], dict(zip(ids, case["X"], strict=True)), dict(zip(ids, case["Y"], strict=True)))
