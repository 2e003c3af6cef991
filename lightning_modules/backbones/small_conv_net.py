"""A small convolutional network."""

from collections.abc import Callable

from torch import Tensor, nn

from .shapes import check_dropout, check_positive, image_size


class SmallConvNet(nn.Module):
    """Two 3x3 convolutions, each with an activation and 2x2 max pooling, then dropout and a linear layer to the logits.

    Args:
        num_classes: Number of logits K.
        image_shape: `(C, H, W)`, any size.
        activation: Factory of the two activation modules.
        width: Channels of the first convolution; the second has twice as many.
        dropout: Probability of zeroing a feature before the last layer, in [0, 1).

    Shape:
        Input `[N, C, H, W]`, output `[N, K]`.

    Raises:
        ValueError: If a size or `dropout` is out of range.

    >>> import torch
    >>> SmallConvNet(10, (1, 8, 8))(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_shape: tuple[int, ...] = (1, 28, 28),
        activation: Callable[[], nn.Module] = nn.ReLU,
        *,
        width: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive("num_classes", num_classes)
        check_positive("width", width)
        check_dropout(dropout)
        channels, height, image_width = image_size(image_shape)
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            activation(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            activation(),
            nn.MaxPool2d(2, ceil_mode=True),
        )
        # Pooling twice by 2, rounding up, divides by 4, rounding up.
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width * -(-height // 4) * -(-image_width // 4), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.dropout(self.features(images).flatten(1)))
