"""Checkpoints and configurations hold public paths, and those of before the files moved are still read."""

import warnings

import pytest
import timm.layers
import timm.optim
import torch
from torch import nn

import activations
import datamodules
import evaluation.callbacks
import lightning_modules
import optim
from lightning_modules import ImageClassifier, backbones
from lightning_modules.paths import current_path, current_paths, load, public_path

OURS = [
    member
    for package in (activations, datamodules, evaluation.callbacks, backbones, optim)
    for name, member in vars(package).items()
    if callable(member) and not name.startswith("_")
]


@pytest.mark.parametrize("value", OURS, ids=lambda value: value.__name__)
def test_ours_are_written_as_their_package_exports_them(value):
    package = value.__module__.rpartition(".")[0]
    path = public_path(value)
    assert path.count(".") <= f"{package}.{value.__name__}".count(".")
    assert load(path) is value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (nn.ReLU, "torch.nn.ReLU"),
        (torch.optim.SGD, "torch.optim.SGD"),
        (timm.optim.Lion, "timm.optim.Lion"),
        (timm.layers.GELUTanh, "timm.layers.GELUTanh"),
        (backbones.TwoLayerNet, "lightning_modules.backbones.TwoLayerNet"),
        (lightning_modules.TrainingMonitor, "lightning_modules.TrainingMonitor"),
    ],
)
def test_shortest_path(value, expected):
    assert public_path(value) == expected


MOVED = {
    "lightning_modules.backbones.two_layer.TwoLayerNet": "lightning_modules.backbones.TwoLayerNet",
    "lightning_modules.networks.TwoLayerNet": "lightning_modules.backbones.TwoLayerNet",
    "lightning_modules.monitor.TrainingMonitor": "lightning_modules.TrainingMonitor",
    "datamodules.cifar10.CIFAR10DataModule": "datamodules.CIFAR10DataModule",
    "activations._elementwise.gone.SPOCU": "activations.SPOCU",
    "optim._shared.LAMB": "optim.LAMB",
    "evaluation.calibration_monitor.CalibrationMonitor": "evaluation.callbacks.CalibrationMonitor",
}


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_path_that_is_gone_is_mapped_with_a_warning(old, new):
    with pytest.warns(UserWarning, match=f"^{old} has moved: read as {new}$"):
        assert current_path(old) == new
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert current_path(new) == new


@pytest.mark.parametrize(
    "path",
    ["ReLU", "torch.nn.wrong.ReLU", "no_such_package.x.ReLU", "optim.gone.NoSuch", "optim.gone.torch", "a..b", ""],
)
def test_other_paths_are_left_alone(path):
    assert current_path(path) == path


def test_configuration():
    config = {
        "data": {"class_path": "datamodules.cifar10.CIFAR10DataModule", "init_args": {"batch_size": 4}},
        "trainer": {"callbacks": [{"class_path": "lightning_modules.monitor.TrainingMonitor"}], "max_epochs": 2},
        "seed_everything": 0,
    }
    with pytest.warns(UserWarning, match="has moved"):
        new = current_paths(config)
    assert new["data"] == {"class_path": "datamodules.CIFAR10DataModule", "init_args": {"batch_size": 4}}
    assert new["trainer"] == {"callbacks": [{"class_path": "lightning_modules.TrainingMonitor"}], "max_epochs": 2}
    assert new["seed_everything"] == 0


OLD = {
    "backbone": {"class_path": "lightning_modules.backbones.networks.TwoLayerNet", "init_args": {"hidden": 5}},
    "activation": "activations.one.SPOCU",
    "optimizer": {
        "class_path": "optim.sharpness.SAM",
        "init_args": {"base_optimizer": {"class_path": "optim.layerwise.LAMB"}},
    },
    "lr_scheduler": "torch.optim.lr_scheduler.ExponentialLR",
}


def test_a_checkpoint_of_before_the_moves_is_read_and_written_with_public_paths(tmp_path):
    model = ImageClassifier("TwoLayerNet", 7, (1, 4, 4), activations.SPOCU)
    model.backbone = backbones.TwoLayerNet(7, (1, 4, 4), activations.SPOCU, hidden=5)
    torch.save(
        {
            "state_dict": model.state_dict(),
            "hyper_parameters": dict(model.hparams) | OLD,
            "pytorch-lightning_version": "2.6.6",
        },
        tmp_path / "old.ckpt",
    )
    with pytest.warns(UserWarning, match="has moved") as caught:
        loaded = ImageClassifier.load_from_checkpoint(tmp_path / "old.ckpt", weights_only=True)
    messages = [str(warning.message) for warning in caught if "has moved" in str(warning.message)]
    assert len(messages) == 4
    assert all("\n" not in message for message in messages)
    images = torch.randn(3, 1, 4, 4)
    assert torch.equal(loaded(images), model(images))
    assert loaded.hparams["backbone"]["class_path"] == "lightning_modules.backbones.TwoLayerNet"
    assert loaded.hparams["activation"] == "activations.SPOCU"
    assert loaded.hparams["optimizer"] == {
        "class_path": "optim.SAM",
        "init_args": {"base_optimizer": {"class_path": "optim.LAMB"}},
    }
