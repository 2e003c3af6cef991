"""Lists of tensors as a table of addresses on their device, for kernels that step all of them in one launch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ._layout import memory_order

# Device types whose tensors the kernels step, and their types: in float16 the squares of small gradients, which the
# second launch of LAMB would read, are 0.
DEVICES = {"cuda"}
DTYPES = (torch.float32, torch.bfloat16)

# Elements that one program of a kernel steps: few enough that small networks fill a GPU, enough that the partial sums
# of a norm are few.
CHUNK = 4096

# How often a CUDA graph may capture a step with other gradients than the step before. Each time needs pinned memory of
# its own, which cannot be allocated during a capture.
CAPTURES = 8


class Table:
    """Addresses, sizes and chunks of lists of tensors; gradients, whose addresses change, come in at each step.

    Args:
        lists: Lists of one length; tensors at the same place have the same layout.
        scalars: Lists of 0-d tensors.
        extra: Further rows of integers, one for each tensor.

    Attributes:
        rows: int64 [R, n]: a row of addresses for each list, the numbers of elements, the first chunks, and `extra`.
        items: int64 [2, k]: tensor and position of each chunk of `CHUNK` elements.
        chunks: The same as pairs.
        aligned: Whether each tensor begins at a multiple of 16 bytes.
        grad_dtype: Type of the gradients, set by the first ones.
    """

    def __init__(
        self,
        lists: Sequence[list[Tensor]],
        scalars: Sequence[list[Tensor]] = (),
        extra: Sequence[Sequence[int]] = (),
    ) -> None:
        self.lists = [list(tensors) for tensors in (*lists, *scalars)]  # no other tensor gets their addresses meanwhile
        self.device = lists[0][0].device
        places = [addresses(tensors) for tensors in self.lists]
        self.aligned = all(map(_aligned, places[: len(lists)]))
        sizes = [p.numel() for p in lists[0]]
        counts = [-(-size // CHUNK) for size in sizes]
        firsts = [sum(counts[:i]) for i in range(len(counts))]
        self.chunks = [(i, k) for i, count in enumerate(counts) for k in range(count)]
        self.rows = to_device([*places, sizes, firsts, *map(list, extra)], self.device)
        self.items = pairs_to_device(self.chunks, self.device)
        self._strides = [None if p.is_contiguous() else p.stride() for p in lists[0]]
        self.grad_dtype: torch.dtype | None = None
        self._gradients: tuple[list[int], Tensor, bool] = ([], torch.empty(0), True)
        self._kept: list[tuple[Tensor, ...]] = []
        self._spare: list[Tensor] = []
        if self.device.type == "cuda":
            self._spare += torch.empty(CAPTURES, len(sizes), dtype=torch.int64, device="cpu", pin_memory=True).unbind()

    def gradients(self, grads: list[Tensor]) -> tuple[Tensor, bool, list[Tensor]]:
        """Return the addresses of gradients on the device, whether they are aligned, and what must outlive the launch.

        Gradients of another layout than their parameters', or of another type than the first ones, are copied. The
        addresses are sent only if they have changed.
        """
        self.grad_dtype = dtype = self.grad_dtype or grads[0].dtype
        for i, (grad, strides) in enumerate(zip(grads, self._strides, strict=True)):
            same_layout = grad.is_contiguous() if strides is None else grad.stride() == strides
            if not same_layout or grad.dtype != dtype:
                grads = [*grads[:i], torch.empty_like(self.lists[0][i], dtype=dtype).copy_(grad), *grads[i + 1 :]]
        known, sent, aligned = self._gradients
        places = addresses(grads)
        captures = self.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        if places != known or sent.numel() == 0:
            aligned = _aligned(places)
            if captures:
                sent = self._sent_by_the_graph(places)
            else:
                sent = to_device(places, self.device)
                self._gradients = (places, sent, aligned)
        elif captures:
            self._kept.append((sent,))  # as it is, for the graph
        return sent, aligned, grads

    def _sent_by_the_graph(self, places: list[int]) -> Tensor:
        """Return a tensor that the graph fills at each replay, from memory that nothing else uses."""
        if not self._spare:
            raise RuntimeError(
                f"more than {CAPTURES} captured steps with gradients in new places: keep the gradients "
                "(zero_grad(set_to_none=False)) from the step before the capture on"
            )
        pinned = self._spare.pop().copy_(torch.tensor(places, device="cpu"))
        sent = torch.empty(len(places), dtype=torch.int64, device=self.device)
        self._kept.append((pinned, sent.copy_(pinned, non_blocking=True)))
        return sent

    def guard(self) -> AbstractContextManager[object]:
        """Return a context in which kernels are launched on the table's device."""
        elsewhere = self.device.type == "cuda" and self.device.index != torch.cuda.current_device()
        return torch.cuda.device(self.device) if elsewhere else nullcontext()


