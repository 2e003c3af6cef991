"""One memory-bound pass for an elementwise function, forward and backward, that saves only its input."""

import functools
import struct
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode

Constants = tuple[float, ...]
Formula = Callable[..., Tensor]

# Below this many elements a call of a compiled kernel costs as much as the plain operations on one block.
_SMALL = 1 << 13
# The plain operations run block by block, so that their temporaries stay in the cache.
_BLOCK = 1 << 16
# A kernel for CUDA counts in 32 bits.
_LARGEST = 1 << 30
# A kernel for CPU gets rows of this length, a multiple of every register's: no step of it has to look for the end.
_ROW = 64
_OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    # Fused multiply-adds halve the work of a polynomial on a CPU.
    "cpp.enable_floating_point_contract_flag": "fast",
    # Any number of threads at run time: one in a DataLoader's worker, where threads after a fork would hang.
    "cpp.dynamic_threads": True,
    # Each kernel gets contiguous tensors of its types, and does the same whatever else changes: inference mode,
    # autocast, the default type. torch.compile would compile anew for each of them, and give up after eight. Only an
    # integer that it was told to compile in (torch._dynamo.config.specialize_int) still counts.
    "guard_filter_fn": lambda guards: [type(guard.value) is int for guard in guards],
}
# Device and data types for which compiling failed.
_uncompilable: set[tuple[str, torch.dtype]] = set()


class Elementwise(NamedTuple):
    """An elementwise function ``f`` with its derivatives, each written in differentiable tensor operations.

    Attributes:
        value: ``value(x, constants)`` gives ``f(x)``.
        pull: ``pull(grad, x, constants)`` gives ``grad * f'(x)``.
        bend: ``bend(grad, x, constants)`` gives ``grad * f''(x)``.
        plain_value: What to compute instead of ``value`` where nothing compiles, if other operations are faster there.
        plain_pull: Likewise for ``pull``.
    """

    value: Formula
    pull: Formula
    bend: Formula
    plain_value: Formula | None = None
    plain_pull: Formula | None = None


def apply(function: Elementwise, x: Tensor, constants: Constants) -> Tensor:
    """Compute ``function`` of ``x`` in one pass, or in plain operations where something traces or transforms them.

    Args:
        function: The function and its derivatives.
        x: Floating-point tensor of any shape; float16 and bfloat16 are computed in float32.
        constants: The scalars the formulas take, already rounded to the type they are computed in.

    Returns:
        A tensor of the shape, dtype and memory format of ``x``.
    """
    if is_plain(x):
        return _widened(function.value, (x,), constants)
    if not _is_differentiated(x):
        return run(function.value, function.plain_value, (x,), constants)
    result: Tensor = _Forward.apply(x, function, constants)
    return result


def traced_as_constants(function: Callable[..., Constants]) -> Callable[..., Constants]:
    """Cache ``function`` of plain numbers; torch.compile takes its result as it is and does not look inside."""
    cached = functools.lru_cache(maxsize=256)(function)

    # A function of its own: torch.compile looks through the wrapper that lru_cache makes.
    def call(*arguments: Any) -> Constants:
        return cached(*arguments)

    constant: Callable[..., Constants] = torch.compiler.assume_constant_result(call)
    return constant


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type a formula is computed in for inputs of ``dtype``: never narrower than float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _pull(grad: Tensor, x: Tensor, function: Elementwise, constants: Constants) -> Tensor:
    if torch._C._are_functorch_transforms_active():
        return _widened(function.pull, (grad, x), constants)
    if not _is_differentiated(grad, x):
        return run(function.pull, function.plain_pull, (grad, x), constants)
    result: Tensor = _Pull.apply(grad, x, function, constants)
    return result


# Both functions take their context in forward: with setup_context every call would cost an inspect.signature (90 us),
# and the transforms of torch.func, which need it, get the plain operations anyway.
class _Forward(torch.autograd.Function):
    """``f(x)``, saving ``x`` only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Elementwise, constants: Constants) -> Tensor:
        ctx.function, ctx.constants = function, constants
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return run(function.value, function.plain_value, (x,), constants)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return _pull(grad, x, ctx.function, ctx.constants), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (x,) = ctx.saved_tensors
        return _pull(tangent, x, ctx.function, ctx.constants)


class _Pull(torch.autograd.Function):
    """``grad * f'(x)``, itself differentiable in both."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, function: Elementwise, constants: Constants) -> Tensor:
        ctx.function, ctx.constants = function, constants
        ctx.save_for_backward(grad, x)
        ctx.save_for_forward(grad, x)
        return run(function.pull, function.plain_pull, (grad, x), constants)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad, x = ctx.saved_tensors
        bent = _widened(ctx.function.bend, (outer * grad, x), ctx.constants)
        return _pull(outer, x, ctx.function, ctx.constants), bent, None, None

    @staticmethod
    def jvp(ctx: Any, grad_tangent: Tensor, x_tangent: Tensor, *_: None) -> Tensor:
        grad, x = ctx.saved_tensors
        pulled = _pull(grad_tangent, x, ctx.function, ctx.constants)
        return pulled + _widened(ctx.function.bend, (grad * x_tangent, x), ctx.constants)


def _is_differentiated(*tensors: Tensor) -> bool:
    """Whether autograd has to know: backward, or forward mode (which has no flag on the tensors)."""
    return (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)) or is_forward_mode()


def is_forward_mode() -> bool:
    """Whether a level of forward-mode differentiation is open."""
    return forward_ad._current_level >= 0


