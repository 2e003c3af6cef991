"""The network of the CIFAR-10 speed record, whose first layer whitens the patches of the training images."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .shapes import check_positive, image_size

_RIDGE = 5e-4


def patch_whitening(images: Tensor, side: int = 2, ridge: float = _RIDGE) -> Tensor:
    """Return filters that whiten the square patches of images: the directions of their covariance, scaled.

    The eigenvectors of the covariance (about 0) of all patches, each divided by the root of its eigenvalue plus
    `ridge`. Applied to the images, they give responses that are uncorrelated and have a mean square of about 1.

    Args:
        images: `[N, C, H, W]`, normalised.
        side: Height and width of a patch.
        ridge: Added to the eigenvalues.

    Returns:
        Filters `[C * side * side, C, side, side]`, float32, by falling eigenvalue.

    >>> images = torch.randn(50, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    >>> responses = torch.nn.functional.conv2d(images, patch_whitening(images)).transpose(0, 1).flatten(1)
    >>> torch.allclose(responses @ responses.T / responses.shape[1], torch.eye(4), atol=0.01)
    True
    """
    patches = images.float().unfold(2, side, 1).unfold(3, side, 1)  # [N, C, H', W', side, side]
    rows = patches.movedim(1, 3).reshape(-1, images.shape[1] * side * side)
    # In float64, and on the CPU: a matrix of a dozen rows, whose decomposition is the same on every device.
    covariance = (rows.T @ rows).cpu().double() / len(rows)
    values, vectors = torch.linalg.eigh(covariance)
    # An eigenvector has no sign of its own.
    vectors = vectors * torch.where(vectors.gather(0, vectors.abs().argmax(0)[None]) < 0, -1.0, 1.0)
    filters = (vectors / (values.clamp(min=0) + ridge).sqrt()).T.flip(0)
    return filters.reshape(-1, images.shape[1], side, side).float().to(images.device)


class FastNet(nn.Module):
    """The convolutional network of airbench94 (Jordan 2024, https://arxiv.org/abs/2404.00498), for small images.

    A 2x2 convolution without padding, whose weight is frozen (see `initialise_from_data`) and whose bias is trained;
    then for each width a group of: convolution 3x3, max pooling by 2, batch normalisation, activation, convolution 3x3,
    batch normalisation, activation; the maximum over the image; a linear layer without bias, divided by its number of
    inputs. Convolutions of groups have no bias; their first filters hand the input's channels on (dirac), the others
    are torch's. Normalisation has a bias but no scale, eps 1e-12 and momentum 0.4. The linear layer is divided by its
    standard deviation. With the defaults it has two million parameters and takes 0.28 GFLOP an image of 32 x 32.

    Args:
        num_classes: Number of logits K.
        image_shape: `(C, H, W)`, at least 2 x 2; what is too small is not pooled.
        activation: Factory of the `1 + 2 * len(widths)` activation modules.
        widths: Channels of each group.

    Shape:
        Input `[N, C, H, W]`, output `[N, K]`.

    Raises:
        ValueError: If a size is out of range or there is no group.

    >>> sum(p.numel() for p in FastNet().parameters())
    1972792
    """

    initialised: Tensor

    def __init__(
        self,
        num_classes: int = 10,
        image_shape: tuple[int, ...] = (3, 32, 32),
        activation: Callable[[], nn.Module] = nn.GELU,
        *,
        widths: Sequence[int] = (64, 256, 256),
    ) -> None:
        super().__init__()
        check_positive("num_classes", num_classes)
        check_positive("the number of groups in widths", len(widths))
        channels, height, width = image_size(image_shape)
        if min(height, width) < 2:
            raise ValueError(f"image_shape must be at least 2 x 2 for its first filters, found {height} x {width}")
        self.whiten = nn.Conv2d(channels, 8 * channels, 2)
        self.whiten.weight.requires_grad_(False)
        self.activation = activation()
        size, channels = (height - 1, width - 1), 8 * channels
        groups: list[nn.Module] = []
        for out_channels in widths:
            check_positive("widths", out_channels)
            pool = (min(2, size[0]), min(2, size[1]))
            groups.append(_group(channels, out_channels, pool, activation))
            size, channels = (size[0] // pool[0], size[1] // pool[1]), out_channels
        self.groups = nn.Sequential(*groups)
        self.pool = nn.MaxPool2d(size)
        self.head = nn.Linear(channels, num_classes, bias=False)
        with torch.no_grad():
            self.head.weight.div_(self.head.weight.std())
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        features = self.pool(self.groups(self.activation(self.whiten(images)))).flatten(1)
        return self.head(features) / features.shape[1]

    @torch.no_grad()
    def initialise_from_data(self, images: Tensor) -> None:
        """Set the first filters to `patch_whitening` of images, and to their negatives; `initialised` becomes True.

        Args:
            images: Normalised training images `[N, C, H, W]`, as many as there are, up to some thousand.
        """
        filters = patch_whitening(images)
        self.whiten.weight.copy_(torch.cat([filters, -filters]))
        self.initialised.fill_(True)


def fast_net(
    num_classes: int = 10,
    image_shape: tuple[int, ...] = (3, 32, 32),
    activation: Callable[[], nn.Module] = nn.GELU,
) -> FastNet:
    """Build the network of the CIFAR-10 speed record, of widths 64, 256 and 256; see `FastNet`.

    Args:
        num_classes: Number of logits K.
        image_shape: `(C, H, W)`, at least 2 x 2.
        activation: Factory of the 7 activation modules.
    """
    return FastNet(num_classes, image_shape, activation)


def _group(channels: int, out_channels: int, pool: tuple[int, int], activation: Callable[[], nn.Module]) -> nn.Module:
    parts = {
        "conv1": _convolution(channels, out_channels),
        "pool": nn.MaxPool2d(pool),
        "norm1": _norm(out_channels),
        "act1": activation(),
        "conv2": _convolution(out_channels, out_channels),
        "norm2": _norm(out_channels),
        "act2": activation(),
    }
    return nn.Sequential(OrderedDict(parts))


def _convolution(channels: int, out_channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[:channels].data)
    return layer


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm
