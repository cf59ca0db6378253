"""Arrays that share one copy to a device have the same numbers there. On the CPU the same is done without a device."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.detectors.transfer import channels_first, on_device, sent_together, to_tensors

CPU = torch.device("cpu")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3), max_size=6),
    dtypes=st.lists(st.sampled_from([np.uint8, np.float32, np.int64, np.bool_]), min_size=6, max_size=6),
    seed=st.integers(0, 10**6),
)
def test_arrays_of_any_kind_arrive_as_they_are(shapes, dtypes, seed):
    chance = np.random.default_rng(seed)
    arrays = [chance.integers(0, 100, shape).astype(dtype) for shape, dtype in zip(shapes, dtypes, strict=False)]
    arrays = [array[::-1] for array in arrays]
    for way in (sent_together, on_device):
        sent = way(arrays, CPU)
        for array, tensor in zip(arrays, sent, strict=True):
            assert tensor.numpy().dtype == array.dtype
            assert np.array_equal(tensor.numpy(), array)


def test_arrays_that_are_sent_together_share_one_memory_and_keep_no_array():
    arrays = [np.arange(3, dtype=np.float32), np.arange(5)]
    first, second = sent_together(arrays, CPU)
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    first[:], arrays[1][:] = 7, 9
    assert arrays[0].tolist() == [0, 1, 2]
    assert second.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("mirrored", [False, True])
def test_pixels_that_a_device_turns_and_scales_are_the_same_numbers(mirrored):
    chance = np.random.default_rng(0)
    pixels = [chance.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((5, 7), (4, 4), (1, 9))]
    pixels = [image[:, ::-1] if mirrored else image for image in pixels]
    turned = [channels_first(image) for image in sent_together(pixels, CPU)]
    for image, tensor, other in zip(pixels, turned, to_tensors(pixels, CPU), strict=True):
        assert torch.equal(tensor, other)
        assert tensor.is_contiguous()
        assert np.array_equal((other * 255).round().numpy().transpose(1, 2, 0), image)
