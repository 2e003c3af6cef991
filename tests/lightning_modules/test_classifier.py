"""The classifier: metrics, loss, optimizer, schedule, checkpoints and errors."""

import copy
import functools
import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback, Checkpoint, ModelCheckpoint
from pytorch_lightning.cli import LightningCLI
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_modules import ImageClassifier
from lightning_modules.backbones import MLP, TwoLayerNet
from lightning_modules.backbones.named import own_backbones
from lightning_modules.epoch_sums import EpochSums
from lightning_modules.metrics import METRICS
from lightning_modules.optimization import one_cycle

SHAPE = (1, 4, 4)


class Points:
    """A loader in a fixed order with a shorter last batch, which resumes in mid-epoch."""

    def __init__(self, examples: int = 50, batch_size: int = 8, classes: int = 7, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(examples, *SHAPE, generator=generator)
        self.labels = torch.randint(classes, (examples,), generator=generator)
        self.batch_size, self.batch, self.start = batch_size, 0, 0

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        start, self.start = self.start % len(self), 0
        for position in range(start, len(self)):
            self.batch = position + 1
            part = slice(position * self.batch_size, (position + 1) * self.batch_size)
            yield self.images[part], self.labels[part]

    def state_dict(self) -> dict[str, int]:
        return {"batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["batch"]


def classifier(backbone: Any = TwoLayerNet, **options: Any) -> ImageClassifier:
    torch.manual_seed(0)
    options = {
        "num_classes": 7,
        "image_shape": SHAPE,
        "optimizer": functools.partial(torch.optim.SGD, lr=0.5),
    } | options
    return ImageClassifier(backbone, **options)


def trainer(**options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return pl.Trainer(**{**quiet, "enable_model_summary": False, "max_epochs": 1, "num_sanity_val_steps": 0, **options})


class Record(Callback):
    """Keeps every epoch's metrics, and what the steps returned."""

    def __init__(self) -> None:
        self.train: list[dict[str, float]] = []
        self.evaluated: list[dict[str, Tensor]] = []
        self.losses: list[float] = []
        self.saw_graph = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.train.append({})  # filled below: the module logs after its callbacks

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._fill(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._fill(trainer)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.losses.append(float(outputs["loss"]))
        self.saw_graph |= outputs["loss"].requires_grad

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.evaluated.append({**outputs, "loader": torch.tensor(dataloader_idx)})

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.evaluated.append(outputs)

    def _fill(self, trainer: pl.Trainer) -> None:
        if self.train and not self.train[-1]:
            self.train[-1] = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("train/")}


# Metrics


def reference_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    probabilities = logits.double().softmax(1).numpy()
    classes = range(logits.shape[1])
    return {
        "nll": log_loss(labels, probabilities, labels=classes),
        "accuracy": accuracy_score(labels, probabilities.argmax(1)),
        "top5_accuracy": top_k_accuracy_score(labels, probabilities, k=5, labels=classes),
    }


def test_test_metrics_equal_scikit_learns():
    model, points = classifier(functools.partial(TwoLayerNet, weight_std=0.3)), Points()
    record = Record()
    (metrics,) = trainer(callbacks=[record]).test(model, points, verbose=False)
    with torch.no_grad():
        expected = reference_metrics(model(points.images), points.labels)
    assert metrics == pytest.approx({f"test/{name}": value for name, value in expected.items()}, rel=1e-6)
    assert metrics["test/nll"] > 2  # far from trivial
    assert torch.cat([out["labels"] for out in record.evaluated]).equal(points.labels)
    torch.testing.assert_close(torch.cat([out["logits"] for out in record.evaluated]), model(points.images).detach())


def test_validation_and_watched_test_loader():
    model, record = classifier(functools.partial(TwoLayerNet, weight_std=0.3)), Record()
    validation, test = Points(seed=1), Points(30, seed=2)
    metrics = trainer(callbacks=[record]).validate(model, [validation, test], verbose=False)
    metrics = {name: value for part in metrics for name, value in part.items()}
    with torch.no_grad():
        expected = {f"val/{k}": v for k, v in reference_metrics(model(validation.images), validation.labels).items()}
        expected |= {f"test/{k}": v for k, v in reference_metrics(model(test.images), test.labels).items()}
    assert metrics == pytest.approx(expected, rel=1e-6)
    assert {int(out["loader"]) for out in record.evaluated} == {0, 1}
    assert all(not out["logits"].requires_grad and out["logits"].dtype == torch.float32 for out in record.evaluated)


def test_no_top5_with_five_classes():
    (metrics,) = trainer().test(classifier(num_classes=5), Points(classes=5), verbose=False)
    assert set(metrics) == {"test/nll", "test/accuracy"}


def test_too_many_loaders():
    with pytest.raises(ValueError, match="at most 2 loaders"):
        trainer().validate(classifier(), [Points(), Points(), Points()], verbose=False)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_training_means_equal_a_plain_loop(smoothing):
    make = functools.partial(TwoLayerNet, weight_std=0.5)
    model, record = classifier(make, label_smoothing=smoothing), Record()
    plain = copy.deepcopy(model.backbone)
    trainer(max_epochs=3, callbacks=[record]).fit(model, Points(), Points(20, seed=1))
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5)
    for epoch in range(3):
        total, accuracy, count = 0.0, MulticlassAccuracy(7, average="micro"), 0
        for images, labels in Points():
            logits = plain(images)
            soft = F.one_hot(labels, 7) * (1 - smoothing) + smoothing / 7
            loss = -(soft * logits.log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            accuracy.update(logits.detach(), labels)
            total, count = total + loss.item() * len(labels), count + len(labels)
        assert record.train[epoch]["train/loss"] == pytest.approx(total / count, rel=1e-5)
        assert record.train[epoch]["train/accuracy"] == pytest.approx(float(accuracy.compute()), rel=1e-6)
    assert not record.saw_graph
    for ours, theirs in zip(model.backbone.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_sanity_checking_does_not_leak_into_the_metrics():
    results = []
    for steps in (0, 2):
        model, record = classifier(), Record()
        run = trainer(num_sanity_val_steps=steps, callbacks=[record])
        run.fit(model, Points(), Points(20, seed=1))
        results.append({name: float(value) for name, value in run.callback_metrics.items()})
    assert results[0] == results[1]
    assert {"val/nll", "val/accuracy", "train/loss", "train/accuracy"} <= set(results[0])


def test_epoch_sums_of_nothing():
    sums = EpochSums(METRICS)
    assert sums.means(sums.vector("cpu")) == {}
    trainer(limit_val_batches=0).fit(classifier(), Points(), Points())


def test_predictions():
    model, points = classifier(), Points(20)
    parts = trainer().predict(model, points)
    probabilities = torch.cat([part["probabilities"] for part in parts])
    torch.testing.assert_close(probabilities, model(points.images).detach().softmax(1))
    assert torch.cat([part["prediction"] for part in parts]).equal(probabilities.argmax(1))
    assert torch.cat([part["label"] for part in parts]).equal(points.labels)
    unlabelled = trainer().predict(model, DataLoader(points.images, batch_size=6))
    assert set(unlabelled[0]) == {"probabilities", "prediction"}


# Loss, optimizer and schedule


def test_penalties_are_those_of_the_formula():
    model = classifier(functools.partial(MLP, hidden=(6,), norm="batch"), l1=0.01, l2=0.02)
    images, labels = next(iter(Points()))
    loss = model.training_step((images, labels), 0)["loss"]
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
    plain = F.cross_entropy(model(images), labels)
    weights = [model.backbone.hidden[0].weight, model.backbone.head.weight]
    expected = plain + sum(0.01 * w.abs().sum() + 0.02 * (w**2).sum() for w in weights)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_no_decay_on_1d_makes_two_groups():
    make = functools.partial(torch.optim.AdamW, lr=0.1, weight_decay=0.3)
    model = classifier(functools.partial(MLP, norm="layer"), activation=nn.PReLU, optimizer=make, no_decay_on_1d=True)
    decayed, free = model.configure_optimizers().param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    assert {id(p) for p in decayed["params"]} == {id(p) for p in model.parameters() if p.ndim > 1}
    assert {id(p) for p in free["params"]} == {id(p) for p in model.parameters() if p.ndim <= 1}
    assert len(classifier(optimizer=make).configure_optimizers().param_groups) == 1


def test_no_decay_needs_an_optimizer_with_decay():
    make = functools.partial(torch.optim.Rprop, lr=0.1)
    with pytest.raises(ValueError, match=r"no_decay_on_1d.*Rprop"):
        classifier(optimizer=make, no_decay_on_1d=True).configure_optimizers()


def test_frozen_weights_are_not_optimised():
    model = classifier(l2=1.0)
    model.backbone.affine1.requires_grad_(False)
    before = model.backbone.affine1.weight.clone()
    trainer().fit(model, Points())
    assert torch.equal(before, model.backbone.affine1.weight)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        model.configure_optimizers()


class Rates(Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_the_default_recipe_is_adamw_with_one_cycle():
    rates = Rates()
    run = trainer(max_epochs=4, callbacks=[rates])
    run.fit(classifier(optimizer=None), Points())
    optimizer = run.optimizers[0]
    assert type(optimizer) is torch.optim.AdamW
    peak = optimizer.param_groups[0]["initial_lr"]
    reference = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(reference, peak, total_steps=28, cycle_momentum=False)
    expected = []
    for _ in range(28):
        expected.append(schedule.get_last_lr()[0])
        reference.step()
        if len(expected) < 28:
            schedule.step()
    assert rates.rates == pytest.approx(expected)


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_one_cycle_of_few_steps(total):
    factors = [one_cycle(step, total=total) for step in range(total + 3)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[total - 1 :] == [factors[total - 1]] * 4 or total == 1


def test_one_cycle_needs_an_end():
    with pytest.raises(ValueError, match=r"one-cycle.*max_steps"):
        trainer(max_epochs=-1).fit(classifier(optimizer=None), Points())


def test_one_cycle_continues_with_more_epochs(tmp_path):
    run = trainer(max_epochs=2)
    run.fit(classifier(optimizer=None), Points())
    run.save_checkpoint(tmp_path / "two.ckpt")
    rates = Rates()
    trainer(max_epochs=4, callbacks=[rates]).fit(classifier(optimizer=None), Points(), ckpt_path=tmp_path / "two.ckpt")
    peak = run.optimizers[0].param_groups[0]["initial_lr"]
    # The rate of the step at which the first run ended was set for its own length.
    assert rates.rates[1:] == pytest.approx([peak * one_cycle(step, total=28) for step in range(15, 28)])


def test_an_optimizer_alone_keeps_its_rate():
    rates = Rates()
    trainer(max_epochs=2, callbacks=[rates]).fit(classifier(), Points())
    assert set(rates.rates) == {0.5}


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_a_scheduler_counts_epochs_or_steps(interval):
    rates = Rates()
    make = functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    trainer(max_epochs=2, callbacks=[rates]).fit(classifier(lr_scheduler=make, lr_interval=interval), Points())
    expected = [0.5] * 7 + [0.25] * 7 if interval == "epoch" else [0.5 * 0.5**step for step in range(14)]
    assert rates.rates == expected


def test_plateau_watches_validation():
    rates = Rates()
    make = functools.partial(
        torch.optim.lr_scheduler.ReduceLROnPlateau, factor=0.1, patience=0, threshold=10.0, threshold_mode="abs"
    )
    run = trainer(max_epochs=3, callbacks=[rates])
    run.fit(classifier(lr_scheduler=make), Points(), Points(20, seed=1))
    assert run.lr_scheduler_configs[0].monitor == "val/nll"
    assert rates.rates[0] == 0.5
    assert rates.rates[-1] == pytest.approx(0.05)


# Checkpoints and hyperparameters


def slope() -> nn.Module:
    return nn.LeakyReLU(0.3)


FACTORIES = {
    "class": (nn.GELU, nn.GELU),
    "partial": (functools.partial(nn.LeakyReLU, 0.2), nn.LeakyReLU),
    "string": ("torch.nn.Tanh", nn.Tanh),
    "dictionary": ({"class_path": "torch.nn.ELU", "init_args": {"alpha": 0.5}}, nn.ELU),
    "function": (slope, nn.LeakyReLU),
    "backbone's own": (None, nn.ReLU),
}


@pytest.mark.parametrize(("activation", "kind"), FACTORIES.values(), ids=FACTORIES)
def test_checkpoints_rebuild_the_network(tmp_path, activation, kind):
    make = functools.partial(MLP, hidden=(5, 4))
    model = classifier(make, activation=activation, label_smoothing=0.1)
    run = trainer()
    run.fit(model, Points())
    path = tmp_path / "model.ckpt"
    run.save_checkpoint(path)
    loaded = ImageClassifier.load_from_checkpoint(path, weights_only=True)
    assert type(loaded.backbone.hidden[1]) is kind
    assert repr(loaded.backbone) == repr(model.backbone)
    images = torch.randn(3, *SHAPE)
    assert torch.equal(loaded(images), model(images))
    assert dict(loaded.hparams) == dict(model.hparams)
    assert loaded.hparams.label_smoothing == 0.1
    trainer().fit(loaded, Points())  # its optimizer is rebuilt too
    assert ImageClassifier.load_from_checkpoint(path, l2=0.5).hparams.l2 == 0.5


def kinds(model: nn.Module) -> set[type[nn.Module]]:
    return {type(module) for module in model.modules()}


@pytest.mark.slow
def test_a_named_network_keeps_its_own_activation_unless_one_is_given():
    make = functools.partial(ImageClassifier, "vit_tiny_patch16_224", 3, (3, 32, 32))
    assert nn.GELU in kinds(make())
    assert nn.ReLU not in kinds(make())
    assert nn.SiLU in kinds(make(activation=nn.SiLU))
    assert nn.GELU not in kinds(make(activation="torch.nn.ReLU"))  # as checkpoints of before have it
    for name in own_backbones():
        own = nn.GELU if name in ("fast_net", "FastNet") else nn.ReLU
        assert own in kinds(ImageClassifier(name, 3, (1, 8, 8)))


def needs_activation(num_classes: int, image_shape: tuple[int, ...], activation: Any) -> nn.Module:
    return nn.Sequential(nn.Flatten(), activation(), nn.LazyLinear(num_classes))


def test_a_factory_that_requires_an_activation_gets_relu():
    model = ImageClassifier(needs_activation, 3, SHAPE)
    assert nn.ReLU in kinds(model)
    assert model.hparams.activation == "torch.nn.ReLU"
    assert ImageClassifier("TwoLayerNet", 3, SHAPE).hparams.activation is None


class WithMargin(ImageClassifier):
    """A subclass with an argument of its own."""

    def __init__(self, *args: Any, margin: float = 1.0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.margin = margin


def test_a_subclass_saves_its_own_arguments(tmp_path):
    model = WithMargin("TwoLayerNet", 7, SHAPE, functools.partial(nn.LeakyReLU, 0.2), margin=2.0)
    run = trainer()
    run.fit(model, Points())
    run.save_checkpoint(tmp_path / "model.ckpt")
    loaded = WithMargin.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.margin == 2.0
    assert loaded.backbone.activation.negative_slope == 0.2


class PointsModule(pl.LightningDataModule):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed, self.num_classes, self.image_shape = seed, 7, SHAPE

    def train_dataloader(self) -> Points:
        return Points(seed=self.seed)

    val_dataloader = train_dataloader


class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser: Any) -> None:
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")
        parser.link_arguments("data.image_shape", "model.image_shape", apply_on="instantiate")


COMMANDS = {
    "class with options": (
        "--model.backbone lightning_modules.backbones.TwoLayerNet --model.backbone.hidden 20 "
        "--model.activation torch.nn.LeakyReLU --model.activation.negative_slope 0.2 "
        "--model.optimizer torch.optim.SGD --model.optimizer.lr 0.1 "
        "--model.lr_scheduler torch.optim.lr_scheduler.StepLR --model.lr_scheduler.step_size 3",
        functools.partial(TwoLayerNet, 7, SHAPE, functools.partial(nn.LeakyReLU, 0.2), hidden=20),
    ),
    "name": ("--model.backbone TwoLayerNet --model.activation torch.nn.GELU", lambda: TwoLayerNet(7, SHAPE, nn.GELU)),
    "function": (
        "--model.backbone lightning_modules.backbones.resnet8 --model.ema_decay 0.5",
        lambda: ImageClassifier("resnet8", 7, SHAPE).backbone,
    ),
}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(*each, id=name, marks=[] if name == "class with options" else [pytest.mark.slow])
        for name, each in COMMANDS.items()
    ],
)
@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
def test_the_command_line_and_its_checkpoint(tmp_path, command, expected):
    fixed = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    cli = functools.partial(
        CLI,
        ImageClassifier,
        PointsModule,
        auto_configure_optimizers=False,
        save_config_callback=None,
        trainer_defaults={**fixed, "default_root_dir": str(tmp_path), "max_epochs": 1},
    )
    made = cli(args=["fit", *command.split()])
    assert repr(made.model.backbone) == repr(expected())
    path = tmp_path / "checkpoints" / "epoch=0-step=7.ckpt"
    loaded = ImageClassifier.load_from_checkpoint(path, weights_only=True)
    assert repr(loaded.backbone) == repr(expected())
    assert loaded.hparams.num_classes == 7
    images = torch.randn(3, *SHAPE)
    assert torch.equal(loaded.eval()(images), made.model.eval()(images))
    if "SGD" in command:
        (optimizer,) = made.trainer.optimizers
        assert type(optimizer) is torch.optim.SGD
        assert optimizer.param_groups[0]["initial_lr"] == 0.1
        assert made.trainer.lr_scheduler_configs[0].scheduler.step_size == 3
    again = cli(args=["validate", "--ckpt_path", str(path)])
    assert repr(again.model.backbone) == repr(expected())


class Stop(Exception):
    pass


class SaveAndStop(Checkpoint):
    """Saves after some steps and ends the run there; as a Checkpoint it is called after every other callback."""

    def __init__(self, path: Any, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise Stop


@pytest.mark.parametrize("ema_decay", [None, 0.7])
@pytest.mark.parametrize("step", [1, 3, 9, 12])
def test_resume_in_mid_epoch_is_exact(tmp_path, step, ema_decay):
    make = functools.partial(MLP, hidden=(8,), norm="batch")
    build = functools.partial(classifier, make, optimizer=None, ema_decay=ema_decay)

    def fit(*callbacks: Callback, ckpt_path: Any = None) -> tuple[ImageClassifier, list[dict[str, float]]]:
        model, record = build(), Record()
        run = trainer(max_epochs=3, callbacks=[record, *callbacks], enable_checkpointing=bool(callbacks))
        run.fit(model, Points(), Points(20, seed=1), ckpt_path=ckpt_path)
        return model, [*record.train, {name: float(value) for name, value in run.callback_metrics.items()}]

    whole, expected = fit()
    assert len(expected) == 4
    path = tmp_path / "mid.ckpt"
    with pytest.raises(Stop):
        fit(SaveAndStop(path, step))
    assert "epoch_sums" in torch.load(path, weights_only=True)
    resumed, metrics = fit(ckpt_path=path)
    assert metrics == expected[step // 7 :]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_second_fit_starts_its_sums_from_zero():
    model = classifier(optimizer=functools.partial(torch.optim.SGD, lr=0.0))
    run = trainer()
    run.fit(model, Points())
    expected = float(run.callback_metrics["train/loss"])
    model.training_step(next(iter(Points())), 0)  # as a run that was interrupted leaves it
    run = trainer()
    run.fit(model, Points())
    assert float(run.callback_metrics["train/loss"]) == expected


# Moving average of the weights


def test_average_is_validated_saved_and_tested(tmp_path):
    decay, points, validation = 0.8, Points(), Points(20, seed=1)
    model = classifier(functools.partial(TwoLayerNet, weight_std=0.5), ema_decay=decay)
    plain = copy.deepcopy(model.backbone)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5)
    average = None
    for images, labels in points:
        optimizer.zero_grad()
        F.cross_entropy(plain(images), labels).backward()
        optimizer.step()
        now = [p.detach().clone() for p in plain.parameters()]
        average = now if average is None else [decay * a + (1 - decay) * p for a, p in zip(average, now, strict=True)]
    averaged = copy.deepcopy(plain)
    for parameter, value in zip(averaged.parameters(), average, strict=True):
        parameter.data.copy_(value)
    save = ModelCheckpoint(tmp_path, filename="best", monitor="val/nll", save_on_train_epoch_end=False)
    run = trainer(callbacks=[save], enable_checkpointing=True)
    run.fit(model, points, validation)

    def nll(network: nn.Module) -> float:
        return float(F.cross_entropy(network(validation.images), validation.labels).detach())

    assert nll(averaged) != pytest.approx(nll(plain), rel=1e-3)
    assert float(run.callback_metrics["val/nll"]) == pytest.approx(nll(averaged), rel=1e-5)
    loaded = ImageClassifier.load_from_checkpoint(save.best_model_path, weights_only=True)
    assert nll(loaded.backbone) == pytest.approx(nll(averaged), rel=1e-5)
    assert nll(model.backbone) == pytest.approx(nll(averaged), rel=1e-5)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*WeightAveraging.*")
        (same,) = run.test(model, validation, ckpt_path=save.best_model_path, verbose=False)
        (fresh,) = trainer().test(loaded, validation, ckpt_path=save.best_model_path, verbose=False)
    assert same["test/nll"] == pytest.approx(nll(averaged), rel=1e-5)
    assert fresh["test/nll"] == pytest.approx(nll(averaged), rel=1e-5)


def test_continuing_from_a_finished_average_is_exact(tmp_path):
    whole = classifier(ema_decay=0.8)
    trainer(max_epochs=4).fit(whole, Points())
    first = trainer(max_epochs=2)
    first.fit(classifier(ema_decay=0.8), Points())
    first.save_checkpoint(tmp_path / "finished.ckpt")
    resumed = classifier(ema_decay=0.8)
    trainer(max_epochs=4).fit(resumed, Points(), ckpt_path=tmp_path / "finished.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_weights_only_checkpoints_hold_the_average_too(tmp_path):
    paths = [tmp_path / "full.ckpt", tmp_path / "weights.ckpt"]

    class Both(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            if trainer.global_step == 5:
                trainer.save_checkpoint(paths[0])
                trainer.save_checkpoint(paths[1], weights_only=True)

    trainer(callbacks=[Both()]).fit(classifier(ema_decay=0.8), Points())
    full, weights = (torch.load(path, weights_only=True)["state_dict"] for path in paths)
    assert all(torch.equal(full[name], weights[name]) for name in full)


# Ways to run


def test_an_ordinary_data_loader_trains():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 5, generator=generator) * 3
    labels = torch.randint(3, (300,), generator=generator)
    data = TensorDataset(centres[labels] + torch.randn(300, 5, generator=generator), labels)
    run = trainer(max_epochs=5)
    model = classifier("MLP", num_classes=3, image_shape=(5,), optimizer=None)
    run.fit(model, DataLoader(data, batch_size=32, shuffle=True), DataLoader(data, batch_size=100))
    assert float(run.callback_metrics["val/accuracy"]) > 0.95


def test_bfloat16_mixed():
    run, record = trainer(precision="bf16-mixed", max_epochs=2), Record()
    run.callbacks.append(record)
    run.fit(classifier("SmallConvNet"), Points(), Points(20, seed=1))
    assert math.isfinite(float(run.callback_metrics["train/loss"]))
    assert all(out["logits"].dtype == torch.float32 for out in record.evaluated)


def test_channels_last_trains_the_same():
    losses = []
    for channels_last in (False, True):
        model, record = classifier("SmallConvNet", channels_last=channels_last, image_shape=(3, 4, 4)), Record()
        points = Points()
        points.images = points.images.expand(-1, 3, -1, -1) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
        trainer(callbacks=[record]).fit(model, points)
        kernel = model.backbone.features[3].weight
        assert kernel.is_contiguous(memory_format=torch.channels_last) == channels_last
        losses.append(record.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_compiled_trains_the_same(tmp_path):
    losses = []
    for compile in (False, True):
        model, record = classifier(compile=compile, ema_decay=0.5), Record()
        run = trainer(callbacks=[record])
        run.fit(model, Points(48), Points(16, seed=1))
        losses.append(record.losses)
        assert (model._compiled is not None) == compile
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert list(model.state_dict()) == list(classifier().state_dict())
    run.save_checkpoint(tmp_path / "model.ckpt")
    ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)


def test_without_a_compiler_it_warns_and_trains(monkeypatch):
    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("no C++ compiler\nlong story")

    monkeypatch.setattr(torch, "compile", broken)
    model, run = classifier(compile=True), trainer()
    with pytest.warns(UserWarning, match=r"compile=True has no effect.*no C\+\+ compiler"):
        run.fit(model, Points())
    assert not model._compiled.works
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="compile=True")
        run.test(model, Points(), verbose=False)  # once is enough


def test_hooks_of_a_subclass_are_called():
    calls = []

    class Hooked(ImageClassifier):
        def on_before_zero_grad(self, optimizer: Any) -> None:
            super().on_before_zero_grad(optimizer)
            calls.append("zero_grad")

    trainer(max_steps=2).fit(Hooked("TwoLayerNet", 7, SHAPE), Points())
    assert calls == ["zero_grad"] * 2


# Mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes.*1"),
        ({"image_shape": (28, 28)}, r"image_shape.*\(28, 28\)"),
        ({"image_shape": (1, 0, 28)}, "image_shape.*0"),
        ({"image_shape": (5,), "backbone": "resnet20"}, r"image_shape.*\(5,\)"),
        ({"label_smoothing": 1.0}, "label_smoothing.*1"),
        ({"label_smoothing": math.nan}, "label_smoothing.*nan"),
        ({"l1": -1.0}, "l1.*-1"),
        ({"l2": math.inf}, "l2.*inf"),
        ({"ema_decay": 1.0}, "ema_decay.*1"),
        ({"ema_decay": 0.0}, "ema_decay.*0"),
        ({"lr_interval": "batch"}, "lr_interval.*batch"),
        ({"backbone": "resnet21"}, "resnet21.*resnet20"),
        ({"backbone": "lightning_modules.backbones.Nope"}, "backbone.*Nope"),
        ({"activation": "GELUU"}, "activation.*gelu"),
        ({"optimizer": "SGDD"}, "optimizer.*SGD"),
        ({"optimizer": nn.ReLU()}, "optimizer.*Optimizer"),
        ({"lr_scheduler": nn.ReLU}, "lr_scheduler.*LRScheduler"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message) as error:
        classifier(**options)
    assert "\n" not in str(error.value)


def test_wrong_image_shape_in_a_batch():
    points = Points()
    points.images = points.images[..., :3]
    with pytest.raises(ValueError, match=r"\[N, 1, 4, 4\].*\[8, 1, 4, 3\].*image_shape"):
        trainer().fit(classifier(), points)


def test_labels_out_of_range():
    points = Points()
    points.labels[3] = 7
    with pytest.raises(ValueError, match=r"labels must be below 7.*to 7.*num_classes \(now 7\)"):
        trainer().fit(classifier(), points)


# Several processes

DDP_SCRIPT = """
import functools, json, sys
import pytorch_lightning as pl, torch
from lightning_modules import ImageClassifier

generator = torch.Generator().manual_seed(0)
images, labels = torch.randn(44, 1, 4, 4, generator=generator), torch.randint(7, (44,), generator=generator)

class Loader:  # not a list, which Lightning takes for several loaders
    def __init__(self, batches):
        self.batches = batches
    def __len__(self):
        return len(self.batches)
    def __iter__(self):
        return iter(self.batches[self.start:])
    start = 0
    def state_dict(self):
        return {}
    def load_state_dict(self, state):
        self.start = 3

class Data(pl.LightningDataModule):
    def parts(self):
        # Rank 0 gets 8 and rank 1 three examples of each batch of 11.
        mine = slice(0, 8) if self.trainer.global_rank == 0 else slice(8, 11)
        return Loader([(x[mine], y[mine]) for x, y in zip(images.split(11), labels.split(11))])
    train_dataloader = val_dataloader = test_dataloader = parts

class Save(pl.callbacks.Checkpoint):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 3:
            trainer.save_checkpoint(sys.argv[1])

torch.manual_seed(0)
model = ImageClassifier("MLP", 7, (1, 4, 4), optimizer=functools.partial(torch.optim.SGD, lr=0.0))
options = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}
trainer = pl.Trainer(**options, **quiet, callbacks=[Save()])
trainer.fit(model, datamodule=Data())
metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
metrics |= {name: float(value) for name, value in trainer.test(model, datamodule=Data(), verbose=False)[0].items()}
model = ImageClassifier.load_from_checkpoint(sys.argv[1])
trainer = pl.Trainer(**options, **quiet)
trainer.fit(model, datamodule=Data(), ckpt_path=sys.argv[1])
metrics |= {f"resumed {name}": float(value) for name, value in trainer.callback_metrics.items()}
if trainer.is_global_zero:
    json.dump(metrics, open(sys.argv[2], "w"))
"""


@pytest.mark.slow
def test_two_processes_log_the_means_of_all_examples(tmp_path):
    script, checkpoint, out = (tmp_path / name for name in ("ddp.py", "mid.ckpt", "metrics.json"))
    script.write_text(DDP_SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(checkpoint), str(out)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(44, 1, 4, 4, generator=generator), torch.randint(7, (44,), generator=generator)
    torch.manual_seed(0)
    logits = ImageClassifier("MLP", 7, (1, 4, 4))(images).detach()
    means = reference_metrics(logits, labels)
    expected = {f"{stage}/{name}": mean for stage in ("val", "test") for name, mean in means.items()}
    expected |= {f"train/{name}": mean for name, mean in means.items()} | {"train/loss": means["nll"]}
    metrics = json.loads(out.read_text())
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert metrics["resumed train/loss"] == pytest.approx(means["nll"], rel=1e-5)
    assert metrics["resumed train/accuracy"] == pytest.approx(means["accuracy"], rel=1e-5)
    loss, nll, correct, _, count = torch.load(checkpoint, weights_only=True)["epoch_sums"].tolist()
    assert count == 33  # three batches of all processes
    assert loss == pytest.approx(nll)
    assert correct == int((logits.argmax(1) == labels)[:33].sum())
    assert loss == pytest.approx(33 * float(F.cross_entropy(logits[:33], labels[:33])), rel=1e-5)
