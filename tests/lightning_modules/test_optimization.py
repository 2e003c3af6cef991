"""The optimizer's way on a GPU, with tensors that only say that they are there; what a schedule counts."""

import functools
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import ChainedScheduler, CyclicLR, ExponentialLR, LinearLR, OneCycleLR, SequentialLR

from lightning_modules import ImageClassifier
from lightning_modules.optimization import build_optimizer, with_schedule
from optim import SAM
from reference.tiny import TinyLoader


def groups(make, device="cuda"):
    with FakeTensorMode():
        module = nn.ParameterList([nn.Parameter(torch.empty(3, 2, device=device))])
        return build_optimizer(make, module, no_decay_on_1d=False).param_groups


@pytest.mark.parametrize("make", [SGD, Adam, AdamW, functools.partial(SAM, base_optimizer=SGD, lr=0.1)])
def test_torchs_optimizers_are_fused_on_cuda_only(make):
    assert [group["fused"] for group in groups(make)] == [True]
    assert [group["fused"] for group in groups(make, "cpu")] == [None]


@pytest.mark.parametrize("chosen", [{"fused": False}, {"foreach": True}, {"foreach": False}])
def test_the_users_choice_stays(chosen):
    (group,) = groups(functools.partial(AdamW, **chosen))
    assert {name: group[name] for name in chosen} == chosen
    assert not group["fused"]


def test_others_are_left_alone():
    assert "fused" not in groups(RMSprop)[0]


def composed(compose, *makes, **options):
    """Return the factory of a scheduler of schedulers."""
    return lambda optimizer: compose(schedulers=[make(optimizer) for make in makes], optimizer=optimizer, **options)


class AfterWarmUp(LinearLR):
    """A scheduler that holds another one, not in a list."""

    def __init__(self, optimizer, after):
        self.after = after(optimizer)
        super().__init__(optimizer)


CYCLE, RISE = partial(OneCycleLR, max_lr=1.0, total_steps=8), partial(LinearLR, total_iters=3)
IN_TURN = composed(SequentialLR, RISE, CYCLE, milestones=[3])


@pytest.mark.parametrize(
    "make",
    [
        CYCLE,
        partial(CyclicLR, base_lr=0.1, max_lr=1),
        IN_TURN,
        composed(ChainedScheduler, partial(ExponentialLR, gamma=0.9), IN_TURN),
        partial(AfterWarmUp, after=CYCLE),
    ],
)
def test_schedules_that_count_steps_are_stepped_at_each_step(make):
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    intervals = [with_schedule(optimizer, make, one)["lr_scheduler"]["interval"] for one in (None, "epoch", "step")]
    assert intervals == ["step", "epoch", "step"]
    others = RISE, composed(SequentialLR, RISE, partial(ExponentialLR, gamma=0.9), milestones=[3])
    assert [with_schedule(optimizer, one, None)["lr_scheduler"]["interval"] for one in others] == ["epoch", "epoch"]


@pytest.mark.parametrize("name", ["OneCycleLR", partial(OneCycleLR, max_lr=2.0, total_steps=6)])
def test_one_cycle_reaches_its_peak(name):
    make = {"class_path": name, "init_args": {"max_lr": 2.0, "total_steps": 6}} if isinstance(name, str) else name
    seen: list[float] = []

    class Rates(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit(ImageClassifier("MLP", 2, (5,), optimizer=partial(SGD, lr=0.1), lr_scheduler=make), Rates(), max_epochs=2)
    assert max(seen) > 1.9
    assert min(seen[2:]) < 0.01


def test_the_default_optimizer_clips_in_mixed_precision():
    """Lightning refuses to clip for an optimizer that was built with fused=True."""
    module = ImageClassifier("MLP", 2, (5,))
    trainer = fit(module, max_epochs=1, precision="bf16-mixed", gradient_clip_val=0.1)
    assert trainer.global_step == 3
    assert trainer.optimizers[0].param_groups[0]["fused"]


def fit(module, *callbacks, **options):
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), **options,
    )  # fmt: skip
    trainer.fit(module, TinyLoader(3), TinyLoader(1))
    return trainer
