"""Whether a map of an image tells what the network looks at.

Deletion and insertion: Petsiuk, Das, Saenko, "RISE" (BMVC 2018). Re-initialised weights: Adebayo et al., "Sanity
checks for saliency maps" (NeurIPS 2018).

A network as it was before training.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from .network import Network, undisturbed
from .pictures import stretch


def reinitialised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of a network with weights as before training.

    Modules that have ``reset_parameters`` are reset by it. The values of all other parameters (position embeddings, a
    class token) are shuffled, which keeps their distribution.

    Args:
        model: Any network; a Lightning module's trainer is not copied.
        seed: Of the weights; the global random state is left as it is.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for name in ("_trainer", "_fabric"):
            reference = module.__dict__.get(name)
            if reference is not None:
                memo[id(reference)] = None
    first = next(model.parameters(), None)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        other = copy.deepcopy(model, memo).cpu()  # where all draws are those of one generator
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


Explain = Callable[[nn.Module], Tensor]
"""Makes the same kind of map ``[h, w]`` with another network."""


@dataclass(frozen=True)
class Faithfulness:
    """What :func:`faithfulness` returns.

    Attributes:
        deletion: Area under the target's probability while pixels are deleted, those highest in the map first. Lower
            than ``random_deletion``: the map finds what the network needs.
        insertion: The same while they are put into an empty image. Higher than ``random_insertion``: it finds what
            suffices.
        random_deletion: Mean of the deletion areas of random maps.
        random_insertion: Mean of the insertion areas of random maps.
        random_correlation: Spearman's correlation of the map with those of the network with re-initialised weights,
            mean over the draws. Near 0: the map depends on what was learned. None where it is undefined.
        remark: Why it is undefined, else "".
        deletion_curve: ``[S + 1]`` probabilities, from the whole image to none of it.
        insertion_curve: ``[S + 1]`` probabilities, from nothing to the whole image.
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
        """``random_correlation`` in words."""
        return self.remark if self.random_correlation is None else f"{self.random_correlation:.3f}"


def faithfulness(
    model: nn.Module,
    image: Tensor | npt.ArrayLike,
    values: Tensor | npt.ArrayLike,
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
    """Measure whether a map of an image tells what the network looks at.

    The map is stretched to the image, and pixels are deleted or inserted in its order, ties at random. A random map has
    random values at the same places as the map, so that what is deleted first is as coherent as with the map.

    Args:
        model: Maps ``[N, C, H, W]`` to logits; it is left as it was.
        image: ``[C, H, W]``, normalised.
        values: ``[h, w]`` map.
        explain: Makes the same kind of map with another network.
        target: The class whose probability is watched.
        fill: What a deleted pixel is; 0 is the mean colour of normalised images.
        steps: Parts S in which the image is deleted.
        orders: Number of random maps.
        draws: Number of re-initialised networks.
        seed: Of random maps and weights.
        batch_size: Images evaluated at once.

    Returns:
        The measures.

    Raises:
        ValueError: If a shape or an argument is wrong.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
        >>> net[1].weight.data = torch.stack([torch.zeros(16), 3.0 * torch.arange(16) / 16])
        >>> image = torch.ones(1, 4, 4)
        >>> found = faithfulness(net, image, net[1].weight[1].view(4, 4), lambda net: net[1].weight[1].view(4, 4), 1)
        >>> found.deletion < found.random_deletion, found.insertion > found.random_insertion
        (True, True)
    """
    for name, count in (("steps", steps), ("orders", orders), ("draws", draws), ("batch_size", batch_size)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a positive integer, got {count!r}")
    map_values = torch.as_tensor(values).detach().cpu().double()
    generator = torch.Generator().manual_seed(seed)
    with undisturbed(model) as network, torch.no_grad():
        pixels = network.place(image)
        if pixels.ndim != 3 or map_values.ndim != 2 or map_values.numel() == 0:
            found = f"{list(pixels.shape)} and {list(map_values.shape)}"
            raise ValueError(f"image must be [C, H, W] and values [h, w], got {found}")
        watch = _Watch(network, pixels, target, fill, steps, batch_size)
        deletion, insertion = watch.curves(_order(map_values, pixels.shape[1:], generator))
        chance = []
        for _ in range(orders):
            random = torch.rand(map_values.shape, generator=generator, dtype=torch.float64)
            chance.append([area(curve) for curve in watch.curves(_order(random, pixels.shape[1:], generator))])
        random_deletion, random_insertion = np.mean(chance, axis=0)
    correlation, remark = _randomised(model, map_values, explain, draws, seed)
    return Faithfulness(
        area(deletion), area(insertion), float(random_deletion), float(random_insertion), correlation, remark,
        tuple(deletion.tolist()), tuple(insertion.tolist()),
    )  # fmt: skip


def area(curve: Tensor) -> float:
    """Return the area under a curve over [0, 1], by the trapezoid rule."""
    return float(torch.trapezoid(curve) / (len(curve) - 1))


def _order(values: Tensor, size: torch.Size, generator: torch.Generator) -> Tensor:
    """The pixels ``[H * W]`` from the highest value to the lowest, ties in random order."""
    heights = stretch(values, size).flatten()
    shuffled = torch.randperm(len(heights), generator=generator)
    return shuffled[heights[shuffled].argsort(descending=True, stable=True)]


@dataclass(frozen=True)
class _Watch:
    """The target's probability while an image is deleted or inserted."""

    network: Network
    image: Tensor
    target: int
    fill: float
    steps: int
    batch_size: int

    def curves(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """The curves of deletion and insertion in this order."""
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        counts = torch.linspace(0, len(order), self.steps + 1).round().long()
        first = (rank < counts[:, None]).view(-1, 1, *self.image.shape[1:]).to(self.image.device)
        empty = torch.full_like(self.image, self.fill)
        return (
            self._probabilities(torch.where(first, empty, self.image)),
            self._probabilities(torch.where(first, self.image, empty)),
        )

    def _probabilities(self, images: Tensor) -> Tensor:
        scores = torch.cat([self.network.scores(part).cpu() for part in images.split(self.batch_size)]).double()
        if not 0 <= self.target < scores.shape[1]:
            raise ValueError(f"target must lie in 0..{scores.shape[1] - 1}, got {self.target}")
        return (scores.softmax(dim=1) if scores.shape[1] > 1 else scores.sigmoid())[:, self.target]


def _randomised(model: nn.Module, values: Tensor, explain: Explain, draws: int, seed: int) -> tuple[float | None, str]:
    if _constant(values):
        return None, "undefined: the map is constant"
    found = []
    for draw in range(draws):
        other = torch.as_tensor(explain(reinitialised(model, seed + draw))).detach().cpu().double()
        if not _constant(other):
            found.append(float(spearmanr(values.flatten().numpy(), other.flatten().numpy()).statistic))
    if not found:
        return None, "undefined: the maps of the re-initialised network are constant"
    return float(np.mean(found)), ""


def _constant(values: Tensor) -> bool:
    return bool((values == values.flatten()[0]).all())
