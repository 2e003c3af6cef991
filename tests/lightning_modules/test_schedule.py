"""Schedules written as text, against torch's schedulers, and in trainings that are stopped and lengthened."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR

from lightning_modules import ImageClassifier, Schedule
from lightning_modules.callbacks.resume_as_typed import ResumeAsTyped
from lightning_modules.schedule import as_factory, factor, parse
from optim import COCOB, SAM


def sgd(lr: float = 1.0) -> SGD:
    return SGD([nn.Parameter(torch.ones(1))], lr=lr)


def rates(scheduler: Any, steps: int) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = []
        for _ in range(steps):
            found.append(scheduler.optimizer.param_groups[0]["lr"])
            scheduler.optimizer.step()
            scheduler.step()
    return found


def chained(optimizer: Optimizer) -> SequentialLR:
    parts = [LambdaLR(optimizer, lambda step: (step + 1) / 5), CosineAnnealingLR(optimizer, 15, eta_min=0.01)]
    return SequentialLR(optimizer, parts, [5])


@pytest.mark.parametrize(
    ("text", "make"),
    [
        ("cosine", lambda optimizer: CosineAnnealingLR(optimizer, 20)),
        ("cosine to 1%", lambda optimizer: CosineAnnealingLR(optimizer, 20, eta_min=0.01)),
        ("linear to 0.25", lambda optimizer: LinearLR(optimizer, 1.0, 0.25, 20)),
        ("linear 10 steps to 1e-2", lambda optimizer: LinearLR(optimizer, 1.0, 0.01, 10)),
        ("constant", lambda optimizer: LambdaLR(optimizer, lambda step: 1.0)),
        ("constant 50%, constant at 10%", lambda optimizer: LambdaLR(optimizer, lambda step: 0.1 ** (step // 10))),
        ("warmup 25%, cosine to 1%", chained),
        ("Warmup 1 epoch,cosine 3 epochs to 1 %", chained),
        ("warmup 5 steps, cosine to 1%", chained),
    ],
)
def test_parts_are_torchs_schedulers(text: str, make: Any) -> None:
    ours = Schedule(sgd(), text, total_steps=20, steps_per_epoch=5)
    assert rates(ours, 25)[:20] == pytest.approx(rates(make(sgd()), 20), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "total", "expected"),
    [
        ("warmup 2 steps", 4, [0.5, 1, 1, 1, 1]),
        ("warmup 2 steps from 50%", 4, [0.75, 1, 1, 1, 1]),
        ("linear 2 steps to 50%", 4, [1, 0.75, 0.5, 0.5, 0.5]),
        ("constant 25%, linear 50%, constant at 10%", 4, [1, 1, 0.5, 0.1, 0.1]),
        ("linear 50%, warmup 50%", 4, [1, 0.5, 0.5, 1, 1]),
        ("warmup 5%, linear", 4, [1, 0.75, 0.5, 0.25, 0]),  # a part of less than half a step has none
        ("constant at 0", 2, [0, 0, 0]),
        ("warmup 0.5 epochs, constant", 4, [1, 1, 1, 1, 1]),
    ],
)
def test_levels(text: str, total: int, expected: list[float]) -> None:
    assert [factor(text, step, total, 2) for step in range(total + 1)] == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    ["", "warm up 5%", "warmup5%", "warmup 5", "cosine,", "cosine until 1%", "cosine at 1%", "warmup to 1%",
     "cosine to 150%", "cosine -5%", "warmup 0%", "warmup 60%, cosine 50%", "cosine, linear", "step 10",
     "warmup 5%; cosine", "cosine to nan", "warmup 5% 3%", "cosine to 1% 5%"],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_text_that_was_found(text: str) -> None:
    with pytest.raises(ValueError, match="schedule: ") as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert "found" in str(caught.value) or repr(text) in str(caught.value)


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="its parts take 30 steps, the training has 20: shorten a part"):
        Schedule(sgd(), "warmup 30 steps, cosine", total_steps=20)
    with pytest.raises(ValueError, match="an epoch has no known number of steps"):
        Schedule(sgd(), "warmup 3 epochs, cosine", total_steps=20)
    with pytest.raises(ValueError, match="COCOB has no learning rate"):
        Schedule(COCOB([nn.Parameter(torch.ones(1))]), "cosine", total_steps=20)
    scheduler = Schedule(sgd(), "cosine")
    scheduler.optimizer.step()
    with pytest.raises(ValueError, match="not known: give total_steps"):
        scheduler.step()


def test_groups_keep_their_ratio_and_a_tensor_stays_one() -> None:
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, torch.tensor(0.4))]
    optimizer = SAM(groups, SGD)
    scheduler = Schedule(optimizer, "linear", total_steps=4)
    kept = optimizer.param_groups[1]["lr"]
    scheduler.last_epoch = 2
    scheduler.begin()
    assert optimizer.param_groups[1]["lr"] is kept
    assert [float(rate) for rate in scheduler.get_last_lr()] == pytest.approx([0.05, 0.2])


def test_the_state_is_the_step_alone() -> None:
    scheduler = Schedule(sgd(), "cosine", total_steps=10)
    rates(scheduler, 3)
    other = Schedule(sgd(), "linear", total_steps=100)
    other.load_state_dict(scheduler.state_dict())
    other.begin()
    assert (other.last_epoch, other.text) == (3, "linear")
    assert other.get_last_lr() == [pytest.approx(0.97)]


def test_a_text_in_place_of_a_factory() -> None:
    model = ImageClassifier("TwoLayerNet", image_shape=(1, 4, 4), optimizer="SGD", lr_scheduler="warmup 5%, cosine")
    assert model.hparams["lr_scheduler"] == as_factory("warmup 5%, cosine")
    with pytest.raises(ValueError, match="cannot read 'warmup 5' in"):
        ImageClassifier("TwoLayerNet", lr_scheduler="warmup 5, cosine").configure_optimizers()


# In trainings


class Batches:
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(7):
            yield torch.randn(4, 1, 3, 3, generator=generator), torch.randint(2, (4,), generator=generator)


class Counted(Batches):
    def __len__(self) -> int:
        return 7


class Rates(pl.Callback):
    def __init__(self) -> None:
        self.found: list[list[float]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.found.append([group["lr"] for group in optimizer.param_groups])


def fit(
    text: str, ckpt_path: Any = None, data: Any = None, typed: bool = False, saver: Any = None, **options: Any
) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = ImageClassifier(
        "TwoLayerNet", 2, (1, 3, 3), no_decay_on_1d=True, lr_scheduler=text,
        optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.2}},
    )  # fmt: skip
    seen = Rates()
    callbacks = [seen, *([ResumeAsTyped()] if typed else []), *([saver] if saver else [])]
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=callbacks, enable_checkpointing=saver is not None, logger=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(model, data or Counted(), ckpt_path=ckpt_path, weights_only=True)
    return trainer, seen.found


@pytest.mark.parametrize(
    ("options", "total", "epoch"),
    [
        ({"max_epochs": 2}, 14, 7),
        ({"max_epochs": 2, "accumulate_grad_batches": 3}, 6, 3),
        ({"max_epochs": -1, "max_steps": 9}, 9, 7),
        ({"max_epochs": 2, "max_steps": 20, "limit_train_batches": 4}, 8, 4),
    ],
)
def test_each_step_of_a_training_has_its_rate(options: dict[str, Any], total: int, epoch: int) -> None:
    text = "warmup 20%, constant 1 epochs, cosine to 10%" if total > 9 else "warmup 20%, cosine to 10%"
    expected = [0.2 * factor(text, step, total, epoch) for step in range(total)]
    assert fit(text, **options)[1] == [[rate, rate] for rate in expected]


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("epochs", [1, 3])
def test_a_resumed_training_has_the_rates_of_one_of_its_length(tmp_path, epochs: int, typed: bool) -> None:
    text = "warmup 20%, cosine"
    saver = ModelCheckpoint(tmp_path, "five", every_n_train_steps=5, save_top_k=1)
    fit(text, max_epochs=1, limit_train_batches=6, saver=saver)
    expected = [0.2 * factor(text, step, 6 * epochs) for step in range(6 * epochs)]
    _, found = fit(text, tmp_path / "five.ckpt", max_epochs=epochs, limit_train_batches=6, typed=typed)
    assert [rates[0] for rates in found] == expected[5:]


def test_a_training_of_unknown_length_is_refused() -> None:
    for options, data in (({"max_epochs": -1}, Counted()), ({"max_epochs": 1}, Batches())):
        with pytest.raises(ValueError, match="schedule: it needs a finite number of training steps") as caught:
            fit("warmup 5%, cosine", data=data, **options)
        assert "\n" not in str(caught.value)
