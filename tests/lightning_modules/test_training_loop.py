"""Lean steps against Lightning's own: everything that a training leaves behind must be the same."""

import gc
import hashlib
import inspect
import re
from collections import Counter
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loops.optimization.automatic import Closure, ClosureResult, _AutomaticOptimization
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.profilers import SimpleProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy, Strategy
from pytorch_lightning.trainer.call import _call_callback_hooks, _call_lightning_module_hook
from pytorch_lightning.trainer.connectors.logger_connector.logger_connector import _LoggerConnector
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_modules import ImageClassifier
from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.runs.loggers import CSVLog
from lightning_modules.training_loop import LeanEpochLoop, use_lean_steps
from optim import COCOB, LAMB, SAM
from reference.tiny import TinyLoader, TinyModule

OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "AdamW": partial(torch.optim.AdamW, lr=0.01),
    "LAMB": partial(LAMB, lr=0.01),
    "COCOB": COCOB,
    "SAM": partial(SAM, base_optimizer=torch.optim.SGD, lr=0.1),
    "LBFGS": partial(torch.optim.LBFGS, lr=0.1, max_iter=3),
}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"accumulate_grad_batches": 3},
    "clipping by norm": {"gradient_clip_val": 0.1},
    "clipping by value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "average": {"ema_decay": 0.9},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "64-true": {"precision": "64-true"},
    "schedule per step": {"lr_scheduler": partial(StepLR, step_size=4, gamma=0.5), "lr_interval": "step"},
    "schedule per epoch": {"lr_scheduler": partial(CosineAnnealingLR, T_max=3)},
    "plateau": {"lr_scheduler": partial(ReduceLROnPlateau, patience=0)},
    "validation within epochs": {"val_check_interval": 5},
    "validation by total batches": {"val_check_interval": 7, "check_val_every_n_epoch": None},
    "every second epoch": {"check_val_every_n_epoch": 2},
    "limited": {"limit_train_batches": 7, "limit_val_batches": 1},
    "max_steps": {"max_steps": 17},
    "max_steps, accumulation": {"max_steps": 5, "accumulate_grad_batches": 4, "max_epochs": -1},
    "windows of one": {"log_every_n_steps": 1},
    "windows of one, accumulation": {"log_every_n_steps": 1, "accumulate_grad_batches": 2},
    "no validation": {"limit_val_batches": 0},
}
SLOW = pytest.mark.slow
MODEL_OPTIONS = ("ema_decay", "lr_scheduler", "lr_interval")


class EveryHook(Callback):
    """Records each hook's name and what the Trainer looks like in it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []


def _recording(name: str) -> Any:
    def hook(self: EveryHook, trainer: pl.Trainer, module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        shown = [float(one) for one in args if isinstance(one, torch.Tensor) and one.numel() == 1]
        shown += [float(one["loss"]) for one in args if isinstance(one, dict) and "loss" in one]
        progress = trainer.fit_loop.epoch_loop.batch_progress
        state = trainer.global_step, trainer.fit_loop.batch_idx, vars(progress.current), module._current_fx_name
        self.calls.append((name, str(state), shown, trainer.is_last_batch))

    return hook


STEP_HOOKS = [
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end", "on_train_epoch_start", "on_train_epoch_end"),
    *("on_validation_start", "on_validation_end", "on_train_start", "on_train_end"),
]
for _name in STEP_HOOKS:
    setattr(EveryHook, _name, _recording(_name))


def trained(
    folder: Path, lean: bool, module: pl.LightningModule | None = None, ckpt_path: str | None = None, **options: Any
) -> tuple[dict[str, Any], EveryHook, pl.Trainer]:
    """Train; return the last checkpoint, the record of the hooks and the Trainer."""
    pl.seed_everything(0)
    model_options = {name: options.pop(name) for name in MODEL_OPTIONS if name in options}
    optimizer = options.pop("optimizer", OPTIMIZERS["SGD"])
    if module is None:
        module = ImageClassifier("MLP", num_classes=7, image_shape=(5,), optimizer=optimizer, **model_options)
    monitors = [TrainingMonitor()] if options.pop("monitors", True) else []
    record, options = EveryHook(), {"max_epochs": 3, "log_every_n_steps": 4, **options}
    last = LastCheckpoint(folder / "last.ckpt", every_n_train_steps=5)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        logger=[CSVLog(folder / "metrics.csv"), TensorBoardLogger(folder, name="", version="tb")],
        callbacks=[*options.pop("callbacks", []), record, *monitors, last], **options,
    )  # fmt: skip
    if lean:
        use_lean_steps(trainer)
    trainer.fit(module, TinyLoader(11), TinyLoader(2), ckpt_path=ckpt_path, weights_only=ckpt_path is not None)
    return torch.load(folder / "last.ckpt", weights_only=True), record, trainer


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Compare nested values bit for bit, except for times."""
    if isinstance(one, dict):
        one, other = ({key: d[key] for key in d if not re.search("second|waiting", str(key))} for d in (one, other))
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{place}]")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, msg=where)
    else:
        assert one == other or (one != one and other != other), f"{where}: {one} {other}"


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the scalars of an event file."""
    read = EventAccumulator(str(folder / "tb"))
    read.Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv."""
    header, *lines = (folder / "metrics.csv").read_text().splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]


