"""Training curves, and the stop on a non-finite loss."""

import itertools
import math
from contextlib import nullcontext
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ImageClassifier
from lightning_modules.callbacks.best_checkpoint import BestCheckpoint
from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.training_monitor import NonFiniteLossError, TrainingMonitor
from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO
from lightning_modules.runs.finite import broken_part, has_finite_outputs
from lightning_modules.runs.loggers import CSVLog, read_column
from reference.tiny import TinyLoader, TinyModule


class Norms(Callback):
    """The gradient norm of each step, computed independently."""

    def __init__(self):
        self.norms = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        squares = sum(float(p.grad.double().pow(2).sum()) for p in pl_module.parameters())
        self.norms.append(math.sqrt(squares))


def fit(tmp_path, module, *callbacks, monitor=None, window=4, **options):
    log = CSVLog(tmp_path / "metrics.csv")
    trainer = pl.Trainer(
        accelerator="cpu", logger=log, log_every_n_steps=window, callbacks=[monitor or TrainingMonitor(), *callbacks],
        plugins=[AtomicCheckpointIO()], enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        **({"max_epochs": 2} | options),
    )  # fmt: skip
    trainer.fit(module, TinyLoader(), TinyLoader(2))
    return log


@pytest.mark.parametrize("accumulate", [1, 3])
def test_curves_equal_independent_sums(tmp_path, accumulate):
    torch.manual_seed(0)
    module, norms, monitor = TinyModule(lr=0.1), Norms(), TrainingMonitor()
    window = 4 if accumulate == 1 else 2
    log = fit(tmp_path, module, norms, monitor=monitor, window=window, accumulate_grad_batches=accumulate)
    losses = [module.losses[key] for key in sorted(module.losses)]
    batches = window * accumulate
    means = [sum(losses[i : i + batches]) / batches for i in range(0, len(losses), batches)]
    logged = read_column(log.path, "train/loss_window")
    assert [step for step, _ in logged] == list(range(window - 1, len(losses) // accumulate, window))
    assert [value for _, value in logged] == pytest.approx(means[: len(logged)], rel=1e-6)
    logged_norms = [value for _, value in read_column(log.path, "train/gradient_norm")]
    assert logged_norms == pytest.approx(norms.norms[window - 1 :: window], rel=1e-5)
    rates = [value for _, value in read_column(log.path, "train/learning_rate")]
    assert rates == pytest.approx([0.1 * 0.97 ** (step + 1) for step, _ in logged])
    assert all(value > 0 for _, value in read_column(log.path, "train/examples_per_second"))
    assert monitor.examples_per_second > 0
    assert monitor.speed.examples == len(losses) * 4


def test_a_non_finite_loss_stops_with_step_checkpoint_and_rate(tmp_path):
    last = LastCheckpoint(tmp_path / "last.ckpt", every_n_train_steps=2)
    with pytest.raises(
        NonFiniteLossError, match=r"loss is nan at step 5, learning rate .*last finite checkpoint is .*last.ckpt"
    ):
        fit(tmp_path, TinyModule(break_at=4), last, window=50, max_epochs=3)
    saved = torch.load(last.path, weights_only=True)
    assert saved["global_step"] <= 4
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


def test_a_non_finite_loss_is_seen_before_validation(tmp_path):
    module = TinyModule(break_at=5)
    with pytest.raises(NonFiniteLossError, match=r"at step 6, .* no step was saved before"):
        fit(tmp_path, module, window=50, enable_checkpointing=False)
    assert module.validations == []


class Breaking(TinyModule):
    """A module whose step overflows."""

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.net[3].bias.data[0] = torch.inf


def finite(path):
    return all(value.isfinite().all() for value in torch.load(path, weights_only=True)["state_dict"].values())


@pytest.mark.parametrize("stop", [True, False])
def test_weights_that_the_last_step_breaks_are_not_saved(tmp_path, stop):
    last, best = LastCheckpoint(tmp_path / "last.ckpt"), BestCheckpoint(tmp_path / "best.ckpt", "val/loss")
    refused = pytest.warns(UserWarning, match="was not saved: the weights are NaN or infinite")
    stopped = r"weights are NaN or infinite .*after step 1, .*no step was saved before"
    with pytest.raises(NonFiniteLossError, match=stopped) if stop else refused:
        fit(tmp_path, Breaking(), last, best, monitor=TrainingMonitor(stop), max_steps=1, val_check_interval=1)
    assert finite(last.path)
    assert not best.path.exists()


@pytest.mark.parametrize(("stop", "validation"), [(True, True), (True, False), (False, True)])
def test_finite_weights_whose_outputs_are_not_are_not_saved(tmp_path, stop, validation):
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    batches = DataLoader(TensorDataset(images, torch.arange(12) % 4), 4)
    model = ImageClassifier("MLP", 4, (1, 8, 8), optimizer=partial(torch.optim.SGD, lr=1e20))
    last, best = LastCheckpoint(tmp_path / "last.ckpt", 1), BestCheckpoint(tmp_path / "best.ckpt", "val/nll")
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, callbacks=[TrainingMonitor(stop), last, best], plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, max_steps=1,
    )  # fmt: skip
    with pytest.raises(NonFiniteLossError, match="outputs are NaN or infinite") if stop else nullcontext():
        trainer.fit(model, batches, batches if validation else None)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert torch.load(last.path, weights_only=True)["global_step"] == 0
    assert not best.path.exists()


def test_looking_at_outputs_leaves_no_trace():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(64), torch.nn.Dropout(), torch.nn.Linear(64, 4))
    model, images = ImageClassifier(net, 4, (1, 8, 8)), torch.rand(4, 1, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert has_finite_outputs(pl.Trainer(accelerator="cpu", logger=False), model, images)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_mask_of_minus_infinity_is_not_broken():
    net = torch.nn.BatchNorm1d(2)
    net.register_buffer("mask", torch.full((2, 2), -torch.inf))
    assert broken_part(net) is None
    net.running_var[0] = torch.nan
    assert broken_part(net) == "running_var"


def test_the_stop_can_be_turned_off(tmp_path):
    module = TinyModule(break_at=2)
    fit(tmp_path, module, monitor=TrainingMonitor(stop_on_non_finite=False))
    assert len(module.losses) == 12


def test_each_row_has_the_seconds_and_the_evaluations_so_far(tmp_path):
    log = fit(tmp_path, TinyModule())
    seconds, evaluations = (read_column(log.path, name) for name in ("seconds", "evaluations"))
    assert len(seconds) == log.rows
    assert all(0 < early[1] <= late[1] for early, late in itertools.pairwise(seconds))
    assert all(count == step + 1 for step, count in evaluations)


def test_the_seconds_and_the_evaluations_of_a_stopped_training_continue():
    first, second = TrainingMonitor(), TrainingMonitor()
    first.speed.window_seconds, first._evaluations = 100.0, 7
    second.load_state_dict(first.state_dict())
    assert second._so_far() == {"seconds": 100.0, "evaluations": 7.0}
