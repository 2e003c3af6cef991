"""SAM: sharpness-aware minimization around any optimizer."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from ._common import batches, check_not_negative, dense_gradient, keep_if_valid, local, norms, refuse_complex
from ._layout import chunks


class SAM(Optimizer):
    r"""Sharpness-aware minimization: descend along the gradient at the worst nearby point.

    .. math::
        \epsilon = \rho \frac{g(w)}{\|g(w)\|}, \qquad w \leftarrow \text{base step with the gradient } g(w + \epsilon)

    The norm goes over all parameters. With `adaptive=True` (ASAM) the neighbourhood is an ellipsoid that follows the
    scale of each weight: :math:`\epsilon = \rho\, T^2 g / \|T g\|` with :math:`T = |w| + \eta`. See Foret et al.,
    `Sharpness-Aware Minimization for Efficiently Improving Generalization <https://arxiv.org/abs/2010.01412>`_ and
    Kwon et al., `ASAM <https://arxiv.org/abs/2102.11600>`_.

    `param_groups` and `state` are those of the base optimizer, so a scheduler may be attached to either. A step whose
    first gradient is not finite is skipped and counted.

    Args:
        params: Tensors to optimize, or dictionaries of parameter groups (with options of SAM or of the base optimizer).
        base_optimizer: Factory called with the parameter groups: an optimizer class or a partial of one. None is
            `torch.optim.SGD` with momentum 0.9 and its default learning rate, 0.001.
        rho: Radius of the neighbourhood, at least 0.
        adaptive: Use ASAM instead of SAM. Its authors use a `rho` ten times as large.
        eta: Added to |w| by ASAM, at least 0.
        sync_perturbation: Used by the training loop under DDP: average the first gradient over ranks (True), or perturb
            each rank by its own (False: m-sharpness as in the paper, and one synchronisation less). The second gradient
            is averaged in any case.

    Attributes:
        base_optimizer: The optimizer that takes the step.
        is_perturbed: Whether the weights are at :math:`w + \epsilon`, between `first_step` and `second_step`.
        sharpness: Second loss minus first loss of the last `step`; None before it, or if it was skipped or had no loss.
        skipped_steps: Number of skipped steps; saved in the state dict.

    Memory: besides the base optimizer's state, one copy of the parameters.

    Raises:
        ValueError: If a value is out of range, a parameter is complex or a gradient is sparse.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = SAM(model.parameters(), torch.optim.Adam, rho=0.1)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = model(torch.ones(3, 2)).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)  # the loss before the step, not the perturbed one
        >>> bool(optimizer.sharpness >= 0)
        True
    """

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: Callable[[Iterable[Any]], Optimizer] | None = None,
        rho: float = 0.05,
        adaptive: bool = False,
        eta: float = 0.01,
        sync_perturbation: bool = False,
    ) -> None:
        self.sync_perturbation = sync_perturbation
        self.skipped_steps = 0
        self._start()
        super().__init__(params, {"rho": rho, "adaptive": adaptive, "eta": eta})
        factory = base_optimizer if base_optimizer is not None else partial(torch.optim.SGD, momentum=0.9)
        self.base_optimizer = factory(self.param_groups)
        if not isinstance(self.base_optimizer, Optimizer):
            raise ValueError(
                f"base_optimizer must make a torch.optim.Optimizer, found {self.base_optimizer!r}: give a class"
            )
        self.defaults = {**self.base_optimizer.defaults, **self.defaults}  # where some schedulers look for betas
        self._share()

    def _start(self) -> None:
        """Set what belongs to a single step."""
        self.sharpness: Tensor | None = None
        self.is_perturbed = False
        self._descending = False
        # Copies of the weights while they are perturbed; allocated once.
        self._kept: dict[Tensor, Tensor] = {}
        self._perturbed: list[Tensor] = []

    def _share(self) -> None:
        self.param_groups, self.state = self.base_optimizer.param_groups, self.base_optimizer.state

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: neither the copies of the weights nor the last sharpness."""
        names = ("defaults", "base_optimizer", "skipped_steps", "sync_perturbation")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled optimizer, or groups and state that `load_state_dict` has read."""
        if "param_groups" in state:
            self.base_optimizer.__setstate__(state)
        else:
            super().__setstate__(state)
            self._start()
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters to SAM and to the base optimizer.

        Raises:
            ValueError: If the constructor would refuse the options or parameters.
        """
        # While torch's constructor runs, there is no base optimizer.
        add = self.base_optimizer.add_param_group if hasattr(self, "base_optimizer") else super().add_param_group
        add({**self.defaults, **param_group})
        keep_if_valid(self.param_groups, _check)

    def state_dict(self) -> dict[str, Any]:
        """Return the groups (with the options of SAM and of the base optimizer), the state, and `skipped_steps`."""
        return {**super().state_dict(), "skipped_steps": self.skipped_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self.skipped_steps = state_dict.get("skipped_steps", 0)

    @torch.no_grad()
    def first_step(self) -> bool:
        """Move the weights to w + epsilon, along their present gradients.

        Returns:
            True if they were moved; False if a gradient is not finite, which skips and counts the step.

        Raises:
            RuntimeError: If they are perturbed already.
        """
        if self.is_perturbed:
            raise RuntimeError("first_step was called twice: call second_step (or restore) in between")
        with_gradients = self._with_gradients()
        squared = _squared_norm(with_gradients)
        self.is_perturbed, self.sharpness = True, None
        if not math.isfinite(squared):
            self.skip_step()
            return False
        for group, params in with_gradients:
            if squared > 0 and group["rho"] > 0 and params:
                self._perturb(group, params, group["rho"] / math.sqrt(squared))
        return True

    def _with_gradients(self) -> list[tuple[dict[str, Any], list[Tensor]]]:
        """Return each group and its parameters that have a gradient."""
        return [(g, [p for p in g["params"] if dense_gradient("SAM", p) is not None]) for g in self.param_groups]

    def _perturb(self, group: dict[str, Any], params: list[Tensor], scale: float) -> None:
        w, grads = [local(p) for p in params], _gradients(params)
        for p, w_i in zip(params, w, strict=True):
            kept_i = self._kept.get(p)
            if kept_i is None or (kept_i.shape, kept_i.dtype, kept_i.device) != (w_i.shape, w_i.dtype, w_i.device):
                self._kept[p] = torch.empty_like(w_i)
        kept = [self._kept[p] for p in params]
        self._perturbed += params
        scale = -scale if group.get("maximize", False) else scale  # then the worst point is the lowest one
        if group["adaptive"]:
            torch._foreach_copy_(kept, w)
            for w_i, grad in zip(w, grads, strict=True):
                w_i.addcmul_(w_i.abs().add_(group["eta"]).square_(), grad, value=scale)
        else:
            for chunk in chunks(w, None):
                torch._foreach_copy_(kept[chunk], w[chunk])
                torch._foreach_add_(w[chunk], grads[chunk], alpha=scale)

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the weights back to where they were before `first_step`; a RuntimeError if they are not perturbed."""
        if not self.is_perturbed:
            raise RuntimeError("the weights are not perturbed: call first_step before")
        if self._perturbed:
            torch._foreach_copy_([local(p) for p in self._perturbed], [self._kept[p] for p in self._perturbed])
        self._perturbed, self.is_perturbed = [], False

    def skip_step(self) -> None:
        """Restore the weights and count the step as skipped, for example because another process cannot take it."""
        self.restore()
        self.skipped_steps += 1

    def second_step(self) -> None:
        """Restore the weights and let the base optimizer step along the present gradients."""
        self.restore()
        with self.descent():
            self.step()

    @contextmanager
    def perturbed(self) -> Iterator[bool]:
        """Call `first_step`, yield its result, and restore the weights at the end of the `with` block."""
        moved = self.first_step()
        try:
            yield moved
        finally:
            if self.is_perturbed:
                self.restore()

    @contextmanager
    def descent(self) -> Iterator[None]:
        """Make `step` the base optimizer's in the `with` block, where the gradients are those at w + epsilon."""
        self._descending = True
        try:
            yield
        finally:
            self._descending = False

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; the closure is called twice, the second time at the perturbed weights.

        Args:
            closure: Clears the gradients, computes the loss, calls backward and returns the loss. May be left out if
                all gradients are 0, which is how torch.distributed.checkpoint makes an optimizer create its state.

        Returns:
            The closure's first result.

        Raises:
            ValueError: Without a closure.
        """
        if self._descending:
            return self.base_optimizer.step(closure)
        if closure is None:
            if _squared_norm(self._with_gradients()) == 0:  # the second gradient would be the same
                return self.base_optimizer.step()
            raise ValueError("SAM.step needs a closure, found None: give one, or call first_step and second_step")
        with torch.enable_grad():
            first = closure()
        with self.perturbed() as perturbed:
            if not perturbed:
                return first
            self.zero_grad()  # if the closure does not, the first gradient must not be added to the second
            with torch.enable_grad():
                second = closure()
        self.base_optimizer.step()
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            self.sharpness = second.detach() - first.detach()
        return first


def _gradients(params: list[Tensor]) -> list[Tensor]:
    return [local(p.grad, p) for p in params if p.grad is not None]


@torch.no_grad()
def _squared_norm(groups: list[tuple[dict[str, Any], list[Tensor]]]) -> float:
    """Return |g|² (|T g|² in adaptive groups) over all parameters, summed in float64."""
    squares = []
    for group, params in groups:
        for (owners,) in batches([params]):
            grads = _gradients(owners)
            if group["adaptive"]:  # a tensor at a time, as T g takes memory
                pairs = zip(owners, grads, strict=True)
                lengths = [norms([(local(p).abs() + group["eta"]) * g], [p]) for p, g in pairs]
            else:
                lengths = [norms(grads, owners)]
            squares += [length.double().square().sum() for length in lengths]
    return torch.stack([s.to(squares[0].device) for s in squares]).sum().item() if squares else 0.0


def _check(group: dict[str, Any]) -> None:
    """Refuse bad options and parameters of a group."""
    refuse_complex("SAM", group)
    check_not_negative(group, "rho", "eta")
