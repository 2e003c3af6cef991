"""Last batches of one example, useless default rates, and wrong directions, before the first step."""

import warnings
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from activations import SPOCU
from lightning_modules import ImageClassifier, TrainingMonitor
from optim import LAMB, SAM


def flat(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, num_classes))


def maps(num_classes):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, num_classes))


def fit(
    backbone=flat, examples=9, batch_size=4, drop_last=False, callbacks=(), optimizer=AdamW, schedule=None, **options
):
    model = ImageClassifier(backbone, 2, (1, 4, 4), optimizer=optimizer, lr_scheduler=schedule)
    data = TensorDataset(torch.ones(examples, 1, 4, 4), torch.arange(examples) % 2)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), **options,
    )  # fmt: skip
    trainer.fit(model, DataLoader(data, batch_size, drop_last=drop_last), DataLoader(data, 4))
    return trainer


@pytest.mark.parametrize(("examples", "batch_size"), [(9, 4), (2, 1)])
def test_a_last_batch_of_one_is_refused_before_the_first_step(examples, batch_size):
    class Steps(pl.Callback):
        def on_train_batch_start(self, *args):
            pytest.fail("a step was taken")

    with pytest.raises(ValueError, match=r"last batch .* one example.*drop_last"):
        fit(examples=examples, batch_size=batch_size, callbacks=[Steps()])


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": maps},
        {"backbone": "TwoLayerNet"},
        {"drop_last": True},
        {"examples": 10},
        {"limit_train_batches": 2},
        {"max_steps": 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_works_is_not_refused(options):
    assert fit(**options).global_step >= 1


def told(**options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit("TwoLayerNet", **options)
    return [str(one.message) for one in caught if "hardly moves" in str(one.message) or "watches" in str(one.message)]


@pytest.mark.parametrize("make", ["SGD", SGD, LAMB, partial(SAM, base_optimizer=SGD), SAM, partial(SGD, lr=1e-3)])
def test_a_useless_default_rate_gets_one_warning(make):
    usual = "0.01" if make is LAMB else "0.1"
    (line,) = told(optimizer=make)
    assert f"usually about {usual} " in line


def test_a_rate_that_is_given_gets_none():
    for make in (AdamW, partial(LAMB, lr=0.01), partial(SAM, lr=0.1)):
        assert told(optimizer=make) == []
    assert told(optimizer=partial(SGD, momentum=0.9), schedule=partial(OneCycleLR, max_lr=1.0, total_steps=9)) == []


def test_a_wrong_direction_is_said():
    (line,) = told(callbacks=[EarlyStopping("val/accuracy")])
    assert "EarlyStopping watches val/accuracy with mode='min', but more of it is better: give mode='max'" in line
    plateau = ReduceLROnPlateau
    assert told(callbacks=[EarlyStopping("val/accuracy", mode="max")], schedule=plateau) == []
    (line,) = told(schedule=partial(plateau, mode="max"))
    assert "watches val/nll with mode='max', but less" in line


def test_the_message_of_an_unbounded_spocu_names_its_bound():
    def deep(num_classes):
        parts = [part for _ in range(4) for part in (nn.Linear(16, 16), SPOCU())]
        return nn.Sequential(nn.Flatten(), *parts, nn.Linear(16, num_classes))

    with pytest.raises(RuntimeError, match=r"SPOCU.*c=1 \(--model.activation.c 1\)"):
        fit(deep, optimizer=partial(SGD, lr=1e6), callbacks=[TrainingMonitor()])
