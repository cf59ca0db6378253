"""The parts of `benchmarks/gpu.py` measure what they say, and a part that fails loses no figure of another."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from alloop.data.pixels import scaled_size
from strategies.k_center import k_center_greedy

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory, importable):
    import gpu_data

    folder = tmp_path_factory.mktemp("photographs")
    gpu_data.write_data(folder, gpu_data.QUICK)
    return folder


def test_photographs_are_the_same_each_time_and_their_boxes_lie_inside(data, tmp_path):
    import gpu_data

    gpu_data.write_data(tmp_path, gpu_data.QUICK)
    files = sorted(path.relative_to(data) for path in data.rglob("*") if path.suffix in (".jpg", ".json"))
    assert len(files) == gpu_data.QUICK.images + gpu_data.QUICK.held_out + 2
    assert all((data / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)
    tree = json.loads((data / "train.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in tree["images"]}
    for annotation in tree["annotations"]:
        left, top, width, height = annotation["bbox"]
        assert left >= 0
        assert top >= 0
        assert left + width <= sizes[annotation["image_id"]][0]
        assert top + height <= sizes[annotation["image_id"]][1]


def test_the_clock_counts_loading_as_waiting_and_nothing_else(monkeypatch):
    import gpu_peer

    moments = iter([0.0, 3.0, 10.0, 11.0, 20.0])  # begin and ready of two inputs, then the end
    monkeypatch.setattr(gpu_peer.time, "perf_counter", lambda: next(moments))
    clock = gpu_peer.Clock(CPU)
    assert [clock.waiting(lambda: 5), clock.waiting(lambda: 6)] == [5, 6]
    clock.stop()
    assert clock.inputs == 2
    assert clock.between(0) == (20.0, pytest.approx(4 / 20))
    assert clock.between(0, 1) == (10.0, pytest.approx(3 / 10))
    assert clock.between(1) == (10.0, pytest.approx(1 / 10))


@pytest.mark.parametrize("name", ["fcos", "faster_rcnn"])
def test_the_bare_model_has_the_weights_and_the_losses_of_alloops_on_images_of_the_final_size(data, name):
    import gpu_data
    import gpu_peer

    from alloop.detectors.seeding import seeded
    from alloop.loop.experiment import prepare
    from strategies import TABLE

    scale = gpu_data.QUICK
    experiment = prepare(gpu_data.photographs(data, scale, name, amp=False, device="cpu"), TABLE)
    detector = experiment.new_detector(0)
    bare = gpu_peer.bare_model(detector, name, scale)
    width, height = scaled_size(80, 60, scale.short_side, scale.long_side)
    images = [torch.rand(3, height, width, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    boxes = torch.tensor([[4.0, 4, 40, 50], [10, 10, 30, 30]])
    targets = [{"boxes": boxes, "labels": torch.tensor([3, 7])} for _ in images]
    with seeded(0), torch.no_grad():
        ours = detector.losses(images, targets)
    first = 1 if name == "faster_rcnn" else 0
    with seeded(0), torch.no_grad():
        theirs = bare.train()(images, [{**target, "labels": target["labels"] + first} for target in targets])
    for term, value in theirs.items():
        # torchvision's resizing draws a number for each image, so other anchors are sampled
        tolerance = 0.02 if term == "loss_objectness" else 1e-4
        assert float(ours[term].sum()) == pytest.approx(float(value), rel=tolerance)


def test_the_bare_loops_reader_gives_the_pixels_and_boxes_of_alloops(data):
    import gpu_data
    import gpu_peer

    from alloop.loop.experiment import prepare
    from strategies import TABLE

    splits = prepare(gpu_data.photographs(data, gpu_data.QUICK, "fcos", amp=False, device="cpu"), TABLE).splits
    reader = gpu_peer.Photographs(data / "train.json", data / "train", first_label=0, flip=0.0)
    for row, image_id in enumerate(sorted(splits.train.dataset.images)):
        image, target = reader[row]
        ours = splits.train.images.read(image_id).transpose(2, 0, 1)
        assert np.abs(255 * image.numpy() - ours).max() <= 3  # two JPEG decoders
        assert np.allclose(target["boxes"], splits.train.dataset.annotations[image_id].boxes)
        assert target["labels"].tolist() == splits.train.dataset.annotations[image_id].labels.tolist()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_k_center_on_a_device_picks_the_rows_of_k_center_greedy(metric):
    import gpu_selection

    features = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    assert gpu_selection.k_center_on(features, 12, metric, CPU) == k_center_greedy(features, [0], 12, metric)


def test_a_part_that_fails_or_hangs_is_told_and_the_others_are_kept(tmp_path, monkeypatch):
    import gpu

    script = tmp_path / "part.py"
    script.write_text(
        "import sys, time, pathlib\n"
        "part, folder = sys.argv[2], pathlib.Path(sys.argv[4])\n"
        """(folder / f"{part}.jsonl").write_text('{"part": "%s", "what": "figure", "ratio": 1}\\n' % part)\n"""
        "if part == 'works': time.sleep(60)\n"
        "if part == 'influence_fcos': sys.exit('the device was lost')\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(script))
    monkeypatch.setitem(gpu.LIMITS, "works", 5.5)
    arguments = Namespace(seconds=100, device="cpu", quick=True, out=tmp_path)
    rows = gpu.run_all(["influence_fcos", "works", "k_center"], arguments, tmp_path)
    assert [row["part"] for row in rows if row["what"] == "figure"] == ["influence_fcos", "works", "k_center"]
    assert {row["part"]: row["error"] for row in rows if row["what"] == "failed"} == {
        "influence_fcos": "exit code 1: the device was lost",
        "works": "stopped after 6 s",
    }
    assert json.loads((tmp_path / "gpu.json").read_text())["rows"] == rows


def test_the_script_prints_a_table_and_writes_json(tmp_path):
    command = [sys.executable, BENCHMARKS / "gpu.py", "--device", "cpu", "--quick", "--out", tmp_path, "k_center"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row["same_picks"] for row in rows] == [1.0, 1.0]
    assert all(row["what"] in done.stdout for row in rows)
