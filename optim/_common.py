"""What the optimizers have in common: refusals, local shards, norms of whole tensors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ._layout import flat, memory_order

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


def local_lists(lists: Sequence[list[Tensor]]) -> list[list[Tensor]]:
    """Return lists of tensors with the local part of each, in the layout of the first list's."""
    if not any(isinstance(p, DTensor) for p in lists[0]):
        return list(lists)
    return [[local(x, p) for x, p in zip(values, lists[0], strict=True)] for values in lists]


def norms(tensors: Sequence[Tensor], owners: Sequence[Tensor]) -> Tensor:
    """Return the 2-norm of each whole tensor, in float32 at least.

    Args:
        tensors: Local tensors on one device.
        owners: The parameters they belong to, whose placements say over which processes a norm has to be summed. Every
            process must call with the same parameters in the same order.
    """
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    result = torch.stack(torch._foreach_norm(list(tensors), 2, dtype))
    for i, tensor in enumerate(tensors):
        if tensor.is_cpu and tensor.numel() > NORM_ELEMENTS:
            pieces = flat([tensor], memory_order(tensor))[0].split(NORM_ELEMENTS // 16)
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
