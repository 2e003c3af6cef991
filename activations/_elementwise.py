"""One pass over memory for an elementwise function, forward and backward, that saves only its input.

It uses private names of torch to detect whether a transform, a mode or a tracer watches the tensors; if so, plain
operations run instead of a compiled kernel.

The numbers below are SPOCU's times for forward and backward of 64 x 64 x 32 x 32 float32 numbers on one thread of a
CPU, as ratios to ReLU: 1.2 with a compiler and 3.6 without.
"""

import functools
import os
import shutil
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode

Constants = tuple[float, ...] | Tensor
Formula = Callable[..., Tensor]

# Up to this many elements, a call of a compiled kernel takes as long as the plain operations.
_SMALL = 1 << 13
# Without a compiler, plain operations run on blocks of this size, whose temporaries stay in the cache: 3.6, not 19.5.
_BLOCK = 1 << 16
# Kernels for CUDA index with 32 bits.
_LARGEST = 1 << 30
_OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    # Fused multiply-adds halve the instructions of a polynomial on a CPU: 1.17, not 1.26.
    "cpp.enable_floating_point_contract_flag": "fast",
    # The number of threads is read at run time: one in a forked worker of a DataLoader, where more would hang.
    "cpp.dynamic_threads": True,
    # Kernels get contiguous tensors of one type and do the same in inference mode, under autocast and with any default
    # type. With its guards, torch.compile would compile again for each of them and give up after eight.
    "guard_filter_fn": lambda guards: [False] * len(guards),
}
# What the Triton kernels compute; compiled kernels do the rest, float64 on CUDA for one.
_KERNEL_DEVICES = {"cuda"}
_KERNEL_TYPES = {torch.float32, torch.bfloat16, torch.float16}
# Devices and data types for which compiling failed.
_uncompilable: set[tuple[str, torch.dtype]] = set()


class Elementwise(NamedTuple):
    """An elementwise function `f` and its derivatives, each written in differentiable tensor operations."""

    value: Formula  # value(x, constants) returns f(x)
    pull: Formula  # pull(grad, x, constants) returns grad * f'(x)
    bend: Formula  # bend(grad, x, constants) returns grad * f''(x)
    kernel: str | None = None  # of `_kernels.py`, for CUDA


def apply(function: Elementwise, x: Tensor, constants: Constants) -> Tensor:
    """Compute `function` of `x` in one pass, or in plain operations if something traces or transforms them.

    The result has the shape, dtype and memory format of `x`; float16 and bfloat16 are computed in float32.
    """
    if is_plain(x):
        return _widened(function.value, (x,), constants)
    if not _is_differentiated(x):
        return run(function.value, (x,), constants, function.kernel)
    result: Tensor = _Forward.apply(x, function, constants)
    return result


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which formulas are computed for inputs of `dtype`: float32 or float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def run(formula: Formula, tensors: Sequence[Tensor], constants: Constants, name: str | None = None) -> Tensor:
    """Compute `formula` of tensors of one shape in one pass; the result has the memory format of the last.

    `name` is that of a Triton kernel that computes it from constants that are numbers.
    """
    if not all(is_ordinary(t) for t in tensors):
        return _widened(formula, tensors, constants)
    if name and isinstance(constants, tuple) and (triton := kernels(tensors)):
        result: Tensor = triton.launch(name, tensors, constants)
        return result
    out = torch.empty_like(tensors[-1])
    flat = [_flat(t, out) for t in (out, *tensors)]
    if out.numel() > _SMALL and (kernel := _kernel(formula, len(tensors), len(constants), out.dtype, out.device.type)):
        if isinstance(constants, tuple):
            constants = _on_device(constants, compute_dtype(out.dtype), out.device)
        with torch.no_grad():
            for target, *inputs in _pieces(flat, _LARGEST):
                kernel(target, constants, *inputs)
    else:
        for target, *inputs in _pieces(flat, _BLOCK if out.device.type == "cpu" else _LARGEST):
            target.copy_(_widened(formula, inputs, constants))
    return out


def kernels(tensors: Sequence[Tensor]) -> Any:
    """Return the module of Triton kernels if they compute with these tensors, or None."""
    devices, dtypes = {t.device.type for t in tensors}, {t.dtype for t in tensors}
    return _kernels() if devices <= _KERNEL_DEVICES and dtypes <= _KERNEL_TYPES else None


@functools.cache
def _kernels() -> Any:
    try:
        from . import _kernels as module
    except ImportError:
        return None
    # With which Triton builds what launches a kernel.
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return module if compiler else None


