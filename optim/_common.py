"""Shared by the optimizers: checks of options and gradients, the grouping of tensors, norms of whole tensors."""

import functools
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import Optimizer

from ._layout import flat, memory_order
from ._table import Plan, has_kernels

# A CPU sums the squares of a norm in few float32 accumulators: the norm is too small by a relative 2e-5 at this number
# of elements, by 4e-3 at 32 times as many.
NORM_ELEMENTS = 2**21


def check_flags(group: dict[str, Any]) -> None:
    """Refuse implementation flags of a parameter group that exclude one another."""
    chosen = [name for name in ("foreach", "fused", "differentiable") if group[name]]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} exclude one another: set at most one of them to True")
    if group["capturable"] and group["foreach"]:
        raise ValueError("capturable and foreach exclude one another: leave foreach at None or False")


def check_not_negative(group: dict[str, Any], *names: str) -> None:
    """Refuse options of a parameter group that are negative, infinite or NaN."""
    for name in names:
        if isinstance(group[name], Tensor) and group[name].numel() != 1:
            shape = tuple(group[name].shape)
            raise ValueError(f"{name} must be a number or a tensor of one element, found a tensor of shape {shape}")
        if not 0 <= group[name] < math.inf:
            raise ValueError(f"{name} must be finite and at least 0, found {group[name]}")


def check_period(**periods: Any) -> None:
    """Refuse numbers of steps that are not whole or below 1."""
    for name, value in periods.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, found {value!r}")


def check_parameters(optimizer: str, group: dict[str, Any], whole: bool = False) -> None:
    """Refuse complex parameters, and with `whole` the parts of parameters that FSDP1 has flattened and cut."""
    for p in group["params"]:
        if p.is_complex():
            raise ValueError(
                f"{optimizer} does not support complex parameters, found one of shape {tuple(p.shape)} and {p.dtype}: "
                "optimize torch.view_as_real of it"
            )
        if whole and getattr(p, "_fsdp_flattened", False):  # FSDP1's mark, beside which no shape is left
            raise ValueError(
                f"{optimizer} needs whole tensors, which FSDP1 (FullyShardedDataParallel, Lightning's strategy 'fsdp') "
                "does not keep: shard by FSDP2 (torch.distributed.fsdp.fully_shard, Lightning's ModelParallelStrategy)"
            )


def refuse_automatic_optimization(optimizer: str, closure: Any) -> None:
    """Refuse a closure of Lightning's automatic optimization, a whole training step that may be called only once.

    Lightning passes it as an object of its own, or binds the module and it to a method of a precision plugin.
    """
    bound = isinstance(closure, functools.partial) and bool(closure.args)
    place = getattr(closure.func if bound else type(closure), "__module__", "")
    is_manual = bound and not getattr(closure.args[0], "automatic_optimization", True)
    if place.startswith(("pytorch_lightning.", "lightning.pytorch.")) and not is_manual:
        raise RuntimeError(
            f"{optimizer} evaluates the loss twice a step, which Lightning's automatic optimization does not do: write "
            "`class Mine(TwoPassMixin, LightningModule)` with lightning_modules.TwoPassMixin, or optimize manually"
        )


def keep_if_valid(groups: list[dict[str, Any]], check: Callable[[dict[str, Any]], None]) -> None:
    """Check the parameter group that was added last, and remove it again if it is refused."""
    try:
        check(groups[-1])
    except ValueError:
        groups.pop()
        raise


def dense_gradient(optimizer: str, p: Tensor) -> Tensor | None:
    """Return the gradient of `p`, or None if it has none; refuse a sparse one."""
    if p.grad is not None and p.grad.layout is not torch.strided:
        raise ValueError(
            f"{optimizer} does not support sparse gradients, found {p.grad.layout} for a parameter of shape "
            f"{tuple(p.shape)}: use sparse=False in the layer, or torch.optim.SparseAdam for it"
        )
    return p.grad


@functools.cache
def launches() -> Any:
    """Return the module of the kernels' launches, or None without Triton or a C compiler."""
    try:
        from . import _launches
    except ImportError:
        return None
    return _launches if _has_compiler() else None


