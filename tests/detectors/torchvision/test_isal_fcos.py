"""The FCOS that ISAL was measured on, against slow implementations that loop over locations and boxes."""

import math

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from alloop.config import parse_config
from alloop.detectors.seeding import seeded
from alloop.detectors.torchvision.catalogue import FCOS
from alloop.detectors.torchvision.isal_fcos import LARGEST_DISTANCE, CellCentres, iou_loss, matched_boxes
from alloop.training.supervised import SupervisedObjective
from tests.support import small_tree
from tests.support.detectors import chosen, confident, make
from tests.support.training import MemoryStore, batches_of, experiment, trained_weights

STRIDES = (8, 16, 32)
BOUNDS = ((0, 64), (64, 128), (128, math.inf))


def centres(level, rows, columns):
    side = STRIDES[level]
    return [((column + 0.5) * side, (row + 0.5) * side) for row in range(rows) for column in range(columns)]


def sides(x, y, box):
    return x - box[0], y - box[1], box[2] - x, box[3] - y


def match(level, x, y, boxes):
    """The row of the smallest box that a location is positive for."""
    found = None
    for row, box in enumerate(boxes):
        distances = sides(x, y, box)
        area = (box[2] - box[0]) * (box[3] - box[1])
        low, high = BOUNDS[level]
        if min(distances) > 0 and low <= max(distances) <= high and (found is None or area < found[0]):
            found = area, row
    return -1 if found is None else found[1]


def overlap(a, b):
    """The intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def levels_of(pixels):
    """Return the cells of each level of an image as boxes, and their numbers."""
    grids = [(pixels[0] // side, pixels[1] // side) for side in STRIDES]
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    cells = CellCentres(tuple((side,) for side in STRIDES), ((1.0,),) * 3)
    located = cells(ImageList(torch.zeros(1, 3, *pixels), [pixels]), maps)[0]
    return located, [rows * columns for rows, columns in grids], grids


def test_locations_are_the_centres_of_the_cells():
    located, _, grids = levels_of((96, 160))
    middle = ((located[:, :2] + located[:, 2:]) / 2).tolist()
    assert middle == [list(xy) for level, grid in enumerate(grids) for xy in centres(level, *grid)]
    assert (located[:, 2] - located[:, 0]).unique().tolist() == [*STRIDES]
    cells = CellCentres(((128,),), ((1.0,),))  # 800 pixels have 7 rows of 128, of which the last reaches beyond
    rows = cells(ImageList(torch.zeros(1, 3, 800, 800), [(800, 800)]), [torch.zeros(1, 1, 7, 7)])[0][::7, 1]
    assert rows.tolist() == [128.0 * row for row in range(7)]


@pytest.mark.parametrize("seed", range(4))
def test_matching_is_that_of_a_loop_over_locations_and_boxes(seed):
    """The corners lie on multiples of 4 pixels, so distances meet the bounds of levels and sides of boxes exactly."""
    located, counts, grids = levels_of((192, 320))
    corners = np.random.default_rng(seed).integers(0, (80, 48), (12, 2, 2)) * 4.0
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)  # some may have no area
    expected = [match(k, x, y, boxes.tolist()) for k, grid in enumerate(grids) for x, y in centres(k, *grid)]
    found = matched_boxes(located, torch.tensor(boxes, dtype=torch.float32), counts).tolist()
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    assert [row < 0 for row in found] == [row < 0 for row in expected]
    assert [areas[row] for row in found if row >= 0] == [areas[row] for row in expected if row >= 0]
    assert len(set(found)) > 5


def test_every_location_in_a_box_is_positive_and_one_at_a_bound_on_both_levels():
    located, counts, _ = levels_of((192, 320))
    whole = matched_boxes(located, torch.tensor([[40.0, 40, 104, 104]]), counts)[: counts[0]].reshape(24, 40) == 0
    assert whole[5:13, 5:13].all()
    assert int(whole.sum()) == 64, "up to its corners, without sampling of centres"
    exact = matched_boxes(located, torch.tensor([[4.0, 4, 76, 76]]), counts)
    assert exact[40 + 1] == 0, "(12, 12) of stride 8 has its farthest sides at 64 pixels"
    exact = matched_boxes(located, torch.tensor([[0.0, 0, 72, 72]]), counts)
    assert exact[counts[0]] == 0, "and so has (8, 8) of stride 16"
    far = matched_boxes(located, torch.tensor([[0.0, 0, 320, 192]]), counts)[-counts[-1] :]
    assert (far == 0).all(), "the last level has no upper bound: (16, 16) of stride 32 has a side at 304 pixels"
    assert (matched_boxes(located, torch.zeros(0, 4), counts) == -1).all()


def test_the_iou_loss_is_minus_the_logarithm_of_the_overlap():
    chance = np.random.default_rng(0)
    middle, spans = chance.uniform(20, 80, (50, 1, 2)), chance.uniform(1, 30, (50, 2, 4))
    ends = np.concatenate([middle - spans[..., :2], middle + spans[..., 2:]], axis=2)  # [50, 2, 4], around one point
    found = iou_loss(*torch.tensor(ends).unbind(dim=1))
    assert found.tolist() == pytest.approx([-math.log(overlap(a, b)) for a, b in ends.tolist()])
    assert iou_loss(torch.tensor(ends[:, 0]), torch.tensor(ends[:, 0])).abs().max() < 1e-12
    apart = torch.tensor([[0.0, 0, 1, 1]], requires_grad=True)
    floor = iou_loss(apart, torch.tensor([[5.0, 5, 6, 6]]))
    assert floor.item() == pytest.approx(-math.log(1e-6), rel=1e-5)
    floor.sum().backward()
    assert torch.equal(apart.grad, torch.zeros(1, 4))


def scene(dtype=torch.float64):
    """Three images; the second has no box, the third a box around one location alone."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 96, 160, generator=generator, dtype=dtype) for _ in range(3)]
    boxes = [[[4.0, 4, 30, 30], [10, 8, 96, 92], [0, 0, 160, 96]], [], [[8.0, 17, 14, 22]]]
    labels = [[1, 2, 0], [], [0]]
    pairs = zip(boxes, labels, strict=True)
    return images, [
        {"boxes": torch.tensor(b, dtype=dtype).reshape(-1, 4), "labels": torch.tensor(k, dtype=torch.int64)}
        for b, k in pairs
    ]


