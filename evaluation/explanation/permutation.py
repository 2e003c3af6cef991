"""Permutation importance: the decrease of a metric when a part of the input is shuffled among the examples.

Breiman, "Random forests" (Machine Learning 2001), section 10; Fisher, Rudin, Dominici (JMLR 2019). A part is a column
of a table, a channel of images, or a cell of a fixed grid over images.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import as_tensor, check_counts
from .network import Network, eval_mode

Metric = Literal["accuracy", "nll", "r2"] | Callable[[Tensor, Tensor], float]
"""A score of outputs and labels: higher is better."""

Part = tuple[slice, ...]
"""A part of an example: an index of `inputs[n]`."""


@dataclass(frozen=True)
class Importance:
    """The result of `permutation_importance`.

    Attributes:
        names: Names of the `P` parts of the input.
        values: float64 `[P]`, mean decrease of the metric over the repetitions.
        std: float64 `[P]`, its standard deviation over the repetitions.
        metric: Name of the metric.
        score: The metric on the original data.
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
    """Measure how much a metric decreases when a part of the input is shuffled among the examples.

    A part is a column of a table `[N, D]`, a channel of images `[N, C, H, W]`, or with `patch` a cell of that many rows
    and columns (fewer at the right and the bottom), all channels together. Correlated features each show little
    importance, because the network can rely on the other.

    Args:
        model: Maps `[N, ...]` to `[N, K]` or `[N]`. It is left unchanged.
        data: A loader of `(inputs, labels)`, or the pair `(inputs, labels)` of tensors or arrays. Held-out data show
            what helps on new examples.
        metric: `"accuracy"` (default for integer labels), `"nll"` (negated), `"r2"` (default for other labels), or a
            function of outputs `[N, K]` and labels `[N]`, higher for better.
        patch: Side of a cell of images.
        names: Names of the parts.
        repeats: Number of shuffles of each part.
        seed: Random seed of the shuffles.
        batch_size: Number of examples evaluated at once.

    Raises:
        ValueError: If the data do not match, or an argument has a bad value.

    Example:
        >>> rows = torch.tensor([[0.0, 5.0], [1.0, 5.0], [0.0, 5.0], [1.0, 5.0]]).repeat(25, 1)
        >>> net = nn.Linear(2, 2, bias=False)
        >>> _ = net.weight.data.copy_(torch.tensor([[-9.0, 0.9], [9.0, -0.9]]))
        >>> importance = permutation_importance(net, (rows, rows[:, 0].long()), names=["informative", "constant"])
        >>> bool(importance.values[0] > 0.3), float(importance.values[1])
        (True, 0.0)
    """
    check_counts(repeats=repeats, batch_size=batch_size)
    inputs, labels = gather(data)
    parts, default_names = _parts(inputs, patch)
    if names is not None and len(names) != len(parts):
        raise ValueError(f"names must name each of the {len(parts)} parts of the input, found {len(names)}")
    generator = torch.Generator().manual_seed(seed)
    with eval_mode(model) as network, torch.no_grad():
        outputs = _outputs(network, inputs, batch_size)
        title, measure = choose_metric(metric, outputs, labels)
        score = measure(outputs, labels)
        decreases = torch.zeros(len(parts), repeats, dtype=torch.float64)
        for row, part in enumerate(parts):
            for repeat in range(repeats):
                order = torch.randperm(len(inputs), generator=generator)
                shuffled = _outputs(network, inputs, batch_size, part, order)
                decreases[row, repeat] = score - measure(shuffled, labels)
    std = decreases.std(dim=1, correction=0)
    return Importance(list(names or default_names), decreases.mean(dim=1), std, title, score, len(inputs))


def _outputs(
    network: Network, inputs: Tensor, batch_size: int, part: Part | None = None, order: Tensor | None = None
) -> Tensor:
    """Return the outputs for the inputs, with one part replaced by that of the examples in `order`."""
    outputs = []
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        if part is not None and order is not None:
            batch = batch.clone()
            batch[(slice(None), *part)] = inputs[order[start : start + batch_size]][(slice(None), *part)]
        outputs.append(network.scores(network.place(batch)).cpu())
    return torch.cat(outputs)


