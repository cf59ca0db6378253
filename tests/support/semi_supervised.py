"""Trainings of a few steps with a teacher."""

import torch

from alloop.data.pixels import PixelCache
from alloop.randomness import RoundSeed
from alloop.training.batches import UnlabeledBatches
from alloop.training.semi_supervised.objective import SemiSupervisedObjective
from alloop.training.weights import WeightAverage
from tests.support.training import batches_of, experiment, trained_weights

ALL = {"gradient_balance": True, "class_thresholds": True, "resampling": True}


EAGER = {"unlabeled_ratio": 1, "threshold": 0.06, "warm_up": 0.1, "refresh": 0.2, "variance": 1.0}


def semi(**changes):
    return {"detector.name": "faster_rcnn", "training.batch_size": 3, "training.semi_supervised": {**EAGER, **changes}}


def objective_of(made, detector, labeled, steps, truth=None, flip=0.5):
    pool, config = made.splits.train, made.config.training
    unlabeled = sorted(pool.images.records.keys() - labeled.keys())
    return SemiSupervisedObjective(
        detector,
        made.new_detector(0),
        batches_of(made, labeled),
        UnlabeledBatches(
            PixelCache(pool.images, 64, 64),
            unlabeled,
            RoundSeed(0, 0),
            batch_size=config.semi_supervised.unlabeled_ratio * config.batch_size,
            device=torch.device("cpu"),
        ),
        config.model_copy(update={"flip": flip}),
        classes=10,
        steps=steps,
        device=torch.device("cpu"),
        classification_terms=made.detector.classification_terms,
        truth=truth,
    )


def trained(made, store, steps=6, truth=None):
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:10])
    detector = made.new_detector(0)
    objective = objective_of(made, detector, labeled, steps, truth)
    return trained_weights(made, detector, objective, store, steps), objective


class Spying:
    """A student that keeps the arguments of its last call."""

    def __init__(self, detector):
        self.detector, self.calls = detector, None

    def __getattr__(self, name):
        return getattr(self.__dict__["detector"], name)

    def pseudo_label_losses(self, images, pseudo, background):
        regions = [torch.tensor([[1.0, 2.0, 20.0, 30.0]])] * len(images)
        self.calls = images, pseudo, background(regions)
        return {"loss_classifier": torch.ones(len(images))}


def spied(flip, **changes):
    made = experiment(**semi(strength=0.0, **changes))
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:10])
    student = Spying(made.new_detector(0))
    objective = objective_of(made, student, labeled, 10, flip=flip)
    objective.begin(WeightAverage(student.module, 0.5).tensors)
    student.module.train()
    return made, student, objective
