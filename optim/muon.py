"""Muon: momentum whose direction is orthogonalised, matrix by matrix."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from ._common import (
    GroupOptimizer,
    batches,
    check_parameters,
    dense_gradient,
    local_lists,
    norms,
)
from ._layout import contiguous
from ._muon_options import ADJUSTMENTS, DTYPES, check_options
from ._orthogonal import as_matrix, as_tensor, orthogonalised

WRITTEN = (0, 2, 3)  # of parameter, gradient and the two moving averages
STATES = {"muon": ("momentum_buffer",), "sgd": ("momentum_buffer",), "adamw": ("exp_avg", "exp_avg_sq", "step")}


class Muon(GroupOptimizer):
    r"""Momentum, orthogonalised: each weight moves by the nearest (semi-)orthogonal matrix to its momentum.

    A weight of at least two dimensions `[O, I, ...]`, such as a layer's matrix or a convolution's filters, is a matrix
    `[O, I * ...]`. With gradient :math:`g`:

    .. math::
        b \leftarrow \mu b + (1 - \mu) g, \quad u = \mu b + (1 - \mu) g, \quad
        w \leftarrow (1 - \eta \lambda) w - \eta s \, \mathrm{NS}_k(u)

    where NS is u divided by its norm after k steps :math:`X \leftarrow a X + (b X X^T + c (X X^T)^2) X` of Newton and
    Schulz, and s depends on the shape. Matrices of one shape take them together. All others (biases, norm scales)
    take AdamW's step, or SGD's. See Jordan et al., `Muon: An optimizer for hidden layers in neural networks
    <https://kellerjordan.github.io/posts/muon/>`_. On matrices this is `torch.optim.Muon`, which refuses all others.

    Args:
        params: Tensors to optimize, or dictionaries of parameter groups. Real, of any shape and strides.
        lr: Learning rate (eta), a number or a zero-dimensional tensor.
        weight_decay: lambda, at least 0; for SGD the L2 penalty.
        momentum: mu, in [0, 1), also SGD's.
        nesterov: False takes u = b; also SGD's.
        ns_coefficients: a, b and c of Newton and Schulz.
        eps: Smallest norm that a matrix is divided by, greater than 0.
        ns_steps: k, from 0 to 99.
        adjust_lr_fn: s. `original` (None): sqrt(max(1, O / I)), `match_rms_adamw`: 0.2 sqrt(max(O, I)),
            `spectral_unclamped`: sqrt(O / I).
        filter_norm: Before its update, set each matrix to the norm `filter_norm * sqrt(O)`, so that this is the root
            mean square of its filters' norms. None leaves it.
        method: Who steps a group: `muon`, `adamw` or `sgd`. `auto`: Muon tensors of at least two dimensions, `rest` all
            others. A first or last layer is often better in a group of its own with `adamw`.
        rest: `adamw` or `sgd`.
        rest_lr_factor: Learning rate of AdamW and SGD, relative to `lr`.
        adamw_betas: AdamW's decay of the two moving averages, each in [0, 1).
        adamw_eps: Added to AdamW's denominator, at least 0.
        ns_dtype: Type in which Newton and Schulz computes: `bfloat16`, `float16`, `float32` or `float64`.
        maximize: Ascend instead of descending.
        foreach: False steps one tensor at a time. None and True step them together; None takes torch's fused AdamW.
        capturable: Keep AdamW's step counts on the parameters' device, so that a CUDA graph can capture the step. A
            learning rate that is a tensor must then be on that device.
        differentiable: Not supported; accepted as in torch.

    Memory: the state holds one tensor for each parameter, for AdamW two. An update needs a few copies of the matrices
    of one shape. Of a DTensor every process computes the whole update.

    Raises:
        ValueError: If a value is out of range, a parameter is complex, a gradient is sparse, `method="muon"` is set for
            a tensor of fewer than two dimensions, or `differentiable` is set.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8, 2))
        >>> head = {"params": model[2].parameters(), "method": "adamw", "lr": 1e-3}
        >>> optimizer = Muon([{"params": model[0].parameters()}, head], lr=0.02)
        >>> model(torch.ones(4, 3, 3, 3)).square().mean().backward()
        >>> optimizer.step()
    """

    STATE = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: Literal["original", "match_rms_adamw", "spectral_unclamped"] | None = None,
        *,
        filter_norm: float | None = None,
        method: Literal["auto", "muon", "adamw", "sgd"] = "auto",
        rest: Literal["adamw", "sgd"] = "adamw",
        rest_lr_factor: float = 1.0,
        adamw_betas: tuple[float, float] = (0.9, 0.999),
        adamw_eps: float = 1e-8,
        ns_dtype: Literal["bfloat16", "float16", "float32", "float64"] = "bfloat16",
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
        options |= {"ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn}
        options |= {"filter_norm": filter_norm, "method": method, "rest": rest, "rest_lr_factor": rest_lr_factor}
        options |= {"adamw_betas": adamw_betas, "adamw_eps": adamw_eps, "ns_dtype": ns_dtype, "maximize": maximize}
        flags = {"foreach": foreach, "capturable": capturable, "differentiable": differentiable}
        super().__init__(params, {**options, **flags})

    def _check(self, group: dict[str, Any]) -> None:
        check_parameters("Muon", group, whole=True)
        check_options(group)
        for p in group["params"] if group["method"] == "muon" else ():
            if p.ndim < 2:
                raise ValueError(
                    f"method='muon' needs tensors of at least two dimensions, found one of shape {tuple(p.shape)}: "
                    "leave it at 'auto', or give 'adamw' or 'sgd'"
                )

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *states: list[Tensor]
    ) -> None:
        """Fill the lists, with None for states that a parameter's method has not; `torch.compile` knows this name."""
        for p in group["params"]:
            grad = dense_gradient("Muon", p)
            if grad is not None:
                params.append(p)
                grads.append(grad)
                for name in STATES[_method(group, p)]:
                    self._keep(group, p, name)
                for values, name in zip(states, self.STATE, strict=True):
                    values.append(self.state[p].get(name))

    def _keep(self, group: dict[str, Any], p: Tensor, name: str) -> None:
        """Create a state that is missing; put a loaded step count where it belongs."""
        state = self.state[p]
        if name == "step":
            state[name] = state.get(name, torch.zeros((), device="cpu")).to(_step_device(group, p), torch.float32)
        elif name not in state:
            state[name] = torch.zeros_like(p)

    def _step_group(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *states: Any) -> None:
        if group["maximize"]:
            grads = list(torch._foreach_neg(grads))
        for lists in batches((params, grads, *states), [_method(group, p) for p in params]):
            buffers, *of_adamw = lists[2:]
            method = _method(group, lists[0][0])
            if method == "adamw":
                _adamw(group, lists[0], lists[1], *of_adamw)
            else:
                (_muon if method == "muon" else _sgd)(group, lists[0], lists[1], buffers)


