"""Grad-CAM: which places of an image speak for a class.

Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization" (ICCV 2017).

Where in a network Grad-CAM looks: its feature maps, or a transformer's tokens.
"""

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor, nn

from .integrated_gradients import targets_of
from .network import Network, undisturbed

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_MOST_PREFIX_TOKENS = 8  # class, distillation and register tokens, which stand before those of the patches
_FEWEST_PLACES = 16


class Call(NamedTuple):
    """A module's last call in a forward pass, in the order in which they ended.

    Attributes:
        name: The module's name in the network.
        module: The module.
        shape: Of its output.
    """

    name: str
    module: nn.Module
    shape: torch.Size


class Grid(NamedTuple):
    """Where a layer's values lie in the image.

    Attributes:
        height: Rows.
        width: Columns.
        prefix: Tokens that belong to no place, at the beginning; -1 for feature maps ``[N, C, h, w]``.
    """

    height: int
    width: int
    prefix: int


@contextmanager
def outputs_of(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Any]]:
    """Keep the outputs of the modules' last calls, as tensors whose gradient can be taken.

    What follows gets a copy, so that an activation that works in place does not change what was kept. The hooks are
    removed at the end.
    """
    kept: dict[nn.Module, Any] = {}

    def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            kept[module] = output
            return None
        kept[module] = output if output.requires_grad else output.detach().requires_grad_(torch.is_grad_enabled())
        return kept[module].clone()

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def trace(network: Network, images: Tensor) -> list[Call]:
    """Return the last calls of all modules inside a network that return a tensor, in the order in which they ended."""
    names = {module: name for name, module in network.module.named_modules() if name}
    calls: dict[nn.Module, Call] = {}

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            calls.pop(module, None)
            calls[module] = Call(names[module], module, output.shape)

    handles = [module.register_forward_hook(note) for module in names]
    try:
        with torch.no_grad():
            network.scores(images)
    finally:
        for handle in handles:
            handle.remove()
    return list(calls.values())


def named_layer(network: Network, layer: str | nn.Module) -> Call:
    """Return a layer given by its name or as the module, with no shape yet, or raise a ValueError."""
    names = {name: module for name, module in network.module.named_modules() if name}
    if isinstance(layer, nn.Module):
        found = [name for name, module in names.items() if module is layer]
        if not found:
            raise ValueError(f"layer is no part of the network: {type(layer).__name__}")
        return Call(found[0], layer, torch.Size())
    if layer not in names:
        near = difflib.get_close_matches(str(layer), names, n=5, cutoff=0.3) or list(names)[:5]
        raise ValueError(f"the network has no layer {layer!r}; near it are {', '.join(near) or 'none'}")
    return Call(layer, names[layer], torch.Size())


def convolutional_layer(calls: list[Call], count: int) -> Call | None:
    """Return where the last feature maps are that convolutions made, or None.

    A convolution counts if it makes maps for each of ``count`` images, and is no embedding of patches, which lie side
    by side. Maps of fewer than 16 places, as networks end with on very small images, hardly tell one from another: they
    are taken only where there are no others. Of all modules that end after the last such convolution with maps of the
    same size (normalisations, activations, the block with its shortcut) it is the last.
    """
    places = [place for place, call in enumerate(calls) if _usable(call, count)]
    if not places:
        return None
    places = [place for place in places if math.prod(calls[place].shape[2:]) >= _FEWEST_PLACES] or places
    size = calls[places[-1]].shape[2:]
    after = [call for call in calls[places[-1] :] if len(call.shape) == 4 and call.shape[2:] == size]
    return [call for call in after if call.shape[0] == count][-1]


def _usable(call: Call, count: int) -> bool:
    if not isinstance(call.module, _CONVOLUTIONS) or len(call.shape) != 4 or call.shape[0] != count:
        return False
    embeds = call.module.kernel_size == call.module.stride and math.prod(call.module.stride) > 1
    return math.prod(call.shape[2:]) > 1 and not embeds


def token_layers(calls: list[Call], images: Tensor) -> list[Call]:
    """Return the layers after the last usable convolution whose outputs ``[N, T, D]`` are tokens of places.

    All have the length T of the last one and the width D that most of them have, which leaves out a transformer's
    inner, wider layers.
    """
    count = len(images)
    last = max((place for place, call in enumerate(calls) if _usable(call, count)), default=-1)
    found = [call for call in calls[last + 1 :] if _tokens(call, calls, images) is not None]
    alike = Counter(call.shape for call in found if call.shape[1] == found[-1].shape[1])
    return [call for call in found if call.shape == alike.most_common(1)[0][0]]


def _tokens(call: Call, calls: list[Call], images: Tensor) -> Grid | None:
    if len(call.shape) != 3 or call.shape[0] != len(images):
        return None
    return token_grid(call.shape[1], calls, images.shape[2:])


def token_grid(tokens: int, calls: list[Call], size: torch.Size) -> Grid | None:
    """Return how so many tokens cover an image: as the last convolution (of patches) does, else by its aspect ratio."""
    convolved = [call.shape[2:] for call in calls if isinstance(call.module, _CONVOLUTIONS) and len(call.shape) == 4]
    for height, width in convolved[-1:]:
        if height * width > 1 and 0 <= tokens - height * width <= _MOST_PREFIX_TOKENS:
            return Grid(height, width, tokens - height * width)
    for prefix in range(min(_MOST_PREFIX_TOKENS, tokens - 2) + 1):
        height = math.isqrt((tokens - prefix) * size[0] // size[1])
        if height > 0 and height * height * size[1] == (tokens - prefix) * size[0]:
            width = (tokens - prefix) // height
            if height * width == tokens - prefix:
                return Grid(height, width, prefix)
    return None


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
