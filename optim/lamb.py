"""LAMB: layer-wise adaptive moments for large batches."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import Optimizer, ParamsT, _use_grad_for_differentiable

from ._common import check_flags, dense_gradient, local_lists, norms, refuse_complex
from ._compile import SMALL_ELEMENTS, call_compiled, can_compile
from ._layout import Room, chunks, contiguous, on_flat, scratch

WRITTEN = (0, 2, 3)  # of (w, gradient, m, v)


def trust_ratio(w_norm: Tensor, r_norm: Tensor, low: Any, high: Any) -> Tensor:
    """Return phi(|w|) / |r + lambda w|, with phi(z) = min(max(z, low), high), and 1 where either norm is 0."""
    moving = (w_norm > 0) & (r_norm > 0)
    return torch.where(moving, w_norm.clamp(low, high) / torch.where(moving, r_norm, 1), 1)


def lamb_direction(
    w: Tensor, grad: Tensor, m: Tensor, v: Tensor, coefficients: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return `(m, v, r + lambda w, trust ratio)` of one step of LAMB on one tensor (Algorithm 2 of the paper).

    Args:
        w: The tensor.
        grad: Its gradient g.
        m: Moving average of g.
        v: Moving average of g².
        coefficients: 1 - beta1, 1 - beta2, eps, scale, weight decay, both bounds of phi, and 1 or 0 for whether the
            trust ratio applies to this tensor. The bias corrections are in eps and scale: see `_corrected`.
    """
    weight1, weight2, eps, scale, weight_decay, low, high, adapt = coefficients
    m = m + weight1 * (grad - m)
    v = v + weight2 * (grad * grad - v)
    r = scale * (m / (v.sqrt() + eps)) + weight_decay * w
    ratio = torch.where(adapt > 0, trust_ratio(_norm(w), _norm(r), low, high), 1)
    return m, v, r, ratio


def _norm(tensor: Tensor) -> Tensor:
    # A compiler fuses the plain sum of squares with what comes before. And sqrt(0) has an infinite slope.
    squared = (tensor * tensor).sum()
    return torch.where(squared > 0, squared, 1).sqrt() * (squared > 0)


def _kernel(w: Tensor, grad: Tensor, m: Tensor, v: Tensor, r: Tensor, coefficients: Tensor) -> Tensor:
    dtype = coefficients.dtype
    *new, ratio = lamb_direction(w.to(dtype), grad.to(dtype), m.to(dtype), v.to(dtype), coefficients[1:].unbind())
    for tensor, value in zip((m, v, r), new, strict=True):
        tensor.copy_(value)
    return ratio


