"""Residual networks for small images (He et al. 2016)."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .shapes import check_positive, image_size


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and a shortcut without parameters ("option A").

    If the block halves the image and adds channels, the shortcut takes every second pixel and pads the new channels
    with zeros, half of them on each side.

    Args:
        channels: Input channels.
        out_channels: Output channels.
        stride: 1, or 2 to halve the image.
        activation: Factory of the two activation modules.

    Shape:
        Input `[N, channels, H, W]`, output `[N, out_channels, ceil(H / stride), ceil(W / stride)]`.
    """

    def __init__(self, channels: int, out_channels: int, stride: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = activation()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = activation()
        self.stride = stride
        self.new_channels = out_channels - channels

    def forward(self, images: Tensor) -> Tensor:
        """Return act(residual + shortcut)."""
        residual = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(images)))))
        return self.act2(residual + self.shortcut(images))

    def shortcut(self, images: Tensor) -> Tensor:
        """Return the input at the block's output size."""
        if self.stride > 1:
            images = images[:, :, :: self.stride, :: self.stride]
        if self.new_channels > 0:
            before = self.new_channels // 2
            images = F.pad(images, (0, 0, 0, 0, before, self.new_channels - before))
        return images


class ResNet(nn.Module):
    """The CIFAR residual network of He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2016).

    A 3x3 convolution, stages of basic blocks (the first block of every stage but the first halves the image and
    doubles the channels), the mean over the image, and a linear layer to the logits. With `b` blocks in each of three
    stages it has `6 b + 2` layers with weights: `blocks=(3, 3, 3)` is ResNet-20 with 0.27 million parameters.
    Convolutions are initialised from He's normal distribution.

    Args:
        num_classes: Number of logits K.
        image_shape: `(C, H, W)`, any size.
        activation: Factory of the activation modules, called for each of the `1 + 2 * sum(blocks)` sites.
        blocks: Number of blocks in each stage.
        width: Channels of the first stage.

    Shape:
        Input `[N, C, H, W]`, output `[N, K]`.

    Raises:
        ValueError: If a size is not positive or there is no stage.

    >>> sum(p.numel() for p in ResNet(10, (3, 32, 32)).parameters())
    269722
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_shape: tuple[int, ...] = (3, 32, 32),
        activation: Callable[[], nn.Module] = nn.ReLU,
        *,
        blocks: Sequence[int] = (3, 3, 3),
        width: int = 16,
    ) -> None:
        super().__init__()
        check_positive("num_classes", num_classes)
        check_positive("width", width)
        check_positive("the number of stages in blocks", len(blocks))
        for count in blocks:
            check_positive("blocks", count)
        self.conv = nn.Conv2d(image_size(image_shape)[0], width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.act = activation()
        layers: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(channels, width * 2**stage, stride, activation))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        features = self.blocks(self.act(self.bn(self.conv(images))))
        return self.head(features.mean((2, 3)))


def resnet20(
    num_classes: int = 10,
    image_shape: tuple[int, ...] = (3, 32, 32),
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> ResNet:
    """Build ResNet-20 for CIFAR: three stages of three blocks, 16 to 64 channels; see `ResNet`.

    Args:
        num_classes: Number of logits K.
        image_shape: `(C, H, W)`, any size.
        activation: Factory of the 19 activation modules.
    """
    return ResNet(num_classes, image_shape, activation)


def resnet8(
    num_classes: int = 10,
    image_shape: tuple[int, ...] = (1, 8, 8),
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> ResNet:
    """Build an eight-layer residual network for very small images: three stages of one block; see `ResNet`.

    Args:
        num_classes: Number of logits K.
        image_shape: `(C, H, W)`, any size.
        activation: Factory of the 7 activation modules.
    """
    return ResNet(num_classes, image_shape, activation, blocks=(1, 1, 1))
