"""SAM: sharpness-aware minimization around any optimizer."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from ._common import check_period, dense_gradient, keep_if_valid, refuse_automatic_optimization
from ._progress import Progress, squared_norm
from ._sam_checks import OPTIONS, check_base, check_group


def _of_progress(name: str) -> Any:
    return property(lambda sam: getattr(sam._progress, name), lambda sam, value: setattr(sam._progress, name, value))


class SAM(Optimizer):
    r"""Sharpness-aware minimization: descend along the gradient at the worst nearby point.

    .. math::
        \epsilon = \rho \frac{g(w)}{\|g(w)\|}, \qquad w \leftarrow \text{base step with the gradient } g(w + \epsilon)

    The norm is over all parameters. With `adaptive=True` (ASAM) the neighbourhood is an ellipsoid that follows the
    scale of each weight: :math:`\epsilon = \rho\, T^2 g / \|T g\|` with :math:`T = |w| + \eta`. See Foret et al.,
    `Sharpness-Aware Minimization for Efficiently Improving Generalization <https://arxiv.org/abs/2010.01412>`_ and
    Kwon et al., `ASAM <https://arxiv.org/abs/2102.11600>`_.

    `param_groups` and `state` are those of the base optimizer, so a scheduler may be attached to either. A step whose
    first gradient is not finite is skipped and counted.

    By hand, a step is `first_step` after the first backward pass and `second_step` after the second. A
    `torch.amp.GradScaler` must `unscale_` the gradient of `second_step` (that of `first_step` may be scaled) and
    `update` after it. A LightningModule needs `lightning_modules.TwoPassMixin`, or manual optimization.

    With `every=k` only the steps 0, k, 2k, ... are perturbed; those between are the base optimizer's along g(w), at
    half the cost. A loop by hand asks `perturbs_next` before `first_step` and the second backward pass to save them.

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
        every: Perturb the first step and every `every`-th one after it, at least 1. Skipped steps are not counted.
        **base_options: Options of the base optimizer, such as `lr`.

    Attributes:
        is_perturbed: Whether the weights are at :math:`w + \epsilon`, between `first_step` and `second_step`.
        sharpness: Second loss minus first loss of the last perturbed step; None before it, or if it was skipped or had
            no loss.
        skipped_steps: Number of skipped steps; saved in the state dict.
        steps: Number of steps taken; saved in the state dict.
        perturbs_next: Whether the step to come, or the one in progress, is perturbed.

    Memory: besides the base optimizer's state, one copy of the parameters.

    Raises:
        ValueError: If a value is out of range, a parameter is complex or sharded by FSDP1, a gradient is sparse, or the
            base optimizer is an object, has an option named as one of SAM's, or needs a closure.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = SAM(model.parameters(), torch.optim.Adam, rho=0.1, lr=0.01)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = model(torch.ones(3, 2)).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)  # the loss before the step, not the perturbed one
        >>> bool(optimizer.sharpness >= 0)
        True
    """

    sharpness = _of_progress("sharpness")
    skipped_steps = _of_progress("skipped_steps")
    steps = _of_progress("steps")
    is_perturbed = _of_progress("is_perturbed")

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: Callable[[Iterable[Any]], Optimizer] | None = None,
        rho: float = 0.05,
        adaptive: bool = False,
        eta: float = 0.01,
        sync_perturbation: bool = False,
        every: int = 1,
        **base_options: Any,
    ) -> None:
        if not (base_optimizer is None or callable(base_optimizer)):
            raise ValueError(
                "base_optimizer must be a class such as torch.optim.SGD, found an instance of "
                f"{type(base_optimizer).__name__}: give the class, and its options as keywords"
            )
        check_period(every=every)
        self.sync_perturbation, self.every = sync_perturbation, every
        self._progress = Progress()
        super().__init__(params, {"rho": rho, "adaptive": adaptive, "eta": eta})
        factory: Any = base_optimizer if base_optimizer is not None else partial(torch.optim.SGD, momentum=0.9)
        self.base_optimizer = factory(self.param_groups, **base_options)
        check_base(self.base_optimizer)
        self.defaults = {**self.base_optimizer.defaults, **self.defaults}  # where some schedulers look for betas
        self._share()

    def _share(self) -> None:
        vars(self).pop("param_groups", None)
        self.state = self.base_optimizer.state

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups, which are the base optimizer's, also where somebody sets them."""
        # While torch's constructor runs, there is no base optimizer. Lightning's wrappers have ours by attribute only.
        base: Any = getattr(self, "base_optimizer", None)
        return vars(self)["param_groups"] if base is None else base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        if (base := getattr(self, "base_optimizer", None)) is None:
            vars(self)["param_groups"] = groups
        else:
            base.param_groups = groups

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: neither the copies of the weights nor the last sharpness."""
        kept = {name: getattr(self, name) for name in ("defaults", "base_optimizer", "sync_perturbation", "every")}
        return {**kept, "_progress": Progress(skipped_steps=self.skipped_steps, steps=self.steps)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled optimizer; the base optimizer has loaded the groups and state of a state dict already."""
        if "param_groups" not in state:
            super().__setstate__(state)
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters to SAM and to the base optimizer; refuse it as the constructor would."""
        # While torch's constructor runs, there is no base optimizer.
        add = self.base_optimizer.add_param_group if hasattr(self, "base_optimizer") else super().add_param_group
        add({**self.defaults, **param_group})
        keep_if_valid(self.param_groups, check_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's state dict, with SAM's options in the groups, `skipped_steps` and `steps`."""

        def of_base(_: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
            return {**self.base_optimizer.state_dict(), "skipped_steps": self.skipped_steps, "steps": self.steps}

        with self.register_state_dict_post_hook(of_base, prepend=True):  # the hooks of others get the result
            return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned, or what the base optimizer's did, which keeps SAM's own options."""

        def into_base(_: Optimizer, state_dict: dict[str, Any]) -> None:
            of_base = dict(state_dict)
            self.skipped_steps, self.steps = of_base.pop("skipped_steps", 0), of_base.pop("steps", 0)
            saved, own = of_base["param_groups"], [{name: g[name] for name in OPTIONS} for g in self.param_groups]
            if len(saved) == len(own):  # a wrong number is torch's error
                of_base["param_groups"] = [{**ours, **group} for ours, group in zip(own, saved, strict=True)]
            self.base_optimizer.load_state_dict(of_base)
            self._share()

        with self.register_load_state_dict_pre_hook(into_base):  # it gets the result of the hooks of others
            super().load_state_dict(state_dict)

    @property
    def perturbs_next(self) -> bool:
        """Whether the step to come, or the one in progress, is perturbed."""
        return bool(self.steps % self.every == 0)

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False, wait: bool = True) -> bool:
        """Move the weights to w + epsilon, along their present gradients; not at a step between those of `every`.

        Args:
            zero_grad: Clear the gradients afterwards.
            wait: False returns True on CUDA without waiting for the norm of the gradient. If it is not finite, the
                weights stay where they are, and the step of the base optimizer is skipped and counted.

        Returns:
            True if the second gradient is to be computed (also where `every` leaves the weights in place); False if a
            gradient is not finite: the step is skipped, also by its `second_step`.

        Raises:
            RuntimeError: If they are perturbed already.
        """
        progress = self._progress
        if progress.is_perturbed:
            raise RuntimeError("first_step was called twice: call second_step (or restore) in between")
        progress.climb(self._with_gradients(), wait, moves=self.perturbs_next)
        if zero_grad:
            self.zero_grad()
        return progress.is_perturbed

    def _with_gradients(self) -> list[tuple[dict[str, Any], list[Tensor]]]:
        """Return each group and its parameters that have a gradient."""
        return [(g, [p for p in g["params"] if dense_gradient("SAM", p) is not None]) for g in self.param_groups]

    def restore(self) -> None:
        """Copy the weights back to where they were before `first_step`; a RuntimeError if they are not perturbed."""
        self._progress.restore()

    def skip_step(self) -> None:
        """Restore the weights and count the step as skipped, for example because another process cannot take it."""
        self.restore()
        self.skipped_steps += 1

    def second_step(self, zero_grad: bool = False) -> None:
        """Restore the weights and step along the present gradients, if they are finite; clear them with `zero_grad`."""
        if self.is_perturbed or (self.perturbs_next and not self._progress.skips):
            self.restore()
        with self.descent():
            self._progress.checks = True
            self.step()  # Lightning's or Fabric's, where it is wrapped: they take and count the step
        if zero_grad:
            self.zero_grad()

    @contextmanager
    def perturbed(self, wait: bool = True) -> Iterator[bool]:
        """Call `first_step`, yield its result, and restore the weights at the end of the `with` block."""
        moved = self.first_step(wait=wait)
        try:
            yield moved
        finally:
            if self.is_perturbed:
                self.restore()

    @contextmanager
    def descent(self) -> Iterator[None]:
        """Make `step` the base optimizer's in the `with` block, where the gradients are those at w + epsilon."""
        self._progress.descends = True
        try:
            yield
        finally:
            self._progress.settle()  # another's decision to skip the step hides ours
            self._progress.descends = self._progress.checks = self._progress.skips = False

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return the loss before it.

        Args:
            closure: Clears the gradients, computes the loss, calls backward and returns the loss; called twice, the
                second time at the perturbed weights (only once at a step that `every` does not perturb). None is
                allowed if all gradients are 0, which is how torch.distributed.checkpoint makes an optimizer create its
                state.

        Raises:
            ValueError: Without a closure.
            RuntimeError: Under Lightning's automatic optimization without `TwoPassMixin`.
        """
        if self._progress.descends:
            return self._descend(closure)
        if closure is None:
            if squared_norm(self._with_gradients()) == 0:  # the second gradient would be the same
                return self.base_optimizer.step()
            raise ValueError(
                "SAM.step needs a closure, found None: give one, or call first_step and second_step (a LightningModule "
                "needs TwoPassMixin or manual optimization)"
            )
        refuse_automatic_optimization("SAM", closure)
        with torch.enable_grad():
            first = closure()
        if not self.perturbs_next:
            with self.descent():
                self._progress.checks = True
                self._descend(None)
            return first
        with self.perturbed(wait=False) as perturbed:
            if not perturbed:
                return first
            self.zero_grad()  # if the closure does not, the first gradient must not be added to the second
            with torch.enable_grad():
                second = closure()
        if self._progress.settle():
            return first
        self.base_optimizer.step()
        self.steps += 1
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            self.sharpness = second.detach() - first.detach()
        return first

    def _descend(self, closure: Callable[[], Any] | None) -> Any:
        progress = self._progress
        progress.settle()
        if progress.checks and not progress.skips:
            progress.skips = not math.isfinite(squared_norm(self._with_gradients()))
            progress.skipped_steps += progress.skips
        if progress.skips:
            return None
        loss = self.base_optimizer.step(closure)
        progress.steps += 1
        return loss
