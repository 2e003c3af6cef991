"""COCOB: training without a learning rate, by betting on coins."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import Optimizer, ParamsT, _use_grad_for_differentiable

from ._common import check_flags, dense_gradient, local_lists, refuse_complex
from ._compile import SMALL_ELEMENTS, call_compiled, can_compile
from ._layout import chunks, cut, on_flat

STATE = ("initial", "theta", "gradient_sum", "max_gradient", "reward")
WRITTEN = (0, 3, 4, 5, 6)  # of (w, gradient, *STATE)


def cocob_update(tensors: Sequence[Tensor], alpha: Any, weight_decay: Any) -> tuple[Tensor, ...]:
    """Return `(w, theta, G, L, reward)` after one round of Algorithm 2 of the paper, element by element.

    Args:
        tensors: w; its gradient, that is -g; the initial w; theta, the sum of g; G, the sum of |g|; L, the largest |g|;
            and the reward, what the bets have won.
        alpha: At first, a bet is at most 1 / alpha.
        weight_decay: L2 penalty.
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


def _kernel(
    w: Tensor,
    grad: Tensor,
    initial: Tensor,
    theta: Tensor,
    gradient_sum: Tensor,
    max_gradient: Tensor,
    reward: Tensor,
    coefficients: Tensor,
) -> None:
    tensors = (w, grad, initial, theta, gradient_sum, max_gradient, reward)
    new = cocob_update([x.to(coefficients.dtype) for x in tensors], *coefficients.unbind())
    for i, value in zip(WRITTEN, new, strict=True):
        tensors[i].copy_(value)


class _Group(dict[str, Any]):
    """A parameter group that says why it has no learning rate."""

    def __missing__(self, key: str) -> Any:
        if key in ("lr", "initial_lr"):
            raise ValueError(
                "COCOB has no learning rate, it sets the size of each step itself: there is nothing to schedule or to "
                "monitor; remove the learning-rate scheduler (or monitor), or use another optimizer"
            )
        raise KeyError(key)


