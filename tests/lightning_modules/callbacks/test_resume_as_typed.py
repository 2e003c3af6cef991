"""What is typed on resume counts: options of the optimizer and the schedule, another optimizer, more steps, batches."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR

from datamodules import DigitsDataModule
from lightning_modules import AtomicCheckpointIO, ImageClassifier, LastCheckpoint
from lightning_modules.callbacks.resume_as_typed import ResumeAsTyped


class Seen(Callback):
    """The learning rate of each step, and the examples of each batch."""

    def __init__(self, stop=None):
        self.rates, self.labels, self.stop = {}, {}, stop

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]
        self.labels.setdefault(trainer.current_epoch, []).append(batch[1])
        trainer.should_stop = trainer.global_step + 1 == self.stop


def train(
    path,
    optimizer,
    scheduler=None,
    *,
    resume=False,
    restore=True,
    batch_size=256,
    interval="step",
    stop=None,
    **options,
):
    """Train on the digits, whose epoch has 6 batches of 256 (or 5), and return what was seen and told."""
    pl.seed_everything(0, verbose=False)
    model = ImageClassifier("MLP", 10, (1, 8, 8), optimizer=optimizer, lr_scheduler=scheduler, lr_interval=interval)
    seen, told = Seen(stop), []
    resuming = ResumeAsTyped(restore, told.append)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, callbacks=[seen, resuming, LastCheckpoint(path, 4)],
        plugins=[AtomicCheckpointIO()], enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, **({"max_epochs": 2} | options),
    )  # fmt: skip
    data = DigitsDataModule(batch_size=batch_size, val_size=0.1)
    trainer.fit(model, data, ckpt_path=path if resume else None, weights_only=True)
    return seen, told, trainer


def momentum(trainer):
    return [state.get("momentum_buffer") for state in trainer.optimizers[0].state.values()]


CHANGES = {
    "rate": ((partial(SGD, lr=0.1, momentum=0.9), None), (partial(SGD, lr=0.01, momentum=0.9), None)),
    "rate under a schedule": (
        (partial(SGD, lr=0.1), partial(StepLR, step_size=3)),
        (partial(SGD, lr=0.5), partial(StepLR, step_size=3)),
    ),
    "another argument": (
        (partial(SGD, lr=0.1), partial(CosineAnnealingLR, T_max=6)),
        (partial(SGD, lr=0.1), partial(CosineAnnealingLR, T_max=20)),
    ),
    "another schedule": ((partial(SGD, lr=0.1), None), (partial(SGD, lr=0.1), partial(StepLR, step_size=5))),
    "no schedule": ((partial(SGD, lr=0.1), partial(StepLR, step_size=2)), (partial(SGD, lr=0.1), None)),
    "one cycle": (
        (partial(SGD, lr=0.1, momentum=0.9), partial(OneCycleLR, max_lr=0.2, total_steps=6)),
        (partial(SGD, lr=0.1, momentum=0.9), partial(OneCycleLR, max_lr=0.2, total_steps=30)),
    ),
    "another optimizer": (
        (partial(SGD, lr=0.1), partial(StepLR, step_size=2)),
        (partial(Adam, lr=0.003), partial(StepLR, step_size=2)),
    ),
}


@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
def test_the_rates_are_those_of_the_new_arguments(tmp_path, before, after):
    expected = train(tmp_path / "other.ckpt", *after, max_steps=10)[0].rates
    train(tmp_path / "last.ckpt", *before, max_steps=4)
    seen, told, trainer = train(tmp_path / "last.ckpt", *after, resume=True, max_steps=10)
    assert seen.rates == pytest.approx({step: rate for step, rate in expected.items() if step >= 4})
    assert len(told) == 1
    assert told[0].startswith("resumed at step 4: weights")
    if after[0].func is Adam:
        assert "anew: optimizer (Adam)" in told[0]
        assert {float(state["step"]) for state in trainer.optimizers[0].state.values()} == {6.0}


def test_the_optimizer_starts_anew_if_asked(tmp_path):
    make = partial(SGD, lr=0.0, momentum=1.0)  # whose momentum is the sum of all gradients
    schedule = partial(StepLR, step_size=3)
    train(tmp_path / "last.ckpt", make, schedule, max_steps=4)
    kept = train(tmp_path / "last.ckpt", make, schedule, resume=True, max_steps=5)[2]
    train(tmp_path / "last.ckpt", make, schedule, max_steps=4)
    _, told, anew = train(tmp_path / "last.ckpt", make, schedule, resume=True, restore=False, max_steps=5)
    assert float(momentum(anew)[0].norm()) < 0.5 * float(momentum(kept)[0].norm())
    assert "anew: optimizer (SGD)" in told[0]
    rate = partial(SGD, lr=0.1)
    train(tmp_path / "rate.ckpt", rate, schedule, max_steps=4)
    seen = train(tmp_path / "rate.ckpt", rate, schedule, resume=True, restore=False, max_steps=7)[0]
    assert seen.rates == pytest.approx({4: 0.01, 5: 0.01, 6: 0.001})


def test_a_plateau_takes_new_arguments_and_keeps_what_it_has_seen(tmp_path):
    make = partial(SGD, lr=0.1)
    plateau = partial(ReduceLROnPlateau, patience=0, threshold=10.0, factor=0.5, threshold_mode="abs")
    train(tmp_path / "last.ckpt", make, plateau, interval="epoch")
    more = partial(ReduceLROnPlateau, patience=0, threshold=10.0, factor=0.1, threshold_mode="abs")
    _, _, trainer = train(tmp_path / "last.ckpt", make, more, resume=True, interval="epoch", max_epochs=4)
    rates = trainer.optimizers[0].param_groups[0]["lr"]
    assert rates == pytest.approx(0.1 * 0.5 * 0.1 * 0.1)


@pytest.mark.parametrize("steps", [4, 5, 6, 7, 12])
def test_more_steps_are_exact(tmp_path, steps):
    make = partial(SGD, lr=0.1, momentum=0.9), partial(StepLR, step_size=3)
    whole = train(tmp_path / "whole.ckpt", *make, max_steps=17, max_epochs=-1)[2].lightning_module.state_dict()
    train(tmp_path / "last.ckpt", *make, max_steps=steps, max_epochs=-1)
    seen, _, trainer = train(tmp_path / "last.ckpt", *make, resume=True, max_steps=17, max_epochs=-1)
    assert sorted(seen.rates) == list(range(steps, 17))
    for name, value in trainer.lightning_module.state_dict().items():
        assert torch.equal(value, whole[name]), name


@pytest.mark.parametrize("batch_size", [64, 100, 256, 300, 1000])
def test_another_batch_size_takes_each_example_once(tmp_path, batch_size):
    make = partial(SGD, lr=0.1)
    (first,) = train(tmp_path / "last.ckpt", make, batch_size=200, max_steps=3)[0].labels.values()
    seen, told, trainer = train(tmp_path / "last.ckpt", make, resume=True, batch_size=batch_size, max_epochs=2)
    order = train(tmp_path / "order.ckpt", make, batch_size=2000, max_epochs=2)[0].labels
    assert torch.equal(torch.cat([*first, *seen.labels[0]]), order[0][0])
    assert torch.equal(torch.cat(seen.labels[1]), order[1][0])
    assert trainer.current_epoch == 2
    assert len(told) == 1


@pytest.mark.parametrize("change", [{"batch_size": 64}, {"batch_size": 1000}, {"accumulate_grad_batches": 3}])
def test_the_default_cycle_goes_on_at_its_part_of_the_training(tmp_path, change):
    whole = train(tmp_path / "whole.ckpt", None, max_epochs=4)[0].rates
    halves = train(tmp_path / "other.ckpt", None, max_epochs=4, **change)[0].rates
    train(tmp_path / "last.ckpt", None, max_epochs=4, stop=12)
    seen, told, _ = train(tmp_path / "last.ckpt", None, resume=True, max_epochs=4, **change)
    now, steps = len(halves) // 4, [*seen.rates.values()]
    there = round(12 * now / 5)
    assert f"continues at the same part of the training ({now} instead of 5 steps an epoch)" in told[0]
    assert steps[0] == pytest.approx(whole[12])
    assert steps[1 : 4 * now - there] == pytest.approx([*halves.values()][there + 1 :])
    assert len(steps) - 4 * now + there in (0, 1)  # the rest of the epoch is not always a whole number of batches


def test_a_cycle_that_is_too_short_is_refused_at_the_start(tmp_path):
    make = partial(SGD, lr=0.1, momentum=0.9), partial(OneCycleLR, max_lr=0.2, total_steps=12)
    train(tmp_path / "last.ckpt", *make, max_steps=4)
    with pytest.raises(ValueError, match=r"OneCycleLR ends after total_steps=12, training after 30: add"):
        train(tmp_path / "last.ckpt", *make, resume=True, max_steps=30, max_epochs=-1)