def is_plain(x: Tensor) -> bool:
    """Return whether `x` needs plain operations because something traces or transforms them."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or not is_ordinary(x)


def is_ordinary(x: Tensor) -> bool:
    """Return whether a kernel can read `x`: no subclass, no wrapper of vmap, no mode or tracer that records."""
    return (
        type(x) in (Tensor, torch.nn.Parameter)
        and x.device.type in ("cpu", "cuda")
        and x.layout == torch.strided
        and not torch.jit.is_tracing()
        and _get_current_dispatch_mode() is None
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and not torch._C._functorch.is_legacy_batchedtensor(x)
    )


def is_forward_mode() -> bool:
    """Return whether a level of forward-mode differentiation is open."""
    return forward_ad._current_level >= 0


def _is_differentiated(*tensors: Tensor) -> bool:
    """Return whether autograd must record: in backward mode, or in forward mode (which sets no flag on tensors)."""
    return (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)) or is_forward_mode()


# Both functions take their context in forward: with setup_context each call would cost an inspect.signature (90 us),
# and the transforms of torch.func, which require it, get plain operations anyway.
class _Forward(torch.autograd.Function):
    """`f(x)`, saving `x` only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Elementwise, constants: Constants) -> Tensor:
        ctx.function, ctx.constants = function, constants
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return run(function.value, (x,), constants, function.kernel)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return _pull(grad, x, ctx.function, ctx.constants), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (x,) = ctx.saved_tensors
        return _pull(tangent, x, ctx.function, ctx.constants)


class _Pull(torch.autograd.Function):
    """`grad * f'(x)`, itself differentiable in both."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, function: Elementwise, constants: Constants) -> Tensor:
        ctx.function, ctx.constants = function, constants
        ctx.save_for_backward(grad, x)
        ctx.save_for_forward(grad, x)
        return run(function.pull, (grad, x), constants, function.kernel)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad, x = ctx.saved_tensors
        bent = _widened(ctx.function.bend, (outer * grad, x), ctx.constants)
        return _pull(outer, x, ctx.function, ctx.constants), bent, None, None

    @staticmethod
    def jvp(ctx: Any, grad_tangent: Tensor, x_tangent: Tensor, *_: None) -> Tensor:
        grad, x = ctx.saved_tensors
        bent = _widened(ctx.function.bend, (grad * x_tangent, x), ctx.constants)
        return _pull(grad_tangent, x, ctx.function, ctx.constants) + bent


def _pull(grad: Tensor, x: Tensor, function: Elementwise, constants: Constants) -> Tensor:
    if torch._C._are_functorch_transforms_active():
        return _widened(function.pull, (grad, x), constants)
    if not _is_differentiated(grad, x):
        return run(function.pull, (grad, x), constants, function.kernel)
    result: Tensor = _Pull.apply(grad, x, function, constants)
    return result


def _widened(formula: Formula, tensors: Sequence[Tensor], constants: Constants) -> Tensor:
    """Compute `formula` in plain operations, in float32 for narrower types."""
    dtype = tensors[-1].dtype
    scalars = constants.unbind() if isinstance(constants, Tensor) else constants
    return formula(*(t.to(compute_dtype(dtype)) for t in tensors), scalars).to(dtype)


def _flat(tensor: Tensor, like: Tensor) -> Tensor:
    """Return the elements of `tensor` as one row, in the memory order of the dense tensor `like`."""
    if tensor.stride() != like.stride():
        tensor = torch.empty_like(like).copy_(tensor)
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def _pieces(flat: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(t.split(size) for t in flat), strict=True)


@functools.lru_cache(maxsize=256)
def _on_device(constants: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(constants, dtype=dtype, device=device)


@functools.cache
def _kernel(
    formula: Formula, inputs: int, scalars: int, dtype: torch.dtype, device_type: str
) -> Callable[..., None] | None:
    """Return `formula` compiled for flat tensors, or None (with one warning) on a machine that cannot compile."""
    if (device_type, dtype) in _uncompilable:
        return None

    def kernel(target: Tensor, constants: Tensor, *tensors: Tensor) -> None:
        target.copy_(_widened(formula, tensors, constants))

    # torch.compile keeps its results by code object, and without guards the first of them would serve every type.
    code = kernel.__code__.replace(co_name=f"{formula.__name__}_{dtype}_{device_type}".replace("torch.", ""))
    copy = types.FunctionType(code, globals(), code.co_name, None, kernel.__closure__)
    compiled = torch.compile(copy, dynamic=True, options=dict(_OPTIONS))  # a copy: torch.compile removes some of them
    sample = [torch.ones(_BLOCK, dtype=dtype, device=device_type) for _ in range(inputs + 1)]
    try:
        with torch.no_grad():
            compiled(sample[0], _on_device((1.0,) * scalars, compute_dtype(dtype), sample[0].device), *sample[1:])
    except RuntimeError as error:
        _uncompilable.add((device_type, dtype))
        _warn_no_compiler(device_type, str(error).strip().split("\n")[0])
        return None
    return compiled


@functools.cache
def _warn_no_compiler(device_type: str, reason: str) -> None:
    warnings.warn(
        f"activations run uncompiled, several times slower, on {device_type}: {reason}; "
        "install a C++ compiler (CPU) or Triton (CUDA)",
        RuntimeWarning,
        stacklevel=2,
    )
