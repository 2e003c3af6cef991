"""The layers that Grad-CAM can map: feature maps of convolutions, or the tokens of a transformer's patches."""

import difflib
import math
from collections import Counter
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .network import Network

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_MOST_PREFIX_TOKENS = 8  # class, distillation and register tokens, which precede those of the patches
_FEWEST_POSITIONS = 16


class Call(NamedTuple):
    """A module's last call in a forward pass: its name in the network, the module, and the shape of its output."""

    name: str
    module: nn.Module
    shape: torch.Size


def trace(network: Network, images: Tensor) -> list[Call]:
    """Return the last calls of all modules inside a network that return a tensor, in the order in which they ended."""
    names = {module: name for name, module in network.module.named_modules() if name}
    calls: dict[nn.Module, Call] = {}

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            calls.pop(module, None)
            calls[module] = Call(names[module], module, output.shape)

    with ExitStack() as stack, torch.no_grad():
        for module in names:
            stack.enter_context(module.register_forward_hook(record))
        network.scores(images)
    return list(calls.values())


def named_layer(network: Network, layer: str | nn.Module) -> Call:
    """Return a layer given by its name or as the module, with an empty shape, or raise a ValueError."""
    names = {name: module for name, module in network.module.named_modules() if name}
    if isinstance(layer, nn.Module):
        name = next((name for name, module in names.items() if module is layer), None)
        if name is None:
            raise ValueError(f"layer must be a part of the network, found {type(layer).__name__}")
        return Call(name, layer, torch.Size())
    if layer not in names:
        near = difflib.get_close_matches(str(layer), names, n=5, cutoff=0.3) or list(names)[:5]
        raise ValueError(f"the network has no layer {layer!r}; similar names are {', '.join(near) or 'none'}")
    return Call(layer, names[layer], torch.Size())


def candidate_layers(calls: list[Call], images: Tensor) -> list[Call]:
    """Return the layers of tokens, otherwise the layer of feature maps; none if there are neither."""
    return _token_layers(calls, images) or _convolutional_layer(calls, images)


def _convolutional_layer(calls: list[Call], images: Tensor) -> list[Call]:
    """Return the layer of the last feature maps made by convolutions, if there is one.

    A convolution counts if it makes maps for each image and is not a patch embedding, whose patches do not
    overlap. Maps of fewer than 16 positions, with which networks end on very small images, are too coarse: they are
    used only if there are no others. The layer is the last of all modules that end after that convolution with maps of
    the same size (normalisations, activations, the block with its shortcut). Where modules with weights follow that are
    no convolutions, such as attention after a pooling (NesT) or channels-last blocks (Sequencer), it is theirs.
    """
    count = len(images)
    usable = [index for index, call in enumerate(calls) if _usable(call, count)]
    if not usable:
        return []
    usable = [index for index in usable if math.prod(calls[index].shape[2:]) >= _FEWEST_POSITIONS] or usable
    maps = [(call, _map_size(call.shape, images)) for call in calls[usable[-1] + 1 :]]
    weighted = [
        size
        for call, size in maps
        if size is not None
        and math.prod(size) >= _FEWEST_POSITIONS
        and any(True for _ in call.module.parameters(recurse=False))
    ]
    if weighted:
        return [call for call, other in maps if other == weighted[-1]][-1:]
    size = calls[usable[-1]].shape[2:]
    after = [call for call in calls[usable[-1] :] if len(call.shape) == 4 and call.shape[2:] == size]
    return [call for call in after if call.shape[0] == count][-1:]


def _map_size(shape: torch.Size, images: Tensor) -> tuple[int, ...] | None:
    """Return height and width of maps `[N, C, h, w]` or `[N, h, w, C]`, whichever are near to the image's aspect ratio.

    None for other outputs.
    """
    if len(shape) != 4 or shape[0] != len(images):
        return None
    sizes = sorted((shape[2:], shape[1:3]), key=lambda size: _distortion(size, images))
    return sizes[0] if _distortion(sizes[0], images) < math.log(1.5) else None


