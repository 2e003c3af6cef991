"""A metric is one function in one table: its mean is logged for train, val and test."""

import functools

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ImageClassifier
from lightning_modules.metrics import METRICS, direction

IMAGES, LABELS = torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 7


def brier(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.softmax(1) - torch.nn.functional.one_hot(labels, logits.shape[1])).square().sum(1)


def undefined(logits: Tensor, labels: Tensor) -> None:
    return None


class WithBrier(ImageClassifier):
    metrics = ImageClassifier.metrics | {"brier": brier, "undefined": undefined}


def test_a_metric_of_ones_own_is_logged_everywhere():
    model = WithBrier("TwoLayerNet", 7, (1, 4, 4), optimizer=functools.partial(SGD, lr=0.0))
    loader = DataLoader(TensorDataset(IMAGES, LABELS), 8)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(model, loader, loader)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    found |= trainer.test(model, loader, verbose=False)[0]
    expected = float(brier(model(IMAGES), LABELS).mean())
    for stage in ("train", "val", "test"):
        assert found[f"{stage}/brier"] == pytest.approx(expected, rel=1e-5)
        assert {f"{stage}/{name}" for name in METRICS} <= set(found)
        assert f"{stage}/undefined" not in found


def test_each_of_ours_gives_one_value_an_example():
    logits = torch.randn(20, 7, generator=torch.Generator().manual_seed(1))
    for metric in METRICS.values():
        assert metric(logits, LABELS).shape == (20,)
    assert METRICS["top5_accuracy"](logits[:, :5], LABELS % 5) is None


def test_every_metric_has_a_direction():
    assert {name: direction(f"val/{name}") for name in METRICS} == {
        "nll": "min",
        "accuracy": "max",
        "top5_accuracy": "max",
    }
    assert direction("val/f1") is None

    def brier(logits, labels):
        return logits[:, 0]

    brier.higher_is_better = False
    assert direction("test/brier", {"brier": brier}) == "min"
