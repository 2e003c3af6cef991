"""LAMB: layer-wise adaptive moments for large batches."""

import math
from collections.abc import Callable
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
    norms,
    takes_kernels,
)
from ._layout import chunks, contiguous, scaled

WRITTEN = (0, 2, 3)  # of (w, gradient, m, v)


def lamb_direction(
    w: Tensor, grad: Tensor, m: Tensor, v: Tensor, betas: tuple[float, float], eps: Any, scale: Any, weight_decay: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `(m, v, r + lambda w)` of a tensor w after lines 6 to 11 of Algorithm 2 of the paper.

    m and v are the moving averages of the gradient and of its square; `eps` and `scale` are those of `corrected`.
    """
    m = m + (1 - betas[0]) * (grad - m)
    v = v + (1 - betas[1]) * (grad * grad - v)
    return m, v, scale * (m / (v.sqrt() + eps)) + weight_decay * w


def corrected(group: dict[str, Any], t: Any) -> tuple[Any, Any]:
    """Return `(eps', scale)` with `r = scale * m / (sqrt(v) + eps')` after `t` steps, a number or a float64 tensor."""
    correction1, correction2 = (1 - beta**t for beta in group["betas"])
    return group["eps"] * correction2**0.5, correction2**0.5 / correction1


def trust_ratio(w_norm: Tensor, r_norm: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """Return phi(|w|) / |r + lambda w|, with phi(z) = min(max(z, low), high), and 1 where either norm is 0."""
    low, high = bounds or (0.0, math.inf)
    positive = (w_norm > 0) & (r_norm > 0)
    return torch.where(positive, w_norm.clamp(low, high) / torch.where(positive, r_norm, 1), 1)


class LAMB(GroupOptimizer):
    r"""Layer-wise adaptive moments: Adam's direction, rescaled tensor by tensor to the norm of the weights.

    With gradient :math:`g`, moments :math:`m, v` and trust ratio :math:`\phi(\|w\|) / \|r + \lambda w\|`:

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        r = \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}, \quad
        w \leftarrow w - \eta \frac{\phi(\|w\|)}{\|r + \lambda w\|} (r + \lambda w)

    The ratio is 1 where either norm is 0. Norms are of the whole tensor, even if it is a DTensor sharded over
    processes. Gradients are not clipped. See You et al., `Large Batch Optimization for Deep Learning: Training BERT in
    76 minutes <https://arxiv.org/abs/1904.00962>`_.

    Args:
        params: Tensors to optimize, or dictionaries of parameter groups. Real, of any shape and strides.
        lr: Learning rate (eta), a number or a zero-dimensional tensor.
        betas: Decay of the two moving averages, each in [0, 1).
        eps: Added to the denominator, at least 0.
        weight_decay: lambda, at least 0; inside the direction and its norm.
        bias_correction: False leaves out :math:`1 - \beta^t`, as in version 3 of the paper.
        norm_bounds: `(low, high)` makes :math:`\phi(z) = \min(\max(z, low), high)`; None makes it the identity.
        exclude_1d: Apply neither weight decay nor trust ratio to tensors of at most one dimension (norm scales,
            biases).
        maximize: Ascend instead of descending.
        foreach: True steps all tensors at once, False one at a time. None leaves the choice to `fused`.
        capturable: Keep the step counts on the parameters' device, so that a CUDA graph can capture the step. A
            learning rate that is a tensor must then be on that device.
        differentiable: Let autograd differentiate through the step.
        fused: True steps a group on CUDA in two launches of Triton kernels (float32 and bfloat16, but no
            DTensor; without Triton as elsewhere), and elsewhere computes the direction with the kernel of torch's fused
            Adam. None is True, but `foreach=True` on CUDA for tensors that have no Triton kernel.

    Memory: the state holds two tensors for each parameter. On a CPU a buffer as large as the largest tensor is kept.

    Raises:
        ValueError: If a value is out of range, a parameter is complex, a gradient is sparse, or flags exclude one
            another.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = LAMB(model.parameters(), lr=0.01)
        >>> model(torch.ones(3, 2)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.trust_ratios().shape  # the weight's; the bias has none
        torch.Size([1])
    """

    STATE = ("exp_avg", "exp_avg_sq", "step")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        bias_correction: bool = True,
        norm_bounds: tuple[float, float] | None = None,
        exclude_1d: bool = True,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        options: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        options |= {"bias_correction": bias_correction, "norm_bounds": norm_bounds, "exclude_1d": exclude_1d}
        flags = {"foreach": foreach, "capturable": capturable, "differentiable": differentiable, "fused": fused}
        self._plans = {}
        self._ratios: list[tuple[list[Tensor], Tensor]] = []
        self._buffers: dict[torch.dtype, Tensor] = {}
        super().__init__(params, {**options, "maximize": maximize, **flags})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled optimizer, without the last step's trust ratios."""
        super().__setstate__(state)
        self._ratios, self._buffers = [], {}
        for group in self.param_groups:  # a loaded step count may be on another device, to be waited for at each step
            for p in group["params"]:
                if "step" in self.state.get(p, {}):
                    self.state[p]["step"] = self.state[p]["step"].to(_step_device(group, p), torch.float32)

    def _check(self, group: dict[str, Any]) -> None:
        check_parameters("LAMB", group, whole=True)
        check_flags(group)
        check_not_negative(group, "lr", "eps", "weight_decay")
        if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"betas must be two numbers in [0, 1), found {group['betas']}")
        bounds = group["norm_bounds"]
        if bounds is not None and not (len(bounds) == 2 and 0 <= bounds[0] <= bounds[1]):
            raise ValueError(f"norm_bounds must be None or (low, high) with 0 <= low <= high, found {bounds}")

    def _new_state(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        step = torch.zeros((), dtype=torch.float32, device=_step_device(group, p))
        return {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}

    def trust_ratios(self) -> Tensor:
        """Return the last step's trust ratios: one for each adapted tensor with a gradient, in the groups' order."""
        ratios: dict[Tensor, Tensor] = {}
        for params, values in self._ratios:
            whole = values.full_tensor() if isinstance(values, DTensor) else values
            ratios.update(zip(params, whole.detach().float(), strict=True))
        ordered = [ratios[p] for group in self.param_groups for p in group["params"] if p in ratios]
        return torch.stack([ratio.to(ordered[0].device) for ratio in ordered]) if ordered else torch.empty(0)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, as `GroupOptimizer.step` says."""
        self._ratios.clear()  # not a new list: torch 2.11 cannot compile that
        return super().step(closure)

    def _step_group(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *states: Any) -> None:
        lists, others = (params, grads, *states), list(range(len(params)))
        if not torch.compiler.is_compiling() and any(takes_kernels(group, p) for p in params):

            def make(lists: list[list[Tensor]]) -> Any:
                return launches().LambLists(lists, [_is_adapted(group, p) for p in lists[0]])

            plan = self._plan(group, (params, *states[:2]), states[2:], make, group["exclude_1d"])
            others = plan.others
            for part, index in plan.parts:
                part.step(group, [grads[i] for i in index])
                self._ratios.append((part.adapted, part.ratios))
        for on_cpu in (True, False):
            index = [i for i in others if states[-1][i].is_cpu is on_cpu]
            if index:
                self._step_others(group, *([values[i] for i in index] for values in lists))

    def _step_others(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *states: Any) -> None:
        exp_avgs, exp_avg_sqs, steps = states
        if steps[0].is_cpu:  # adding a number would convert it to a tensor for each step count
            torch._foreach_add_(steps, torch.ones((), device="cpu"), alpha=1.0)
        else:
            torch._foreach_add_(steps, 1)
        traced = group["differentiable"] or torch.compiler.is_compiling()
        # Where it cannot be read without waiting for the device.
        on_device = group["capturable"] or group["fused"] or not steps[0].is_cpu
        counts = [None] * len(steps) if traced or on_device else torch.stack(steps).tolist()
        if not group["bias_correction"]:
            steps = [torch.full_like(steps[0], math.inf)] * len(steps)  # no bias is left after so many steps
        if group["maximize"]:
            grads = list(torch._foreach_neg(grads))
        adapted = [_is_adapted(group, p) for p in params]
        for batch in batches((params, grads, exp_avgs, exp_avg_sqs, steps), adapted, counts):
            first = batch[0][0]
            adapt = _is_adapted(group, first)
            if not traced and (group["fused"] or (first.is_cpu and group["foreach"] is None and not on_device)):
                ratios = _fused_lamb(group, adapt, batch, self._buffers)
            elif traced or on_device:
                ratios = _single_tensor_lamb(group, adapt, batch)
            else:
                ratios = _multi_tensor_lamb(group, adapt, batch)
            if adapt:
                self._ratios.append((batch[0], ratios))


def _is_adapted(group: dict[str, Any], p: Tensor) -> bool:
    """Return whether weight decay and trust ratio apply to a parameter."""
    return p.ndim > 1 or not group["exclude_1d"]


def _step_device(group: dict[str, Any], p: Tensor) -> torch.device:
    """Return where the step count of a parameter belongs."""
    on_device = group["capturable"] or group["fused"] or takes_kernels(group, p)
    return p.device if on_device else torch.device("cpu")


def _single_tensor_lamb(group: dict[str, Any], adapt: bool, batch: list[list[Tensor]]) -> Tensor:
    """Step one tensor at a time without reading any value, for CUDA graphs, autograd and torch.compile."""
    *lists, steps = batch
    dtype, device = torch.promote_types(lists[0][0].dtype, torch.float32), lists[0][0].device
    corrections = corrected(group, torch.stack(steps).double())  # of all at once: fewer launches
    eps, scale = (values.to(device, dtype).unbind() for values in corrections)
    weight_decay, ratios = group["weight_decay"] if adapt else 0.0, []
    for i, tensors in enumerate(zip(*lists, strict=True)):
        # Clones, as autograd must find unchanged what it saved.
        w, grad, m, v = (x.to(dtype, copy=group["differentiable"]) for x in tensors)
        m, v, r = lamb_direction(w, grad, m, v, group["betas"], eps[i], scale[i], weight_decay)
        ratio = trust_ratio(_norm(w), _norm(r), group["norm_bounds"]) if adapt else torch.ones_like(scale[i])
        for place, value in zip(WRITTEN, (w - group["lr"] * ratio * r, m, v), strict=True):
            tensors[place].copy_(value)
        ratios.append(ratio)
    return torch.stack(ratios)


def _norm(tensor: Tensor) -> Tensor:
    # A compiler fuses the plain sum of squares with what comes before. And sqrt(0) has an infinite slope.
    squared = (tensor * tensor).sum()
    return torch.where(squared > 0, squared, 1).sqrt() * (squared > 0)


def _multi_tensor_lamb(group: dict[str, Any], adapt: bool, batch: list[list[Tensor]]) -> Tensor:
    """Step lists of tensors of one step count in place; return the trust ratios, empty without `adapt`."""
    params, steps, lists = batch[0], batch[-1], local_lists(batch[:-1])
    lr, (beta1, beta2), ratios = float(group["lr"]), group["betas"], []
    eps, scale = corrected(group, steps[0].item())
    for chunk in chunks(params, group["foreach"]):
        w, g, m, v = (values[chunk] for values in lists)
        torch._foreach_lerp_(m, g, 1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, g, g, 1 - beta2)
        denominator = torch._foreach_sqrt(v)
        torch._foreach_add_(denominator, eps)
        if not adapt:
            torch._foreach_addcdiv_(w, m, denominator, -lr * scale)
            continue
        r = torch._foreach_div(m, denominator)  # the direction over scale
        torch._foreach_add_(r, w, alpha=group["weight_decay"] / scale)
        ratio = trust_ratio(norms(w, params[chunk]), scale * norms(r, params[chunk]), group["norm_bounds"])
        ratios.append(ratio)
        torch._foreach_mul_(r, ratio.to(r[0].dtype).unbind())  # without waiting for the device
        torch._foreach_add_(w, r, alpha=-lr * scale)
    return torch.cat(ratios) if ratios else torch.empty(0)


def _fused_lamb(
    group: dict[str, Any], adapt: bool, batch: list[list[Tensor]], buffers: dict[torch.dtype, Tensor]
) -> Tensor:
    """Step tensors in place with torch's fused Adam kernel; return the trust ratios, empty without `adapt`.

    With a learning rate of -1 the kernel adds Adam's direction to its first argument, here lambda w.
    """
    params, steps, device = batch[0], batch[-1], batch[0][0].device
    if steps[0].device != device:  # fused=True was set after the first step
        steps = [step.to(device) for step in steps]
    lr, (beta1, beta2), ratios = group["lr"] if group["capturable"] else float(group["lr"]), group["betas"], []
    options: dict[str, Any] = {"beta1": beta1, "beta2": beta2, "eps": group["eps"]}
    options |= {"weight_decay": 0.0, "amsgrad": False, "maximize": False}
    with contiguous(local_lists(batch[:-1]), WRITTEN) as lists:
        if not adapt:
            torch._fused_adam_(lists[0], lists[1], lists[2], lists[3], [], steps, lr=lr, **options)
        for chunk in chunks(params, None) if adapt else ():
            w, g, m, v = (values[chunk] for values in lists)
            r = scaled(w, group["weight_decay"], buffers)
            torch._fused_adam_(r, g, m, v, [], steps[chunk], lr=-1.0, **options)
            ratio = trust_ratio(norms(w, params[chunk]), norms(r, params[chunk]), group["norm_bounds"])
            ratios.append(ratio)
            if device.type == "cpu":
                for w_i, r_i, ratio_i in zip(w, r, ratio.tolist(), strict=True):
                    w_i.add_(r_i, alpha=-lr * ratio_i)
            else:  # without waiting for the device
                torch._foreach_mul_(r, (lr * ratio).to(r[0].dtype).unbind())
                torch._foreach_sub_(w, r)
        for place in WRITTEN:  # the kernel does not tell autograd
            torch.autograd.graph.increment_version(lists[place])
    return torch.cat(ratios) if ratios else torch.empty(0)
