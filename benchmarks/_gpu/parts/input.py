"""One batch of the resident path: crop, flip and normalise; and what the card can do at most."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from datamodules.image import ImageDataModule
from datamodules.pipeline.batch import ImageBatch

from ..data import RandomImages, images_module
from ..rows import Bench, Row
from ..timing import against, sample, spread
from ..trace import traced

PLAIN = "torch's operations: float32"
FORMATS = [(dtype, last) for dtype in (torch.float32, torch.bfloat16, torch.float16) for last in (False, True)]


def modules(bench: Bench) -> list[tuple[ImageDataModule, int]]:
    """Return data modules with their batch sizes; the large one has random images of CIFAR-10's shape."""
    small, large = (8, 32) if bench.quick else (512, 65_536)
    own = images_module(bench, small)
    random = RandomImages(large, batch_size=large, crop_padding=4, flip="random", device=bench.device, seed=0)
    for module in (own, random):
        module.setup("fit")
    return [(own, small), (random, large)]


def calls(module: ImageDataModule, size: int) -> tuple[dict[str, Callable[[], Any]], dict[str, int]]:
    """Return functions that make a batch, by name, and the bytes that each must read and write.

    The batch has the first positions of an epoch, whose plan is drawn in advance, except in the last of them.
    """
    loader: Any = module.train_dataloader()
    plan = loader.plan(loader.indices).to(loader.device).slice(0, size)
    store = loader.source.store
    assert module.mean is not None
    assert module.std is not None

    def maker(dtype: torch.dtype = torch.float32, channels_last: bool = False) -> ImageBatch:
        own = ImageBatch(
            module.image_shape, module.mean, module.std, module.augmentation, dtype=dtype, channels_last=channels_last
        )
        return own.to(loader.device)

    plain = maker()
    result: dict[str, Callable[[], Any]] = {PLAIN: lambda: plain._normalised(store, plan)}  # what runs without Triton
    values = size * module.image_shape[0] * module.image_shape[1] * module.image_shape[2]
    traffic = {PLAIN: 5 * values}
    for dtype, last in FORMATS:
        name = f"ours: {str(dtype).removeprefix('torch.')}{', channels_last' if last else ''}"
        result[name] = partial(maker(dtype, last), store, plan)
        traffic[name] = (1 + dtype.itemsize) * values
    result["ours: the first batch of an epoch, with its plan"] = lambda: next(iter(loader))
    return result, traffic


def per_second(amount: float, step: Callable[[], Any], bench: Bench, key: str) -> Row:
    """Return the device time of a step, and `amount` a second of it."""
    step()
    times = [sample(step, bench.device).device for _ in range(3 if bench.quick else 15)]
    return {"device": spread(times), key: amount / (spread(times)["median"] * 1e-3)}


def ceilings(bench: Bench) -> None:
    """Append the bandwidth of a copy, bytes read and written, and the rates of matrix products."""
    case = "what the card does at most"
    count = 1 << (16 if bench.quick else 28)
    source = torch.randint(256, (4 * count,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    name = f"copy of {4 * count / 2**20:,.2f} MiB"
    todo = partial(per_second, 8 * count / 1e9, lambda: target.copy_(source), bench, "gigabytes_per_second")
    bench.measure(case, name, todo)
    side = 64 if bench.quick else 8192
    for dtype, precision in ((torch.bfloat16, "highest"), (torch.float32, "highest"), (torch.float32, "high")):
        left, right = (torch.randn(side, side, device=bench.device, dtype=dtype) for _ in range(2))
        torch.set_float32_matmul_precision(precision)
        try:
            kind = "TF32" if precision == "high" else str(dtype).removeprefix("torch.")
            todo = partial(per_second, 2 * side**3 / 1e12, partial(torch.mm, left, right), bench, "teraflops")
            bench.measure(case, f"matrix product of side {side}, {kind}", todo)
        finally:
            torch.set_float32_matmul_precision("highest")


def run(bench: Bench) -> None:
    """Measure the ceilings and the batches, then trace the batches."""
    ceilings(bench)
    rounds, steps = (2, 2) if bench.quick else (30, 5)
    traces: list[tuple[str, str, Callable[[], Any], int | None]] = []
    for module, size in modules(bench):
        case = f"a batch of {size:,} images: crop, flip, normalise; x: ratio to torch's operations"
        try:
            ways, traffic = calls(module, size)
        except Exception as error:
            bench.failed(case, PLAIN, error)
            continue
        base = partial(sample, ways[PLAIN], bench.device)
        for name, call in ways.items():
            own = partial(sample, call, bench.device)
            if bench.measure(case, name, partial(against, base, own, rounds, 5.0)):
                traces.append((case, name, call, traffic.get(name)))
    for case, name, call, moved in traces:
        counts = bench.add_trace(case, name, partial(traced, call, bench.device, steps)) or {}
        if moved is not None and "busy_ms" in counts:
            bench.row(case, name, gigabytes_per_second=moved / 1e6 / counts["busy_ms"])