def compare(tmp_path: Path, **options: Any) -> int:
    """Train with either loop and compare all they leave; return the number of lean steps."""
    ours, record, trainer = trained(tmp_path / "lean", True, **options)
    theirs, their_record, _ = trained(tmp_path / "lightning", False, **options)
    assert record.calls == their_record.calls
    assert_same(ours, theirs)
    assert_same(events(tmp_path / "lean"), events(tmp_path / "lightning"))
    assert_same(rows(tmp_path / "lean"), rows(tmp_path / "lightning"))
    loop = trainer.fit_loop.epoch_loop
    assert isinstance(loop, LeanEpochLoop)
    return loop.lean_steps


# SGD with every option, and each other optimizer with the options that change the order of its passes.
QUICK = ("plain", "accumulation")
PAIRS = [
    pytest.param(optimizer, case, id=f"{optimizer}-{case}", marks=[] if optimizer == "SGD" or case in QUICK else [SLOW])
    for optimizer in OPTIMIZERS
    for case in CASES
    if optimizer != "COCOB" or "lr_scheduler" not in CASES[case]  # it has no learning rate
]


@pytest.mark.parametrize(("optimizer", "case"), PAIRS)
def test_bit_for_bit(tmp_path, optimizer, case):
    options = CASES[case]
    lean = compare(tmp_path, optimizer=OPTIMIZERS[optimizer], **options)
    assert (lean == 0) == (case == "windows of one")


def test_resumed_after_a_kill(tmp_path):
    """In the middle of an epoch and of a window, by the other loop than the one that was killed."""

    class Killed(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 18:
                raise SystemExit

    whole, _, _ = trained(tmp_path / "whole", True)
    for name, first, second in (("a", True, False), ("b", False, True)):
        with pytest.raises(SystemExit):
            trained(tmp_path / name, first, callbacks=[Killed()])
        saved = torch.load(tmp_path / name / "last.ckpt", weights_only=True)
        assert saved["global_step"] < 18
        last, _, _ = trained(tmp_path / name, second, ckpt_path=str(tmp_path / name / "last.ckpt"))
        assert_same(whole, last)
        assert_same(rows(tmp_path / "whole"), rows(tmp_path / name))


class LogsInTheStep(TinyModule):
    """Logs on step and epoch, with torchmetrics' idiom, and from hooks."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(batch, batch_idx)["loss"]
        self.log("step_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("index", float(batch_idx), on_step=True, on_epoch=False)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("end", outputs["loss"], on_epoch=True)


class ReturnsNothing(TinyModule):
    """Skips every third batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx % 3 == 2 else super().training_step(batch, batch_idx)


class StepsItself(TinyModule):
    """Overrides the optimizer's step, clips by itself and steps the schedule by itself."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)
        self.losses[-batch_idx] = float(self.net[0].weight.sum())

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any, gradient_clip_algorithm: Any) -> None:
        self.clip_gradients(optimizer, 0.05, "norm")

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step()


class MovesBatches(TinyModule):
    """Changes each batch on its way to the device."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] * 2, batch[1]


@pytest.mark.parametrize("kind", [LogsInTheStep, StepsItself, MovesBatches, ReturnsNothing])
@pytest.mark.parametrize("every", [1, 2])
def test_modules_of_others(tmp_path, kind, every):
    modules = [kind(), kind()]
    with torch.no_grad():
        for mine, other in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
            other.copy_(mine)
    monitors = {ReturnsNothing: False}.get(kind, True)
    options: dict[str, Any] = {"accumulate_grad_batches": every, "monitors": monitors}
    ours, record, trainer = trained(tmp_path / "lean", True, modules[0], **options)
    theirs, their_record, _ = trained(tmp_path / "lightning", False, modules[1], **options)
    assert trainer.fit_loop.epoch_loop.lean_steps > 8
    assert record.calls == their_record.calls
    assert modules[0].losses == modules[1].losses
    assert_same(ours, theirs)
    assert_same(events(tmp_path / "lean"), events(tmp_path / "lightning"))


def test_a_stop_is_seen_at_once(tmp_path):
    class Stops(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            trainer.should_stop = trainer.global_step == 6

    assert compare(tmp_path, callbacks=[Stops()]) > 0


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (TinyModule, {"fast_dev_run": 3}),
        (TinyModule, {"val_check_interval": {"hours": 1}, "check_val_every_n_epoch": None}),
        (type("Manual", (TinyModule,), {"backward": lambda self, loss: loss.backward()}), {}),
        (type("Starts", (TinyModule,), {"on_train_batch_start": lambda self, batch, batch_idx: None}), {}),
    ],
)
def test_where_every_step_is_lightnings(module, options):
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip
    use_lean_steps(trainer)
    trainer.fit(module(), TinyLoader(8), TinyLoader(2))
    assert trainer.fit_loop.epoch_loop.lean_steps == 0


