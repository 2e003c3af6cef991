"""What the optimizers have in common: refusals, local shards, cutting of tensor lists, compiled flat kernels."""

import functools
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

# A list of small tensors is worked on together up to this many elements: enough to hide the cost of a call, few enough
# that the temporaries of one operation are still in a CPU's cache when the next one reads them.
CHUNK_ELEMENTS = 2**18
# Where every element is worked on alone, a tensor larger than this is cut.
PIECE_ELEMENTS = 2**18
# Tensors up to this size are worked on in lists where larger ones are by a compiled function: to call it costs more.
SMALL_ELEMENTS = 2**14
# From this size on a compiled function is called without detours: its code for fewer elements differs.
BARE_ELEMENTS = 2**13
# A CPU adds a norm's squares up in few float32 accumulators: 2e-5 too little at this size, 4e-3 at 32 times it.
NORM_ELEMENTS = 2**21


def check_flags(group: dict[str, Any]) -> None:
    """Refuse combinations of the implementation flags of a parameter group that exclude one another."""
    chosen = [name for name in ("foreach", "fused", "differentiable") if group[name]]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} exclude one another: set at most one of them to True")
    if group["capturable"] and group["foreach"]:
        raise ValueError("capturable and foreach exclude one another: leave foreach at None or False")


def refuse_complex(optimizer: str, group: dict[str, Any]) -> None:
    """Refuse complex parameters of a parameter group."""
    for p in group["params"]:
        if p.is_complex():
            raise ValueError(
                f"{optimizer} does not support complex parameters, found one of shape {tuple(p.shape)} and {p.dtype}: "
                "optimize torch.view_as_real of it"
            )


def dense_gradient(optimizer: str, p: Tensor) -> Tensor | None:
    """Return the gradient of `p`, None if it has none, and refuse a sparse one."""
    if p.grad is not None and p.grad.layout is not torch.strided:
        raise ValueError(
            f"{optimizer} does not support sparse gradients, found {p.grad.layout} for a parameter of shape "
            f"{tuple(p.shape)}: use sparse=False in the layer, or torch.optim.SparseAdam for it"
        )
    return p.grad


