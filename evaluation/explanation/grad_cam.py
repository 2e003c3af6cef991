"""Grad-CAM: which places of an image speak for a class.

Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization" (ICCV 2017).
"""

from dataclasses import dataclass

import numpy.typing as npt
import torch
from torch import Tensor, nn

from .integrated_gradients import targets_of
from .layers import Call, Grid, convolutional_layer, named_layer, outputs_of, token_grid, token_layers, trace
from .network import Network, undisturbed


class NoFeatureMaps(ValueError):
    """A network has neither feature maps of convolutions nor tokens of places."""


@dataclass(frozen=True)
class ClassMap:
    """What :func:`grad_cam` returns, on the CPU.

    Attributes:
        values: float64 ``[N, h, w]``, how much each place speaks for the target, from the upper left one.
        target: int64 ``[N]``, the score that is explained.
        scores: float64 ``[N, K]``, all scores.
        layer: Name of the layer whose values are mapped.
        tokens: Whether they are a transformer's tokens rather than feature maps.
    """

    values: Tensor
    target: Tensor
    scores: Tensor
    layer: str
    tokens: bool


def grad_cam(
    model: nn.Module,
    images: Tensor | npt.ArrayLike,
    target: int | Tensor | npt.ArrayLike | None = None,
    *,
    layer: str | nn.Module | None = None,
    relu: bool = True,
) -> ClassMap:
    """Map what the places of an image add to a score y.

    With the feature maps A_k ``[h, w]`` of a layer

        alpha_k = mean over the places of dy/dA_k,    map = relu(sum_k alpha_k A_k)

    For a transformer A_k are the k-th values of the patches' tokens, on their grid; class and register tokens are left
    out. The network is left as it was, see :func:`evaluation.explanation.network.undisturbed`.

    Args:
        model: Maps ``[N, C, H, W]`` to scores ``[N, K]`` or ``[N]``, each image by itself.
        images: ``[N, C, H, W]``, normalised as the network was trained.
        target: Which score, for all images or one for each ``[N]``; None: each image's highest one.
        layer: The layer, by name or as the module. By default the last feature maps of at least 16 places that
            convolutions made, after what follows them at the same size; in a transformer the last layer at which the
            patches still matter.
        relu: Leave out what speaks against the target; otherwise it is negative.

    Returns:
        The maps, at the layer's resolution.

    Raises:
        NoFeatureMaps: If no layer is given and the network has neither feature maps nor tokens.
        ValueError: If an argument has a bad value, or the score does not depend on the layer.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 10))
        >>> found = grad_cam(net, torch.rand(2, 1, 8, 8), target=3)
        >>> found.values.shape, found.layer
        (torch.Size([2, 6, 6]), '1')
    """
    with undisturbed(model) as network:
        placed = network.place(images)
        if placed.ndim != 4 or placed.numel() == 0:
            raise ValueError(f"images must be [N, C, H, W], got shape {list(placed.shape)}")
        calls = trace(network, placed)
        if layer is not None:
            candidates = [named_layer(network, layer)]
        else:
            candidates = token_layers(calls, placed)
            convolutional = convolutional_layer(calls, len(placed))
            if convolutional is not None and not candidates:
                candidates = [convolutional]
        if not candidates:
            kind = type(network.module).__name__
            raise NoFeatureMaps(f"{kind} has no convolution that makes feature maps, and no tokens of places")
        return _map(network, placed, target, candidates, calls, relu)


def _map(
    network: Network,
    images: Tensor,
    target: int | Tensor | npt.ArrayLike | None,
    candidates: list[Call],
    calls: list[Call],
    relu: bool,
) -> ClassMap:
    """The map at the last candidate whose places matter to the score."""
    with outputs_of([call.module for call in candidates]) as kept:
        scores = network.scores(images)
    which = targets_of(scores.detach(), target)
    if not bool(scores.isfinite().all()):
        raise ValueError("the network's scores must be finite, got NaN or inf")
    layers = [call for call in candidates if isinstance(kept.get(call.module), Tensor)]
    if not layers:
        raise ValueError(f"layer {candidates[0].name!r} returned no tensor in this forward pass: choose another one")
    total = scores.gather(1, which[:, None]).sum()
    values = [kept[call.module] for call in layers]
    gradients = torch.autograd.grad(total, values, allow_unused=True) if total.requires_grad else [None] * len(values)
    found = []
    for call, output, gradient in zip(layers, values, gradients, strict=True):
        if gradient is not None:
            grid = _grid(call.name, output, calls, images)
            found.append((call.name, grid.prefix >= 0, _maps(output, grid), _maps(gradient, grid)))
    if not found:
        name = layers[-1].name
        raise ValueError(f"the score does not depend differentiably on layer {name!r}: choose another one by layer=")
    # Behind a transformer's last attention only the class token goes on.
    name, tokens, maps, slopes = next((one for one in reversed(found) if bool(one[3].any())), found[-1])
    summed = (slopes.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(dim=1).cpu().double()
    return ClassMap(summed.clamp(min=0) if relu else summed, which.cpu(), scores.detach().cpu().double(), name, tokens)


def _grid(name: str, output: Tensor, calls: list[Call], images: Tensor) -> Grid:
    if output.ndim == 4 and len(output) == len(images):
        return Grid(output.shape[2], output.shape[3], -1)
    if output.ndim == 3 and len(output) == len(images):
        grid = token_grid(output.shape[1], calls, images.shape[2:])
        if grid is not None:
            return grid
    wanted = "feature maps [N, C, h, w] or tokens [N, T, D] of places"
    raise ValueError(f"layer {name!r} must return {wanted}, got {list(output.shape)}: choose another one")


def _maps(values: Tensor, grid: Grid) -> Tensor:
    """A layer's values as ``[N, K, h, w]``."""
    if grid.prefix < 0:
        return values
    return values[:, grid.prefix :].transpose(1, 2).unflatten(2, (grid.height, grid.width))
