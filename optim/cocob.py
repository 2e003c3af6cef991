"""COCOB: training without a learning rate, by coin betting."""

import functools
import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import ParamsT

from ._common import (
    GroupOptimizer,
    batches,
    check_flags,
    check_not_negative,
    check_parameters,
    launches,
    local_lists,
    takes_kernels,
)
from ._layout import chunks, contiguous, cut

WRITTEN = (0, 3, 4, 5, 6)  # of (w, gradient, *COCOB.STATE)

# Tensors up to this size are stepped in lists by fused=True too: a call of a compiled function costs as much.
SMALL_ELEMENTS = 2**14


def cocob_update(tensors: Sequence[Tensor], alpha: Any, weight_decay: Any) -> tuple[Tensor, ...]:
    """Return `(w, theta, G, L, reward)` after one round of Algorithm 2 of the paper, element by element.

    `tensors` holds w; its gradient, which is -g; the initial w; theta, the sum of g; G, the sum of |g|; L, the largest
    |g|; and the reward, what the bets have won.
    """
    w, grad, initial, theta, gradient_sum, max_gradient, reward = tensors
    grad = grad + weight_decay * w
    max_gradient = torch.maximum(max_gradient, grad.abs())
    gradient_sum = gradient_sum + grad.abs()
    reward = (reward - (w - initial) * grad).clamp_min(0)
    theta = theta - grad
    # The paper divides by L max(G + L, alpha L), which underflows for L < 1e-19 in float32: two divisions do not.
    bet = (max_gradient + reward) / torch.maximum(gradient_sum + max_gradient, alpha * max_gradient)
    return initial + theta * (bet / max_gradient), theta, gradient_sum, max_gradient, reward


class _Group(dict[str, Any]):
    """Parameter group whose missing learning rate is explained."""

    def __missing__(self, key: str) -> Any:
        if key in ("lr", "initial_lr"):
            raise ValueError(
                "COCOB has no learning rate to schedule or monitor, as it sets each step itself: remove the "
                "learning-rate scheduler (or monitor), or use another optimizer"
            )
        raise KeyError(key)