def network(dtype=torch.float64):
    """A network with three levels whose distances are of the order of the boxes."""
    detector = make("fcos_isal", "mobilenet_v3_small", tower_convs=2)
    head = detector.module.head
    torch.nn.init.constant_(head.regression_head.bbox_reg.bias, 2.5)
    with torch.no_grad():
        head.scales.copy_(torch.tensor([0.9, 1.1, 1.3]))
    for layer in (
        head.classification_head.cls_logits,
        head.regression_head.bbox_reg,
        head.regression_head.bbox_ctrness,
    ):
        layer.weight.data.mul_(30)
    detector.module.to(dtype).eval()
    return detector


def slow_losses(detector, images, targets):
    """The terms of a batch in mmdetection's normalisation, location by location."""
    module = detector.module
    head = module.head
    batch, _ = module.transform(images)
    focal, boxes, cross, weights, positives = 0.0, 0.0, 0.0, 0.0, 0
    for level, features in enumerate(module.backbone(batch.tensors).values()):
        tower = head.classification_head.conv(features)
        logits = head.classification_head.cls_logits(tower)
        centerness = head.regression_head.bbox_ctrness(tower)
        distances = torch.exp(head.scales[level] * head.regression_head.bbox_reg(head.regression_head.conv(features)))
        parts = [part.flatten(2).transpose(1, 2).tolist() for part in (logits, centerness, distances)]
        for image, target in enumerate(targets):
            for cell, (x, y) in enumerate(centres(level, *features.shape[-2:])):
                row = match(level, x, y, target["boxes"].tolist())
                for label, logit in enumerate(parts[0][image][cell]):
                    p = sigmoid(logit)
                    own = row >= 0 and int(target["labels"][row]) == label
                    focal -= 0.25 * (1 - p) ** 2 * math.log(p) if own else 0.75 * p**2 * math.log(1 - p)
                if row < 0:
                    continue
                box = target["boxes"][row].tolist()
                left, top, right, bottom = sides(x, y, box)
                c = math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
                a, b, d, e = parts[2][image][cell]
                p = sigmoid(parts[1][image][cell][0])
                boxes -= c * math.log(overlap((x - a, y - b, x + d, y + e), box))
                cross -= c * math.log(p) + (1 - c) * math.log(1 - p)
                weights, positives = weights + c, positives + 1
    return {
        "classification": focal / (positives + len(images)),
        "bbox_regression": boxes / weights if positives else 0.0,
        "bbox_ctrness": cross / positives if positives else 0.0,
    }


