"""Training: the order is a function of the step, going on equals never having stopped, NaN never trains."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.config.blocks import TrainingConfig
from alloop.errors import DataError, TrainingError
from alloop.geometry.masks import decode_mask
from alloop.randomness import RoundSeed
from alloop.training.batches import batch_rows, training_example
from alloop.training.repeat_factors import image_repeats
from alloop.training.schedule import lr_at, total_steps
from alloop.training.supervised import SupervisedObjective
from tests.support.training import MemoryStore, batches_of, experiment, trained_weights


def run_training(made, store, steps, labeled=None):
    labeled = labeled or dict(list(made.splits.train.dataset.annotations.items())[:10])
    detector = made.new_detector(0)
    batches = batches_of(made, labeled, masks="mask" in made.config.detector.name)
    return trained_weights(made, detector, SupervisedObjective(detector, batches), store, steps)


@pytest.mark.parametrize("name", ["fcos", "faster_rcnn", "retinanet", "mask_rcnn"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_going_on_from_any_checkpoint_is_bit_identical(name, optimizer):
    made = experiment(
        **{
            "detector.name": name,
            "training.optimizer": optimizer,
            "training.checkpoint_seconds": 0,
            "training.batch_size": 3,
        }
    )
    store = MemoryStore()
    straight = run_training(made, store, 5)
    assert [step for step, _ in store.saved] == [1, 2, 3, 4]
    for _, state in store.saved:
        resumed = run_training(made, MemoryStore(state), 5)
        assert all(torch.equal(straight[key], resumed[key]) for key in straight)


def test_states_kept_along_a_training_are_the_same_after_a_stop():
    made = experiment(**{"training.checkpoint_seconds": 0, "training.batch_size": 3})
    straight = MemoryStore(snapshot_steps=(2, 4))
    run_training(made, straight, 5)
    assert sorted(straight.kept) == [2, 4]
    assert straight.kept[2] != straight.kept[4]
    for done, state in straight.saved:
        resumed = MemoryStore(state, snapshot_steps=(2, 4))
        run_training(made, resumed, 5)
        assert resumed.kept == {step: straight.kept[step] for step in (2, 4) if step > done}


def test_another_seed_or_round_trains_another_model():
    made = experiment()
    first = run_training(made, MemoryStore(), 2)
    again = run_training(made, MemoryStore(), 2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = run_training(experiment(random_seed=1), MemoryStore(), 2)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_training_does_not_move_the_global_generator():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    run_training(experiment(**{"detector.name": "faster_rcnn"}), MemoryStore(), 2)
    assert torch.equal(before, torch.random.get_rng_state())


@settings(max_examples=50, deadline=None, derandomize=True)
@given(images=st.integers(1, 20), batch=st.integers(1, 9), seed=st.integers(0, 5))
def test_every_epoch_sees_every_image_once(images, batch, seed):
    steps = -(-3 * images // batch)
    stream = [row for step in range(steps) for row in batch_rows(RoundSeed(seed, 0), images, batch, step)]
    for epoch in range(3):
        assert sorted(stream[epoch * images : (epoch + 1) * images]) == list(range(images))
    assert batch_rows(RoundSeed(seed, 0), images, batch, steps - 1) == stream[-batch:]


def test_every_epoch_seed_and_round_has_its_own_order():
    orders = [tuple(batch_rows(RoundSeed(0, 0), 40, 40, epoch)) for epoch in range(3)]
    orders += [tuple(batch_rows(RoundSeed(1, 0), 40, 40, 0)), tuple(batch_rows(RoundSeed(0, 1), 40, 40, 0))]
    assert len(set(orders)) == 5


def test_a_loss_that_is_not_finite_stops_with_the_images_of_the_batch():
    made = experiment(
        **{"training.lr": 1e30, "training.clip_norm": None, "training.optimizer": "sgd", "training.iterations": 50}
    )
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:5])
    with pytest.raises(TrainingError, match="not finite") as error:
        run_training(made, MemoryStore(), 50, labeled)
    assert any(str(image_id) in str(error.value) for image_id in labeled)


def test_crowd_and_degenerate_records_are_not_trained_on():
    made = experiment()
    image_id, truth = next((i, a) for i, a in made.splits.train.dataset.annotations.items() if len(a) >= 2)
    import dataclasses

    half = dataclasses.replace(truth, trainable=np.arange(len(truth)) == 0, crowd=np.arange(len(truth)) > 0)
    batch = batches_of(made, {image_id: half})
    _, targets, ids = batch(0)
    assert set(ids) == {image_id}
    assert all(len(target["boxes"]) == 1 for target in targets)


def test_flip_and_scale_move_boxes_and_masks_with_the_pixels():
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[5:10, 2:12] = 255
    mask = (pixels[..., 0] > 0).astype(np.uint8)[None]
    boxes = np.array([[2, 5, 12, 10]], dtype=np.float32)
    for flipped in (False, True):
        out, moved, masks = training_example(pixels, boxes, mask, (80, 40), flipped=flipped)
        ys, xs = np.nonzero(out[..., 0] > 127)
        assert np.allclose(moved[0], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.5)
        ys, xs = np.nonzero(masks[0])
        assert np.allclose(moved[0], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.5)
    twice = training_example(*training_example(pixels, boxes, mask, (40, 20), flipped=True), (40, 20), flipped=True)
    assert np.array_equal(twice[0], pixels)
    assert np.array_equal(twice[1], boxes)


def test_multi_scale_draws_every_size_and_stays_below_the_limit():
    made = experiment()
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:4])
    batch = batches_of(made, labeled, short_sides=(32, 48, 64))
    sides = {int(image.shape[-1]) for step in range(10) for image in batch(step)[0]}
    assert sides == {32, 48, 64}


def test_the_shipped_backbone_comes_from_its_command():
    from pretrain_tiny import pretrain
    from safetensors.torch import load

    from alloop.detectors.torchvision.backbones import SHIPPED
    from alloop.progress import Progress

    made, shipped = load(pretrain(8, 2, Progress(quiet=True))), load(SHIPPED.read_bytes())
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in shipped.items()}
    assert SHIPPED.stat().st_size < 1_000_000


def test_schedule():
    config = TrainingConfig(
        iterations=100, lr=1.0, warmup_iterations=10, warmup_ratio=0.1, schedule="step", milestones=(0.5, 0.9)
    )
    assert lr_at(config, 0, 100) == pytest.approx(0.1)
    assert lr_at(config, 5, 100) == pytest.approx(0.55)
    assert [lr_at(config, s, 100) for s in (10, 49, 50, 90)] == pytest.approx([1.0, 1.0, 0.1, 0.01])
    cosine = TrainingConfig(iterations=100, lr=1.0, schedule="cosine")
    assert lr_at(cosine, 50, 100) == pytest.approx(0.5)
    assert total_steps(TrainingConfig(epochs=3, batch_size=8), 20) == 8
    assert total_steps(config, 20) == 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"size":[2,3],"counts":[1,2,3]}', [[0, 1, 0], [1, 0, 0]]),
        (b'{"size":[2,3],"counts":"123"}', [[0, 1, 0], [1, 0, 0]]),
        (b"[[0,0,2,0,2,1,0,1]]", [[1, 1, 1], [1, 1, 1]]),
    ],
)
def test_masks_are_decoded(text, expected):
    assert decode_mask(text, 3, 2, "x").tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        b'{"size":[3,2],"counts":[6]}',
        b'{"size":[2,3],"counts":[7]}',
        b'{"size":[2,3],"counts":[-1,7]}',
        b'{"size":[2,3],"counts":"\\u00ff"}',
        b'{"counts":[6]}',
        b"[[0,0,2]]",
        b"[[0,0,1e300,1,2,2]]",
        b'"x"',
        b"7",
    ],
)
def test_broken_masks_are_refused_with_their_place(text):
    with pytest.raises(DataError, match="image 9"):
        decode_mask(text, 3, 2, "image 9")


def test_packed_masks_equal_pycocotools():
    from pycocotools import mask as reference

    chance = np.random.default_rng(0)
    for _ in range(50):
        mask = np.asfortranarray((chance.random((17, 23)) < chance.random()).astype(np.uint8))
        packed = reference.encode(mask)["counts"].decode()
        import json

        text = json.dumps({"size": [17, 23], "counts": packed}).encode()
        assert np.array_equal(decode_mask(text, 23, 17, "x"), mask)


def test_images_of_rare_classes_are_repeated_in_the_stream():
    """Law: the stream shows each image as often as its repeat factor says; without a threshold, once."""
    made = experiment()
    labeled = dict(made.splits.train.dataset.annotations.items())
    labels = [labeled[i].labels[labeled[i].trainable] for i in sorted(labeled)]
    expected = image_repeats(labels, 10, 0.5)
    assert expected.max() > 1
    plain, repeated = batches_of(made, labeled), batches_of(made, labeled, repeat_threshold=0.5)
    assert plain.image_ids == sorted(labeled)
    assert repeated.image_ids == [i for i, times in zip(sorted(labeled), expected, strict=True) for _ in range(times)]
    size = made.config.training.batch_size
    shown = [i for step in range(-(-len(repeated.image_ids) // size)) for i in repeated(step)[2]]
    assert sorted(shown[: len(repeated.image_ids)]) == repeated.image_ids