def _method(group: dict[str, Any], p: Tensor) -> str:
    if group["method"] == "auto":
        return "muon" if p.ndim >= 2 and p.numel() else str(group["rest"])
    return str(group["method"])


def _is_fused(group: dict[str, Any], p: Tensor) -> bool:
    return group["foreach"] is None and p.device.type in ("cpu", "cuda")


def _step_device(group: dict[str, Any], p: Tensor) -> torch.device:
    """Return where the step count of a parameter belongs."""
    return p.device if group["capturable"] or _is_fused(group, p) else torch.device("cpu")


def _lr(group: dict[str, Any]) -> Any:
    return group["lr"] if group["capturable"] else float(group["lr"])


def _muon(group: dict[str, Any], params: list[Tensor], grads: list[Tensor], buffers: list[Tensor]) -> None:
    """Step matrices of one device and dtype."""
    lr, momentum = _lr(group), group["momentum"]
    torch._foreach_lerp_(buffers, grads, 1 - momentum)
    updates = torch._foreach_lerp(grads, buffers, momentum) if group["nesterov"] else buffers
    if group["filter_norm"] is not None:
        wanted = [group["filter_norm"] * len(p) ** 0.5 for p in params]
        weights = local_lists([params])[0]
        inverse = norms(weights, params).clamp(min=group["eps"]).reciprocal().to(weights[0].dtype)
        torch._foreach_mul_(weights, torch._foreach_mul(inverse.unbind(), wanted))
    _scale(params, 1 - lr * group["weight_decay"])
    matrices = [as_matrix(u, p) for u, p in zip(updates, params, strict=True)]
    keys = [i if group["foreach"] is False else m.shape for i, m in enumerate(matrices)]
    for targets, of_shape in batches((params, matrices), keys):
        rows, columns = of_shape[0].shape
        stack = torch.stack([m.mT if rows > columns else m for m in of_shape]).to(DTYPES[group["ns_dtype"]])
        stack = orthogonalised(stack, group["ns_steps"], group["ns_coefficients"], group["eps"]).to(targets[0].dtype)
        scale = lr * ADJUSTMENTS[group["adjust_lr_fn"]](rows, columns)
        stack = stack.mT if rows > columns else stack
        _descend(targets, [as_tensor(m, p) for m, p in zip(stack, targets, strict=True)], scale)


def _scale(tensors: list[Tensor], factor: Any) -> None:
    if tensors[0].is_cpu:  # where the list's function rounds the number to bfloat16 first
        for tensor in tensors:
            tensor.mul_(factor)
    else:
        torch._foreach_mul_(tensors, factor)


def _descend(params: list[Tensor], updates: list[Tensor], lr: Any) -> None:
    if isinstance(lr, Tensor):
        torch._foreach_sub_(params, torch._foreach_mul(updates, lr))
    else:
        torch._foreach_add_(params, updates, alpha=-lr)


def _sgd(group: dict[str, Any], params: list[Tensor], grads: list[Tensor], buffers: list[Tensor]) -> None:
    """Step as `torch.optim.SGD` does."""
    if group["weight_decay"]:
        grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
    _scale(buffers, group["momentum"])
    torch._foreach_add_(buffers, grads)
    updates = torch._foreach_add(grads, buffers, alpha=group["momentum"]) if group["nesterov"] else buffers
    _descend(params, list(updates), _lr(group) * group["rest_lr_factor"])


def _adamw(group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *states: list[Tensor]) -> None:
    """Step as `torch.optim.AdamW` does."""
    options: dict[str, Any] = {"lr": _lr(group) * group["rest_lr_factor"], "weight_decay": group["weight_decay"]}
    options |= dict(zip(("beta1", "beta2"), group["adamw_betas"], strict=True), eps=group["adamw_eps"])
    options |= {"amsgrad": False, "maximize": False, "state_steps": states[2], "max_exp_avg_sqs": []}
    if not _is_fused(group, params[0]):
        adamw(params, grads, states[0], states[1], foreach=group["foreach"] is not False, **options)
        return
    with contiguous(local_lists([params, grads, *states[:2]]), WRITTEN) as (w, g, m, v):  # the kernel knows no strides
        adamw(w, g, m, v, fused=True, **options)
        for written in (w, m, v):  # nor does it tell autograd
            torch.autograd.graph.increment_version(written)