@pytest.mark.parametrize("rows", [[0, 1, 2], [0], [1], [2]], ids=["batch", "many", "empty", "one location"])
def test_the_loss_of_a_batch_is_that_of_a_loop_over_locations(rows):
    detector, (images, targets) = network(), scene()
    images, targets = [images[row] for row in rows], [targets[row] for row in rows]
    with torch.no_grad():
        found = {name: term.sum().item() for name, term in detector.losses(images, targets).items()}
    assert found == pytest.approx(slow_losses(detector, images, targets), rel=1e-9)


def test_the_loss_of_an_image_in_cached_features_is_that_of_a_batch_of_it_alone():
    detector, (images, targets) = network(), scene()
    weights = {name: detector.module.get_parameter(name).detach() for name in detector.last_layers}
    assert len(weights) == 3, "classes, boxes and centerness, under the names of torchvision's FCOS"
    found = detector.cached_features(images).losses(targets, [0, 0, 0])(weights)
    pairs = zip(images, targets, strict=True)
    assert found.tolist() == pytest.approx([sum(slow_losses(detector, [i], [t]).values()) for i, t in pairs])


def test_a_doubted_label_weighs_its_box_and_centerness_but_not_what_they_are_divided_by():
    detector, (images, targets) = network(), scene()
    with torch.no_grad():
        sure = detector.losses(images, targets)
        for target in targets:
            target["posteriors"] = 0.25 * torch.nn.functional.one_hot(target["labels"], 3).double()
        doubted = detector.losses(images, targets)
    for term in ("bbox_regression", "bbox_ctrness"):
        assert torch.allclose(doubted[term], 0.25 * sure[term])
    assert not torch.allclose(doubted["classification"], sure["classification"])


def test_a_detection_has_nothing_to_learn_from_itself():
    """Where a box is the prediction of its location, the logarithm of the overlap has a kink."""
    detector, images = confident("fcos_isal"), [torch.rand(3, 64, 96)]
    bias = detector.module.head.regression_head.bbox_reg.bias
    torch.nn.init.constant_(bias, math.log(1.5))  # boxes of 3 pixels, which hold one centre of a cell of 4 pixels each
    found = detector.detect(images)[0]
    target = {"boxes": found["boxes"][:1], "labels": found["labels"][:1]}
    slopes = []
    for own in (False, True):
        loss = detector.losses(images, [{**target, "is_prediction": own}])["bbox_regression"]
        slopes.append(torch.autograd.grad(loss.sum(), bias)[0].abs().max().item())
    assert slopes[0] > 0.01
    assert slopes[1] == 0


def outputs_with(detector, part):
    """Return the outputs of the head before and after one tower is changed."""
    head = detector.module.head
    maps = [torch.rand(1, 32, 4, 6, dtype=torch.float64) for _ in STRIDES]
    with torch.no_grad():
        before = head(maps)
        getattr(head, part).conv[0].weight.mul_(3)
        return before, head(maps)


def test_centerness_comes_from_the_tower_of_the_classes():
    before, after = outputs_with(network(), "classification_head")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"cls_logits", "bbox_ctrness"}
    before, after = outputs_with(network(), "regression_head")
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"bbox_regression"}


