"""Parts of a network that are frozen from the start, and trained from an epoch on."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BaseFinetuning, Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import nn

from ..head import head_names
from ..optimization import has_finder
from ..runs.unsaved_state import steps_per_epoch

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_NETWORK = "backbone."


class Freezing(Callback):
    """Freezes parts of a module's `backbone` until an epoch; an `ImageClassifier` adds it by itself.

    What is frozen is a function of the epoch and of the arguments, so that nothing of it is saved: a resumed training
    freezes what today's arguments name. The optimizer holds frozen parameters from the start and skips them, as they
    have no gradient; their state begins in the epoch in which they are unfrozen, and their groups do not change.
    Frozen batch normalisation normalises by its running statistics, and does not move them.

    Args:
        module: The module. Its parameters are frozen at once.
        freeze: True for all but the head (`head_of`), or a regular expression that is found in the names of what is
            frozen, with or without `backbone.` before them.
        unfreeze: Epoch, counted from 0, from which all is trained. None: never.
        train_bn: Train batch normalisation within the frozen parts, and move its statistics.

    Raises:
        ValueError: If an argument is out of range, nothing is frozen, or nothing is left to train.

    >>> module = pl.LightningModule()
    >>> module.backbone, module.num_classes = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), 3
    >>> Freezing(module, unfreeze=2).names
    ['backbone.0.weight', 'backbone.0.bias']
    >>> module.backbone[0].weight.requires_grad
    False
    """

    def __init__(self, module: Any, freeze: bool | str = True, unfreeze: int | None = None, train_bn: bool = False):
        if unfreeze is not None and (isinstance(unfreeze, bool) or not isinstance(unfreeze, int) or unfreeze < 0):
            raise ValueError(f"unfreeze must be an epoch, 0 or more, found {unfreeze!r}")
        self.unfreeze = unfreeze
        self.names, self._norms = _parts(module, freeze, train_bn)
        self._still: list[nn.Module] = []  # norms that are in evaluation mode
        self._freeze(module, frozen=True)

    def is_frozen(self, epoch: int) -> bool:
        """Return whether the parts are frozen in an epoch."""
        return self.unfreeze is None or epoch < self.unfreeze

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Freeze again what an earlier training has unfrozen.

        Raises:
            ValueError: If the epoch lies beyond the training, a callback freezes too, or the network was exchanged.
        """
        if stage != "fit":
            return
        known = trainer.max_epochs not in (None, -1) and not vars(trainer)["fast_dev_run"]
        if self.unfreeze and known and self.unfreeze >= (trainer.max_epochs or 0):
            raise ValueError(
                f"unfreeze={self.unfreeze} is never reached: the training has {trainer.max_epochs} epochs, counted "
                "from 0: give an earlier epoch, more max_epochs, or leave it out"
            )
        for one in vars(trainer)["callbacks"]:
            if isinstance(one, BaseFinetuning):
                raise ValueError(f"freeze and {type(one).__name__} exclude each other: use one of them")
        lost = set(self.names) - {name for name, _ in pl_module.named_parameters()}
        if lost:
            raise ValueError(f"freeze: {min(lost)} is no longer there: give the classifier its network at once")
        self._freeze(pl_module, self.is_frozen(0))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Freeze what is frozen in a checkpoint's epoch, before DDP looks for what it has to synchronise."""
        if trainer.state.fn == "fit":
            self._freeze(pl_module, self.is_frozen(checkpoint.get("epoch", 0)))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze what is frozen in the first epoch.

        Raises:
            ValueError: If the optimizer does not hold what is to be unfrozen.
        """
        self._at_epoch(trainer, pl_module)
        if self.unfreeze is None:
            return
        params = dict(pl_module.named_parameters())
        held = {p for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
        missing = [name for name in self.names if params[name] not in held]
        if missing:
            raise ValueError(
                f"unfreeze: {missing[0]} and {len(missing) - 1} more are in no group of the optimizer: build it from "
                "all parameters, not only from those that are trained at first"
            )
        steps = steps_per_epoch(trainer)
        if trainer.max_steps != -1 and steps and not (has_finder(trainer) or vars(trainer)["fast_dev_run"]):
            epochs = math.ceil(trainer.max_steps / steps)
            if self.unfreeze >= max(epochs, 1):
                rank_zero_warn(f"unfreeze={self.unfreeze} is never reached: max_steps end in epoch {epochs - 1}")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Unfreeze in the epoch."""
        self._at_epoch(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave all modules in the mode in which they were."""
        self._hold(pl_module, False)

    @contextmanager
    def lifted(self, module: nn.Module) -> Iterator[None]:
        """Let all parts be trainable in the `with` block, in which an optimizer is built."""
        params = dict(module.named_parameters())
        parts = [params[name] for name in self.names if name in params]
        before = [part.requires_grad for part in parts]
        for part in parts:
            part.requires_grad = True
        try:
            yield
        finally:
            for part, trained in zip(parts, before, strict=True):
                part.requires_grad = trained

    def _at_epoch(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        frozen = self.is_frozen(trainer.current_epoch)
        self._freeze(module, frozen)
        self._hold(module, frozen)

    def _freeze(self, module: nn.Module, frozen: bool) -> None:
        params = dict(module.named_parameters())
        for name in self.names:
            params[name].requires_grad = not frozen  # by attribute, which lazy parameters have too
            if frozen:
                params[name].grad = None  # of an earlier training: the optimizer would take it

    def _hold(self, module: nn.Module, frozen: bool) -> None:
        """Keep the statistics of frozen norms still; Lightning keeps the modes beyond a validation."""
        if frozen:
            modules = dict(module.named_modules())
            moving = [modules[name] for name in self._norms if modules[name].training]
            self._still += [one.eval() for one in moving]
        else:
            for one in self._still:
                one.train()
            self._still = []


def freezing(module: Any, freeze: bool | str | None, unfreeze: int | None, train_bn: bool) -> Freezing | None:
    """Return the callback that freezes a module's parts, or None if nothing is to be frozen.

    Raises:
        ValueError: See `Freezing`; and for its other arguments without `freeze`.
    """
    if freeze is not None and freeze is not False:
        return Freezing(module, freeze, unfreeze, train_bn)
    for name, given in (("unfreeze", unfreeze is not None), ("train_bn", train_bn)):
        if given:
            raise ValueError(f"{name} needs freeze: give True (all but the head) or a regular expression, or drop it")
    return None


def _parts(module: Any, freeze: bool | str, train_bn: bool) -> tuple[list[str], list[str]]:
    """Return the names of the parameters to freeze, and of the norms whose statistics are to stand still."""
    network: nn.Module = module.backbone
    names = [name for name, param in network.named_parameters() if param.requires_grad]
    selects = _selection(network, module.num_classes, freeze)
    chosen = {name for name in names if selects(name)}
    if not chosen:
        found = f"matches none of {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
        reason = f"{type(network).__name__} has nothing but its head" if freeze is True else f"{freeze!r} {found}"
        raise ValueError(f"freeze: {reason}: give a regular expression of parameters' names, or leave it out")
    norms = []
    for place, one in network.named_modules():
        if isinstance(one, NORMS):
            own = {f"{place}.{name}".lstrip(".") for name, _ in one.named_parameters(recurse=False)} & set(names)
            if chosen.issuperset(own) if own else selects(f"{place}.running_mean".lstrip(".")):
                norms.append(_NETWORK + place)
                chosen -= own if train_bn else set()
    others = {name for name, param in module.named_parameters() if param.requires_grad}
    frozen = [_NETWORK + name for name in names if name in chosen]
    if not others - set(frozen):
        raise ValueError(f"freeze: {freeze!r} leaves no parameter to train: leave out at least the head")
    return frozen, [] if train_bn else norms


def _selection(network: nn.Module, num_classes: int, freeze: bool | str) -> Callable[[str], bool]:
    """Return whether a parameter of a name is to be frozen."""
    if freeze is True:
        head = head_names(network, num_classes)
        return lambda name: name not in head
    if not isinstance(freeze, str) or not freeze:
        raise ValueError(f"freeze must be True or a regular expression of names, found {freeze!r}")
    try:
        pattern = re.compile(freeze)
    except re.error as error:
        raise ValueError(f"freeze: {freeze!r} is no regular expression: {error}") from None
    return lambda name: bool(pattern.search(name) or pattern.search(_NETWORK + name))