def _distortion(size: tuple[int, ...], images: Tensor) -> float:
    """Return the absolute logarithm of the quotient of two aspect ratios, of maps and of the images."""
    height, width = images.shape[2:]
    return abs(math.log(size[0] * width / (size[1] * height)))


def _usable(call: Call, count: int) -> bool:
    if not isinstance(call.module, _CONVOLUTIONS) or len(call.shape) != 4 or call.shape[0] != count:
        return False
    embeds = call.module.kernel_size == call.module.stride and math.prod(call.module.stride) > 1
    return math.prod(call.shape[2:]) > 1 and not embeds


def _token_layers(calls: list[Call], images: Tensor) -> list[Call]:
    """Return the layers whose outputs are tokens of patches, if there are any after the last usable convolution.

    Tokens are `[N, T, D]`, or `[N, h, w, D]` and `[N, D, h, w]` between the blocks of some networks, whose sequences
    alone are residual branches. All have the length T of the last sequence and the width D of most of that length,
    which leaves out the inner, wider layers of a transformer. Layers before that convolution, which may be a part of
    the last attention, follow where no later one affects the score.
    """
    count, size = len(images), images.shape[2:]
    last = max((index for index, call in enumerate(calls) if _usable(call, count)), default=-1)
    sequences = [call for call in calls[last + 1 :] if len(call.shape) == 3 and call.shape[0] == count]
    tokens = [call for call in sequences if _token_grid(call.shape[1], calls, size) is not None]
    if not tokens:
        return []
    shapes = Counter(call.shape for call in tokens if call.shape[1] == tokens[-1].shape[1])
    (_, length, width), _ = shapes.most_common(1)[0]
    grid = _token_grid(length, calls, size)
    assert grid is not None  # as for all tokens
    wanted = [(count, length, width), (count, *grid, width), (count, width, *grid)]
    return [call for call in calls if tuple(call.shape) in wanted]


def _token_grid(tokens: int, calls: list[Call], size: torch.Size) -> tuple[int, int] | None:
    """Return height and width of the grid of patches, whose tokens are the last ones; None if there is none.

    It is that of the last convolution (of patches), otherwise one of the image's aspect ratio.
    """
    convolved = [call.shape[2:] for call in calls if isinstance(call.module, _CONVOLUTIONS) and len(call.shape) == 4]
    for height, width in convolved[-1:]:
        if height * width > 1 and 0 <= tokens - height * width <= _MOST_PREFIX_TOKENS:
            return height, width
    for prefix in range(min(_MOST_PREFIX_TOKENS, tokens - 2) + 1):
        height = math.isqrt((tokens - prefix) * size[0] // size[1])
        if height > 0 and height * height * size[1] == (tokens - prefix) * size[0]:
            width = (tokens - prefix) // height
            if height * width == tokens - prefix:
                return height, width
    return None


def to_maps(name: str, values: Tensor, calls: list[Call], images: Tensor) -> Tensor:
    """Return a layer's output as maps `[N, K, h, w]`, or raise a ValueError.

    Four dimensions are `[N, K, h, w]`, or `[N, h, w, K]` if then the maps are nearer to the image's aspect ratio, which
    they have up to padding, as in channels-last networks such as Swin.
    """
    if values.ndim == 4 and len(values) == len(images):
        first, last = _distortion(values.shape[2:], images), _distortion(values.shape[1:3], images)
        return values.permute(0, 3, 1, 2) if last < min(first, math.log(1.5)) else values
    if values.ndim == 3 and len(values) == len(images):
        grid = _token_grid(values.shape[1], calls, images.shape[2:])
        if grid is not None:
            return values[:, -math.prod(grid) :].transpose(1, 2).unflatten(2, grid)
    wanted = "feature maps [N, C, h, w] or tokens [N, T, D] of image patches"
    raise ValueError(f"layer {name!r} must return {wanted}, found {list(values.shape)}: choose another one")
