"""Each optimizer's steps beside those of its reference twin, a slow program that follows the paper line by line.

The twins are the modules of ``optim/reference``.
"""

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import optim

TWINS = Path(__file__).parents[2] / "optim" / "reference"
STEPS = 30


def load_twin(name: str, folder: Path = TWINS) -> ModuleType:
    """Import ``folder/name.py``."""
    spec = importlib.util.spec_from_file_location(f"twin_{name}", folder / f"{name}.py")
    assert spec is not None  # since the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights(seed: int) -> list[Tensor]:
    """A matrix and a vector, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 5), (6,))]


def valley(w: Sequence[Tensor]) -> Tensor:
    """A loss that is neither quadratic nor convex."""
    loss: Tensor = sum(((x**4).sum() / 4 + (3 * x).cos().sum() for x in w), torch.zeros((), dtype=torch.float64))
    return loss


def follow(make: Callable[..., torch.optim.Optimizer], twin: Callable[[Tensor], Any], seed: int) -> float:
    """The largest difference of the weights over all steps, for a twin that takes one tensor and its gradients."""
    ours = [w.requires_grad_() for w in weights(seed)]
    twins = [twin(w) for w in ours]
    optimizer, worst = make(ours), 0.0
    for _ in range(STEPS):
        optimizer.zero_grad()
        valley(ours).backward()
        found = [one.step(w.grad) for one, w in zip(twins, ours, strict=True)]
        optimizer.step()
        worst = max(worst, *(float((a - b).detach().abs().max()) for a, b in zip(ours, found, strict=True)))
    return worst


def follow_sam(slow: Callable[..., Any], adaptive: bool, seed: int) -> float:
    """The same for SAM around momentum SGD."""
    rho = 0.5 if adaptive else 0.05
    ours = [w.requires_grad_() for w in weights(seed)]
    twin = slow(ours, valley, lr=0.01, rho=rho, eta=0.01 if adaptive else None)
    optimizer = optim.SAM(ours, partial(torch.optim.SGD, lr=0.01, momentum=0.9), rho=rho, adaptive=adaptive)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = valley(ours)
        loss.backward()
        return loss

    worst = 0.0
    for _ in range(STEPS):
        optimizer.step(closure)
        twin.step()
        worst = max(worst, *(float((a - b).detach().abs().max()) for a, b in zip(ours, twin.weights, strict=True)))
    return worst


def optimizer_differences(seed: int, folder: Path = TWINS) -> dict[str, float | None]:
    """The largest difference to its twin for each optimizer of ``optim``; None for one that has no twin here.

    Raises:
        FileNotFoundError: If there are no twins at all.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"the reference twins are not in {folder}: run this from a clone of the repository")
    sam = load_twin("sam", folder).SlowSAM
    cases: dict[str, Callable[[], float]] = {
        "LAMB": lambda: follow(
            partial(optim.LAMB, lr=0.01), partial(load_twin("lamb", folder).SlowLAMB, lr=0.01), seed
        ),
        "COCOB": lambda: follow(optim.COCOB, load_twin("cocob", folder).SlowCOCOB, seed),
        "SAM": lambda: follow_sam(sam, False, seed),
        "SAM, adaptive": lambda: follow_sam(sam, True, seed),
    }
    public = [name for name, member in vars(optim).items() if isinstance(member, type)]
    found: dict[str, float | None] = {name: None for name in public if name not in cases}
    return {name: case() for name, case in cases.items()} | found