def test_a_profiler_keeps_lightnings_loop():
    trainer = pl.Trainer(accelerator="cpu", logger=False, profiler=SimpleProfiler())
    use_lean_steps(trainer)
    assert type(trainer.fit_loop.epoch_loop) is _TrainingEpochLoop


# The digest of the methods of Lightning whose work the lean step does itself. If one has changed, read it, bring
# training_loop.py to it, and only then write the new digest here.
READ = {
    "2.6.6": "2ee48dbde593701c",
}


def test_this_lightning_has_been_read():
    methods = [
        _TrainingEpochLoop.advance, _TrainingEpochLoop.on_advance_end, _TrainingEpochLoop.run,
        _TrainingEpochLoop._should_check_val_fx, _TrainingEpochLoop.update_lr_schedulers,
        _AutomaticOptimization, ClosureResult, Closure, Precision, MixedPrecision, SingleDeviceStrategy,
        Strategy.backward, Strategy.training_step, Strategy.optimizer_step, Strategy.batch_to_device,
        LightningOptimizer.step, pl.LightningModule.optimizer_step, pl.LightningModule.optimizer_zero_grad,
        pl.LightningModule.backward, _LoggerConnector.on_batch_start, _LoggerConnector.on_batch_end,
        _LoggerConnector.update_train_step_metrics, _call_callback_hooks, _call_lightning_module_hook,
        ModelCheckpoint.on_train_batch_end,
    ]  # fmt: skip
    text = "".join(inspect.getsource(method) for method in methods)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert READ.get(pl.__version__) == digest, (
        f"pytorch_lightning {pl.__version__} (digest {digest}) has another training step than the one that "
        "lightning_modules/training_loop.py was written from: use --fast_loop false until it has been read"
    )


class Counts(TorchDispatchMode):
    """Counts what waits for a device or copies from it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "_to_copy", "item", "nonzero"):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class CountsSteps(Callback):
    """Counts from step 10 to 40."""

    def __init__(self) -> None:
        self.mode = Counts()
        self.tensors: list[int] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 10:
            self.mode.__enter__()
        elif batch_idx == 40:
            self.mode.__exit__(None, None, None)
        if batch_idx in (12, 39):
            self.tensors.append(sum(isinstance(one, torch.Tensor) for one in gc.get_objects()))


@pytest.mark.parametrize("ema_decay", [pytest.param(None, marks=SLOW), 0.9])
@pytest.mark.parametrize("optimizer", ["SGD", "LAMB", "COCOB", "SAM"])
def test_nothing_in_a_step_waits_or_grows(optimizer, ema_decay):
    make = OPTIMIZERS[optimizer]
    module = ImageClassifier("MLP", 7, (5,), optimizer=make, ema_decay=ema_decay)
    count = CountsSteps()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=50, callbacks=[TrainingMonitor(), count],
    )  # fmt: skip
    use_lean_steps(trainer)
    trainer.fit(module, TinyLoader(48))
    assert trainer.fit_loop.epoch_loop.lean_steps > 40

    alone = Counts()
    network = ImageClassifier("MLP", 7, (5,)).backbone
    own = make(network.parameters())
    for step, (x, y) in enumerate(TinyLoader(40)):

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            own.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(x), y)
            loss.backward()
            return loss

        with alone if step >= 10 else nullcontext():
            own.step(closure)
    assert count.mode.counts == alone.counts
    assert alone.counts["_local_scalar_dense"] == 0 or optimizer != "SAM"
    assert count.tensors[1] <= count.tensors[0]
