"""Training curves, their cost in hooks, and the stop on a non-finite loss."""

import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback

from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.training_monitor import NonFiniteLossError, TrainingMonitor
from lightning_modules.hooks import skip_unused_hooks
from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO
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
    assert monitor._examples == len(losses) * 4


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
    with pytest.raises(NonFiniteLossError, match=r"at step 6, .* no checkpoint was saved before"):
        fit(tmp_path, module, window=50, enable_checkpointing=False)
    assert module.validations == []


def test_the_stop_can_be_turned_off(tmp_path):
    module = TinyModule(break_at=2)
    fit(tmp_path, module, monitor=TrainingMonitor(stop_on_non_finite=False))
    assert len(module.losses) == 12


def test_unused_batch_hooks_are_not_called():
    class Quiet(Callback):
        def on_train_batch_end(self, *args):
            pass

    quiet = Quiet()
    skip_unused_hooks(quiet)
    assert quiet.on_train_batch_start is None
    assert quiet.on_before_zero_grad is None
    assert callable(quiet.on_train_batch_end)
    assert callable(quiet.on_fit_start)
    assert callable(Quiet().on_train_batch_start)