class Plan:
    """The launches for lists of tensors, to be kept until a tensor is replaced.

    Args:
        lists: Lists of one length: parameters, and what has their shape.
        scalars: Lists of 0-d tensors.
        make: Called with lists of tensors of one device and one type each.

    Attributes:
        parts: What `make` returned, with the places.
        others: Places of tensors that no kernel can step.
    """

    def __init__(
        self,
        lists: Sequence[list[Tensor]],
        scalars: Sequence[list[Tensor]],
        make: Callable[[list[list[Tensor]]], Any],
    ) -> None:
        kinds, self.others = _by_type(lists, scalars)
        self.parts = [(make([[values[i] for i in index] for values in (*lists, *scalars)]), index) for index in kinds]
        self._addresses = [addresses(tensors) for tensors in (*lists, *scalars)]

    def matches(self, *lists: list[Tensor]) -> bool:
        """Return whether all tensors are where they were."""
        return self._addresses == [addresses(tensors) for tensors in lists]


def to_device(values: Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return integers as an int64 tensor on a device, without waiting for it."""
    host = torch.tensor(values, dtype=torch.int64, device="cpu")  # whatever the default device is
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host


def pairs_to_device(pairs: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """Return pairs of integers as an int64 tensor [2, k] on a device."""
    return to_device([[first for first, _ in pairs], [second for _, second in pairs]], device)


def _by_type(lists: Sequence[list[Tensor]], scalars: Sequence[list[Tensor]]) -> tuple[list[list[int]], list[int]]:
    """Return the places of tensors that one launch can step, by their types, and of those that no kernel can."""
    kinds: dict[tuple[object, ...], list[int]] = {}
    others = []
    for i, tensors in enumerate(zip(*lists, strict=True)):
        first = tensors[0]
        in_place = all(values[i].device == first.device for values in scalars)
        if in_place and has_kernels(first) and all(_fits(tensor, first) for tensor in tensors):
            kinds.setdefault((first.device, *(tensor.dtype for tensor in tensors)), []).append(i)
        else:
            others.append(i)
    return list(kinds.values()), others


def has_kernels(p: Tensor) -> bool:
    """Return whether the kernels step tensors of this kind, if they have no gaps."""
    return p.device.type in DEVICES and p.dtype in DTYPES and not isinstance(p, DTensor)


def _fits(tensor: Tensor, like: Tensor) -> bool:
    """Return whether a kernel can step `tensor` as a row of numbers, in the order of `like`."""
    return (
        tensor.dtype in DTYPES
        and tensor.device == like.device
        and tensor.shape == like.shape
        and (tensor.is_contiguous() if like.is_contiguous() else tensor.stride() == like.stride())
        and tensor.permute(memory_order(tensor)).is_contiguous()
    )


def addresses(tensors: list[Tensor]) -> list[int]:
    """Return where tensors are in memory."""
    return [tensor.data_ptr() for tensor in tensors]


def _aligned(places: list[int]) -> bool:
    return all(place % 16 == 0 for place in places)