def gather(data: Any) -> tuple[Tensor, Tensor]:
    """Return all inputs `[N, ...]` and labels `[N]` on the CPU, or raise a ValueError."""
    if not isinstance(data, Iterable) or isinstance(data, Tensor | str | dict):
        raise ValueError(f"data must be a loader of (inputs, labels) or (inputs, labels), found {type(data).__name__}")
    pairs = []
    for batch in [data] if isinstance(data, tuple) and len(data) == 2 else data:
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise ValueError(f"data must yield batches (inputs, labels), found {type(batch).__name__}")
        pairs.append([as_tensor(array).cpu() for array in batch])
    if not pairs:
        raise ValueError("data has no batch")
    inputs, labels = pairs[0] if len(pairs) == 1 else (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if inputs.ndim < 2 or labels.shape != inputs.shape[:1] or len(inputs) < 2:
        shapes = f"{list(inputs.shape)} and {list(labels.shape)}"
        raise ValueError(f"data must hold inputs [N, ...] and labels [N] of at least two examples, found {shapes}")
    return inputs, labels


def _parts(inputs: Tensor, patch: int | None) -> tuple[list[Part], list[str]]:
    """Return the parts of an example, and their names."""
    if patch is None:
        kinds = {2: "x", 4: "channel "}
        if inputs.ndim not in kinds:
            raise ValueError(f"data must hold a table [N, D] or images [N, C, H, W], found {list(inputs.shape)}")
        size = inputs.shape[1]
        return [(slice(i, i + 1),) for i in range(size)], [f"{kinds[inputs.ndim]}{i}" for i in range(size)]
    check_counts(patch=patch)
    if inputs.ndim != 4:
        raise ValueError(f"patch needs images [N, C, H, W], found inputs {list(inputs.shape)}")
    cells = list(grid_cells(inputs.shape[2], inputs.shape[3], patch))
    return [(slice(None), rows, columns) for rows, columns in cells], [cell_name(*cell) for cell in cells]


def grid_cells(height: int, width: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Yield the cells of a fixed grid, row by row; the last ones end with the image."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def cell_name(rows: slice, columns: slice) -> str:
    """Name a rectangle of pixels, counted from the upper left one.

    Example:
        >>> cell_name(slice(0, 4), slice(4, 5))
        'rows 0-3, column 4'
    """
    return f"{_range('row', rows)}, {_range('column', columns)}"


def _range(kind: str, part: slice) -> str:
    return f"{kind} {part.start}" if part.stop == part.start + 1 else f"{kind}s {part.start}-{part.stop - 1}"


def choose_metric(
    metric: Metric | None, outputs: Tensor, labels: Tensor
) -> tuple[str, Callable[[Tensor, Tensor], float]]:
    """Return the name and the function of a metric, or raise a ValueError if it does not suit outputs and labels."""
    if callable(metric):
        function = metric
        name = getattr(metric, "__name__", type(metric).__name__)
        return name, lambda outputs, labels: float(function(outputs, labels))
    integer = not labels.is_floating_point()
    metric = metric or ("accuracy" if integer else "r2")
    if metric == "r2":
        if outputs.shape[1] != 1:
            raise ValueError(f"metric 'r2' needs one output for each example, found {outputs.shape[1]}")
        if bool((labels == labels[0]).all()):
            raise ValueError(f"metric 'r2' needs labels that differ, found {float(labels[0])} only")
        return metric, _r2
    if metric not in ("accuracy", "nll"):
        raise ValueError(f"metric must be 'accuracy', 'nll', 'r2' or a function, found {metric!r}")
    if not integer:
        raise ValueError(f"metric {metric!r} needs integer labels, found {labels.dtype}")
    classes = max(outputs.shape[1], 2)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(f"labels must be in 0..{classes - 1}, found {low}..{high}: for a regression pass metric='r2'")
    return metric, _accuracy if metric == "accuracy" else _negative_nll


def _r2(outputs: Tensor, labels: Tensor) -> float:
    truth, predicted = labels.double(), outputs[:, 0].double()
    return float(1 - (truth - predicted).square().sum() / (truth - truth.mean()).square().sum())


def _accuracy(outputs: Tensor, labels: Tensor) -> float:
    return float((_two_columns(outputs).argmax(dim=1) == labels).double().mean())


def _negative_nll(outputs: Tensor, labels: Tensor) -> float:
    return -float(F.cross_entropy(_two_columns(outputs).double(), labels.long()))


def _two_columns(outputs: Tensor) -> Tensor:
    """Return a single output, the logit of the second of two classes, as two."""
    return outputs if outputs.shape[1] > 1 else torch.cat([torch.zeros_like(outputs), outputs], dim=1)
