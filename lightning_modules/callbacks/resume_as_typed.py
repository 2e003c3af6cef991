"""What a resumed training takes from its checkpoint, and what from the arguments of today."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..added_groups import cover
from ..runs.unsaved_state import steps_per_epoch
from ..schedule import Schedule

_RATES = ("lr", "initial_lr")
_OF_LAYERS = ("lr_scale", "own_lr")
_LENGTHS = ("T_max", "total_steps", "total_iters", "epochs", "steps_per_epoch")


class ResumeAsTyped(Callback):
    """Lets the optimizer, schedule and batches of today's arguments count when a training is resumed.

    Lightning takes the learning rate, all other options of the optimizer, and those of the schedule from the
    checkpoint, whatever the new arguments are. With this callback the arguments that differ from the checkpoint's are
    applied: options of the same optimizer to its restored state; another optimizer, or one with other parameter groups,
    starts without state; another schedule, or another learning rate, is that of the new arguments at the step that
    training has reached. With batches of another size the epoch continues at the same example, and so does the default
    one-cycle schedule (or a `Schedule`), which would otherwise be at another part of its cycle.

    Args:
        resume_optimizer: Restore the state of the optimizer. False starts it without state; the schedule goes on.
        tell: Called once, at the start of a resumed training, with one line on what comes from where.
        changes: Arguments that differ from those of the checkpoint's run, for that line.

    >>> ResumeAsTyped(resume_optimizer=False).resume_optimizer
    False
    """

    def __init__(
        self, resume_optimizer: bool = True, tell: Callable[[str], Any] = print, changes: Iterable[str] = ()
    ) -> None:
        self.resume_optimizer, self.tell, self.changes = resume_optimizer, tell, list(changes)
        self.steps = 0  # taken in this process
        self._started_at = 0
        self._checkpoint: dict[str, Any] | None = None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the checkpoint until the optimizers are there; let the loader count examples if batches differ."""
        if trainer.state.fn != "fit":
            return
        self._checkpoint = checkpoint
        before, now = _examples_per_batch(checkpoint, trainer)
        self._regrouped = before != now
        for state in checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", []) if before != now else ():
            if isinstance(state, dict) and "batch" in state:
                state["examples"] = state["batch"] * before

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Decide what is restored, before Lightning restores it."""
        if self._checkpoint is None:
            return
        checkpoint, saved, now = self._checkpoint, self._checkpoint.get("hyper_parameters", {}), pl_module.hparams
        self._anew: list[str] = []
        self._options: set[str] = set()
        self._reschedule = False
        self._steps = next((state.get("last_epoch") for state in checkpoint.get("lr_schedulers", ())), None)
        if len(trainer.optimizers) != 1 or not checkpoint.get("optimizer_states"):
            return
        groups = trainer.optimizers[0].param_groups
        self._fresh = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        old, new = saved.get("optimizer"), now.get("optimizer")
        sizes = [len(group["params"]) for group in checkpoint["optimizer_states"][0]["param_groups"]]
        added = sizes[len(groups) :] if "fine_tuning" in checkpoint else []  # in mid-training; they come later
        same_groups = sizes == [len(one["params"]) for one in groups] + added
        if not self.resume_optimizer or _kinds(old) != _kinds(new) or not same_groups:
            checkpoint["optimizer_states"] = []
            self._anew.append(f"optimizer ({type(trainer.optimizers[0]).__name__})")
        self._options = _differences(old, new)
        keys = ("lr_scheduler", "lr_interval")
        kept = all(saved.get(key) == now.get(key) for key in keys)
        moved = any(saved.get(name) != now.get(name) for name in ("layer_decay", "head_lr"))
        self._reschedule = bool(self._anew) or "lr" in self._options or moved or not kept
        configs = trainer.lr_scheduler_configs
        if not self._reschedule:
            return
        if not kept:
            self._anew.append("schedule")
        same = _kinds(saved.get("lr_scheduler")) == _kinds(now.get("lr_scheduler"))
        if saved.get("lr_interval") != now.get("lr_interval") or not same:
            self._steps = None  # another schedule may count steps where the old one counted epochs
        if not (same and configs and isinstance(configs[0].scheduler, ReduceLROnPlateau)):
            checkpoint["lr_schedulers"] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply today's arguments to what has been restored."""
        self._started_at = trainer.global_step
        if self._checkpoint is None:
            return
        checkpoint, self._checkpoint = self._checkpoint, None
        moved = self._move_schedule(trainer, pl_module, checkpoint)
        if self._options or self._reschedule:
            self._apply(trainer, checkpoint, pl_module)
        if self._regrouped:
            _move(trainer)
        for config in trainer.lr_scheduler_configs:
            total = getattr(config.scheduler, "total_steps", None)  # beyond which OneCycleLR fails
            if total is not None and config.interval == "step" and total < trainer.estimated_stepping_batches:
                raise ValueError(
                    f"lr_scheduler: {type(config.scheduler).__name__} ends after total_steps={total}, training after "
                    f"{trainer.estimated_stepping_batches}: add --lr_scheduler.total_steps "
                    f"{trainer.estimated_stepping_batches}"
                )
        self.tell(self._line(trainer, pl_module, checkpoint) + moved)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the steps."""
        self.steps = trainer.global_step - self._started_at

    def _move_schedule(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> str:
        """Keep the default schedule, or a `Schedule`, at its part of the training when epochs differ; say so."""
        before, now = checkpoint.get("unsaved", {}).get("steps_per_epoch"), steps_per_epoch(trainer)
        saved, made = checkpoint.get("hyper_parameters", {}).get("lr_scheduler"), module.hparams.get("lr_scheduler")
        config = next(iter(trainer.lr_scheduler_configs), None)
        default = saved is None and made is None and config is not None and config.interval == "step"
        default = default or (saved == made and config is not None and isinstance(config.scheduler, Schedule))
        if not (default and before and now) or before == now or self._steps is None:
            return ""
        if trainer.estimated_stepping_batches == trainer.max_steps:  # whatever the length of an epoch is
            return ""
        self._steps = round(self._steps * now / before)
        if not self._reschedule:
            config.scheduler.last_epoch = self._steps  # type: ignore[union-attr]  # it is not None
        return f"; the schedule continues at the same part of the training ({now} instead of {before} steps an epoch)"

    def _apply(self, trainer: pl.Trainer, checkpoint: dict[str, Any], module: pl.LightningModule) -> None:
        groups, names = trainer.optimizers[0].param_groups, set(self._options)
        values = self._fresh = self._fresh + self._of_added(trainer.optimizers[0])
        if any(one.startswith("optimizer") for one in self._anew):
            names |= self._fresh[0].keys()
        plateau: Any = None
        if self._reschedule:
            names |= {*_RATES, *_OF_LAYERS}
            config = next(iter(trainer.lr_scheduler_configs), None)
            if config is not None and isinstance(config.scheduler, ReduceLROnPlateau):
                plateau = config.scheduler
            elif config is not None:
                reached = trainer.global_step if config.interval == "step" else trainer.current_epoch
                steps = reached if self._steps is None else self._steps
                values = self._scheduled(trainer, config.scheduler, steps)
                names |= {name for one, before in zip(values, self._fresh, strict=True) for name in one
                          if name not in before or one[name] != before[name]}  # fmt: skip
        if plateau is not None and checkpoint["lr_schedulers"]:
            made = module.hparams["lr_scheduler"]
            old = checkpoint["hyper_parameters"]["lr_scheduler"]
            for name in _differences(old, made) & vars(plateau).keys():
                setattr(plateau, name, made["init_args"][name])
            if "lr" not in self._options:  # the rate to which it has come
                last = checkpoint["lr_schedulers"][0].get("_last_lr", [one.get("lr") for one in values])
                values = [{**one, "lr": rate} for one, rate in zip(values, last, strict=True)]
        for group, value in zip(groups, values, strict=True):
            group.update({name: value[name] for name in names if name in value})

    def _of_added(self, optimizer: Optimizer) -> list[dict[str, Any]]:
        """Return the options of groups that a callback has added, whose rates keep their ratio to the first group's."""
        groups, first = optimizer.param_groups, self._fresh[0]
        made = []
        for group in groups[len(self._fresh) :]:
            value = {**optimizer.defaults, **{name: group[name] for name in group if name != "params"}}
            for name in (name for name in _RATES if groups[0].get("lr") and first.get(name) is not None):
                value[name] = first[name] * float(group["lr"] / groups[0]["lr"])
            made.append(value)
        return made

    def _scheduled(self, trainer: pl.Trainer, scheduler: Any, steps: int) -> list[dict[str, Any]]:
        """Return the options of the groups to which a new schedule comes after a number of steps."""
        groups = trainer.optimizers[0].param_groups
        restored = [dict(group) for group in groups]
        for group, value in zip(groups, self._fresh, strict=True):
            group.update(value)
        cover(scheduler)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*lr_scheduler\.step\(\)")  # before the optimizer's
            for _ in range(steps):
                scheduler.step()
        values = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        for group, before in zip(groups, restored, strict=True):
            group.update(before)
        return values

    def _line(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> str:
        processes = len(checkpoint.get("random_states", []))
        taken = ["weights"] + ["optimizer state"] * bool(checkpoint.get("optimizer_states"))
        taken += ["schedule"] * (bool(checkpoint.get("lr_schedulers")) and "schedule" not in self._anew)
        taken += ["random numbers"] * (processes == trainer.world_size)
        changes = list(self.changes)
        if processes and processes != trainer.world_size:
            changes.append(f"processes {processes} -> {trainer.world_size}")
        line = f"resumed at step {trainer.global_step}: {', '.join(taken)} of the checkpoint"
        line += f"; anew: {', '.join(self._anew)}" if self._anew else ""
        line += f"; as typed: {', '.join(changes)}" if changes else ""
        made = (module.hparams.get("lr_scheduler") or {}) if trainer.lr_scheduler_configs else {}
        lengths = [f"{name} {value}" for name, value in _arguments(made).items() if name in _LENGTHS and value]
        if lengths and "schedule" not in self._anew and any(change.startswith("trainer.max_") for change in changes):
            line += f"; the schedule keeps {', '.join(lengths)}"
        schedule = next((config.scheduler for config in trainer.lr_scheduler_configs), None)
        if isinstance(schedule, Schedule) and any(change.startswith("trainer.max_") for change in changes):
            line += f"; the schedule from here on is that of {trainer.estimated_stepping_batches} steps"
        return line


def _kinds(made: Any) -> list[Any]:
    """Return the import paths of a factory and of its arguments' factories, in plain data."""
    if not isinstance(made, dict):
        return [made]
    nested = [_kinds(value) for _, value in sorted(made.get("init_args", {}).items()) if isinstance(value, dict)]
    return [made.get("class_path"), *nested]


def _arguments(made: Any) -> dict[str, Any]:
    return dict(made.get("init_args", {})) if isinstance(made, dict) else {}


def _differences(old: Any, new: Any) -> set[str]:
    """Return the names of the arguments, nested ones too, in which two factories differ."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return set()
    one, other = old.get("init_args", old), new.get("init_args", new)
    changed = {name for name in {*one, *other} if one.get(name) != other.get(name)}
    return changed.union(*(_differences(one.get(name), other.get(name)) for name in changed))


def _examples_per_batch(checkpoint: dict[str, Any], trainer: pl.Trainer) -> tuple[int, int]:
    """Return how many examples all processes took per batch, and take today; the same numbers if that is unknown."""
    module: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by one of the Trainer's connectors
    before = checkpoint.get("datamodule_hyper_parameters", {}).get("batch_size")
    now = getattr(module, "batch_size", None)
    processes = len(checkpoint.get("random_states", []))
    if not (before and now and processes):
        return 1, 1
    return before * processes, now * trainer.world_size


def _move(trainer: pl.Trainer) -> None:
    """Count the epoch's batches as if all had had today's size."""
    state: dict[str, int] = getattr(trainer.train_dataloader, "state_dict", dict)()
    progress = trainer.fit_loop.epoch_loop.batch_progress
    if trainer.fit_loop.restarted_mid_epoch and "batch" in state:
        moved = state["batch"] - progress.current.ready
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress.current, name, getattr(progress.current, name) + moved)