class COCOB(Optimizer):
    r"""COntinuous COin Betting: each weight is a gambler whose bets grow with what it has won. No learning rate.

    With :math:`g_t` the negative gradient and :math:`w_1` the initial weights, for each element:

    .. math::
        L \leftarrow \max(L, |g_t|), \quad G \leftarrow G + |g_t|, \quad
        R \leftarrow \max(R + (w_t - w_1) g_t, 0), \quad \theta \leftarrow \theta + g_t, \quad
        w_{t+1} = w_1 + \frac{\theta}{L \max(G + L, \alpha L)} (L + R)

    The steps do not depend on the scale of the gradients. See Orabona & Tommasi, `Training Deep Networks without
    Learning Rates Through Coin Betting <https://arxiv.org/abs/1705.07795>`_, Algorithm 2 (COCOB-Backprop). The state is
    five tensors for each parameter: w_1, theta, G, L and R.

    Args:
        params: Tensors to optimize, or dictionaries of parameter groups. Real, of any shape and strides.
        alpha: Greater than 0. A weight moves at most 1 / alpha at first, and about alpha steps pass until G takes over.
        weight_decay: L2 penalty, at least 0.
        maximize: Ascend instead of descending.
        foreach: Work on lists of tensors: True on all at once, False on one at a time, None as suits the device.
        capturable: The step can be captured in a CUDA graph. (It always can; the flag is there for uniformity.)
        differentiable: Let autograd go through the step.
        fused: Compile the step (C++ on a CPU, Triton on CUDA), in the first step. Falls back to the plain path, with a
            warning, where there is no compiler. Tensors of up to 16,384 elements take the plain path.

    Raises:
        ValueError: At a value out of range, complex parameters, sparse gradients, flags that exclude one another, or a
            learning-rate scheduler.

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
        defaults = {
            "alpha": alpha,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or loaded optimizer."""
        super().__setstate__(state)
        self.param_groups[:] = [_Group(group) for group in self.param_groups]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, whose options may differ from the defaults.

        Raises:
            ValueError: At options or parameters that the constructor refuses too.
        """
        super().add_param_group(param_group)
        try:
            _check(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise
        self.param_groups[-1] = _Group(self.param_groups[-1])

    @torch.no_grad()
    def step_sizes(self) -> Tensor:
        """Return the effective step size of each parameter that has been stepped, in the groups' order.

        It is the mean over the elements of (L + R) / (L max(G + L, alpha L)), by which theta is multiplied.
        """
        sizes = []
        for group in self.param_groups:
            for p in group["params"]:
                if p in self.state and p.numel() > 0:
                    total, largest, reward = (self.state[p][key].float() for key in STATE[2:])
                    bet = (largest + reward) / torch.maximum(total + largest, group["alpha"] * largest)
                    mean = torch.where(largest > _start(p), bet / largest, 0).mean()
                    sizes.append(mean.full_tensor() if isinstance(mean, DTensor) else mean)
        return torch.stack([size.to(sizes[0].device) for size in sizes]) if sizes else torch.empty(0)

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *states: list[Tensor]
    ) -> None:
        """Fill the lists with what has a gradient. torch.compile knows this name and form."""
        for p in group["params"]:
            grad = dense_gradient("COCOB", p)
            if grad is None:
                continue
            state = self.state[p]
            if not state:
                state["initial"] = p.clone()  # with its history where the step is differentiable, else without
                for key in STATE[1:]:
                    state[key] = torch.zeros_like(p)
                state["max_gradient"].fill_(_start(p))
            params.append(p)
            grads.append(grad)
            for values, key in zip(states, STATE, strict=True):
                values.append(state[key])

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Clears the gradients, computes the loss, calls backward and returns the loss.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            states: tuple[list[Tensor], ...] = ([], [], [], [], [])
            self._init_group(group, params, grads, *states)
            if params:
                self._step_group(group, params, grads, *states)
        return loss

    def _step_group(self, group: dict[str, Any], params: list[Tensor], *others: list[Tensor]) -> None:
        # Each element moves on its own, so that a shard of a DTensor needs nothing of the others.
        lists = local_lists((params, *others))
        if group["maximize"]:
            lists[1] = list(torch._foreach_neg(lists[1]))
        alike: dict[Any, list[int]] = {}
        for i, p in enumerate(lists[0]):
            alike.setdefault((p.device, p.dtype), []).append(i)
        for (device, _), index in alike.items():
            batch = [[values[i] for i in index] for values in lists]
            compiling = torch.compiler.is_compiling()
            if group["fused"] and not compiling and can_compile(device.type) and _step_fused(group, batch):
                continue
            if group["differentiable"] or compiling:
                _step_traced(group, batch)
            else:
                _step_lists(group, batch)


def _check(group: dict[str, Any]) -> None:
    """Refuse bad options and parameters of a group."""
    refuse_complex("COCOB", group)
    check_flags(group)
    if not 0 < group["alpha"] < math.inf:
        raise ValueError(f"alpha must be finite and greater than 0, got {group['alpha']}")
    if not 0 <= group["weight_decay"] < math.inf:
        raise ValueError(f"weight_decay must be finite and at least 0, got {group['weight_decay']}")


def _start(p: Tensor) -> float:
    """Return what L starts at instead of 0: less than any gradient, yet theta / L is 0 before the first one."""
    return torch.finfo(p.dtype).tiny


def _step_lists(group: dict[str, Any], lists: list[list[Tensor]]) -> None:
    """Step tensors of one device and dtype in place, in as few passes and temporaries as there can be."""
    lists = cut(lists, group["foreach"])
    for run in chunks(lists[0], group["foreach"]):
        w, grad, initial, theta, gradient_sum, max_gradient, reward = (values[run] for values in lists)
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


def _step_traced(group: dict[str, Any], lists: list[list[Tensor]]) -> None:
    """Step tensors one by one without writing to what autograd needs: for autograd and torch.compile."""
    for tensors in zip(*lists, strict=True):
        new = cocob_update([x.clone() for x in tensors], group["alpha"], group["weight_decay"])
        for i, value in zip(WRITTEN, new, strict=True):
            tensors[i].copy_(value)


def _step_fused(group: dict[str, Any], lists: list[list[Tensor]]) -> bool:
    """Step tensors by a compiled function in place; return False, with nothing changed, where it does not compile."""
    w = lists[0][0]
    dtype = torch.promote_types(w.dtype, torch.float32)
    coefficients = torch.stack(
        [torch.full((), group[k], dtype=dtype, device=w.device) for k in ("alpha", "weight_decay")]
    )
    small = []
    for i, tensors in enumerate(zip(*lists, strict=True)):
        if tensors[0].numel() <= SMALL_ELEMENTS:
            small.append(i)
        elif not on_flat(lambda flats: call_compiled(_kernel, flats, coefficients)[0], tensors, WRITTEN):
            return False
    if small:
        _step_lists(group, [[values[i] for i in small] for values in lists])
    return True
