"""One batch of the resident path: crop, flip and normalise; and what the card can do at most."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..data import RandomImages, loader
from ..rows import Bench, Row
from ..timing import against, sample, spread
from ..trace import traced

MAKE = "crop, flip, normalise: float32"
CASTS: dict[str, Callable[[Tensor], Tensor]] = {
    MAKE: lambda images: images,
    f"{MAKE}, then channels_last": lambda images: images.contiguous(memory_format=torch.channels_last),
    f"{MAKE}, then bfloat16": lambda images: images.to(torch.bfloat16),
    f"{MAKE}, then bfloat16 channels_last": lambda images: images.to(torch.bfloat16, memory_format=torch.channels_last),
}


def batch(own: Any, size: int) -> Callable[[], Tensor]:
    """Return a function that makes a batch of the first positions of an epoch, drawn in advance."""
    plan = own.plan(own.indices).to(own.device)

    def make() -> Tensor:
        images: Tensor = next(own.source.stream(plan, [(0, size)]))
        return images

    return make


def epoch_start(own: Any) -> Callable[[], Any]:
    """Return a function that starts an epoch, with its plan, and makes the first batch."""
    return lambda: next(iter(own))


def loaders(bench: Bench) -> dict[str, tuple[Any, int]]:
    """Return by case a loader and its batch size; the large one has random images of CIFAR-10's shape."""
    small, large = (8, 32) if bench.quick else (512, 65_536)
    module = RandomImages(large, batch_size=large, crop_padding=4, flip="random", device=bench.device, seed=0)
    module.setup("fit")
    own = loader(bench, small)
    return {
        f"a batch of {small} images of a set of {len(own.indices):,}": (own, small),
        f"a batch of {large:,} images": (module.train_dataloader(), large),
    }


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
    traces: list[tuple[str, str, Callable[[], Any]]] = []
    for case, (own, size) in loaders(bench).items():
        try:
            make = batch(own, size)
            calls: dict[str, Callable[[], Any]] = {
                name: lambda cast=cast, make=make: cast(make()) for name, cast in CASTS.items()
            }
            calls["the first batch of an epoch, with its plan"] = epoch_start(own)
        except Exception as error:
            bench.failed(case, MAKE, error)
            continue
        base = partial(sample, make, bench.device)
        for name, call in calls.items():
            own = partial(sample, call, bench.device)
            if bench.measure(case, name, partial(against, base, own, rounds, 5.0)):
                traces.append((case, name, call))
    for case, name, call in traces:
        bench.add_trace(case, name, partial(traced, call, bench.device, steps))
