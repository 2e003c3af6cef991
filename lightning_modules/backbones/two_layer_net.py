"""The two-layer network of "Deep Learning from Scratch"."""

from collections.abc import Callable

from torch import Tensor, nn

from .shapes import check_positive, flat_size


class TwoLayerNet(nn.Module):
    """Linear, activation, linear: 784-50-10 on MNIST.

    The network of chapters 4 to 6 of Koki Saitoh, "Deep Learning from Scratch". Weights are initialised from a normal
    distribution with mean 0 and standard deviation 0.01, biases with zero.

    Args:
        num_classes: Number of logits K.
        image_shape: Shape of one example, which is flattened.
        activation: Factory of the activation module.
        hidden: Width of the hidden layer.
        weight_std: Standard deviation of the initial weights.

    Shape:
        Input `[N, *image_shape]`, output `[N, K]`.

    Raises:
        ValueError: If a size is not positive or `weight_std` is negative.

    >>> sum(p.numel() for p in TwoLayerNet().parameters())
    39760
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_shape: tuple[int, ...] = (1, 28, 28),
        activation: Callable[[], nn.Module] = nn.ReLU,
        *,
        hidden: int = 50,
        weight_std: float = 0.01,
    ) -> None:
        super().__init__()
        check_positive("num_classes", num_classes)
        check_positive("hidden", hidden)
        if weight_std < 0:
            raise ValueError(f"weight_std must not be negative, found {weight_std}")
        self.affine1 = nn.Linear(flat_size(image_shape), hidden)
        self.activation = activation()
        self.affine2 = nn.Linear(hidden, num_classes)
        for layer in (self.affine1, self.affine2):
            nn.init.normal_(layer.weight, std=weight_std)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.affine2(self.activation(self.affine1(images.flatten(1))))
