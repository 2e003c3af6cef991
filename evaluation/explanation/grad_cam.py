"""Grad-CAM: the regions of an image that support a class.

Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization" (ICCV 2017). The
layer that is mapped is chosen in `evaluation.explanation.layers`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import Array
from .integrated_gradients import target_indices
from .layers import candidate_layers, named_layer, to_maps, trace
from .network import eval_mode


class NoFeatureMaps(ValueError):
    """A network has neither feature maps of convolutions nor tokens of image patches."""


@dataclass(frozen=True)
class ClassMap:
    """The result of `grad_cam`, on the CPU.

    Attributes:
        values: float64 `[N, h, w]`, how much each region supports the target, from the upper left one.
        target: int64 `[N]`, index of the explained score.
        scores: float64 `[N, K]`, all scores.
        layer: Name of the layer that is mapped.
        tokens: Whether its outputs are the tokens of a transformer rather than feature maps.
    """

    values: Tensor
    target: Tensor
    scores: Tensor
    layer: str
    tokens: bool


def grad_cam(
    model: nn.Module,
    images: Array,
    target: Array | None = None,
    *,
    layer: str | nn.Module | None = None,
    relu: bool = True,
    fixed: Sequence[Any] = (),
) -> ClassMap:
    """Map the contribution of each region of an image to a score y, at the resolution of a layer.

    With the feature maps A_k `[h, w]` of a layer

        alpha_k = mean over the positions of dy/dA_k,    map = relu(sum_k alpha_k A_k)

    For a transformer A_k are the k-th values of the patch tokens, on their grid; class and register tokens are left
    out. The network is left unchanged, see `evaluation.explanation.network.eval_mode`.

    Args:
        model: Maps `[N, C, H, W]` to scores `[N, K]` or `[N]`, each image independently.
        images: `[N, C, H, W]`, normalised as in training.
        target: Index of the score, one for all images or one for each `[N]`; None: the highest of each image.
        layer: The layer, by name or as the module. By default the last feature maps of at least 16 positions made by
            convolutions, after the layers that follow at the same size; in a transformer the last layer at which the
            patches still affect the score.
        relu: Whether to set negative values, which oppose the target, to 0.
        fixed: Further arguments of the network: tensors `[N, ...]`, or anything else.

    Raises:
        NoFeatureMaps: If no layer is given and the network has neither feature maps nor tokens.
        ValueError: If an argument has a bad value, or the score does not depend on the layer.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 10))
        >>> result = grad_cam(net, torch.rand(2, 1, 8, 8), target=3)
        >>> result.values.shape, result.layer
        (torch.Size([2, 6, 6]), '1')
    """
    with eval_mode(model, fixed) as network:
        placed = network.place(images)
        if placed.ndim != 4 or placed.numel() == 0:
            raise ValueError(f"images must be [N, C, H, W], found shape {list(placed.shape)}")
        calls = trace(network, placed)
        candidates = candidate_layers(calls, placed) if layer is None else [named_layer(network, layer)]
        if not candidates:
            kind = type(network.module).__name__
            raise NoFeatureMaps(f"{kind} has no convolution that makes feature maps, and no tokens of image patches")
        with _outputs_of([call.module for call in candidates]) as outputs:
            scores = network.scores(placed)
        which = target_indices(scores.detach(), target)
        if not bool(scores.isfinite().all()):
            raise ValueError("the network's scores must be finite, found NaN or inf")
        layers = [call for call in candidates if isinstance(outputs.get(call.module), Tensor)]
        if not layers:
            name = candidates[0].name
            raise ValueError(f"layer {name!r} returned no tensor in this forward pass: choose another one")
        slopes = _slopes(scores.gather(1, which[:, None]).sum(), [outputs[call.module] for call in layers])
    options = [
        (call, to_maps(call.name, outputs[call.module], calls, placed), to_maps(call.name, slope, calls, placed))
        for call, slope in zip(layers, slopes, strict=True)
        if slope is not None
    ]
    if not options:
        name = layers[-1].name
        raise ValueError(f"the score does not depend differentiably on layer {name!r}: choose another one by layer=")
    # After the last attention of a transformer only the class token reaches the score.
    call, maps, slope = next((one for one in reversed(options) if bool(one[2].any())), options[-1])
    values = (slope.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(dim=1).cpu().double()
    return ClassMap(
        values.clamp(min=0) if relu else values,
        which.cpu(),
        scores.detach().cpu().double(),
        call.name,
        tokens=outputs[call.module].ndim == 3,
    )


def _slopes(total: Tensor, values: list[Tensor]) -> Sequence[Tensor | None]:
    return torch.autograd.grad(total, values, allow_unused=True) if total.requires_grad else [None] * len(values)


@contextmanager
def _outputs_of(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Any]]:
    """Record the outputs of the modules' last calls, as tensors whose gradient can be computed.

    The following layer gets a copy, so that an in-place activation does not change the record.
    """
    outputs: dict[nn.Module, Any] = {}

    def record(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            outputs[module] = output
            return None
        outputs[module] = output if output.requires_grad else output.detach().requires_grad_(torch.is_grad_enabled())
        return outputs[module].clone()

    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(module.register_forward_hook(record))
        yield outputs
