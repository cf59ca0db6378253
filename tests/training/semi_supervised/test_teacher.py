"""The teacher is the average of the student's weights."""

import torch

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
    average.update(detector.module, 100)
    after = objective.teacher._detector.module.state_dict()
    assert all(torch.equal(after[k], average.tensors[k]) for k in after)
    moved = [k for k, _ in detector.module.named_parameters()]
    assert all(torch.allclose(after[k], before[k] + 0.5, atol=1e-5) for k in moved)
    assert not any(p.requires_grad for p in objective.teacher._detector.module.parameters())
