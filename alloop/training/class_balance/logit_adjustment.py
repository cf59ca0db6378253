"""Logit adjustment after the training (Menon et al., Long-tail learning via logit adjustment, ICLR 2021, section 4.1).

A softmax that was trained by cross entropy gives p(c | x), which is proportional to p(x | c) pi_c. Predicting with

    z_c - tau log pi_c

takes the share pi_c of class c in the training out again. The last layer is linear, so its bias can do it:

    b_c <- b_c - tau log(K pi_c),   K the number of classes with a box

The factor K leaves a class of average frequency, and so equal classes, as they are. Two cases are not in the paper. The
background keeps its bias: its share of the sampled regions is a setting of the sampler and no frequency. A class
without a box keeps its bias, too: -log 0 would be infinite, and the detector has not learned what the class looks like.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64

from alloop.detectors.region_protocol import BalancedDetector
from alloop.training.class_balance.classification_layer import class_rows, classification_layer


def logit_shifts(boxes: Int64[np.ndarray, " k"], tau: float) -> Float[np.ndarray, " k"]:
    """Return -tau log(K pi_c) for each class; 0 for a class without a box.

    Args:
        boxes: number of training boxes of each class.
        tau: strength of the adjustment.
    """
    present = boxes > 0
    if not present.any():
        return np.zeros(len(boxes))
    relative = present.sum() * boxes / boxes.sum()  # K pi
    return -tau * np.log(np.where(present, relative, 1.0))


@torch.no_grad()
def adjust_logits(detector: BalancedDetector, boxes: Int64[np.ndarray, " k"], tau: float) -> None:
    """Subtract tau log(K pi_c) from the logits of a trained detector, in place. Call it once, after the training.

    Args:
        detector: its logits are read by a softmax.
        boxes: number of training boxes of each class, repeated images counted as often as an epoch shows them.
        tau: strength of the adjustment.
    """
    bias = classification_layer(detector).bias
    shifts = torch.from_numpy(logit_shifts(boxes, tau)).to(bias)
    bias[class_rows(detector)] += shifts
