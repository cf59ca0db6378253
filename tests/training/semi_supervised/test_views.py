"""The views of teacher and student."""

import torch

from alloop.detectors.seeding import seeded
from alloop.training.semi_supervised.views import mirrored, strong_views


def test_two_views_of_one_image():
    images = [torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(k)) for k in range(40)]
    with seeded(5):
        views, flipped = strong_views(images, 0.5, 1.0)
    with seeded(5):
        again, _ = strong_views(images, 0.5, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
    assert {view.shape for view in views} == {(3, 32, 48)}
    assert all(0 <= float(view.min()) <= float(view.max()) <= 1 for view in views)
    assert 5 < sum(flipped) < 35
    assert sum(not torch.equal(v, i) for v, i in zip(views, images, strict=True)) > 35
    with seeded(5):
        plain, turned = strong_views(images, 0.5, 0.0)
    assert all(torch.equal(p, i.flip(-1) if t else i) for p, i, t in zip(plain, images, turned, strict=True))
    boxes = torch.tensor([[1.0, 2.0, 5.0, 9.0], [0.0, 0.0, 48.0, 32.0]])
    assert mirrored(boxes, 48).tolist() == [[43, 2, 47, 9], [0, 0, 48, 32]]
    assert torch.equal(mirrored(mirrored(boxes, 48), 48), boxes)
