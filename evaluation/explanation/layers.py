"""Where in a network Grad-CAM looks: its feature maps, or a transformer's tokens."""

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .network import Network

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
