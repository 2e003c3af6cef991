"""A multilayer perceptron."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from .shapes import check_dropout, check_positive, flat_size

_NORMS = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class MLP(nn.Module):
    """Hidden layers (linear, normalisation, activation, dropout), then a linear layer to the logits.

    Args:
        num_classes: Number of logits K.
        image_shape: Shape of one example, which is flattened.
        activation: Factory of the activation modules, called once per hidden layer.
        hidden: Widths of the hidden layers.
        dropout: Probability of zeroing a hidden value, in [0, 1).
        norm: Normalisation before each activation.

    Shape:
        Input `[N, *image_shape]`, output `[N, K]`.

    Raises:
        ValueError: If a size, `dropout` or `norm` is out of range.

    >>> import torch
    >>> MLP(3, (4,), hidden=(8, 8), norm="layer")(torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_shape: tuple[int, ...] = (1, 28, 28),
        activation: Callable[[], nn.Module] = nn.ReLU,
        *,
        hidden: Sequence[int] = (256, 128),
        dropout: float = 0.0,
        norm: Literal["none", "batch", "layer"] = "none",
    ) -> None:
        super().__init__()
        check_positive("num_classes", num_classes)
        check_dropout(dropout)
        if norm not in _NORMS:
            raise ValueError(f"norm must be one of {sorted(_NORMS)}, found {norm!r}")
        make_norm = _NORMS[norm]
        layers: list[nn.Module] = []
        width = flat_size(image_shape)
        for size in hidden:
            check_positive("hidden", size)
            layers.append(nn.Linear(width, size))
            if make_norm is not None:
                layers.append(make_norm(size))
            layers.append(activation())
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = size
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.hidden(images.flatten(1)))
