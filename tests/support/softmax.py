"""A detector whose losses, gradients and curvature are those of softmax regression."""

import json
from pathlib import Path

import numpy as np
import torch

from alloop.testing import FakeDetector


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


def golden_detector():
    case = json.loads(GOLDEN.read_text())["cases"][0]
    ids = range(len(case["X"]))
    return case, Softmax(case["W"], dict(zip(ids, case["X"], strict=True)), dict(zip(ids, case["Y"], strict=True)))
