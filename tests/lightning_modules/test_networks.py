"""Any network trains, whatever it is given as, and a checkpoint of it loads or asks for what it cannot hold."""

import copy
import functools
import pickle
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torchvision
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ImageClassifier
from optim import LAMB

SHAPE = (1, 8, 8)


class Net(nn.Module):
    """Knows the number of classes only."""

    def __init__(self, num_classes: int, width: int = 6, act: Any = None) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)

    @classmethod
    def small(cls, num_classes):
        return cls(num_classes, 2)


def make_net(num_classes):
    return Net(num_classes)


def swallows_keywords(**options):
    assert not options, "what **kwargs accept is not known"
    return Net(3)


def plain_net() -> nn.Module:
    return Net(3)


def in_a_closure(width):
    def make(num_classes, image_shape):
        return Net(num_classes, width)

    return make


SAVED = {
    "class": Net,
    "function": make_net,
    "partial": functools.partial(Net, width=4),
    "path": f"{__name__}.Net",
    "own name": "TwoLayerNet",
    "keywords swallowed": swallows_keywords,
    "no keywords": plain_net,
    "number of classes bound": functools.partial(Net, num_classes=3),
}
UNSAVED = {
    "lambda": lambda num_classes: Net(num_classes),
    "lambda without keywords": lambda: Net(3),
    "closure": in_a_closure(5),
    "module": Net(3),
    "class method": Net.small,
    "partial of a lambda": functools.partial(lambda num_classes, width: Net(num_classes, width), width=3),
}


IMAGES = torch.randn(12, *SHAPE, generator=torch.Generator().manual_seed(0))


def fit(model: ImageClassifier, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(**quiet, enable_model_summary=False, max_epochs=1, **options)
    trainer.fit(model, DataLoader(TensorDataset(IMAGES, torch.arange(12) % 3), 6))
    return trainer


@pytest.mark.parametrize("backbone", [*SAVED.values(), *UNSAVED.values()], ids=[*SAVED, *UNSAVED])
def test_any_network_trains_and_is_loaded(backbone, tmp_path):
    model = ImageClassifier(backbone, 3, SHAPE, optimizer=functools.partial(SGD, lr=0.1))
    before = copy.deepcopy(model.state_dict())
    trainer = fit(copy.deepcopy(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # deepcopy is a copy
    trainer = fit(model)
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    path = tmp_path / "net.ckpt"
    trainer.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)["hyper_parameters"]["backbone"]
    options: dict[str, Any] = {}
    if isinstance(saved, dict) and "unsaved" in saved:
        assert backbone in UNSAVED.values()
        with pytest.raises(ValueError, match="pass backbone=") as error:
            ImageClassifier.load_from_checkpoint(path)
        assert "\n" not in str(error.value)
        options["backbone"] = Net(3) if isinstance(backbone, nn.Module) else backbone
    else:
        assert backbone in SAVED.values()
    loaded = ImageClassifier.load_from_checkpoint(path, **options)
    torch.testing.assert_close(loaded(IMAGES), model(IMAGES))


def test_networks_of_torchvision_and_timm():
    import timm.models

    model = ImageClassifier(torchvision.models.resnet18, 3, (3, 32, 32))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert model.hparams.backbone == "torchvision.models.resnet18"
    model = ImageClassifier(functools.partial(torchvision.models.resnet18, num_classes=3, zero_init_residual=True), 3)
    assert model.backbone.fc.out_features == 3
    model = ImageClassifier(timm.models.resnet18, 3, SHAPE, activation=nn.GELU)
    assert model(torch.zeros(2, *SHAPE)).shape == (2, 3)
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())


PARTS = {
    "names": {"activation": "gelu", "optimizer": "LAMB", "lr_scheduler": "ConstantLR"},
    "lambdas": {
        "activation": lambda: nn.GELU(),
        "optimizer": lambda params: LAMB(params, lr=0.01),
        "lr_scheduler": lambda optimizer: StepLR(optimizer, 1),
    },
    "classes": {"activation": nn.GELU, "optimizer": SGD, "lr_scheduler": functools.partial(StepLR, step_size=1)},
    "object": {"activation": nn.GELU()},
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_any_activation_optimizer_and_scheduler(parts, tmp_path):
    model = ImageClassifier("TwoLayerNet", 3, SHAPE, **parts)
    assert any(isinstance(module, nn.GELU) for module in model.modules())
    trainer = fit(copy.deepcopy(model), max_steps=-1)
    path = tmp_path / "net.ckpt"
    trainer.save_checkpoint(path)
    marked = [name for name in parts if "unsaved" in dict.fromkeys(model.hparams[name])]
    if marked:
        with pytest.raises(ValueError, match=f"pass {marked[0]}="):
            ImageClassifier.load_from_checkpoint(path)
    loaded = ImageClassifier.load_from_checkpoint(path, **{name: parts[name] for name in marked})
    assert isinstance(fit(loaded).optimizers[0], type(trainer.optimizers[0]))


def test_a_finished_network_with_its_optimizer_and_schedule():
    net = Net(3)
    optimizer = SGD(net.parameters(), lr=0.1)
    model = ImageClassifier(net, 3, SHAPE, optimizer=optimizer, lr_scheduler=StepLR(optimizer, 1))
    before = copy.deepcopy(net.state_dict())
    copied = copy.deepcopy(model)
    fit(copied)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in copied.backbone.state_dict().items())
    fit(model)
    assert model.backbone is net
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    other = ImageClassifier(Net(3), 3, SHAPE, optimizer=SGD(net.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"optimizer.*SGD of other parameters"):
        fit(other)


def test_pickling():
    for backbone in (Net, Net(3), lambda num_classes: Net(num_classes)):  # a built network needs its factory no more
        model = ImageClassifier(backbone, 3, SHAPE, optimizer=SGD)
        assert torch.equal(pickle.loads(pickle.dumps(model))(IMAGES), model(IMAGES))
    model = ImageClassifier(Net, 3, SHAPE, optimizer=lambda params: SGD(params, lr=0.1))
    with pytest.raises(pickle.PicklingError, match=r"optimizer.*lambda.*top level") as error:
        pickle.dumps(model)
    assert "\n" not in str(error.value)


REFUSED = {
    "activation of a network without one": ({"backbone": Net, "activation": nn.GELU}, "activation.*Net.*replace"),
    "activation of a finished network": ({"backbone": Net(3), "activation": nn.GELU}, "activation.*replace"),
    "another number of classes": ({"backbone": functools.partial(Net, num_classes=5)}, "num_classes.*5.*3"),
    "missing argument": ({"backbone": lambda depth: Net(depth)}, "needs depth.*partial"),
    "no module": ({"backbone": lambda: 3}, "torch.nn.Module.*int"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        ImageClassifier(**{"num_classes": 3, "image_shape": SHAPE, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("returned", ["logits", "tuple"])
def test_a_network_that_returns_something_else(returned):
    class Odd(Net):
        def forward(self, images):
            return (super().forward(images),) if returned == "tuple" else super().forward(images).repeat(1, 2)

    with pytest.raises(ValueError, match=r"logits \[N, 3\]"):
        ImageClassifier(Odd, 3, SHAPE)(IMAGES)
