"""The Rand index over batches and processes, as torchmetrics metrics."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from .contingency import Cells, contingency, count_cells, merge
from .scores import Pairs, adjusted_rand_of, pairs, rand_of

_MERGE_AT = 64
"""Batches whose cells are kept apart before equal cells are added up."""


class _PairMetric(Metric):
    """A function of the numbers of pairs; its state is the contingency of what was seen, not the labels."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    cells: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("cells", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch: integer labels ``[N]`` of the clustering and ``[N]`` of the classes."""
        for name, labels in (("preds", preds), ("target", target)):
            if labels.is_floating_point() or labels.is_complex():
                raise ValueError(f"{name} must be integer labels, got {labels.dtype}")
        batch = torch.stack(contingency(target, preds), dim=1)
        held = [self.cells] if isinstance(self.cells, Tensor) else self.cells
        self.cells = [*held, batch]
        if len(self.cells) >= _MERGE_AT:
            self.cells = [torch.stack(self._merged(), dim=1)]

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the cells of all processes, also from those that have seen no batch."""
        if isinstance(self.cells, list) and not self.cells:
            self.cells = [torch.zeros(0, 3, dtype=torch.int64, device=self.device)]
        super().sync(*args, **kwargs)

    def compute(self) -> Tensor:
        """The score of everything seen, a float64 scalar."""
        cells = self._merged()
        if not len(cells.count):
            raise ValueError(f"{type(self).__name__} has seen no label: call update first")
        return torch.tensor(self._score(pairs(count_cells(cells))), dtype=torch.float64)

    def _merged(self) -> Cells:
        if isinstance(self.cells, list) and not self.cells:
            return Cells(*torch.zeros(3, 0, dtype=torch.int64))
        table = dim_zero_cat(self.cells).reshape(-1, 3).long()
        return merge(Cells(table[:, 0], table[:, 1], table[:, 2]))

    @staticmethod
    def _score(found: Pairs) -> float:
        raise NotImplementedError


class RandScore(_PairMetric):
    """Rand index over batches: :func:`clustering.rand_score` of all labels seen, on all processes.

    It holds a row for each pair of labels that occurs, not the labels, and any integers are labels.

    Example:
        >>> import torch
        >>> metric = RandScore()
        >>> metric.update(torch.tensor([0, 0, 1]), torch.tensor([5, 5, 7]))
        >>> metric.update(torch.tensor([1]), torch.tensor([9]))
        >>> round(metric.compute().item(), 4)
        0.8333
    """

    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 1.0

    @staticmethod
    def _score(found: Pairs) -> float:
        return rand_of(found)


class AdjustedRandScore(_PairMetric):
    """Adjusted Rand index over batches: :func:`clustering.adjusted_rand_score` of all labels seen, on all processes.

    It holds a row for each pair of labels that occurs, not the labels, and any integers are labels. The products of the
    numbers of pairs are Python integers: nothing overflows, at any number of points.

    Example:
        >>> import torch
        >>> metric = AdjustedRandScore()
        >>> metric.update(torch.tensor([0, 0, 1]), torch.tensor([5, 5, 7]))
        >>> metric.update(torch.tensor([1]), torch.tensor([9]))
        >>> round(metric.compute().item(), 4)
        0.5714
    """

    plot_lower_bound: float = -0.5
    plot_upper_bound: float = 1.0

    @staticmethod
    def _score(found: Pairs) -> float:
        return adjusted_rand_of(found)
