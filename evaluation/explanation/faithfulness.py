"""Faithfulness of a saliency map: deletion and insertion curves, and dependence on the network's weights.

Deletion and insertion: Petsiuk, Das, Saenko, "RISE" (BMVC 2018). Re-initialised weights: Adebayo et al., "Sanity
checks for saliency maps" (NeurIPS 2018).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import Array, check_counts
from .network import Network, eval_mode
from .pictures import stretch

Explain = Callable[[nn.Module], Tensor]
"""Computes the same kind of map `[h, w]` for another network."""


@dataclass(frozen=True)
class Faithfulness:
    """The result of `faithfulness`.

    Attributes:
        deletion: Area under the target's probability as pixels are deleted, those highest in the map first. Below
            `random_deletion`: the map finds what the network needs.
        insertion: The same as they are inserted into an empty image. Above `random_insertion`: it finds what suffices.
        random_deletion: Mean of the deletion areas of random maps.
        random_insertion: Mean of the insertion areas of random maps.
        random_correlation: Spearman's correlation of the map with the maps of re-initialised networks, mean over the
            draws. Near 0: the map depends on the learned weights. None if it is undefined.
        remark: Why it is undefined, otherwise "".
        deletion_curve: `[S + 1]` probabilities, from the whole image to none of it.
        insertion_curve: `[S + 1]` probabilities, from nothing to the whole image.
    """

    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float
    random_correlation: float | None
    remark: str
    deletion_curve: tuple[float, ...]
    insertion_curve: tuple[float, ...]

    @property
    def correlation_text(self) -> str:
        """`random_correlation` in words."""
        return self.remark if self.random_correlation is None else f"{self.random_correlation:.3f}"


def faithfulness(
    model: nn.Module,
    image: Array,
    values: Array,
    explain: Explain,
    target: int,
    *,
    fill: float = 0.0,
    steps: int = 16,
    orders: int = 5,
    draws: int = 3,
    seed: int = 0,
    batch_size: int = 64,
) -> Faithfulness:
    """Measure whether a map of an image shows what the network attends to.

    The map is resized to the image, and pixels are deleted or inserted in its order, ties at random. A random map has
    random values at the resolution of the map, so that the first pixels are as coherent as with the map.

    Args:
        model: Maps `[N, C, H, W]` to logits; it is left unchanged.
        image: `[C, H, W]`, normalised.
        values: `[h, w]` map.
        explain: Computes the same kind of map for another network.
        target: The class whose probability is measured.
        fill: Value of a deleted pixel; 0 is the mean colour of normalised images.
        steps: Number S of steps in which the image is deleted.
        orders: Number of random maps.
        draws: Number of re-initialised networks.
        seed: Random seed of maps and weights.
        batch_size: Number of images evaluated at once.

    Raises:
        ValueError: If a shape or an argument is wrong.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
        >>> net[1].weight.data = torch.stack([torch.zeros(16), 3.0 * torch.arange(16) / 16])
        >>> image = torch.ones(1, 4, 4)
        >>> result = faithfulness(net, image, net[1].weight[1].view(4, 4), lambda net: net[1].weight[1].view(4, 4), 1)
        >>> result.deletion < result.random_deletion, result.insertion > result.random_insertion
        (True, True)
    """
    check_counts(steps=steps, orders=orders, draws=draws, batch_size=batch_size)
    saliency = torch.as_tensor(values).detach().cpu().double()
    generator = torch.Generator().manual_seed(seed)
    with eval_mode(model) as network, torch.no_grad():
        pixels = network.place(image)
        if pixels.ndim != 3 or saliency.ndim != 2 or saliency.numel() == 0:
            shapes = f"{list(pixels.shape)} and {list(saliency.shape)}"
            raise ValueError(f"image must be [C, H, W] and values [h, w], found {shapes}")
        probability = partial(_probabilities, network, target, batch_size)

        def areas_and_curves(heights: Tensor) -> tuple[list[float], list[Tensor]]:
            curves = _curves(probability, pixels, _order(heights, pixels.shape[1:], generator), fill, steps)
            return [area(curve) for curve in curves], curves

        areas, (deletion, insertion) = areas_and_curves(saliency)
        random = [
            areas_and_curves(torch.rand(saliency.shape, generator=generator, dtype=torch.float64))[0]
            for _ in range(orders)
        ]
    correlation, remark = _random_correlation(model, saliency, explain, draws, seed)
    mean = np.mean(random, axis=0).tolist()
    curves = tuple(deletion.tolist()), tuple(insertion.tolist())
    return Faithfulness(areas[0], areas[1], mean[0], mean[1], correlation, remark, *curves)


def area(curve: Tensor) -> float:
    """Return the area under a curve over [0, 1], by the trapezoid rule."""
    return float(torch.trapezoid(curve) / (len(curve) - 1))


def _order(values: Tensor, size: torch.Size, generator: torch.Generator) -> Tensor:
    """Return the pixels `[H * W]` from the highest value to the lowest, ties in random order."""
    heights = stretch(values, size).flatten()
    shuffled = torch.randperm(len(heights), generator=generator)
    return shuffled[heights[shuffled].argsort(descending=True, stable=True)]


def _curves(
    probability: Callable[[Tensor], Tensor], image: Tensor, order: Tensor, fill: float, steps: int
) -> list[Tensor]:
    """Return the probabilities `[steps + 1]` as pixels are deleted in this order, and as they are inserted."""
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    counts = torch.linspace(0, len(order), steps + 1).round().long()
    first = (rank < counts[:, None]).view(-1, 1, *image.shape[1:]).to(image.device)
    empty = torch.full_like(image, fill)
    return [probability(torch.where(first, empty, image)), probability(torch.where(first, image, empty))]


def _probabilities(network: Network, target: int, batch_size: int, images: Tensor) -> Tensor:
    scores = torch.cat([network.scores(part).cpu() for part in images.split(batch_size)]).double()
    if not 0 <= target < scores.shape[1]:
        raise ValueError(f"target must be in 0..{scores.shape[1] - 1}, found {target}")
    return (scores.softmax(dim=1) if scores.shape[1] > 1 else scores.sigmoid())[:, target]


def _random_correlation(
    model: nn.Module, values: Tensor, explain: Explain, draws: int, seed: int
) -> tuple[float | None, str]:
    from scipy.stats import spearmanr

    if _constant(values):
        return None, "undefined: the map is constant"
    correlations = []
    for draw in range(draws):
        other = torch.as_tensor(explain(reinitialised(model, seed + draw))).detach().cpu().double()
        if not _constant(other):
            correlations.append(float(spearmanr(values.flatten().numpy(), other.flatten().numpy()).statistic))
    if not correlations:
        return None, "undefined: the maps of the re-initialised network are constant"
    return float(np.mean(correlations)), ""


def _constant(values: Tensor) -> bool:
    return bool((values == values.flatten()[0]).all())


def reinitialised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of a network with weights as before training.

    Modules that have `reset_parameters` are reset by it. The values of all other parameters (position embeddings, a
    class token) are shuffled, which keeps their distribution. A Lightning module's trainer is not copied, and the
    global random state is left unchanged.
    """
    # A LightningModule leaves its trainer out of its state, but not its fabric.
    fabrics = [getattr(module, "fabric", None) for module in model.modules()]
    memo: dict[int, Any] = {id(fabric): None for fabric in fabrics if fabric is not None}
    first = next(model.parameters(), None)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        other = copy.deepcopy(model, memo).cpu()  # on the CPU all draws come from one generator
        torch.default_generator.manual_seed(seed)
        for module in other.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other if first is None else other.to(first.device)
