"""`gradient_check.py --module`: the gradients of a module of the user's against central differences."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from _common.console import print_rows
from _common.described import Described
from _gradient_check.building import Built, build, reason
from _gradient_check.differences import Difference, compare
from _gradient_check.inputs import Input, read_input
from _gradient_check.repeatable import Repeatable, floating
from _gradient_check.subjects import trained

STEP, LIMIT = 1e-6, 1e-6
"""The step h, and the limit of a difference relative to the largest gradient of its tensor."""
ROUNDING = 100 * torch.finfo(torch.float64).eps / STEP
"""The limit's further part, relative to the size of the loss's terms: what rounding may make of a difference."""
Mode = Literal["both", "train", "eval"]
Rows = dict[str, dict[str, Any]]


def check(described: Described, shapes: Sequence[str], mode: Mode, samples: int, seed: int) -> dict[str, Any]:
    """Check the gradients of parameters and inputs; return the results without the files.

    Raises:
        ValueError: If there is nothing to check, or it cannot be checked.
    """
    specs = [read_input(text) for text in shapes]
    built = build(described, seed)
    if not specs:
        raise ValueError(f"--module {built.path} needs the sizes of its inputs: add --shape 4,3 (again for each input)")
    inputs = _draw(specs, built, seed)
    if built.module is None:
        modes = ["function"]
    else:
        to_double(built.module)
        modes = ["train", "eval"] if mode == "both" else [mode]
    rows = {one: _check_mode(built, inputs, specs, one, samples, seed) for one in modes}
    wrong = [f"{name} ({one})" for one in modes for name, row in rows[one].items() if not row["right"]]
    return {
        "module": built.path,
        "shapes": list(shapes),
        "seed": seed,
        "step": STEP,
        "limit": LIMIT,
        "gradients": rows,
        "wrong": wrong,
    }


def report(results: dict[str, Any]) -> None:
    """Print a table of each mode."""
    columns = {
        "coordinates": "coordinates", "kinks": "kinks", "largest": "largest difference", "limit": "limit",
        "at": "worst at", "analytic": "analytic", "numeric": "numeric", "right": "correct",
    }  # fmt: skip
    for mode, rows in results["gradients"].items():
        title = results["module"] + ("" if mode == "function" else f", in {mode} mode") + f", h = {STEP:g}"
        print_rows(title, {name: row | {"at": str(row["at"])} for name, row in rows.items()}, "gradient of", columns)


def errors(results: dict[str, Any]) -> list[str]:
    """Return a sentence for each wrong gradient: the tensor, the worst coordinate and both values there."""
    found = []
    for mode, rows in results["gradients"].items():
        for name, row in rows.items():
            if row["right"]:
                continue
            where = name if mode == "function" else f"{name} in {mode} mode"
            if 2 * row["kinks"] > row["coordinates"]:
                found.append(
                    f"{where}: the output jumps or has a kink within {STEP:g} of {row['kinks']} of "
                    f"{row['coordinates']} coordinates, as if it were rounded (a cast to float32?)"
                )
            else:
                found.append(f"{where} at {row['at']}: analytic {row['analytic']:.6g}, numeric {row['numeric']:.6g}")
    return found


def _draw(specs: Sequence[Input], built: Built, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = [spec.draw(generator, built.module) for spec in specs]
    return [one.requires_grad_() if one.is_floating_point() or one.is_complex() else one for one in tensors]


def _check_mode(
    built: Built, inputs: Sequence[Tensor], specs: Sequence[Input], mode: str, samples: int, seed: int
) -> Rows:
    """Check every tensor in one mode; return a row for each."""
    if built.module is not None:
        built.module.train(mode == "train")
    pairs = list(zip(specs, inputs, strict=True))
    positional = [one for spec, one in pairs if spec.name is None]
    named = {spec.name: one for spec, one in pairs if spec.name is not None}
    what = f"--module {built.path}" + ("" if mode == "function" else f" in {mode} mode")
    _materialise(built, positional, named, seed, what)
    function = Repeatable(built.function, built.module, positional, named, seed)
    outputs = _first_outputs(function, built.module, what)
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(one.shape, generator=generator, dtype=torch.float64) for one in outputs]

    def loss() -> Tensor:
        found = floating(function())
        return torch.stack([(weight * one).sum() for weight, one in zip(weights, found, strict=True)]).sum()

    if loss().item() != loss().item():
        raise ValueError(f"{what}: two calls with the same inputs and seeds return different numbers")
    size = sum(float((weight * one).abs().sum()) for weight, one in zip(weights, outputs, strict=True))
    tensors = {name: one for name, one in _differentiated(inputs, specs, built.module).items() if one.numel()}
    if not tensors:
        raise ValueError(f"{what} has no trained parameter and no floating point input: there is no gradient to check")
    rows = {}
    for name, tensor in tensors.items():
        try:
            difference = compare(loss, {name: tensor}, STEP, LIMIT, samples, seed, ROUNDING * size)[name]
        except RuntimeError as error:  # of the backward pass
            raise ValueError(f"{what}: its backward fails: {reason(error)}") from error
        rows[name] = _row(difference, tensor, LIMIT * difference.scale + ROUNDING * size)
    return rows


def _materialise(built: Built, positional: list[Tensor], named: dict[str, Tensor], seed: int, what: str) -> None:
    """Call the module once, which makes parameters of lazy modules."""
    if built.module is not None:
        lazy = any(nn.parameter.is_lazy(one) for one in built.module.parameters())
        if lazy:
            _called(Repeatable(built.function, None, positional, named, seed), what)
            to_double(built.module)


def to_double(module: nn.Module) -> None:
    """Make parameters and buffers float64, complex ones complex128."""
    module.double()
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_complex():
            tensor.data = tensor.data.to(torch.complex128)


def _called(function: Repeatable, what: str) -> Any:
    try:
        return function()
    except Exception as error:  # whatever the user's module raises
        sizes = " ".join(str(list(one.shape)) for one in (*function.positional, *function.named.values()))
        raise ValueError(f"{what} fails for inputs of {sizes}: {reason(error)}") from error


def _first_outputs(function: Repeatable, module: nn.Module | None, what: str) -> list[Tensor]:
    """Return the floating point outputs of a call.

    Raises:
        ValueError: If gradients of them cannot be checked.
    """
    parameters = dict(module.named_parameters()) if module is not None else {}
    before = {name: one.detach().clone() for name, one in parameters.items()}
    outputs = floating(_called(function, what))
    if not outputs:
        raise ValueError(f"{what} returns no floating point tensor: there is no gradient to check")
    for name, parameter in parameters.items():
        if not torch.equal(parameter, before[name]):
            raise ValueError(f"{what} changes its parameter {name} in place, so that no gradient can be checked")
    for one in outputs:
        if one.dtype != torch.float64:
            kind = str(one.dtype).removeprefix("torch.")
            raise ValueError(f"{what} returns {kind} for float64 inputs and parameters, too coarse to check a gradient")
    if not all(torch.isfinite(one).all() for one in outputs):
        raise ValueError(f"{what} returns NaN or infinity: give inputs in its domain, such as --shape 4,3:0.1..2")
    return [one.detach() for one in outputs]


def _differentiated(inputs: Sequence[Tensor], specs: Sequence[Input], module: nn.Module | None) -> dict[str, Tensor]:
    """Return inputs and parameters with a gradient, by name."""
    names = [spec.name or ("input" if len(specs) == 1 else f"input {i}") for i, spec in enumerate(specs, 1)]
    found = {name: one for name, one in zip(names, inputs, strict=True) if one.requires_grad}
    return (trained(module) if module is not None else {}) | found


def _row(difference: Difference, tensor: Tensor, limit: float) -> dict[str, Any]:
    shape = (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)
    place = [int(i) for i in torch.unravel_index(torch.tensor(difference.worst), shape)] if shape else []
    return {
        "coordinates": difference.coordinates,
        "kinks": difference.kinks,
        "largest": difference.largest,
        "scale": difference.scale,
        "limit": limit,
        "at": place,
        "analytic": difference.analytic + 0.0,  # no -0
        "numeric": difference.numeric + 0.0,
        "right": difference.largest <= limit and 2 * difference.kinks <= difference.coordinates,
    }
