"""Checks of the input kernel on a CPU by Triton's interpreter; prints the error of each check as JSON."""

import json
import os
import traceback

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

import torch

from datamodules.pipeline import batch
from datamodules.pipeline.augment import Augmentation, draw_plan
from datamodules.pipeline.batch import ImageBatch, ImageStore

AUGMENTATIONS = [
    Augmentation(),
    Augmentation(2, "random", 3),
    Augmentation(6, "alternating"),
    Augmentation(3, "random", 4, "reflect"),
    Augmentation(cutout=5),
]


def check(shape: tuple[int, int, int], dtype: torch.dtype, channels_last: bool) -> None:
    """Compare batches with those without the kernel: the same bits, of narrower types the same rounding."""
    for augmentation in AUGMENTATIONS:
        images = torch.randint(0, 256, (9, *shape), dtype=torch.uint8)
        store = ImageStore.of(images, augmentation.crop_padding)
        plan = draw_plan(
            torch.arange(9), shuffle=True, augmentation=augmentation, image_size=shape[1:], seed=5, epoch=1
        )
        make = ImageBatch(
            shape,
            (0.49, 0.48, 0.44)[: shape[0]],
            (0.24, 0.243, 0.26)[: shape[0]],
            augmentation,
            dtype=dtype,
            channels_last=channels_last,
        )
        batches = []
        for devices in ({"cpu"}, set()):
            batch.KERNEL_DEVICES = devices
            batches.append(make(store, plan.slice(3, 5)))
        assert batches[0].stride() == batches[1].stride()
        if dtype is torch.bfloat16:  # which the interpreter truncates
            torch.testing.assert_close(*batches, rtol=1 / 128, atol=0)
        else:
            same = [b.contiguous().view(torch.uint8) for b in batches]  # as integers: 0.0 and -0.0 differ
            assert torch.equal(*same), augmentation


CASES = {
    f"{shape} {dtype} {layout}": (shape, dtype, layout == "last")
    for shape in ((3, 8, 8), (1, 9, 7), (3, 17, 20))
    for dtype in ((torch.float32, torch.bfloat16) if shape[1] == 8 else (torch.float16, torch.float32))
    for layout in ("first", "last")
}

if __name__ == "__main__":
    errors = {}
    for name, case in CASES.items():
        errors[name] = ""
        try:
            check(*case)
        except Exception:
            errors[name] = traceback.format_exc()
    print(json.dumps(errors))