def test_towers_have_convolutions_with_biases_and_nothing_else_to_learn():
    head = make("fcos_isal", tower_convs=4).module.head
    for tower in (head.classification_head.conv, head.regression_head.conv):
        assert [name for name, _ in tower.named_parameters()] == [
            f"{3 * k}.{n}" for k in range(4) for n in ("weight", "bias")
        ]
    assert head.scales.tolist() == [1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_distances_are_exponentials_with_one_scale_per_level_and_never_infinite(dtype):
    head = network(torch.float32).module.head
    levels = [torch.tensor([-20.0, 0, 1, 3, 9, 60_000]).to(dtype).reshape(1, 6, 1).expand(1, 6, 4) for _ in STRIDES]
    with torch.no_grad():
        found = head.box_outputs(levels)
    for scale, distances in zip((0.9, 1.1, 1.3), found, strict=True):
        assert distances.dtype == torch.promote_types(dtype, torch.float32)
        exact = [min(math.exp(min(scale * z, 100)), LARGEST_DISTANCE) for z in (-20, 0, 1, 3, 9, 60_000)]
        assert distances[0, :, 0].tolist() == pytest.approx(exact, rel=1e-5)


def test_wild_weights_give_finite_losses_gradients_and_detections():
    for bias in (-1e4, 1e4):
        detector, (images, targets) = network(torch.float32), scene(torch.float32)
        torch.nn.init.constant_(detector.module.head.regression_head.bbox_reg.bias, bias)
        loss = sum(term.sum() for term in detector.losses(images, targets).values())
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in detector.module.parameters() if p.grad is not None)
        assert all(torch.isfinite(found["boxes"]).all() for found in detector.detect(images))


@pytest.mark.parametrize(("rows", "learning"), [([0, 1, 2], [True, True, True]), ([2], [True, False, False])])
def test_a_scale_learns_from_the_boxes_of_its_level(rows, learning):
    detector, (images, targets) = network(), scene()
    losses = detector.losses([images[row] for row in rows], [targets[row] for row in rows])
    losses["bbox_regression"].sum().backward()
    assert (detector.module.head.scales.grad != 0).tolist() == learning


def test_detections_lie_at_their_distances_from_a_centre_of_a_cell():
    detector, image = network(), scene()[0][0]
    torch.nn.init.constant_(detector.module.head.classification_head.cls_logits.bias, 0)
    batch, _ = detector.module.transform([image])
    maps = list(detector.module.backbone(batch.tensors).values())
    with torch.no_grad():
        outputs = {name: values[0].tolist() for name, values in detector.module.head(maps).items()}
        found = detector.detect([image])[0]
    places = [xy for level, features in enumerate(maps) for xy in centres(level, *features.shape[-2:])]
    parts = (outputs[name] for name in ("bbox_regression", "cls_logits", "bbox_ctrness"))
    expected = {}
    for (x, y), (a, b, c, d), logits, (centre,) in zip(places, *parts, strict=True):
        box = max(x - a, 0), max(y - b, 0), min(x + c, 160), min(y + d, 96)
        for label, logit in enumerate(logits):
            expected[round(sigmoid(logit) * sigmoid(centre), 9)] = (*box, label)
    assert len(found["boxes"]) > 5
    for box, score, label in zip(
        found["boxes"].tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True
    ):
        assert (*box, label) == pytest.approx(expected[round(score, 9)], abs=1e-6)


def test_a_short_training_lowers_every_term():
    made = experiment(**chosen("fcos_isal"), **{"training.lr": 0.003})
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:8])
    detector = made.new_detector(0)
    images, targets, _ = batches_of(made, labeled)(0)

    def measured():
        with torch.no_grad(), seeded(0):
            return {name: term.sum().item() for name, term in detector.losses(images, targets).items()}

    before = measured()
    objective = SupervisedObjective(detector, batches_of(made, labeled))
    detector.module.load_state_dict(trained_weights(made, detector, objective, MemoryStore(), 30))
    after = measured()
    assert after["bbox_regression"] < 0.7 * before["bbox_regression"]
    assert sum(after.values()) < 0.7 * sum(before.values())


def test_a_config_without_the_key_means_torchvision_s_fcos():
    block = parse_config(small_tree()).detector
    assert block.parameters["variant"] == "torchvision"
    assert FCOS() == FCOS(variant="torchvision")
    assert not hasattr(make("fcos").module.head, "scales")
    assert parse_config(small_tree(**chosen("fcos_isal"))).detector.make().variant == "isal"
