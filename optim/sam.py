"""SAM: sharpness-aware minimization around any optimizer."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from ._common import dense_gradient, local, norms, refuse_complex
from ._layout import chunks


class SAM(Optimizer):
    r"""Descend by the gradient at the worst point near the weights, so as to end in flat minima.

    .. math::
        \epsilon = \rho \frac{g(w)}{\|g(w)\|}, \qquad w \leftarrow \text{base step with the gradient } g(w + \epsilon)

    The norm goes over all parameters. With `adaptive=True` (ASAM) the neighbourhood is an ellipsoid that follows the
    scale of each weight: :math:`\epsilon = \rho\, T^2 g / \|T g\|` with :math:`T = |w| + \eta`. See Foret et al.,
    `Sharpness-Aware Minimization for Efficiently Improving Generalization <https://arxiv.org/abs/2010.01412>`_ and
    Kwon et al., `ASAM <https://arxiv.org/abs/2102.11600>`_.

    `param_groups` and `state` are those of the base optimizer, so that a scheduler may be attached to either. A step
    whose first gradient is not finite is skipped and counted. Memory: one copy of the parameters.

    Args:
        params: Tensors to optimize, or dictionaries of parameter groups (with options of SAM or of the base optimizer).
        base_optimizer: Factory called with the parameter groups: a class of optimizers or a partial of one. None is
            `torch.optim.SGD` with momentum 0.9 and its own learning rate, 0.001.
        rho: Radius of the neighbourhood, at least 0.
        adaptive: ASAM instead of SAM. Its authors use a `rho` ten times as large.
        eta: Added to |w| by ASAM, at least 0.
        sync_perturbation: For whoever runs the passes of data-parallel processes (`ImageClassifier` does): whether all
            climb by their mean gradient, or each by that of its own examples, which is the paper's way (m-sharpness)
            and saves a synchronisation. The descent is synchronised in any case.

    Attributes:
        base_optimizer: The optimizer that takes the step.
        is_perturbed: Whether the weights are at :math:`w + \epsilon`: between `first_step` and `second_step`.
        sharpness: Second loss minus first of the last `step`; None before it, or where it was skipped or had no losses.
        skipped_steps: How many steps were skipped. Kept in the state dict.

    Raises:
        ValueError: At a value out of range, complex parameters or sparse gradients.

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
        self.sharpness: Tensor | None = None
        self.skipped_steps = 0
        self.is_perturbed = False
        # Where the weights are kept while they are perturbed; as large as the parameters, and used again in each step.
        self._kept: dict[Tensor, Tensor] = {}
        self._perturbed: list[Tensor] = []
        super().__init__(params, {"rho": rho, "adaptive": adaptive, "eta": eta})
        for group in self.param_groups:
            _check(group)
        factory = base_optimizer if base_optimizer is not None else _sgd
        self.base_optimizer = factory(self.param_groups)
        if not isinstance(self.base_optimizer, Optimizer):
            raise ValueError(
                f"base_optimizer must make a torch.optim.Optimizer, got {self.base_optimizer!r}: give a class"
            )
        self.defaults = {**self.base_optimizer.defaults, **self.defaults}  # where some schedulers look for betas
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.base_optimizer.param_groups, self.base_optimizer.state

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: not the room for the weights, nor the last sharpness."""
        names = ("defaults", "base_optimizer", "skipped_steps", "sync_perturbation")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled optimizer."""
        super().__setstate__(state)
        self.sharpness, self.is_perturbed, self._kept, self._perturbed = None, False, {}, []
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters to SAM and to the base optimizer.

        Raises:
            ValueError: At options or parameters that the constructor refuses too.
        """
        if not hasattr(self, "base_optimizer"):  # while the constructor runs
            super().add_param_group(param_group)
            return
        group = {**self.defaults, **param_group}
        group["params"] = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        _check(group)
        self.base_optimizer.add_param_group(group)

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's state dict (whose groups hold SAM's options too) and SAM's own count."""
        return {**self.base_optimizer.state_dict(), "skipped_steps": self.skipped_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.base_optimizer.load_state_dict({k: v for k, v in state_dict.items() if k != "skipped_steps"})
        self.skipped_steps = state_dict.get("skipped_steps", 0)
        self._share()

    @torch.no_grad()
    def first_step(self) -> bool:
        """Move the weights to w + epsilon, by the gradients that they have.

        Returns:
            Whether they were moved. False where the gradient was not finite: the step is to be skipped.

        Raises:
            RuntimeError: If they were moved already.
        """
        if self.is_perturbed:
            raise RuntimeError("first_step was called twice: call second_step (or restore) in between")
        self._opt_called = True  # schedulers look at this to warn if no step was taken before theirs
        moving = self._moving()
        squared = _squared_norms(moving)
        self.is_perturbed, self.sharpness = True, None
        if not math.isfinite(squared):
            self.skip_step()
            return False
        for group, params in moving:
            if squared > 0 and group["rho"] > 0 and params:
                self._perturb(group, params, group["rho"] / math.sqrt(squared))
        return True

    def _moving(self) -> list[tuple[dict[str, Any], list[Tensor]]]:
        """Return each group with its parameters that have a gradient."""
        return [(g, [p for p in g["params"] if dense_gradient("SAM", p) is not None]) for g in self.param_groups]

    def _perturb(self, group: dict[str, Any], params: list[Tensor], scale: float) -> None:
        w, grads = [local(p) for p in params], _gradients(params)
        for p, w_i in zip(params, w, strict=True):
            room = self._kept.get(p)
            if room is None or room.shape != w_i.shape or room.dtype != w_i.dtype or room.device != w_i.device:
                self._kept[p] = torch.empty_like(w_i)
        kept = [self._kept[p] for p in params]
        self._perturbed += params
        scale = -scale if group.get("maximize", False) else scale  # then the worst point is the lowest one
        if group["adaptive"]:
            torch._foreach_copy_(kept, w)
            for w_i, grad in zip(w, grads, strict=True):
                w_i.addcmul_(w_i.abs().add_(group["eta"]).square_(), grad, value=scale)
        else:
            for run in chunks(w, None):
                torch._foreach_copy_(kept[run], w[run])
                torch._foreach_add_(w[run], grads[run], alpha=scale)

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the weights back to where they were before `first_step`.

        Raises:
            RuntimeError: If they were not moved.
        """
        if not self.is_perturbed:
            raise RuntimeError("the weights are not perturbed: call first_step before")
        if self._perturbed:
            torch._foreach_copy_([local(p) for p in self._perturbed], [self._kept[p] for p in self._perturbed])
        self._perturbed, self.is_perturbed = [], False

    def skip_step(self) -> None:
        """Copy the weights back, and count the step as skipped: for when another process cannot take it.

        Raises:
            RuntimeError: If `first_step` was not called before.
        """
        self.restore()
        self.skipped_steps += 1

    def second_step(self) -> None:
        """Copy the weights back and let the base optimizer step by the gradients that they have now.

        Raises:
            RuntimeError: If `first_step` was not called before.
        """
        self.restore()
        self.base_optimizer.step()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; the closure is called twice, the second time at the perturbed weights.

        Args:
            closure: Clears the gradients, computes the loss, calls backward and returns the loss. May be left out where
                all gradients are 0, which is how torch.distributed.checkpoint makes an optimizer create its state.

        Returns:
            What the closure returned the first time.

        Raises:
            ValueError: Without a closure.
        """
        if closure is None:
            if _squared_norms(self._moving()) == 0:  # then the second gradient is the first one
                return self.base_optimizer.step()
            raise ValueError("SAM.step needs a closure, got None: give one, or call first_step and second_step by hand")
        with torch.enable_grad():
            first = closure()
        if not self.first_step():
            return first
        try:
            self.zero_grad()  # also where the closure does not: the first gradient must not be added to the second
            with torch.enable_grad():
                second = closure()
        except BaseException:
            self.restore()
            raise
        self.second_step()
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            self.sharpness = second.detach() - first.detach()
        return first


def _sgd(params: Iterable[Any]) -> Optimizer:
    return torch.optim.SGD(params, momentum=0.9)


def _gradients(params: list[Tensor]) -> list[Tensor]:
    return [local(p.grad, p) for p in params if p.grad is not None]


@torch.no_grad()
def _squared_norms(moving: list[tuple[dict[str, Any], list[Tensor]]]) -> float:
    squares = [_squared_norm(group, params) for group, params in moving if params]
    return torch.stack([s.to(squares[0].device) for s in squares]).sum().item() if squares else 0.0


def _squared_norm(group: dict[str, Any], params: list[Tensor]) -> Tensor:
    """Return |g|² (|T g|² where adaptive) over the parameters of a group, in float64."""
    alike: dict[Any, list[int]] = {}
    for i, p in enumerate(params):
        alike.setdefault((p.device, p.dtype), []).append(i)
    squares = []
    for index in alike.values():
        owners = [params[i] for i in index]
        grads = _gradients(owners)
        if group["adaptive"]:  # a tensor at a time, as T g takes memory
            lengths = [norms([(local(p).abs() + group["eta"]) * g], [p]) for p, g in zip(owners, grads, strict=True)]
        else:
            lengths = [norms(grads, owners)]
        squares += [length.double().square().sum() for length in lengths]
    return torch.stack([s.to(squares[0].device) for s in squares]).sum()


def _check(group: dict[str, Any]) -> None:
    """Refuse bad options and parameters of a group."""
    refuse_complex("SAM", group)
    for name in ("rho", "eta"):
        if not 0 <= group[name] < math.inf:
            raise ValueError(f"{name} must be finite and at least 0, got {group[name]}")
