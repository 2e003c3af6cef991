"""The functions that `gradient_check.py` differentiates: one for each layer, activation and backbone."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import activations
from lightning_modules.backbones.named import own_backbones


class Subject(NamedTuple):
    """A function to differentiate."""

    name: str
    loss: Callable[[], Tensor]  # every call returns the same number
    tensors: dict[str, Tensor]  # parameters and inputs


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "affine": (lambda: nn.Linear(7, 5), (4, 7)),
    "ReLU": (nn.ReLU, (4, 7)),
    "sigmoid": (nn.Sigmoid, (4, 7)),
    "dropout": (lambda: nn.Dropout(0.5), (4, 7)),
    "batch normalisation": (lambda: nn.BatchNorm1d(7), (6, 7)),
    "batch normalisation of images": (lambda: nn.BatchNorm2d(3), (3, 3, 4, 4)),
    "convolution": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 6, 5)),
    "max pooling": (lambda: nn.MaxPool2d(2, ceil_mode=True), (2, 3, 5, 5)),
    "mean pooling": (lambda: nn.AvgPool2d(2), (2, 3, 6, 6)),
}
"""The layers that "Deep Learning from Scratch" implements by hand, and their input shapes."""

SMALL = {"TimmModel": {"name": "test_resnet"}}
"""Extra options of a backbone that is large by default."""
KINKS = (-3.0, -1.0, -0.5, 0.0, 0.1, 0.5, 1.0, 3.0, 6.0)
"""Inputs at which some activations have kinks; every activation is differentiated at them too."""


def of_module(
    name: str, module: nn.Module, shape: tuple[int, ...], seed: int, inputs: tuple[float, ...] = ()
) -> Subject:
    """Return a module in training mode with random input, under a random linear function of its output.

    The first elements of the input are `inputs`.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x.view(-1)[: len(inputs)] = torch.tensor(inputs, dtype=torch.float64)
    x.requires_grad_()
    module = module.double().train()
    output = repeatable(module, x, seed)
    weights = torch.randn(output().shape, generator=generator, dtype=torch.float64)
    return Subject(name, lambda: (weights * output()).sum(), {"input": x, **trained(module)})


def repeatable(module: nn.Module, x: Tensor, seed: int) -> Callable[[], Tensor]:
    """Return a function that computes the module's output, with the same random numbers in every call."""

    def seeded() -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            output: Tensor = module(x)
            return output

    before = torch.get_rng_state()
    module(x)
    # Without random numbers, seeding would take longer than a small network does.
    return (lambda: module(x)) if torch.equal(before, torch.get_rng_state()) else seeded


def layers(seed: int) -> Iterator[Subject]:
    """Yield each layer, and softmax with its loss."""
    for name, (make, shape) in LAYERS.items():
        torch.manual_seed(seed)
        yield of_module(name, make(), shape, seed)
    logits = torch.randn(5, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()
    labels = torch.tensor([3, 0, 9, 3, 5])
    yield Subject("softmax with loss", lambda: F.cross_entropy(logits, labels), {"logits": logits})


def zoo(seed: int) -> Iterator[Subject]:
    """Yield each activation that has a name."""
    for name in activations.names():
        options = {"threshold": 0.1, "value": 0.2} if name == "threshold" else {}
        torch.manual_seed(seed)
        yield of_module(name, activations.create(name, **options), (6, 8), seed, KINKS)


def classifier(name: str, network: nn.Module, images: Tensor, labels: Tensor) -> Subject:
    """Return a network in training mode under its cross-entropy on some images."""
    network = network.double().train()
    logits = repeatable(network, images, seed=0)
    return Subject(name, lambda: F.cross_entropy(logits(), labels), trained(network))


def trained(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def backbones(images: Tensor, labels: Tensor, seed: int) -> Iterator[Subject]:
    """Yield each backbone of `lightning_modules`; of timm's networks a small one."""
    shape = tuple(images.shape[1:])
    for name, make in own_backbones().items():
        torch.manual_seed(seed)
        options = SMALL.get(name, {})
        network = make(num_classes=10, image_shape=shape, activation=nn.ReLU, **options)
        yield classifier(", ".join([name, *options.values()]), network, images, labels)
