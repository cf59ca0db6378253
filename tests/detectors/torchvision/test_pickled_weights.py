"""Pickled weights: only files of a known hash are opened, and no code in them ever runs."""

import argparse
import os
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from alloop.detectors.torchvision import published
from alloop.errors import ConfigError
from alloop.files import sha256_file
from tests.support.detectors import make


def pickled(tmp_path, content, name="w.pth", **options):
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


def state(detector):
    return {k: v for k, v in detector.module.state_dict().items() if "num_batches_tracked" not in k}


def changed():
    """Return a detector whose weights no new one has."""
    detector = make("fcos")
    with torch.no_grad():
        for parameter in detector.module.parameters():
            parameter.add_(1.0)
    return detector


def loaded(path, sha256="", **changes):
    return make("fcos", weights=str(path), weights_sha256=sha256 or sha256_file(path), **changes)


class Code:
    """Its pickle makes a file when it is read without care."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


TENSORS = {"a": torch.zeros(1)}


def disguises(code):
    """Return pickles that hold code in different places."""
    yield code
    yield TENSORS | {"b": code}
    yield {"model": TENSORS, "optimizer": code}
    yield {"model": TENSORS, "args": argparse.Namespace(epochs=code)}
    yield OrderedDict(a=nn.Parameter(torch.zeros(1)), b=[code])


@pytest.mark.parametrize("disguise", range(5))
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_never_runs(tmp_path, disguise, zipped):
    marker = tmp_path / "code ran"
    content = list(disguises(Code(marker)))[disguise]
    path = pickled(tmp_path, content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConfigError, match=r"only if its sha256 is known"):
        make("fcos", weights=str(path))
    with pytest.raises(ConfigError, match=r"detector\.weights: .*w\.pth cannot be read as a pickled file of weights"):
        loaded(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the pickle is as harmful as it should be"


def test_a_name_that_ends_in_the_hash_makes_no_published_file(tmp_path):
    path = pickled(tmp_path, state(changed()))
    named = path.rename(tmp_path / f"resnet50-{sha256_file(path)[:8]}.pth")
    with pytest.raises(ConfigError, match=rf"torchvision publishes no file of sha256 {sha256_file(named)}"):
        make("fcos", weights=str(named))


@pytest.mark.parametrize("ending", ["w.pth", "w.pt", "w.PTH", "w.safetensors"])
def test_another_hash_than_the_given_one_is_refused_and_both_are_named(tmp_path, ending):
    path = pickled(tmp_path, state(changed()), ending)
    other = "0123456789abcdef" * 4
    with pytest.raises(ConfigError, match=rf"detector\.weights_sha256: expected {other}, found {sha256_file(path)} in"):
        loaded(path, other)


@pytest.mark.parametrize("given", ["abc", "g" * 64, "0" * 63])
def test_a_hash_has_64_digits(tmp_path, given):
    with pytest.raises(ConfigError, match=r"detector\.weights_sha256: .*found"):
        loaded(pickled(tmp_path, TENSORS), given)


@pytest.mark.parametrize("name", ["none", "digits"])
def test_a_hash_belongs_to_a_file(name):
    with pytest.raises(ConfigError, match=rf"weights_sha256: it is the hash of a file, and detector.weights is {name}"):
        make("fcos", weights=name, weights_sha256="0" * 64, channels=64)


@pytest.mark.parametrize("ending", ["w.pth", "w.pt"])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda tensors: tensors,
        lambda tensors: OrderedDict((name, nn.Parameter(value)) for name, value in tensors.items()),
        lambda tensors: {"model": tensors, "epoch": 3, "args": argparse.Namespace(lr=0.1, data=None, names=["a"])},
        lambda tensors: {"state_dict": tensors, "optimizer": {"state": {0: [1, 2.5, "x", None, True]}}},
        lambda tensors: {f"module.{name}": value for name, value in tensors.items()},
        lambda tensors: {"model": {f"module.{name}": value for name, value in tensors.items()}},
    ],
)
def test_a_state_dict_is_found_where_training_scripts_put_it(tmp_path, ending, wrapped):
    before = changed()
    after = loaded(pickled(tmp_path, wrapped(state(before)), ending))
    assert all(value.equal(state(before)[name]) for name, value in state(after).items())
    assert after.loaded_weights.kind == "a whole detector"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(1)], "found list"),
        ({"model": {"a": 1.5}}, "found float under 'a'"),
        ({"epoch": 3, "net": TENSORS}, "found int under 'epoch'"),
        ({3: torch.zeros(1)}, "found Tensor under 3"),
        ({}, "holds no tensor"),
        ({"a": torch.tensor([1.0, float("nan")])}, "not finite in a"),
        (TENSORS, "Nothing in it fits; it has a"),
    ],
)
def test_what_is_no_state_dict_of_this_detector_is_refused(tmp_path, content, words):
    with pytest.raises(ConfigError, match=rf"detector\.weights: .*w\.pth.*{re.escape(words)}"):
        loaded(pickled(tmp_path, content))


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_file_of_torch_is_refused(tmp_path, content):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"detector\.weights: .*w\.pt"):
        loaded(path)


def test_a_file_that_torchvision_publishes_needs_no_hash():
    folder = Path(os.environ.get("TORCH_HOME", "/nowhere")) / "hub" / "checkpoints"
    path = folder / "mobilenet_v2-b0353104.pth"
    if not path.is_file():
        pytest.skip("TORCH_HOME holds no ImageNet weights of MobileNetV2")
    by_file, by_name = (make("fcos", "mobilenet_v2", weights=w) for w in (str(path), "imagenet"))
    assert all(value.equal(state(by_name)[name]) for name, value in state(by_file).items())
    assert by_file.loaded_weights.kind == "a backbone"
    with pytest.raises(ConfigError, match=r"expected .* of shape"):
        make("fcos", "resnet18", weights=str(path))


def test_torchvisions_own_list_of_files_is_read():
    assert published.published_as("b0353104" + "0" * 56) == "mobilenet_v2"
    assert published.published_as("258fb6c6" + "0" * 56) == "fasterrcnn_resnet50_fpn"
    assert published.published_as("5666bf0f80" + "0" * 54) == "shufflenet_v2_x1_0", "a hash of ten digits"
    assert published.published_as("5666bf0f8" + "1" * 55) is None


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "fcos_resnet50_fpn"])
def test_a_published_detector_is_loaded_as_by_its_name(tmp_path, monkeypatch, name):
    kind = {"fasterrcnn_resnet50_fpn": "faster_rcnn", "fcos_resnet50_fpn": "fcos"}[name]
    sizes = {"channels": 256, "tower_convs": 4} if kind == "fcos" else {"channels": 256, "head_width": 1024}
    path = pickled(tmp_path, make(kind, "resnet50", classes=91, **sizes).module.state_dict())
    monkeypatch.setattr(published, "_published_hashes", lambda: {sha256_file(path)[:8]: name})
    detector = make(kind, "resnet50", weights=str(path), **sizes)
    norms = [m.eps for m in detector.module.modules() if isinstance(m, published.FrozenBatchNorm2d)]
    assert set(norms) == {0.0 if kind == "faster_rcnn" else 1e-5}
    with pytest.raises(ConfigError, match=r"detector\.channels: the COCO weights"):
        make(kind, "resnet50", weights=str(path), **sizes | {"channels": 64})
