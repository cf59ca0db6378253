"""The teacher is the average of the student's weights."""

import pytest
import torch

from alloop.detectors.seeding import seeded
from alloop.training.semi_supervised.teacher import Teacher
from alloop.training.weights import WeightAverage
from tests.support.semi_supervised import objective_of, semi
from tests.support.training import experiment


def test_the_teacher_is_the_average_of_the_student_while_it_trains():
    made = experiment(**semi())
    detector = made.new_detector(0)
    objective = objective_of(made, detector, dict(list(made.splits.train.dataset.annotations.items())[:10]), 6)
    average = WeightAverage(detector.module, 0.5)
    objective.begin(average.tensors)
    before = {k: v.clone() for k, v in objective.teacher._detector.module.state_dict().items()}
    with torch.no_grad():
        for parameter in detector.module.parameters():
            parameter.add_(1.0)
    average.update(100)
    after = objective.teacher._detector.module.state_dict()
    assert all(torch.equal(after[k], average.tensors[k]) for k in after)
    moved = [k for k, _ in detector.module.named_parameters()]
    assert all(torch.allclose(after[k], before[k] + 0.5, atol=1e-5) for k in moved)
    assert not any(p.requires_grad for p in objective.teacher._detector.module.parameters())


class SteadyRegions:
    """Features with two confident detections; refining gives back the first box and scatters the second."""

    graph_bytes = 0

    def detections(self):
        boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 60.0]])
        return [{"boxes": boxes, "scores": torch.tensor([0.95, 0.94]), "labels": torch.tensor([1, 0])}]

    def losses(self, targets, seeds):
        raise NotImplementedError

    def classified_regions(self, boxes):
        (regions,) = boxes
        refined = regions[:, None].repeat(1, 2, 1)
        refined[regions[:, 0] < 20] = torch.tensor([0.0, 0.0, 20.0, 20.0])
        return [(torch.full((len(regions), 3), 1 / 3), refined)]


@pytest.mark.parametrize(("style", "reliable"), [("soft_teacher", [[0.0, 0.0, 20.0, 20.0]]), ("unbiased_teacher", [])])
def test_only_boxes_of_small_variance_are_regressed_and_only_by_soft_teacher(style, reliable):
    made = experiment(**semi(style=style, variance=0.02, jitter_scale=0.2))
    settings = made.config.training.semi_supervised
    teacher = Teacher(made.new_detector(0), settings, classes=2, device=torch.device("cpu"))
    with seeded(0):
        (pseudo,) = teacher.pseudo_boxes(SteadyRegions(), teacher.base_thresholds())
    assert pseudo.reliable.tolist() == reliable
    assert pseudo.labels.tolist() == [1, 0], "both are classified"
