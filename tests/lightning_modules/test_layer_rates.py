"""Rates by depth in the optimizer's groups, under schedules, searches and a resume."""

import functools

import pytest
import pytorch_lightning as pl
import timm
import timm.optim
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, LinearLR, OneCycleLR, SequentialLR

from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier
from lightning_modules.callbacks.resume_as_typed import ResumeAsTyped
from optim import COCOB, LAMB, SAM, Muon

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
SGD = functools.partial(torch.optim.SGD, lr=0.1)


def classifier(**options):
    return ImageClassifier(
        **{"backbone": "MLP", "num_classes": 10, "image_shape": (1, 8, 8), "optimizer": SGD} | options
    )


def optimizer_of(model):
    made = model.configure_optimizers()
    return made["optimizer"] if isinstance(made, dict) else made


def rates(optimizer, name="lr"):
    return {group["name"]: pytest.approx(float(group[name])) for group in optimizer.param_groups}


def test_the_groups_are_those_of_timm():
    model = classifier(
        backbone=timm.create_model("vit_tiny_patch16_224", num_classes=10, depth=2),
        image_shape=(3, 224, 224),
        layer_decay=0.5,
        no_decay_on_1d=True,
        optimizer=functools.partial(torch.optim.AdamW, lr=0.1, weight_decay=0.2),
    )
    ours = optimizer_of(model)
    theirs = timm.optim.param_groups_layer_decay(model.backbone, weight_decay=0.2, layer_decay=0.5)
    expected = {p: (group["lr_scale"], group["weight_decay"]) for group in theirs for p in group["params"]}
    found = {p: (group["lr_scale"], group["weight_decay"]) for group in ours.param_groups for p in group["params"]}
    assert found == expected
    assert all(group["lr"] == 0.1 * group["lr_scale"] for group in ours.param_groups)
    assert len({group["name"] for group in ours.param_groups}) == len(ours.param_groups) == len(theirs)
    assert ours.param_groups[0]["name"].startswith("head")


@pytest.mark.parametrize("make", [LAMB, Muon, torch.optim.Adam, functools.partial(SAM, base_optimizer=LAMB)])
def test_every_optimizer_has_them(make):
    optimizer = optimizer_of(classifier(optimizer=functools.partial(make, lr=0.1), layer_decay=0.5, head_lr=0.4))
    assert rates(optimizer) == {"layer_1": 0.05, "layer_0": 0.025, "head": 0.4}
    assert rates(getattr(optimizer, "base_optimizer", optimizer)) == rates(optimizer)


def test_the_default_optimizer_a_tensor_as_rate_and_a_rate_that_was_found():
    model = classifier(optimizer=None, head_lr=0.4)
    assert rates(model.configure_optimizers()["optimizer"], "initial_lr") == {"backbone": 5e-3, "head": 0.4}
    model.lr = 0.01
    assert rates(model.configure_optimizers()["optimizer"], "initial_lr") == {"backbone": 0.01, "head": 0.4}
    rate = torch.tensor(0.1)
    made = optimizer_of(
        classifier(optimizer=functools.partial(torch.optim.Adam, lr=rate), layer_decay=0.5, head_lr=1.0)
    )
    assert all(isinstance(group["lr"], torch.Tensor) for group in made.param_groups)
    assert (rates(made), float(rate)) == ({"layer_1": 0.05, "layer_0": 0.025, "head": 1.0}, pytest.approx(0.1))


def test_named_groups_take_their_parameters_first():
    wanted = [{"match": "hidden.0", "lr": 0.7}]
    made = optimizer_of(classifier(layer_decay=0.5, parameter_groups=wanted))
    assert [(group.get("name"), group["lr"]) for group in made.param_groups] == [
        ("head", 0.1),
        ("layer_1", 0.05),
        (None, 0.7),
    ]
    with pytest.raises(ValueError, match="head_lr: parameter_groups or requires_grad=False take all of the head"):
        optimizer_of(classifier(head_lr=1.0, parameter_groups=[{"match": "head"}]))


def peaks(make, steps=10):
    made = classifier(layer_decay=0.5, head_lr=0.4, lr_scheduler=make).configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    highest = rates(optimizer)
    seen = [[group["lr"] for group in optimizer.param_groups]]
    for _ in range(steps - 1):
        optimizer.step()
        scheduler.step()
        seen.append([group["lr"] for group in optimizer.param_groups])
    return {name: pytest.approx(max(values)) for name, values in zip(highest, zip(*seen, strict=True), strict=True)}


def warm_then_one_cycle(optimizer):
    parts = [LinearLR(optimizer, total_iters=2), OneCycleLR(optimizer, 0.2, total_steps=20)]
    return SequentialLR(optimizer, parts, [2])


