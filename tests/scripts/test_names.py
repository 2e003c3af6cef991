"""Short names: each one works; ours precede torch's, and torch's precede timm's."""

import pytest
import timm.layers.activations
import timm.optim
import torch
from torch import nn

import activations
import optim
from _common.cli import join, split, with_full_names
from _common.names import backbones, expand_config, full_path, known
from _train.command_line import TrainCLI


@pytest.fixture(scope="module")
def parser():
    """The parser of `train.py fit`."""
    return TrainCLI(["fit"]).parser


def expand_arguments(words):
    leading, options = split(words)
    return leading + join(with_full_names(options))


# Required arguments.
NEEDED = {
    "Threshold": ["threshold=0.1", "value=0.0"],
    "Schedule": ["text=cosine"],
    "StepLR": ["step_size=2"],
    "MultiStepLR": ["milestones=[1,2]"],
    "ExponentialLR": ["gamma=0.9"],
    "CosineAnnealingLR": ["T_max=3"],
    "CosineAnnealingWarmRestarts": ["T_0=3"],
    "CyclicLR": ["base_lr=0.1", "max_lr=0.2"],
    "OneCycleLR": ["max_lr=0.1", "total_steps=10"],
    "LambdaLR": ["lr_lambda=math.sqrt"],
    "MultiplicativeLR": ["lr_lambda=math.sqrt"],
}
# Built from other schedulers, which a command line cannot express.
FROM_PYTHON = {"SequentialLR", "ChainedScheduler"}
OURS = ("activations", "lightning_modules", "optim")
EXAMPLES = ("LeakyReLU", "Threshold", "GELUTanh", "SGD", "LBFGS", "Lion", "OneCycleLR", "LambdaLR")


def parse(parser, key, name):
    options = [f"--{key}.{option}" for option in NEEDED.get(name, [])]
    arguments = ["--data", "DigitsDataModule", f"--{key}", name, *options]
    return parser.parse_args(expand_arguments(arguments))[key]


def named(key):
    """Return the names as parameters; those of other packages, which are all parsed alike, are slow together."""
    paths = known(key)
    ours = [name for name in paths if paths[name].partition(".")[0] in OURS or name in EXAMPLES]
    names = sorted(set(paths) - FROM_PYTHON)
    return [pytest.param(name, marks=[] if name in ours else [pytest.mark.slow]) for name in names]


@pytest.mark.parametrize("name", named("activation"))
def test_every_activation(parser, name):
    assert parse(parser, "model.activation", name).class_path.endswith(f".{name}")


@pytest.mark.parametrize("name", named("optimizer"))
def test_every_optimizer(parser, name):
    assert parse(parser, "optimizer", name).class_path.endswith(f".{name}")


@pytest.mark.parametrize("name", named("lr_scheduler"))
def test_every_scheduler(parser, name):
    assert parse(parser, "lr_scheduler", name).class_path.endswith(f".{name}")


@pytest.mark.parametrize("name", sorted(backbones()))
def test_every_backbone(parser, name):
    value = parse(parser, "model.backbone", name)
    assert name in str(getattr(value, "class_path", value))


@pytest.mark.parametrize("name", sorted(known("data")))
def test_every_data_module(parser, name):
    arguments = expand_arguments(["--data", name])
    assert arguments[1] == f"datamodules.{name}"


def test_tables_are_complete():
    assert {"SGD", "Adam", "AdamW", "LBFGS", "Lion", "Lamb", "LAMB", "COCOB"} <= set(known("optimizer"))
    assert {"ReLU", "LeakyReLU", "ELU", "Sigmoid", "PReLU", "GELU", "QuickGELU", "SPOCU"} <= set(known("activation"))
    assert {"StepLR", "OneCycleLR", "ReduceLROnPlateau"} <= set(known("lr_scheduler"))
    assert {"TwoLayerNet", "MLP", "SmallConvNet", "resnet20"} <= set(backbones())
    assert {"DigitsDataModule", "CIFAR10DataModule", "ImageFolderDataModule", "TabularDataModule"} <= set(known("data"))
    assert all(name.endswith("DataModule") for name in known("data"))


def test_ours_before_torchs_before_timms():
    assert known("activation")["Hardshrink"] == "activations.Hardshrink"
    assert activations.Hardshrink is not nn.Hardshrink
    assert known("activation")["PReLU"] == "torch.nn.PReLU"
    assert timm.layers.activations.PReLU is not nn.PReLU
    assert known("activation")["GELUTanh"] == "timm.layers.activations.GELUTanh"
    assert known("optimizer")["LAMB"] == "optim.LAMB"
    assert optim.LAMB is not timm.optim.Lamb
    assert known("optimizer")["Adafactor"] == "torch.optim.Adafactor"
    assert timm.optim.Adafactor is not torch.optim.Adafactor
    assert known("optimizer")["Lion"] == "timm.optim.Lion"


def test_both_forms_of_an_option_and_words_that_stay():
    given = ["fit", "--optimizer=SGD", "--optimizer.base_optimizer", "Adam", "--model.activation.help", "ELU"]
    assert expand_arguments(given) == [
        *("fit", "--optimizer", "torch.optim.SGD", "--optimizer.base_optimizer", "torch.optim.Adam"),
        *("--model.activation.help", "torch.nn.ELU"),
    ]
    untouched = [
        "--config",
        "SGD",
        "--optimizer",
        "my.own.SGD",
        "--optimizer",
        "null",
        "--optimizer",
        '{"class_path": "x.Y"}',
    ]
    assert expand_arguments(untouched) == untouched


def test_configuration_files():
    config = {
        "optimizer": {"class_path": "SAM", "init_args": {"base_optimizer": "LAMB"}},
        "model": {"activation": "PReLU", "backbone": {"class_path": "MLP", "init_args": {"hidden": [3]}}},
        "data": {"class_path": "MNISTDataModule"},
    }
    assert expand_config(config) == {
        "optimizer": {"class_path": "optim.SAM", "init_args": {"base_optimizer": "optim.LAMB"}},
        "model": {
            "activation": "torch.nn.PReLU",
            "backbone": {"class_path": "lightning_modules.backbones.MLP", "init_args": {"hidden": [3]}},
        },
        "data": {"class_path": "datamodules.MNISTDataModule"},
    }


def test_unknown_names_list_the_nearest():
    with pytest.raises(ValueError, match="unknown optimizer 'adamw2': the nearest are AdamW"):
        full_path("optimizer", "adamw2")
    with pytest.raises(ValueError, match="unknown data module 'zzz': known are CIFAR"):
        full_path("data", "zzz")
