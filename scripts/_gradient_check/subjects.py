"""What ``gradient_check.py`` checks: a loss and the tensors it depends on, for each layer, activation and backbone."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import activations
from lightning_modules.backbones.named import own_backbones


class Subject(NamedTuple):
    """Something to differentiate.

    Attributes:
        name: What it is called in the table.
        loss: Computes a number, the same one whenever it is called.
        tensors: The parameters and inputs that it is differentiated by.
    """

    name: str
    loss: Callable[[], Tensor]
    tensors: dict[str, Tensor]


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
"""The layers that "Deep Learning from Scratch" writes by hand, in the form in which the backbones use them."""

SMALL = {"TimmModel": {"name": "test_resnet"}}
"""Further options of a backbone whose default is large."""
KINKS = (-3.0, -1.0, -0.5, 0.0, 0.1, 0.5, 1.0, 3.0, 6.0)
"""Where activations have theirs; each is differentiated there too."""


def of_module(
    name: str, module: nn.Module, shape: tuple[int, ...], seed: int, placed: tuple[float, ...] = ()
) -> Subject:
    """A module in training mode on random input, under a random linear function of its output.

    Args:
        name: The subject's.
        module: The module.
        shape: Of the input.
        seed: Of the input, of the linear function, and of the module's own random numbers.
        placed: Values that the first inputs have.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x.view(-1)[: len(placed)] = torch.tensor(placed, dtype=torch.float64)
    x.requires_grad_()
    module = module.double().train()
    output = repeatable(module, x, seed)
    weights = torch.randn(output().shape, generator=generator, dtype=torch.float64)
    return Subject(name, lambda: (weights * output()).sum(), {"input": x, **parameters(module)})


def repeatable(module: nn.Module, x: Tensor, seed: int) -> Callable[[], Tensor]:
    """The module's output as a function that gives the same in each call, also where the module draws numbers."""

    def seeded() -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            output: Tensor = module(x)
            return output

    before = torch.get_rng_state()
    module(x)
    # Seeding takes longer than a small network does.
    return (lambda: module(x)) if torch.equal(before, torch.get_rng_state()) else seeded


def parameters(module: nn.Module) -> dict[str, Tensor]:
    """The trainable parameters by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def layers(seed: int) -> Iterator[Subject]:
    """Each layer, and softmax with its loss."""
    for name, (make, shape) in LAYERS.items():
        torch.manual_seed(seed)
        yield of_module(name, make(), shape, seed)
    logits = torch.randn(5, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()
    yield Subject(
        "softmax with loss", lambda: F.cross_entropy(logits, torch.tensor([3, 0, 9, 3, 5])), {"logits": logits}
    )


def zoo(seed: int) -> Iterator[Subject]:
    """Each activation that has a name."""
    for name in activations.names():
        options = {"threshold": 0.1, "value": 0.2} if name == "threshold" else {}
        torch.manual_seed(seed)
        yield of_module(name, activations.create(name, **options), (6, 8), seed, KINKS)


def classifier(name: str, network: nn.Module, images: Tensor, labels: Tensor) -> Subject:
    """A network in training mode under its cross-entropy on some images."""
    network = network.double().train()
    logits = repeatable(network, images, seed=0)
    return Subject(name, lambda: F.cross_entropy(logits(), labels), parameters(network))


def backbones(images: Tensor, labels: Tensor, seed: int) -> Iterator[Subject]:
    """Each backbone that `lightning_modules` exports; of timm's networks a small one."""
    shape = tuple(images.shape[1:])
    for name, make in own_backbones().items():
        torch.manual_seed(seed)
        options = SMALL.get(name, {})
        network = make(num_classes=10, image_shape=shape, activation=nn.ReLU, **options)
        yield classifier(f"{name}{''.join(f', {value}' for value in options.values())}", network, images, labels)