def _has_compiler() -> bool:
    """Return whether Triton finds the C compiler with which it builds what launches a kernel."""
    return bool(os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"))


def takes_kernels(group: dict[str, Any], p: Tensor) -> bool:
    """Return whether a kernel steps a parameter, if it has no gaps: on CUDA, unless the flags name another way."""
    wanted = group["fused"] or (group["fused"] is None and (group["capturable"] or group["foreach"] is None))
    return bool(wanted) and not group["differentiable"] and has_kernels(p) and launches() is not None


class GroupOptimizer(Optimizer):
    """Optimizer that steps all tensors of a parameter group together, as torch's own do.

    A subclass names the tensors of its state in `STATE`, in the order in which `_new_state` creates them. `_check`
    refuses bad options and parameters of a group, and `_step_group` steps the parameters that have a gradient; its
    `states` are one list for each name in `STATE`. The options include `differentiable`.
    """

    STATE: ClassVar[tuple[str, ...]]
    _plans: dict[tuple[Any, ...], Plan]  # by the group's id and what else they depend on

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or loaded optimizer, whose tensors are others than before."""
        super().__setstate__(state)
        self._plans = {}

    def _check(self, group: dict[str, Any]) -> None: ...

    def _new_state(self, group: dict[str, Any], p: Tensor) -> Any: ...

    def _step_group(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *states: Any) -> None: ...

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, whose options may differ from the defaults; refuse it as the constructor would."""
        super().add_param_group(param_group)
        keep_if_valid(self.param_groups, self._check)

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *states: list[Tensor]
    ) -> None:
        """Fill the lists with the parameters that have a gradient; `torch.compile` relies on this name and form."""
        of_params = []
        for p in group["params"]:
            grad = dense_gradient(type(self).__name__, p)
            if grad is None:
                continue
            state = self.state[p]
            if not state:
                state.update(self._new_state(group, p))
            params.append(p)
            grads.append(grad)
            of_params.append(state)
        for values, name in zip(states, self.STATE, strict=True):
            values += [state[name] for state in of_params]

    def _plan(
        self,
        group: dict[str, Any],
        lists: Sequence[list[Tensor]],
        scalars: Sequence[list[Tensor]],
        make: Callable[[list[list[Tensor]]], Any],
        *keys: Any,
    ) -> Plan:
        """Return the launches that step a group, those of the step before unless a tensor or a key has changed."""
        key = (id(group), *keys)
        plan = self._plans.get(key)
        if plan is None or not plan.matches(*lists, *scalars):
            plan = self._plans[key] = Plan(lists, scalars, make)
        return plan

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return the closure's result, or None without a closure.

        Args:
            closure: Clears the gradients, computes the loss, calls backward and returns the loss.

        Raises:
            ValueError: If a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            for group in self.param_groups:
                params: list[Tensor] = []
                grads: list[Tensor] = []
                states: list[list[Tensor]] = [[] for _ in self.STATE]
                self._init_group(group, params, grads, *states)
                if params:
                    self._step_group(group, params, grads, *states)
        return loss


def batches(lists: Sequence[list[Tensor]], *keys: Sequence[Any]) -> Iterator[list[list[Tensor]]]:
    """Split lists of one length by device and dtype of the first list's tensors, and by `keys` of the same length."""
    places: dict[Any, list[int]] = {}
    for i, key in enumerate(zip([t.device for t in lists[0]], [t.dtype for t in lists[0]], *keys, strict=True)):
        places.setdefault(key, []).append(i)
    for index in places.values():
        yield [[values[i] for i in index] for values in lists]


def local(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """Return this process's part of a DTensor, with the placements of `like`, and any other tensor unchanged."""
    if not isinstance(tensor, DTensor):
        return tensor
    if isinstance(like, DTensor) and tensor.placements != like.placements:
        tensor = tensor.redistribute(placements=like.placements)
    return tensor.to_local()


def local_lists(lists: Sequence[list[Tensor]]) -> list[list[Tensor]]:
    """Return the local parts of lists of tensors, with the placements of the first list's."""
    if not any(isinstance(p, DTensor) for p in lists[0]):
        return list(lists)
    return [[local(x, p) for x, p in zip(values, lists[0], strict=True)] for values in lists]


def norms(tensors: Sequence[Tensor], owners: Sequence[Tensor]) -> Tensor:
    """Return the 2-norm of each whole tensor, in float32 at least.

    Args:
        tensors: Local tensors on one device.
        owners: The parameters that they belong to; their placements tell over which processes a norm is summed. Every
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
    for process_group, index in shards.items():
        squares = result[index] ** 2
        torch.distributed.all_reduce(squares, group=process_group)
        result[index] = squares.sqrt()
    return result
