"""A run that is told to stop, at any moment, saves what it has trained, and resumed it ends like any other run."""

import os
import shutil
import signal
from collections import Counter

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.stop_signals import StopSignals
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO
from lightning_modules.runs.loggers import CSVLog
from reference.tiny import TinyLoader, TinyModule

OPTIONS = {
    "epochs": {"max_epochs": 2},
    "steps": {"max_steps": 9},
    "accumulate": {"max_epochs": 2, "accumulate_grad_batches": 4},
    "validation in mid-epoch": {"max_epochs": 2, "val_check_interval": 2, "accumulate_grad_batches": 2},
    "validation after two epochs": {"max_epochs": 3, "check_val_every_n_epoch": 2},
}
HOOKS = ("training_step", "validation_step", "on_validation_epoch_end", "on_train_epoch_end")
CALLS = (1, 2, 4, 6, 7, 9, 11, 12)  # an epoch has six batches


class Told(TinyModule):
    """Calls `tell` when a method is called for the `call`th time, or each time that is one of several calls."""

    def __init__(self, hook="", call=0, tell=None):
        pl.seed_everything(3, verbose=False)
        super().__init__()
        self.moments = {(hook, call)} if isinstance(call, int) else {(one, n) for one in HOOKS for n in call}
        self.calls, self.tell, self.told_at = Counter(), tell, 0

    def due(self, hook):
        self.calls[hook] += 1
        if (hook, self.calls[hook]) in self.moments:
            self.told_at = len(self.losses)
            self.tell(self.trainer)


class GoesOn(LastCheckpoint):
    """Keeps a copy of the folder of each stop, and then forgets the signal instead of ending."""

    def setup(self, trainer, pl_module, stage):
        super().setup(trainer, pl_module, stage)
        self.module, self.stops = pl_module, {}

    def end(self, number):
        checkpoint = torch.load(self.path, weights_only=True)
        assert checkpoint["global_step"] == self.module.trainer.global_step
        assert len(self.module.losses) <= self.module.told_at + 4  # to the end of the window, or the last batch
        where = str((checkpoint["global_step"], checkpoint["loops"]))
        if where not in self.stops:  # such as each batch of a validation, whose start is saved
            self.stops[where] = self.path.parent.with_name(f"stop{len(self.stops)}")
            shutil.copytree(self.path.parent, self.stops[where])
        self.noted = 0


def telling(hook):
    def method(self, *args):
        self.due(hook)
        return getattr(TinyModule, hook)(self, *args)

    return method


for name in HOOKS:
    setattr(Told, name, telling(name))


def train(folder, module, ckpt_path=None, saving=LastCheckpoint, **options):
    """Train a module, and return its weights, its losses, what was logged and the trainer."""
    log, last = CSVLog(folder / "metrics.csv"), saving(folder / "last.ckpt")
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=log,
        log_every_n_steps=5,
        num_sanity_val_steps=0,
        callbacks=[TrainingMonitor(), last],
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, TinyLoader(), TinyLoader(2), ckpt_path=ckpt_path)
    text = log.path.read_text() if log.path.exists() else "step"  # stopped before anything was logged
    header, *lines = [line.split(",") for line in text.splitlines()]
    table = [dict(zip(header, line, strict=True)) for line in lines]
    rows = [{name: row[name] for name in sorted(row) if row[name] and "second" not in name} for row in table]
    return module.state_dict(), module.losses, rows, trainer


def send(*numbers):
    return lambda trainer: [os.kill(os.getpid(), number) for number in numbers]


def ask(trainer):
    """As a time limit does."""
    trainer.should_stop = True


def compare(whole, resumed):
    for name, value in whole[0].items():
        assert torch.equal(value, resumed[0][name]), name
    assert resumed[1].items() <= whole[1].items()
    assert resumed[2] == whole[2]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_sigterm_at_any_moment(tmp_path, options):
    before = signal.getsignal(signal.SIGTERM)
    whole = train(tmp_path / "whole", Told(), **options)
    told = train(tmp_path / "told", Told("", CALLS, send(signal.SIGTERM)), saving=GoesOn, **options)
    compare(whole, told)  # saving has changed nothing
    stops = next(one for one in vars(told[3])["callbacks"] if isinstance(one, GoesOn)).stops
    assert len(stops) >= 4
    for folder in stops.values():
        compare(whole, train(folder, Told(), folder / "last.ckpt", **options))
    for hook in ("training_step", "validation_step"):
        folder = tmp_path / hook
        with pytest.raises(SIGTERMException):
            train(folder, Told(hook, 2, send(signal.SIGTERM)), **options)
        compare(whole, train(folder, Told(), folder / "last.ckpt", **options))
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_time_limit_at_any_moment(tmp_path, options):
    whole = train(tmp_path / "whole", Told(), **options)
    for call in (1, 4, 6, 9):
        folder, module = tmp_path / str(call), Told("training_step", call, ask)
        trainer = train(folder, module, **options)[3]
        assert trainer.should_stop or trainer.global_step == trainer.max_steps
        assert trainer.fit_loop.epoch_loop.total_batch_idx + 1 <= call + 5
        assert len(module.losses) <= call + 4
        done = torch.load(folder / "last.ckpt", weights_only=True)["global_step"]
        assert done == trainer.global_step
        if done != options.get("max_steps"):  # at the last step Lightning validates once more when asked to stop
            compare(whole, train(folder, Told(), folder / "last.ckpt", **options))


@pytest.fixture
def listens_to_ctrl_c():
    """Processes that a shell starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_ctrl_c_once_saves_and_twice_ends_at_once(tmp_path):
    whole = train(tmp_path / "whole", Told(), max_epochs=2)
    for presses, done in ((1, 8), (2, 0)):
        folder, module = tmp_path / str(presses), Told("training_step", 8, send(*[signal.SIGINT] * presses))
        with pytest.raises(SystemExit):  # Lightning's answer
            train(folder, module, max_epochs=2)
        assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == done
        compare(whole, train(folder, Told(), folder / "last.ckpt", max_epochs=2))


def test_an_averaged_validation_is_finished(tmp_path):
    """The weights of a moving average are in the network then."""
    options = {"max_epochs": 2, "val_check_interval": 3}

    def run(folder, module, ckpt_path=None):
        module.configure_callbacks = lambda: [pl.callbacks.EMAWeightAveraging(decay=0.5)]
        return train(folder, module, ckpt_path, **options)

    whole = run(tmp_path / "whole", Told())
    for call in range(1, 6):
        folder = tmp_path / str(call)
        with pytest.raises(SIGTERMException):
            run(folder, Told("validation_step", call, send(signal.SIGTERM)))
        compare(whole, run(folder, Told(), folder / "last.ckpt"))


def test_outside_of_training_it_ends_at_once():
    class Tested(TinyModule):
        def test_step(self, batch, batch_idx):
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("not reached")

    signals = StopSignals()
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, callbacks=[signals], enable_progress_bar=False, enable_checkpointing=False
    )
    with pytest.raises(SIGTERMException):
        trainer.test(Tested(), TinyLoader(2), verbose=False)
    assert signals.noted == signal.SIGTERM


def test_an_ignored_signal_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        train(tmp_path, Told("training_step", 2, send(signal.SIGINT)), max_epochs=1)
    finally:
        signal.signal(signal.SIGINT, before)