class LAMB(Optimizer):
    r"""Adam's direction, rescaled tensor by tensor to the length of the weights.

    With gradient :math:`g`, moments :math:`m, v` and trust ratio :math:`\phi(\|w\|) / \|r + \lambda w\|`:

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        r = \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}, \quad
        w \leftarrow w - \eta \frac{\phi(\|w\|)}{\|r + \lambda w\|} (r + \lambda w)

    The ratio is 1 where either norm is 0. Norms are of the whole tensor, also where it is a DTensor sharded over
    processes. Gradients are not clipped. See You et al., `Large Batch Optimization for Deep Learning: Training BERT in
    76 minutes <https://arxiv.org/abs/1904.00962>`_.

    Args:
        params: Tensors to optimize, or dictionaries of parameter groups. Real, of any shape and strides.
        lr: Learning rate (eta), a number or a tensor of no dimension.
        betas: Decay of both moving averages, each in [0, 1).
        eps: Added to the denominator, at least 0.
        weight_decay: lambda, at least 0; inside the direction and its norm.
        bias_correction: False leaves out :math:`1 - \beta^t`, as in version 3 of the paper.
        norm_bounds: `(low, high)` makes :math:`\phi(z) = \min(\max(z, low), high)`; None makes it the identity.
        exclude_1d: Leave tensors of at most one dimension (norm scales, biases) without weight decay and trust ratio.
        maximize: Ascend instead of descending.
        foreach: Work on lists of tensors: True on all at once, False on one at a time, None as suits the device: all at
            once on an accelerator, by the kernel of torch's fused Adam on a CPU.
        capturable: Keep the step count on the parameter's device, so that a CUDA graph can capture the step. A learning
            rate that is a tensor must then be on that device.
        differentiable: Let autograd go through the step.
        fused: Compile the step (C++ on a CPU, Triton on CUDA), in the first step. Falls back to the plain path, with a
            warning, where there is no compiler. DTensors, and tensors of up to 16,384 elements, take the plain path.

    Memory: besides the state, on a CPU, room for the largest tensor is kept.

    Raises:
        ValueError: At a value out of range, complex parameters, sparse gradients, or flags that exclude one another.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = LAMB(model.parameters(), lr=0.01)
        >>> model(torch.ones(3, 2)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.trust_ratios().shape  # the weight's; the bias has none
        torch.Size([1])
    """

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
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "norm_bounds": norm_bounds,
            "exclude_1d": exclude_1d,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        self._ratios: list[tuple[list[Tensor], Tensor]] = []
        self._room: Room = {}
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled optimizer; the last step's trust ratios are not kept."""
        super().__setstate__(state)
        self._ratios, self._room = [], {}

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

    def trust_ratios(self) -> Tensor:
        """Return the last step's trust ratios: one for each adapted tensor with a gradient, in the groups' order."""
        ratios: dict[Tensor, Tensor] = {}
        for params, values in self._ratios:
            whole = values.full_tensor() if isinstance(values, DTensor) else values
            ratios.update(zip(params, whole.detach().float(), strict=True))
        ordered = [ratios[p] for group in self.param_groups for p in group["params"] if p in ratios]
        return torch.stack([ratio.to(ordered[0].device) for ratio in ordered]) if ordered else torch.empty(0)

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Fill the lists with what has a gradient. torch.compile knows this name and form."""
        for p in group["params"]:
            grad = dense_gradient("LAMB", p)
            if grad is None:
                continue
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=p.device if group["capturable"] else "cpu")
                state["exp_avg"] = torch.zeros_like(p)
                state["exp_avg_sq"] = torch.zeros_like(p)
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            steps.append(state["step"])

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
        self._ratios.clear()  # not a new list: torch 2.11 cannot compile that
        for group in self.param_groups:
            lists: tuple[list[Tensor], ...] = ([], [], [], [], [])
            self._init_group(group, *lists)
            if lists[0]:
                self._step_group(group, *lists)
        return loss

    def _step_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        if steps[0].is_cpu:  # a number would be made a tensor anew for each of them
            torch._foreach_add_(steps, torch.ones(()), alpha=1.0)
        else:
            torch._foreach_add_(steps, 1)
        if group["maximize"]:
            grads = list(torch._foreach_neg(grads))
        traced = group["capturable"] or group["differentiable"] or torch.compiler.is_compiling()
        counts = [None] * len(steps) if traced else torch.stack(steps).tolist()
        may_fuse = bool(group["fused"]) and not torch.compiler.is_compiling()
        alike: dict[Any, list[int]] = {}
        for i, p in enumerate(params):
            adapt = p.ndim > 1 or not group["exclude_1d"]
            fused = may_fuse and not isinstance(p, DTensor)
            # A step count on the device cannot be looked at without waiting, or while a graph is captured.
            alike.setdefault((p.device, p.dtype, adapt, fused, counts[i]), []).append(i)
        for (device, _, adapt, fused, _), index in alike.items():
            batch = [[values[i] for i in index] for values in (params, grads, exp_avgs, exp_avg_sqs, steps)]
            ratios = _step_fused(group, adapt, batch, self._room) if fused and can_compile(device.type) else None
            if ratios is None:  # not fused, or there is no compiler
                ratios = _step_traced(group, adapt, batch) if traced else _step_plain(group, adapt, batch, self._room)
            if adapt:
                self._ratios.append((batch[0], ratios))


def _check(group: dict[str, Any]) -> None:
    """Refuse bad options and parameters of a group."""
    refuse_complex("LAMB", group)
    check_flags(group)
    for name in ("lr", "eps", "weight_decay"):
        if not 0 <= group[name] < math.inf:
            raise ValueError(f"{name} must be finite and at least 0, got {group[name]}")
    if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
        raise ValueError(f"betas must be two numbers in [0, 1), got {group['betas']}")
    bounds = group["norm_bounds"]
    if bounds is not None and not (len(bounds) == 2 and 0 <= bounds[0] <= bounds[1]):
        raise ValueError(f"norm_bounds must be None or (low, high) with 0 <= low <= high, got {bounds}")


def _bounds(group: dict[str, Any]) -> tuple[float, float]:
    return group["norm_bounds"] or (0.0, math.inf)


def _corrected(group: dict[str, Any], t: Any, expm1: Callable[..., Any], sqrt: Callable[..., Any]) -> tuple[Any, Any]:
    """Return eps' and scale of `r = scale * m / (sqrt(v) + eps')`: so the corrections cost no pass over the tensors."""
    if not group["bias_correction"]:
        return group["eps"], 1.0
    # 1 - beta^t without cancellation; at beta = 0 it is 1.
    correction1, correction2 = (-expm1(t * math.log(beta)) if beta > 0 else 1.0 + 0 * t for beta in group["betas"])
    return group["eps"] * sqrt(correction2), sqrt(correction2) / correction1


def _coefficients(
    group: dict[str, Any], adapt: bool, t: Any, expm1: Callable[..., Any], sqrt: Callable[..., Any]
) -> tuple[Any, ...]:
    """Return the learning rate and `lamb_direction`'s coefficients after `t` steps, a number or a tensor of many."""
    eps, scale = _corrected(group, t, expm1, sqrt)
    (beta1, beta2), weight_decay = group["betas"], group["weight_decay"] if adapt else 0.0
    return group["lr"], 1 - beta1, 1 - beta2, eps, scale, weight_decay, *_bounds(group), float(adapt)


def _table(group: dict[str, Any], adapt: bool, steps: list[Tensor], w: Tensor) -> Tensor:
    """Return a table of coefficients, a row for each step count, in float32 at least, beside `w`."""
    t = torch.stack(steps).double()
    values = _coefficients(group, adapt, t, torch.expm1, torch.sqrt)
    # full_like, as a tensor made from a number would be a copy from the host, which a CUDA graph cannot capture
    columns = [c.to(t).expand_as(t) if isinstance(c, Tensor) else torch.full_like(t, c) for c in values]
    return torch.stack(columns, 1).to(w.device, torch.promote_types(w.dtype, torch.float32))


def _step_plain(group: dict[str, Any], adapt: bool, batch: list[list[Tensor]], room: Room) -> Tensor:
    """Step tensors of one device, dtype and step count in place; return their trust ratios, if they have any."""
    *lists, steps = batch
    owners = lists[0]
    lists = local_lists(lists)
    if group["foreach"] is not None or not owners[0].is_cpu:
        return _step_lists(group, adapt, lists, owners, steps[0].item())
    with contiguous(lists, WRITTEN) as flats:
        return _step_cpu(group, adapt, flats, owners, steps[0], room)


def _step_lists(
    group: dict[str, Any], adapt: bool, lists: list[list[Tensor]], owners: list[Tensor], t: float
) -> Tensor:
    lr, (beta1, beta2), ratios = float(group["lr"]), group["betas"], []
    eps, scale = _corrected(group, t, math.expm1, math.sqrt)
    for run in chunks(owners, group["foreach"]):
        w, g, m, v = (values[run] for values in lists)
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
        ratio = trust_ratio(norms(w, owners[run]), scale * norms(r, owners[run]), *_bounds(group))
        ratios.append(ratio)
        torch._foreach_mul_(r, ratio.to(r[0].dtype).unbind())  # without waiting for the device
        torch._foreach_add_(w, r, alpha=-lr * scale)
    return torch.cat(ratios) if ratios else torch.empty(0)


def _step_cpu(
    group: dict[str, Any],
    adapt: bool,
    lists: list[list[Tensor]],
    owners: list[Tensor],
    step: Tensor,
    room: Room,
) -> Tensor:
    """Step contiguous tensors by the kernel of torch's fused Adam: with rate -1 it adds the direction to lambda w."""
    step = step if group["bias_correction"] else torch.tensor(math.inf)  # after infinitely many there is none
    lr, (beta1, beta2), ratios = float(group["lr"]), group["betas"], []
    adam = functools.partial(
        torch._fused_adam_,
        max_exp_avg_sqs=[],
        beta1=beta1,
        beta2=beta2,
        eps=group["eps"],
        weight_decay=0.0,
        amsgrad=False,
        maximize=False,
    )
    if not adapt:
        adam(*lists, state_steps=[step] * len(owners), lr=lr)
        return torch.empty(0)
    for run in chunks(owners, None):
        w, g, m, v = (values[run] for values in lists)
        sizes = [x.numel() for x in w]
        space = scratch(sum(sizes), w[0].dtype, w[0].device, room)
        r = [part.view_as(x) for part, x in zip(space.split(sizes), w, strict=True)]
        for source, target in zip(w, r, strict=True):
            torch.mul(source, group["weight_decay"], out=target)
        adam(r, g, m, v, state_steps=[step] * len(w), lr=-1.0)
        ratio = trust_ratio(norms(w, owners[run]), norms(r, owners[run]), *_bounds(group))
        ratios.append(ratio)
        for w_i, r_i, ratio_i in zip(w, r, ratio.tolist(), strict=True):
            w_i.add_(r_i, alpha=-lr * ratio_i)
    return torch.cat(ratios)


def _step_traced(group: dict[str, Any], adapt: bool, batch: list[list[Tensor]]) -> Tensor:
    """Step tensors without looking at any value: for CUDA graphs, autograd and torch.compile."""
    *lists, steps = batch
    ratios = []
    table = _table(group, adapt, steps, lists[0][0])
    for row, *tensors in zip(table, *lists, strict=True):
        # Clones, as autograd must find what it saved unchanged.
        w, grad, m, v = (x.to(table.dtype, copy=group["differentiable"]) for x in tensors)
        lr, *coefficients = row.unbind()
        m, v, r, ratio = lamb_direction(w, grad, m, v, coefficients)
        for i, value in zip(WRITTEN, (w - lr * ratio * r, m, v), strict=True):
            tensors[i].copy_(value)
        ratios.append(ratio)
    return torch.stack(ratios)


def _step_fused(group: dict[str, Any], adapt: bool, batch: list[list[Tensor]], room: Room) -> Tensor | None:
    """Step tensors by compiled functions in place; return None, with nothing changed, where they do not compile."""
    *lists, steps = batch
    w = lists[0][0]
    if group["capturable"]:
        rows = list(_table(group, adapt, steps, w))
    else:  # the step counts are all the same
        row = [float(c) for c in _coefficients(group, adapt, steps[0].item(), math.expm1, math.sqrt)]
        rows = [torch.tensor(row, device=w.device, dtype=torch.promote_types(w.dtype, torch.float32))] * len(steps)
    lr = float(group["lr"]) if w.is_cpu else 0.0
    ratios = [rows[0].new_ones(())] * len(lists[0])

    def work(flats: list[Tensor]) -> bool:
        r = space[: flats[0].numel()]
        done, ratio = call_compiled(_kernel, (*flats, r), rows[i])
        if done:
            ratios[i] = ratio
            if r.is_cpu:
                flats[0].add_(r, alpha=-lr * ratio.item())
            else:  # without waiting for the device
                flats[0].addcmul_(r, -rows[i][0] * ratio)
        return done

    sizes = [tensor.numel() for tensor in lists[0]]
    limit = 0 if group["capturable"] else SMALL_ELEMENTS
    small = [i for i, size in enumerate(sizes) if 0 < size <= limit]
    space = scratch(max([size for size in sizes if size > limit], default=0), rows[0].dtype, w.device, room)
    for i, tensors in enumerate(zip(*lists, strict=True)):
        if sizes[i] > limit and not on_flat(work, tensors, WRITTEN):
            return None
    if small:
        values = _step_plain(group, adapt, [[values[i] for i in small] for values in batch], room)
        for i, ratio in zip(small if adapt else (), values, strict=True):
            ratios[i] = ratio
    return torch.stack(ratios)