def local(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """Return this process's part of a DTensor (in the layout of `like`), any other tensor as it is."""
    if not isinstance(tensor, DTensor):
        return tensor
    if isinstance(like, DTensor) and tensor.placements != like.placements:
        tensor = tensor.redistribute(placements=like.placements)
    return tensor.to_local()


def norms(tensors: list[Tensor], owners: Sequence[Tensor]) -> Tensor:
    """Return the 2-norm of each whole tensor, in float32 at least.

    Args:
        tensors: Local tensors on one device.
        owners: The parameters they belong to, whose placements say over which processes a norm has to be summed. Every
            process must call with the same parameters in the same order.
    """
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    result = torch.stack(torch._foreach_norm(tensors, 2, dtype))
    for i, tensor in enumerate(tensors):
        if tensor.is_cpu and tensor.numel() > NORM_ELEMENTS:
            pieces = _flat([tensor], _memory_order(tensor))[0].split(NORM_ELEMENTS // 16)
            result[i] = torch.stack(torch._foreach_norm(list(pieces), 2, dtype)).norm()
    shards: dict[Any, list[int]] = {}
    for i, owner in enumerate(owners):
        if isinstance(owner, DTensor):
            for dim, placement in enumerate(owner.placements):
                if not placement.is_replicate():
                    shards.setdefault(owner.device_mesh.get_group(dim), []).append(i)
    for group, index in shards.items():
        squares = result[index] ** 2
        torch.distributed.all_reduce(squares, group=group)
        result[index] = squares.sqrt()
    return result


def chunks(tensors: Sequence[Tensor], foreach: bool | None, elements: int = CHUNK_ELEMENTS) -> Iterator[slice]:
    """Cut a list of tensors into runs that a `_foreach` function works on at once.

    `foreach=True` makes one run, False runs of one tensor. None is one run on an accelerator (where a launch costs more
    than memory) and runs of at most so many elements on a CPU (where it is the other way round).
    """
    if foreach is None:
        foreach = True if tensors and tensors[0].device.type != "cpu" else None
    limit = {True: float("inf"), False: 0, None: elements}[foreach]
    start = total = 0
    for i, tensor in enumerate(tensors):
        if i > start and total + tensor.numel() > limit:
            yield slice(start, i)
            start, total = i, 0
        total += tensor.numel()
    if tensors:
        yield slice(start, len(tensors))


def cut(lists: Sequence[list[Tensor]], foreach: bool | None) -> list[list[Tensor]]:
    """Cut tensors that are too large for a CPU's cache into flat pieces, for elementwise work with `foreach=None`.

    Args:
        lists: Lists of the same length; tensors at the same place have the same shape.
        foreach: As in `chunks`.
    """
    large = foreach is None and any(t.is_cpu and t.numel() > PIECE_ELEMENTS for t in lists[0])
    if not large:
        return list(lists)
    result: list[list[Tensor]] = [[] for _ in lists]
    for tensors in zip(*lists, strict=True):
        pieces: Sequence[Sequence[Tensor]] = [(t,) for t in tensors]
        if tensors[0].is_cpu and tensors[0].numel() > PIECE_ELEMENTS:
            flats = _flat(tensors, _memory_order(tensors[0]))
            if all(f.data_ptr() == t.data_ptr() for f, t in zip(flats, tensors, strict=True)):
                pieces = [f.split(PIECE_ELEMENTS) for f in flats]
        for values, new in zip(result, pieces, strict=True):
            values.extend(new)
    return result


def room_like(tensors: Sequence[Tensor], kept: dict[Any, Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    """Return tensors to write to, laid out in memory as these are, in one buffer.

    On a CPU it is kept for the next call: memory that is new to a process costs as much as several passes over it.

    Args:
        tensors: Of one device and dtype.
        kept: Where the buffers of a CPU are kept.
        dtype: That of the result; by default, of the tensors.
    """
    sizes, dtype = [t.numel() for t in tensors], dtype or tensors[0].dtype
    buffer = kept.get(dtype) if tensors[0].is_cpu else None
    if buffer is None or buffer.numel() < sum(sizes):
        buffer = torch.empty(sum(sizes), dtype=dtype, device=tensors[0].device)
        if buffer.is_cpu:
            kept[dtype] = buffer
    if len(tensors) == 1 and tensors[0].ndim == 1:
        return [buffer[: sizes[0]]]
    result = []
    for tensor, part in zip(tensors, buffer[: sum(sizes)].split(sizes), strict=True):
        if tensor.is_contiguous():
            result.append(part.view(tensor.shape))
            continue
        order = _memory_order(tensor)
        turned = part.view([tensor.shape[i] for i in order])
        result.append(turned.permute(sorted(range(len(order)), key=order.__getitem__)))
    return result


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
        tensors: Not empty.
        coefficients: One-dimensional.

    Returns:
        `(True, what the kernel returned)`, or `(False, None)`, with a warning, once, where it cannot be compiled.
    """
    arguments = (*tensors, coefficients)
    if tensors[0].numel() >= BARE_ELEMENTS and all(
        type(t) is Tensor and t.is_cpu and t.is_contiguous() for t in arguments
    ):
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


def _flat(tensors: Iterable[Tensor], order: list[int]) -> list[Tensor]:
    """Return flat forms of tensors of one shape: views where `order` is how they lie in memory, else copies."""
    natural = order == sorted(order)
    return [t.view(-1) if natural and t.is_contiguous() else t.permute(order).reshape(-1) for t in tensors]


def _write_back(flats: Sequence[Tensor], tensors: Sequence[Tensor], order: list[int]) -> None:
    """Write the flat forms that are copies back into the tensors they were made from."""
    for source, tensor in zip(flats, tensors, strict=True):
        if source.data_ptr() != tensor.data_ptr():
            permuted = tensor.permute(order)
            permuted.copy_(source.view(permuted.shape))
        else:
            torch.autograd.graph.increment_version(tensor)


def _memory_order(tensor: Tensor) -> list[int]:
    if tensor.is_contiguous():
        return list(range(tensor.ndim))
    return sorted(range(tensor.ndim), key=tensor.stride, reverse=True)


def on_flat(work: Callable[[list[Tensor]], bool], tensors: Sequence[Tensor], written: Sequence[int]) -> bool:
    """Call `work` on flat forms of tensors of one shape, whatever their strides, and write back what it changed.

    Args:
        work: Gets the flat tensors and returns whether it has changed them; it need not count their versions.
        tensors: Not empty. The first one's memory format decides in which order the elements are passed.
        written: Positions of the tensors that change.

    Returns:
        What `work` returned.
    """
    if all(t.is_contiguous() for t in tensors):
        done = work([t.view(-1) for t in tensors])
        if done:
            torch.autograd.graph.increment_version([tensors[i] for i in written])
        return done
    order = _memory_order(tensors[0])
    flats = _flat(tensors, order)
    done = work(flats)
    if done:
        _write_back([flats[i] for i in written], [tensors[i] for i in written], order)
    return done
