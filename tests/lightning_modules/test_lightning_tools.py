"""Lightning's own tools with the classifier, its optimizers and our data modules."""

import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.profilers import AdvancedProfiler, SimpleProfiler
from pytorch_lightning.tuner import Tuner
from torch import nn
from torch.optim import SGD

from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier, TrainingMonitor
from optim import LAMB, SAM

OPTIMIZERS = {
    "default": None,
    "SGD": partial(SGD, lr=0.05),
    "LAMB": partial(LAMB, lr=0.05),
    "SAM": partial(SAM, base_optimizer=SGD, lr=0.05),
}
optimizers = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def data(**options):
    return DigitsDataModule(**{"batch_size": 32, "train_size": 128, "val_size": 64, **options})


def classifier(optimizer=None, backbone="MLP", **options):
    torch.manual_seed(0)
    return ImageClassifier(backbone, image_shape=(1, 8, 8), optimizer=optimizer, **options)


def trainer(folder, *given, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings = {"max_epochs": 2, "enable_model_summary": False, "log_every_n_steps": 1, **quiet, **options}
    return pl.Trainer(default_root_dir=folder, accelerator="cpu", callbacks=list(given), **settings)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def trained(folder, optimizer, lr=None, **options):
    """Return the weights and the metrics of a plain run, with another learning rate if one is given."""
    model, run = classifier(optimizer), trainer(folder)
    model.lr = lr
    run.fit(model, data(**options))
    return weights(model), run.callback_metrics["train/loss"]


@optimizers
def test_lr_find(tmp_path, optimizer):
    model, run = classifier(optimizer), trainer(tmp_path, max_epochs=20)
    start = weights(model)
    found = Tuner(run).lr_find(model, datamodule=data(), num_training=30, max_lr=10).suggestion()
    assert model.lr == found > 0
    assert torch.equal(weights(model), start)
    run = trainer(tmp_path)
    run.fit(model, data())
    assert torch.equal(weights(model), trained(tmp_path, optimizer, found)[0])


@optimizers
def test_a_run_with_the_learning_rate_finder_is_one_with_its_rate(tmp_path, optimizer):
    finder = callbacks.LearningRateFinder(num_training_steps=6)
    model, run = classifier(optimizer), trainer(tmp_path, finder, TrainingMonitor())
    run.fit(model, data())
    assert model.lr == finder.optimal_lr.suggestion()
    expected, loss = trained(tmp_path, optimizer, model.lr)
    assert torch.equal(weights(model), expected)
    assert run.callback_metrics["train/loss"] == loss  # no batch of the search is in the mean


@pytest.mark.slow
@optimizers
def test_a_run_with_the_batch_size_finder_is_one_with_its_size(tmp_path, optimizer):
    found, model = data(batch_size=16), classifier(optimizer)
    run = trainer(tmp_path, callbacks.BatchSizeFinder(init_val=16, max_val=64), TrainingMonitor())
    run.fit(model, found)
    assert found.batch_size == found.hparams["batch_size"] == found.train_dataloader().batch_size == 64
    expected, loss = trained(tmp_path, optimizer, batch_size=64)
    assert torch.equal(weights(model), expected)
    assert run.callback_metrics["train/loss"] == loss


@pytest.mark.parametrize("mode", ["power", pytest.param("binsearch", marks=pytest.mark.slow)])
def test_scale_batch_size(tmp_path, mode):
    found = data()
    run = trainer(tmp_path, max_epochs=10)
    size = Tuner(run).scale_batch_size(classifier(), datamodule=found, mode=mode, steps_per_trial=1, init_val=16)
    assert size >= 64  # the set has 128
    assert found.batch_size == size


class Snapshots(pl.Callback):
    """Keeps the network at the start of each epoch."""

    def __init__(self):
        self.networks = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.networks.append(copy.deepcopy(pl_module.backbone))


@pytest.mark.parametrize("backbone", ["MLP", "resnet20"])
@optimizers
def test_stochastic_weight_averaging(tmp_path, optimizer, backbone):
    averaging = callbacks.StochasticWeightAveraging(0.01, swa_epoch_start=2, annealing_epochs=1)
    snapshots, model = Snapshots(), classifier(optimizer, backbone)
    module, run = data(), trainer(tmp_path, snapshots, averaging, max_epochs=3)
    run.fit(model, module)
    average = torch.stack([weights(network) for network in snapshots.networks[1:3]]).mean(0)
    torch.testing.assert_close(weights(model), average)
    if backbone == "resnet20":  # the statistics are those of the average, over one more epoch
        expected = copy.deepcopy(model.backbone)
        norms = [layer for layer in expected.modules() if isinstance(layer, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        loader = module.train_dataloader()
        loader.set_epoch(3)
        with torch.no_grad():
            for images, _ in loader:
                expected.train()(images)
        torch.testing.assert_close(model.backbone.state_dict(), expected.state_dict())


def test_early_stopping(tmp_path):
    stop = callbacks.EarlyStopping("val/nll", patience=1, min_delta=100)
    run = trainer(tmp_path, stop, max_epochs=9)
    run.fit(classifier(), data())
    assert (stop.stopped_epoch, run.global_step) == (1, 8)


@optimizers
def test_gradient_accumulation_scheduler(tmp_path, optimizer):
    run = trainer(tmp_path, callbacks.GradientAccumulationScheduler({0: 4, 1: 2}), max_epochs=3)
    run.fit(classifier(optimizer), data())
    assert run.global_step == 1 + 2 + 2
    constant = partial(torch.optim.lr_scheduler.ConstantLR, factor=1)
    small, large = (classifier(optimizer, lr_scheduler=constant) for _ in range(2))
    trainer(tmp_path, callbacks.GradientAccumulationScheduler({0: 4}), max_epochs=1).fit(small, data())
    trainer(tmp_path, max_epochs=1).fit(large, data(batch_size=128))
    assert not torch.equal(weights(small), weights(classifier(optimizer)))
    torch.testing.assert_close(weights(small), weights(large), rtol=1e-3, atol=1e-4)


def test_device_stats_monitor(tmp_path):
    logger = CSVLogger(tmp_path)
    trainer(tmp_path, callbacks.DeviceStatsMonitor(), TrainingMonitor(), logger=logger).fit(classifier(), data())
    header = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    assert "DeviceStatsMonitor.on_train_batch_end" in header
    assert "train/loss" in header


@pytest.mark.parametrize("bar", [callbacks.RichProgressBar, callbacks.TQDMProgressBar])
def test_progress_bars(tmp_path, capsys, bar):
    run = trainer(tmp_path, bar(), enable_progress_bar=True)
    run.fit(classifier(), data())
    run.test(run.model, data(), verbose=False)
    printed = "".join(capsys.readouterr())
    assert "Epoch 1" in printed
    assert "val/accuracy" in printed


@pytest.mark.parametrize("profiler", [SimpleProfiler, AdvancedProfiler])
def test_profilers(tmp_path, profiler):
    trainer(tmp_path, TrainingMonitor(), profiler=profiler(tmp_path, "times")).fit(classifier(), data())
    report = (tmp_path / "fit-times.txt").read_text()
    assert "run_training_batch" in report
    assert "TrainingMonitor.on_train_batch_end" in report
