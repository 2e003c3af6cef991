"""Elementwise kernels compiled for flat tensors: C++ on a CPU, Triton on CUDA."""

import functools
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Tensors up to this size are worked on in lists where larger ones are by a compiled function: to call it costs more.
SMALL_ELEMENTS = 2**14
# From this size on a compiled function is called without detours: its code for fewer elements differs.
BARE_ELEMENTS = 2**13


@functools.cache
def _compiled(kernel: Callable[..., Any], dtype: torch.dtype, device_type: str) -> Callable[..., Any]:
    """Compile `kernel` once for each dtype and kind of device.

    Each gets a code object of its own: Dynamo counts recompilations by code object, and stops at eight.
    """
    copy = types.FunctionType(kernel.__code__.replace(), kernel.__globals__, kernel.__name__)
    return torch.compile(copy, dynamic=True, fullgraph=True)


@functools.cache
def _warn_not_compiled(device_type: str, reason: str) -> None:
    warnings.warn(f"fused=True: cannot compile for {device_type} ({reason}); the plain path runs instead", stacklevel=4)


_without_compiler: set[str] = set()


def can_compile(device_type: str) -> bool:
    """Say whether a compiler for this kind of device is there, as far as has been seen."""
    return device_type not in _without_compiler


@functools.cache
def _bare(
    kernel: Callable[..., Any], dtypes: tuple[torch.dtype, ...], count: int, threads: int
) -> Callable[..., Any] | None:
    """Compile `kernel` for a CPU and return Inductor's own function, or None where it cannot be laid hold of.

    What Dynamo and AOTAutograd do before each call costs as much as to step 100,000 elements. Here the cache's keys and
    `call_compiled` see to what they check.

    Args:
        kernel: As in `call_compiled`.
        dtypes: Those of its arguments.
        count: Number of coefficients, the last argument.
        threads: The code is made for so many.
    """
    found: list[Any] = []

    def compile_inner(graph: Any, inputs: Any, **options: Any) -> Any:
        code: Any = compile_fx_inner(graph, inputs, **options)
        sizes = [x for x in inputs if isinstance(x, torch.SymInt)]
        environment: Any = sizes[0].node.shape_env
        guards = environment.produce_guards_expression(sizes)
        if guards and not all(environment.evaluate_guards_expression(guards, [n]) for n in (BARE_ELEMENTS, 2**40 + 1)):
            return code  # it is not good for all sizes
        function = code.current_callable

        def spy(values: list[Any]) -> Any:
            found.append((function, list(values)))
            return function(values)

        code.current_callable = spy
        return code

    copy = types.FunctionType(kernel.__code__.replace(), kernel.__globals__, kernel.__name__)
    examples = [torch.ones(BARE_ELEMENTS, dtype=dtype, device="cpu") for dtype in dtypes[:-1]]
    examples.append(torch.ones(count, dtype=dtypes[-1], device="cpu"))
    try:
        from torch._inductor.compile_fx import compile_fx, compile_fx_inner

        # With that cache `compile_inner` might not be called. The one of what is slow, the C++ compiler, is another.
        with torch._functorch.config.patch(enable_autograd_cache=False), torch.no_grad():
            backend = functools.partial(compile_fx, inner_compile=compile_inner)
            torch.compile(copy, dynamic=True, fullgraph=True, backend=backend)(*examples)
        ((function, values),) = found
        places = {example.data_ptr(): i for i, example in enumerate(examples)}
        order = [places[x.data_ptr()] if isinstance(x, Tensor) else None for x in values]
        if [x for x in values if not isinstance(x, Tensor)] != [BARE_ELEMENTS]:
            return None
    except Exception:  # torch has no public way to this; without a compiler the public way will say so
        return None

    def call(*tensors: Tensor) -> Any:
        size = tensors[0].numel()
        (result,) = function([size if i is None else tensors[i] for i in order]) or (None,)
        return result

    return call


def call_compiled(kernel: Callable[..., Any], tensors: Sequence[Tensor], coefficients: Tensor) -> tuple[bool, Any]:
    """Call a compiled elementwise kernel on flat tensors of one size, changed in place.

    The tensors' version counters may stay as they are.

    Args:
        kernel: Function of one-dimensional tensors and the coefficients, of one result or none.
        tensors: Contiguous, not empty.
        coefficients: One-dimensional.

    Returns:
        `(True, what the kernel returned)`, or `(False, None)`, with a warning, once, where it cannot be compiled.
    """
    arguments = (*tensors, coefficients)
    if tensors[0].numel() >= BARE_ELEMENTS and tensors[0].is_cpu and all(type(t) is Tensor for t in arguments):
        dtypes = tuple([t.dtype for t in arguments])
        bare = _bare(kernel, dtypes, coefficients.numel(), torch.get_num_threads())
        if bare is not None:
            return True, bare(*arguments)
    device_type = tensors[0].device.type
    try:
        # With .data they are no views to Dynamo, which else compiles anew for each shape that a view was made from.
        return True, _compiled(kernel, tensors[0].dtype, device_type)(*[t.data for t in tensors], coefficients)
    except torch._dynamo.exc.TorchDynamoException as error:  # raised before anything has run
        _without_compiler.add(device_type)
        _warn_not_compiled(device_type, str(error).strip().split("\n")[0])
        return False, None
