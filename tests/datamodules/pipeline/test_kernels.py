"""The input kernel: by the interpreter on a CPU, compiled for an H100, and on a GPU."""

import pytest
import torch

from datamodules.pipeline import batch
from datamodules.pipeline.augment import Augmentation, draw_plan
from datamodules.pipeline.batch import ImageBatch, ImageStore
from datamodules.pipeline.loader import BatchLoader, Resident
from reference import interpreted

pytest.importorskip("triton")

from datamodules.pipeline import _kernels
from reference.hopper import accesses, recorded

SHAPE, MEAN, STD = (3, 32, 32), (0.49, 0.48, 0.44), (0.24, 0.243, 0.26)
AUGMENTATIONS = [Augmentation(), Augmentation(4, "random", 8), Augmentation(4, "alternating", 7, "reflect")]


@pytest.mark.slow
def test_interpreted():
    errors = interpreted.errors("interpreted_batches.py")
    assert len(errors) == 12
    assert set(errors.values()) == {""}, "\n".join(errors.values())


@pytest.mark.parametrize("channels_last", [False, True])
def test_an_h100_writes_16_bytes_at_a_time_and_fuses_nothing(channels_last, monkeypatch):
    monkeypatch.setattr(batch, "KERNEL_DEVICES", {"cpu"})
    store, plan = batch_of(AUGMENTATIONS[1], 4)
    make = ImageBatch(SHAPE, MEAN, STD, AUGMENTATIONS[1], dtype=torch.bfloat16, channels_last=channels_last)
    with recorded(_kernels, "batch") as seen:
        make(store, plan)
    ((_, ptx),) = seen
    assert accesses(ptx)["st.v4.b32"] == (4 if channels_last else 3)
    assert accesses(ptx)["st.b16"] == 0
    assert "fma.rn.f32" not in ptx


def batch_of(augmentation, count):
    images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plan = draw_plan(
        torch.arange(count), shuffle=True, augmentation=augmentation, image_size=SHAPE[1:], seed=5, epoch=1
    )
    return ImageStore.of(images, augmentation.crop_padding), plan


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=["plain", "zeros", "reflect"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_gpu_makes_the_same_bits(augmentation, channels_last, dtype):
    store, plan = batch_of(augmentation, 100)
    make = ImageBatch(SHAPE, MEAN, STD, augmentation, dtype=dtype, channels_last=channels_last)
    expected = make(store, plan.slice(7, 71))
    there = make.to(torch.device("cuda"))(store.to(torch.device("cuda")), plan.to("cuda").slice(7, 71))
    assert there.stride() == expected.stride()
    assert torch.equal(there.cpu().contiguous().view(torch.uint8), expected.contiguous().view(torch.uint8))


@pytest.mark.gpu
@on_a_gpu
def test_an_epoch_waits_for_nothing_and_a_batch_is_two_launches():
    augmentation, device = AUGMENTATIONS[1], torch.device("cuda")
    store, _ = batch_of(augmentation, 100)
    make = ImageBatch(SHAPE, MEAN, STD, augmentation).to(device)
    loader = BatchLoader(
        Resident(store.to(device), make),
        torch.arange(100, device=device),
        torch.arange(100),
        batch_size=16,
        shuffle=True,
        augmentation=augmentation,
        image_size=SHAPE[1:],
        device=device,
    )
    for _ in loader:  # compiles the kernel
        pass
    torch.cuda.set_sync_debug_mode("error")
    try:
        for images, _ in loader:
            assert images.is_cuda
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in loader:
            pass
        torch.cuda.synchronize()
    names = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    assert names.count("batch") == 7
    assert len([name for name in names if "Memcpy" not in name]) == 14  # and the labels