@pytest.mark.parametrize(
    ("make", "common"),
    [
        (functools.partial(CosineAnnealingLR, T_max=5), 0.1),
        (functools.partial(OneCycleLR, max_lr=0.2, total_steps=10), 0.2),
        (functools.partial(CyclicLR, base_lr=0.01, max_lr=0.2, step_size_up=4, cycle_momentum=False), 0.2),
        (warm_then_one_cycle, 0.2),
    ],
)
def test_a_schedule_multiplies_the_own_rate_of_each_group(make, common):
    assert peaks(make) == {"layer_1": common / 2, "layer_0": common / 4, "head": 0.4}


def test_peaks_that_are_given_for_each_group_are_kept():
    make = functools.partial(OneCycleLR, max_lr=[0.1, 0.2, 0.3], total_steps=10)
    assert peaks(make) == {"layer_1": 0.1, "layer_0": 0.2, "head": 0.3}


class Rates(pl.Callback):
    """Notes the rates of each step."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append([group["lr"] for group in optimizer.param_groups])


class Noting(ImageClassifier):
    """Notes the rates of each step; a search leaves out all callbacks."""

    def on_before_optimizer_step(self, optimizer):
        self.seen = [*getattr(self, "seen", []), [group["lr"] for group in optimizer.param_groups]]


@pytest.mark.filterwarnings("ignore")
def test_the_range_test_keeps_the_ratios():
    model = Noting("MLP", 10, (1, 8, 8), optimizer=SGD, layer_decay=0.5, head_lr=0.4, freeze="hidden.0")
    trainer = pl.Trainer(**QUIET, max_epochs=50, enable_checkpointing=False)
    data = DigitsDataModule(train_size=32, val_size=0, batch_size=8)
    options = {"min_lr": 0.001, "max_lr": 0.1, "num_training": 10}
    found = pl.tuner.Tuner(trainer).lr_find(model, datamodule=data, update_attr=False, **options)
    assert len(model.seen) == len(found.results["lr"]) >= 10
    for step, common in zip(model.seen, found.results["lr"], strict=True):
        assert step == pytest.approx([common / 2, common / 4, 0.4])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("now", "ratio"), [({}, 0.5), ({"layer_decay": 0.25}, 0.25)])
def test_a_resumed_training_has_the_rates_of_todays_arguments(now, ratio, tmp_path):
    data = DigitsDataModule(train_size=16, val_size=0, batch_size=8)
    options = {"layer_decay": 0.5, "lr_scheduler": functools.partial(CosineAnnealingLR, T_max=5)}
    trainer = pl.Trainer(**QUIET, max_epochs=1, enable_checkpointing=False)
    trainer.fit(classifier(**options), data)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    watch, told = Rates(), []
    resume = ResumeAsTyped(tell=told.append)
    trainer = pl.Trainer(**QUIET, max_epochs=2, enable_checkpointing=False, callbacks=[watch, resume])
    trainer.fit(classifier(**options | now), data, ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    head, above, below = watch.seen[0]
    assert 0.08 < head < 0.1
    assert (above, below) == pytest.approx((head * ratio, head * ratio**2))
    assert "optimizer state" in told[0]
    groups = trainer.optimizers[0].param_groups
    assert [group["lr_scale"] for group in groups] == [1, ratio, ratio**2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_decay": 0.0}, r"layer_decay must be in \(0, 1\], found 0.0"),
        ({"layer_decay": 1.1}, r"layer_decay must be in \(0, 1\], found 1.1"),
        ({"layer_decay": float("nan")}, "layer_decay must be in"),
        ({"head_lr": 0.0}, "head_lr must be finite and greater than 0, found 0.0"),
        ({"head_lr": -1.0}, "head_lr must be finite and greater than 0, found -1.0"),
        ({"head_lr": 1.0, "optimizer": COCOB}, "need a learning rate, COCOB has none"),
        (
            {"layer_decay": 0.5, "optimizer": functools.partial(SAM, base_optimizer=COCOB)},
            "a learning rate, SAM has none",
        ),
        ({"layer_decay": 0.5, "backbone": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}, "has one layer only"),
        ({"layer_decay": 0.5, "optimizer": lambda _: SGD(model_parameters())}, "of other parameters"),
        (
            {"layer_decay": 0.5, "optimizer": lambda groups: SGD([p for g in groups for p in g["params"]])},
            "without the",
        ),
    ],
)
def test_bad_arguments_are_one_line(options, message):
    with pytest.raises(ValueError, match=message) as refused:
        classifier(**options).configure_optimizers()
    assert "\n" not in str(refused.value)


def model_parameters():
    return nn.Linear(1, 1).parameters()