class COCOB(GroupOptimizer):
    r"""COCOB-Backprop: parameter-free optimization by continuous coin betting.

    Each weight is a gambler whose bets grow with what it has won; there is no learning rate. With :math:`g_t` the
    negative gradient and :math:`w_1` the initial weights, for each element:

    .. math::
        L \leftarrow \max(L, |g_t|), \quad G \leftarrow G + |g_t|, \quad
        R \leftarrow \max(R + (w_t - w_1) g_t, 0), \quad \theta \leftarrow \theta + g_t, \quad
        w_{t+1} = w_1 + \frac{\theta}{L \max(G + L, \alpha L)} (L + R)

    The steps do not depend on the scale of the gradients. See Orabona & Tommasi, `Training Deep Networks without
    Learning Rates Through Coin Betting <https://arxiv.org/abs/1705.07795>`_, Algorithm 2 (COCOB-Backprop).

    Args:
        params: Tensors to optimize, or dictionaries of parameter groups. Real, of any shape and strides.
        alpha: Greater than 0. A weight first moves by at most 1 / alpha, and G takes over after about alpha steps.
        weight_decay: L2 penalty, at least 0.
        maximize: Ascend instead of descending.
        foreach: True steps all tensors at once, False one at a time, None whichever suits the device.
        capturable: Has no effect, as a CUDA graph can always capture the step; accepted as in torch.
        differentiable: Let autograd differentiate through the step.
        fused: True steps tensors of more than 16,384 elements on a CPU with `torch.compile`, which compiles in the
            first step; without a compiler a warning is given. True and None step a group on CUDA in one launch of a
            Triton kernel (float32 and bfloat16; without Triton in lists).

    Memory: the state holds five tensors for each parameter: w_1, theta, G, L and R.

    Raises:
        ValueError: If a value is out of range, a parameter is complex, a gradient is sparse, flags exclude one another,
            or a learning-rate scheduler is attached.

    Example:
        >>> w = torch.zeros((), requires_grad=True)
        >>> optimizer = COCOB([w])
        >>> for _ in range(200):
        ...     optimizer.zero_grad()
        ...     (w - 3).square().backward()
        ...     optimizer.step()
        >>> abs(w.item() - 3) < 0.1
        True
    """

    STATE = ("initial", "theta", "gradient_sum", "max_gradient", "reward")

    def __init__(
        self,
        params: ParamsT,
        alpha: float = 100,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        options = {"alpha": alpha, "weight_decay": weight_decay, "maximize": maximize}
        flags = {"foreach": foreach, "capturable": capturable, "differentiable": differentiable, "fused": fused}
        self._plans = {}
        super().__init__(params, {**options, **flags})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or loaded optimizer."""
        super().__setstate__(state)
        self.param_groups[:] = [_Group(group) for group in self.param_groups]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as `GroupOptimizer.add_param_group` does."""
        super().add_param_group(param_group)
        self.param_groups[-1] = _Group(self.param_groups[-1])

    def _check(self, group: dict[str, Any]) -> None:
        check_parameters("COCOB", group)
        check_flags(group)
        if not 0 < group["alpha"] < math.inf:
            raise ValueError(f"alpha must be finite and greater than 0, found {group['alpha']}")
        check_not_negative(group, "weight_decay")

    def _new_state(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        state = {name: torch.zeros_like(p) for name in self.STATE}
        # With its history where the step is differentiable, otherwise without.
        return {**state, "initial": p.clone(), "max_gradient": torch.full_like(p, _smallest(p))}

    @torch.no_grad()
    def step_sizes(self) -> Tensor:
        """Return the effective step size of each parameter that has been stepped, in the groups' order.

        This is the mean over the elements of (L + R) / (L max(G + L, alpha L)), the factor of theta.
        """
        sizes = []
        for group in self.param_groups:
            for p in group["params"]:
                if p in self.state and p.numel() > 0:
                    total, largest, reward = (self.state[p][key].float() for key in self.STATE[2:])
                    bet = (largest + reward) / torch.maximum(total + largest, group["alpha"] * largest)
                    mean = torch.where(largest > _smallest(p), bet / largest, 0).mean()
                    sizes.append(mean.full_tensor() if isinstance(mean, DTensor) else mean)
        return torch.stack([size.to(sizes[0].device) for size in sizes]) if sizes else torch.empty(0)

    def _step_group(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *states: Any) -> None:
        # No element depends on another one, so that a shard of a DTensor can be stepped by itself.
        params, grads, *tensors = local_lists((params, grads, *states))
        if not torch.compiler.is_compiling() and any(takes_kernels(group, p) for p in params):
            plan = self._plan(group, (params, *tensors), (), lambda lists: launches().CocobLists(lists))
            for part, index in plan.parts:
                part.step(group, [grads[i] for i in index])
            params, grads, *tensors = ([values[i] for i in plan.others] for values in (params, grads, *tensors))
        if group["maximize"] and grads:
            grads = list(torch._foreach_neg(grads))
        for batch in batches((params, grads, *tensors)):
            if group["differentiable"] or torch.compiler.is_compiling():
                _single_tensor_cocob(group, batch)
            elif group["fused"] and batch[0][0].is_cpu:
                _fused_cocob(group, batch)
            else:
                _multi_tensor_cocob(group, batch)


def _smallest(p: Tensor) -> float:
    """Return the initial L, instead of 0: less than any gradient, but theta / L is 0 before the first one."""
    return torch.finfo(p.dtype).tiny


def _single_tensor_cocob(group: dict[str, Any], lists: list[list[Tensor]]) -> None:
    """Step one tensor at a time: for autograd and torch.compile."""
    for tensors in zip(*lists, strict=True):
        _update_in_place(tensors, group["alpha"], group["weight_decay"])


def _update_in_place(tensors: Sequence[Tensor], alpha: Any, weight_decay: Any) -> None:
    # In copies, as autograd must find unchanged what it saved; a compiler leaves them out.
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    new = cocob_update([x.to(dtype, copy=True) for x in tensors], alpha, weight_decay)
    for i, value in zip(WRITTEN, new, strict=True):
        tensors[i].copy_(value)


def _multi_tensor_cocob(group: dict[str, Any], lists: list[list[Tensor]]) -> None:
    """Step lists of tensors in place, with as few passes and temporaries as possible."""
    lists = cut(lists, group["foreach"])
    for chunk in chunks(lists[0], group["foreach"]):
        w, grad, initial, theta, gradient_sum, max_gradient, reward = (values[chunk] for values in lists)
        if group["weight_decay"] != 0:
            grad = list(torch._foreach_add(grad, w, alpha=group["weight_decay"]))
        size = torch._foreach_abs(grad)
        torch._foreach_maximum_(max_gradient, size)
        torch._foreach_add_(gradient_sum, size)
        torch._foreach_addcmul_(reward, grad, torch._foreach_sub(w, initial), -1)
        torch._foreach_clamp_min_(reward, 0)
        torch._foreach_sub_(theta, grad)
        limit = torch._foreach_add(gradient_sum, max_gradient)
        torch._foreach_maximum_(limit, torch._foreach_mul(max_gradient, group["alpha"]))
        bet = torch._foreach_add(reward, max_gradient)
        torch._foreach_div_(bet, limit)
        torch._foreach_div_(bet, max_gradient)
        torch._foreach_copy_(w, initial)
        torch._foreach_addcmul_(w, theta, bet)


def _fused_cocob(group: dict[str, Any], lists: list[list[Tensor]]) -> None:
    """Step large tensors on a CPU with a compiled update, and small ones in lists."""
    update = _compiled_update()
    large = [update is not None and w.numel() > SMALL_ELEMENTS for w in lists[0]]
    small = [not is_large for is_large in large]
    _multi_tensor_cocob(group, [list(itertools.compress(values, small)) for values in lists])
    # As tensors, for whose values nothing is recompiled.
    options = [torch.tensor(float(group[name]), device="cpu") for name in ("alpha", "weight_decay")]
    with contiguous([list(itertools.compress(values, large)) for values in lists], WRITTEN) as flats:
        for tensors in zip(*flats, strict=True):
            # .data hides the base of the view from Dynamo, which would otherwise recompile for each shape of the base.
            update([tensor.data.view(-1) for tensor in tensors], *options)
            torch.autograd.graph.increment_version([tensors[i] for i in WRITTEN])


@functools.cache
def _compiled_update() -> Any:
    """Return `_update_in_place` compiled for flat tensors, or None, with a warning, if that fails."""
    compiled = torch.compile(_update_in_place, dynamic=True)
    try:
        with torch.device("cpu"):
            sample = [torch.ones(SMALL_ELEMENTS + 1) for _ in range(len(COCOB.STATE) + 2)]
            compiled(sample, torch.ones(()), torch.ones(()))
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        warnings.warn(f"fused=True: COCOB cannot be compiled ({reason}); it runs uncompiled", stacklevel=2)
        return None
    return compiled
