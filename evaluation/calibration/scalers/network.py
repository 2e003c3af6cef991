"""A network followed by a scaler."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .base import Scaler


class CalibratedNetwork(nn.Module):
    """Any network and a scaler that calibrates its logits, as one network.

    It is built from factories and takes the arguments of a backbone, so a classifier can use it as one, and the
    checkpoint contains both.

    Args:
        num_classes: Number of logits K.
        image_shape: Shape of one example.
        activation: Factory of the activation modules. None: the network's own.
        backbone: Factory of the network, called with those of the keywords `num_classes`, `image_shape` and
            `activation` that it names (`num_classes` also if it takes any keyword, as torchvision's functions do).
        scaler: Factory of the scaler, called without arguments.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from evaluation import TemperatureScaling
        >>> def linear(num_classes, image_shape, activation):
        ...     return nn.Linear(*image_shape, num_classes)
        >>> network = CalibratedNetwork(3, (4,), nn.ReLU, backbone=linear, scaler=TemperatureScaling)
        >>> _ = network.scaler.fit(torch.tensor([[9.0, 1.0, 0.0], [9.0, 1.0, 0.0]]), torch.tensor([0, 1]))
        >>> network(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        num_classes: int,
        image_shape: tuple[int, ...],
        activation: Callable[[], nn.Module] | None = None,
        *,
        backbone: Callable[[int, tuple[int, ...], Callable[[], nn.Module]], nn.Module],
        scaler: Callable[[], Scaler],
    ) -> None:
        super().__init__()
        parameters = inspect.signature(backbone).parameters.values()
        named = {one.name for one in parameters}
        if any(one.kind is one.VAR_KEYWORD for one in parameters):
            named.add("num_classes")
        offered: dict[str, Any] = {"num_classes": num_classes, "image_shape": image_shape}
        if activation is not None:
            offered["activation"] = activation
        make: Any = backbone  # called by keywords, which the type of a Callable cannot express
        self.network = make(**{name: value for name, value in offered.items() if name in named})
        self.scaler = scaler()

    def forward(self, images: Tensor) -> Tensor:
        """Return the calibrated logits."""
        return self.scaler(self.network(images))
