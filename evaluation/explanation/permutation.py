"""Permutation importance: what a network loses when a part of its input is shuffled among the examples.

Breiman, "Random forests" (Machine Learning 2001), section 10; Fisher, Rudin, Dominici (JMLR 2019).

The cells of a fixed grid over an image, and their names.

How good a network's outputs are, as one number that is greater for better.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..calibration.inputs import as_tensor
from .network import Network, undisturbed

Metric = Literal["accuracy", "nll", "r2"] | Callable[[Tensor, Tensor], float]


def choose(metric: Metric | None, outputs: Tensor, labels: Tensor) -> tuple[str, Callable[[Tensor, Tensor], float]]:
    """Return a metric's name and function, or raise a ValueError where it does not fit the outputs and labels.

    Args:
        metric: ``"accuracy"``, ``"nll"`` (negative, so that greater is better), ``"r2"``, a function of outputs and
            labels, or None for accuracy where the labels are integers and R2 elsewhere.
        outputs: ``[N, K]`` of a network.
        labels: ``[N]``.
    """
    if callable(metric):
        function = metric
        return getattr(metric, "__name__", type(metric).__name__), lambda outputs, labels: float(
            function(outputs, labels)
        )
    integer = not labels.is_floating_point()
    metric = metric or ("accuracy" if integer else "r2")
    if metric == "r2":
        if outputs.shape[1] != 1:
            raise ValueError(f"metric 'r2' needs one output for each example, got {outputs.shape[1]}")
        if bool((labels == labels[0]).all()):
            raise ValueError(f"metric 'r2' needs labels that differ, got {float(labels[0])} only")
        return metric, _r2
    if metric not in ("accuracy", "nll"):
        raise ValueError(f"metric must be 'accuracy', 'nll', 'r2' or a function, got {metric!r}")
    if not integer:
        raise ValueError(f"metric {metric!r} needs integer labels, got {labels.dtype}")
    classes = max(outputs.shape[1], 2)  # one output is the logit of the second of two classes
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        found = f"{int(labels.min())}..{int(labels.max())}"
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {found} (for a regression give metric='r2')")
    return metric, _accuracy if metric == "accuracy" else _negative_nll


def _r2(outputs: Tensor, labels: Tensor) -> float:
    truth, predicted = labels.double(), outputs[:, 0].double()
    return float(1 - (truth - predicted).square().sum() / (truth - truth.mean()).square().sum())


def _accuracy(outputs: Tensor, labels: Tensor) -> float:
    predicted = outputs.argmax(dim=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    return float((predicted == labels).double().mean())


def _negative_nll(outputs: Tensor, labels: Tensor) -> float:
    if outputs.shape[1] == 1:
        return -float(F.binary_cross_entropy_with_logits(outputs[:, 0].double(), labels.double()))
    return -float(F.cross_entropy(outputs.double(), labels.long()))


def grid_cells(height: int, width: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Yield the cells of a fixed grid, row by row; the last ones end with the image."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def cell_name(rows: slice, columns: slice) -> str:
    """Name a rectangle of pixels, counted from the upper left one.

    >>> cell_name(slice(0, 4), slice(4, 5))
    'rows 0-3, column 4'
    """
    return f"{_range('row', rows)}, {_range('column', columns)}"


def _range(kind: str, part: slice) -> str:
    return f"{kind} {part.start}" if part.stop == part.start + 1 else f"{kind}s {part.start}-{part.stop - 1}"


Place = tuple[slice, ...]
"""Where a part of the input is in an example: an index of ``inputs[n]``."""


@dataclass(frozen=True)
class Importance:
    """What :func:`permutation_importance` returns.

    Attributes:
        names: ``P`` parts of the input.
        values: float64 ``[P]``, mean decrease of the metric over the repetitions.
        std: float64 ``[P]``, its standard deviation over the repetitions.
        metric: The metric's name.
        score: Its value on the data as they are.
        examples: Number of examples.
    """

    names: list[str]
    values: Tensor
    std: Tensor
    metric: str
    score: float
    examples: int


def permutation_importance(
    model: nn.Module,
    data: Any,
    *,
    metric: Metric | None = None,
    patch: int | None = None,
    names: Sequence[str] | None = None,
    repeats: int = 5,
    seed: int = 0,
    batch_size: int = 1024,
) -> Importance:
    """Measure how much a metric falls when a part of the input is shuffled among the examples.

    A part is a column of a table ``[N, D]``, a channel of images ``[N, C, H, W]``, or with ``patch`` a cell of that
    many rows and columns (those at the right and at the bottom may be smaller), all channels together. Parts that tell
    the same lose little each: the network still has the other.

    Args:
        model: Maps ``[N, ...]`` to ``[N, K]`` or ``[N]``. It is left as it was.
        data: A loader of ``(inputs, labels)``, or the pair ``(inputs, labels)`` of tensors or arrays. Held-out data say
            what helps on new examples.
        metric: ``"accuracy"`` (for integer labels by default), ``"nll"`` (its negative), ``"r2"`` (for labels that are
            not integers by default), or a function of outputs ``[N, K]`` and labels ``[N]`` that is greater for better.
        patch: Side of a cell of images.
        names: Names of the parts.
        repeats: Number of shuffles of each part.
        seed: Of the shuffles.
        batch_size: Examples evaluated at once.

    Returns:
        The importance of each part.

    Raises:
        ValueError: If the data do not fit, or an argument has a bad value.

    Example:
        >>> rows = torch.tensor([[0.0, 5.0], [1.0, 5.0], [0.0, 5.0], [1.0, 5.0]]).repeat(25, 1)
        >>> net = nn.Linear(2, 2, bias=False)
        >>> _ = net.weight.data.copy_(torch.tensor([[-9.0, 0.9], [9.0, -0.9]]))
        >>> found = permutation_importance(net, (rows, rows[:, 0].long()), names=["tells", "constant"])
        >>> bool(found.values[0] > 0.3), float(found.values[1])
        (True, 0.0)
    """
    for name, count in (("repeats", repeats), ("batch_size", batch_size)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a positive integer, got {count!r}")
    inputs, labels = gather(data)
    places, own = _parts(inputs, patch)
    if names is not None and len(names) != len(places):
        raise ValueError(f"names must name each of the {len(places)} parts of the input, got {len(names)}")
    generator = torch.Generator().manual_seed(seed)
    with undisturbed(model) as network, torch.no_grad():
        plain = _outputs(network, inputs, batch_size)
        title, measure = choose(metric, plain, labels)
        score = measure(plain, labels)
        falls = torch.zeros(len(places), repeats, dtype=torch.float64)
        for row, place in enumerate(places):
            for repeat in range(repeats):
                order = torch.randperm(len(inputs), generator=generator)
                falls[row, repeat] = score - measure(_outputs(network, inputs, batch_size, place, order), labels)
    std = falls.std(dim=1, correction=0)
    return Importance(list(names or own), falls.mean(dim=1), std, title, score, len(inputs))


def gather(data: Any) -> tuple[Tensor, Tensor]:
    """Return all inputs ``[N, ...]`` and labels ``[N]`` on the CPU, or raise a ValueError."""
    if isinstance(data, tuple) and len(data) == 2:
        inputs, labels = (as_tensor(part).cpu() for part in data)
    elif isinstance(data, Iterable) and not isinstance(data, Tensor | str | dict):
        batches = list(_batches(data))
        if not batches:
            raise ValueError("data has no batch")
        inputs, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    else:
        raise ValueError(f"data must be a loader of (inputs, labels) or (inputs, labels), got {type(data).__name__}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if inputs.ndim < 2 or labels.shape != inputs.shape[:1] or len(inputs) < 2:
        found = f"{list(inputs.shape)} and {list(labels.shape)}"
        raise ValueError(f"data must hold inputs [N, ...] and labels [N] of at least two examples, got {found}")
    return inputs, labels


def _batches(data: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in data:
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise ValueError(f"data must yield batches (inputs, labels), got {type(batch).__name__}")
        inputs, labels = (as_tensor(part).cpu() for part in batch)
        yield inputs, labels


def _parts(inputs: Tensor, patch: int | None) -> tuple[list[Place], list[str]]:
    """Where the parts of an example are, and their names."""
    everything = slice(None)
    if patch is None:
        kinds = {2: "x", 4: "channel "}
        if inputs.ndim not in kinds:
            raise ValueError(f"data must hold a table [N, D] or images [N, C, H, W], got {list(inputs.shape)}")
        size = inputs.shape[1]
        return [(slice(i, i + 1),) for i in range(size)], [f"{kinds[inputs.ndim]}{i}" for i in range(size)]
    if isinstance(patch, bool) or not isinstance(patch, int) or patch < 1:
        raise ValueError(f"patch must be a positive integer, got {patch!r}")
    if inputs.ndim != 4:
        raise ValueError(f"patch is for images [N, C, H, W], got inputs {list(inputs.shape)}")
    cells = list(grid_cells(inputs.shape[2], inputs.shape[3], patch))
    return [(everything, rows, columns) for rows, columns in cells], [cell_name(*cell) for cell in cells]


def _outputs(
    network: Network, inputs: Tensor, batch_size: int, place: Place | None = None, order: Tensor | None = None
) -> Tensor:
    """What the network says about the inputs, with the part at ``place`` taken from the examples ``order``."""
    found = []
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        if place is not None and order is not None:
            batch = batch.clone()
            batch[(slice(None), *place)] = inputs[order[start : start + batch_size]][(slice(None), *place)]
        found.append(network.scores(network.place(batch)).cpu())
    return torch.cat(found)