def is_plain(x: Tensor) -> bool:
    """Whether what is done to ``x`` must be plain operations, since something traces or transforms them."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or not is_ordinary(x)


def is_ordinary(x: Tensor) -> bool:
    """Whether ``x`` is memory that a kernel can read: no subclass, no vmap wrapper, nothing that records operations."""
    return (
        type(x) in (Tensor, torch.nn.Parameter)
        and x.device.type in ("cpu", "cuda")
        and x.layout == torch.strided
        and not torch.jit.is_tracing()
        and _get_current_dispatch_mode() is None
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and not torch._C._functorch.is_legacy_batchedtensor(x)
    )


def _widened(formula: Formula, tensors: Sequence[Tensor], constants: Any) -> Tensor:
    """``formula`` in plain operations, computed in float32 for narrower types."""
    dtype = tensors[-1].dtype
    return formula(*(t.to(compute_dtype(dtype)) for t in tensors), constants).to(dtype)


def run(formula: Formula, plain: Formula | None, tensors: Sequence[Tensor], constants: Constants | Tensor) -> Tensor:
    """``formula`` of ordinary tensors of one shape, the last of which gives the memory format, in one pass.

    Args:
        formula: What to compute.
        plain: What to compute instead where nothing compiles; None for the same.
        tensors: The tensor arguments.
        constants: The scalars, as numbers or as one tensor on the same device.
    """
    if not all(is_ordinary(t) for t in tensors):
        return _widened(formula, tensors, constants)
    out = torch.empty_like(tensors[-1])
    flat = [_flat(t, out) for t in (out, *tensors)]
    if out.numel() > _SMALL and (kernel := _kernel(formula, len(tensors), len(constants), out.dtype, out.device.type)):
        held = _held(constants, out.dtype, out.device)
        with torch.no_grad():
            for target, *inputs in _rows(flat) if out.device.type == "cpu" else _pieces(flat, _LARGEST):
                kernel(target, held, *inputs)
        return out
    scalars: Any = constants.unbind() if isinstance(constants, Tensor) else constants
    size = _BLOCK if out.device.type == "cpu" else _LARGEST
    for target, *inputs in _pieces(flat, size):
        target.copy_(_widened(plain or formula, inputs, scalars))
    return out


def _flat(tensor: Tensor, like: Tensor) -> Tensor:
    """The elements of ``tensor`` as one row, in the memory order of the dense tensor ``like``."""
    if tensor.stride() != like.stride():
        tensor = torch.empty_like(like).copy_(tensor)
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def _pieces(flat: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(t.split(size) for t in flat), strict=True)


def _rows(flat: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Whole rows; what is left over comes with elements before it, computed twice."""
    size = flat[0].numel()
    yield [t[: size - size % _ROW].view(-1, _ROW) for t in flat]
    if size % _ROW:
        yield [t[-_SMALL:].view(-1, _ROW) for t in flat]


def _held(constants: Constants | Tensor, dtype: torch.dtype, device: torch.device) -> Tensor | tuple[int, ...]:
    """The scalars as a kernel takes them: on a CPU in registers, else as a tensor.

    What C++ reads from memory it reads again in every step, since the result might have been written over it. Numbers
    are not, but torch.compile passes on integers only: so they carry the bits of float32.
    """
    by_value = device.type == "cpu" and dtype != torch.float64
    if isinstance(constants, Tensor):
        return _encoded(tuple(constants.tolist())) if by_value else constants
    return _encoded(constants) if by_value else _on_device(constants, compute_dtype(dtype), device)


@functools.lru_cache(maxsize=256)
def _encoded(constants: Constants) -> tuple[int, ...]:
    """The bits of each number as float32."""
    return struct.unpack(f"{len(constants)}i", struct.pack(f"{len(constants)}f", *constants))


def _decoded(numbers: Sequence[int]) -> list[Tensor]:
    return [torch.scalar_tensor(k, dtype=torch.int32).view(torch.float32) for k in numbers]


@functools.lru_cache(maxsize=256)
def _on_device(constants: Constants, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(constants, dtype=dtype, device=device)


@functools.cache
def _kernel(
    formula: Formula, inputs: int, scalars: int, dtype: torch.dtype, device_type: str
) -> Callable[..., None] | None:
    """``formula`` compiled for flat tensors, or None (and one warning) on a machine that cannot compile."""
    if (device_type, dtype) in _uncompilable:
        return None

    def kernel(target: Tensor, held: Tensor | tuple[int, ...], *tensors: Tensor) -> None:
        scalars = held.unbind() if isinstance(held, Tensor) else _decoded(held)
        target.copy_(_widened(formula, tensors, scalars))

    # Recompilations are counted, and limited, by code object: a copy of its own for each type.
    code = kernel.__code__.replace(co_name=f"{formula.__name__}_{dtype}_{device_type}".replace("torch.", ""))
    copy = types.FunctionType(code, globals(), code.co_name, None, kernel.__closure__)
    compiled = torch.compile(copy, dynamic=True, options=dict(_OPTIONS))  # torch.compile takes some of them out
    sample = [torch.ones(_BLOCK, dtype=dtype, device=device_type) for _ in range(inputs + 1)]
    if device_type == "cpu":
        (sample,) = _rows(sample)
        for rows in sample:
            torch._dynamo.mark_static(rows, 1)
    try:
        with torch.no_grad():
            compiled(sample[0], _held((1.0,) * scalars, dtype, sample[0].device), *sample[1:])
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
