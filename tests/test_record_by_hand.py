"""The record as a plain script: its crops against a loop."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from reference.counting import Waits


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "record_by_hand", Path(__file__).parents[1] / "benchmarks" / "record_by_hand.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_windows_against_a_loop(script, memory_format, dtype):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(60, 3, 9, 8, generator=generator).to(dtype).contiguous(memory_format=memory_format)
    top, left = (torch.randint(high, (60,), generator=generator) for high in (5, 4))
    with Waits() as waits:
        found = script.windows(images, top, left, 5)
    assert not waits.counts
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found.shape, found.dtype) == ((60, 3, 5, 5), dtype)
    for image, y, x, window in zip(images, top.tolist(), left.tolist(), found, strict=True):
        assert torch.equal(window, image[:, y : y + 5, x : x + 5])


def test_an_epoch_is_cropped_from_its_mirrored_border_and_every_other_one_is_flipped(script):
    torch.manual_seed(0)
    images = torch.randn(40, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    epochs, seen = script.Epochs(images), []
    state = torch.get_rng_state()
    found = [epochs.next() for _ in range(3)]
    torch.set_rng_state(state)
    for epoch, batch in enumerate(found):
        top, left = torch.randint(5, (2, 40)).tolist()
        assert batch.is_contiguous(memory_format=torch.channels_last)
        mirrored = []
        for image, y, x, crop in zip(images, top, left, batch, strict=True):
            both = [F.pad(one[None], (2, 2, 2, 2), "reflect")[0, :, y : y + 32, x : x + 32] for one in views(image)]
            crop = crop if epoch % 2 == 0 else crop.flip(-1)
            mirrored.append([torch.equal(crop, one) for one in both])
            assert sum(mirrored[-1]) == 1
        seen.append(mirrored)
    assert seen[0] == seen[1] == seen[2]  # an image is mirrored before the first epoch, or not
    assert 8 < sum(second for _, second in seen[0]) < 32


def views(image):
    return image, image.flip(-1)
