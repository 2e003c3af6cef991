"""The Rand index over batches and processes, as torchmetrics metrics."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.plot import plot_single_or_multi_val

from .contingency import Cells, contingency, count_cells, merge
from .scores import adjusted_rand_of, count_pairs, rand_of

_MERGE_AT = 64
"""Number of batches after which equal cells are merged."""


class _PairMetric(Metric):
    """A function of the numbers of pairs; its state is the contingency table, not the labels."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    score_of: ClassVar[Any]

    cells: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("cells", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch: integer labels `[N]` of the clustering (`preds`) and of the classes (`target`); N may be 0."""
        if len(preds) == len(target) == 0:
            return
        for name, labels in (("preds", preds), ("target", target)):
            if labels.is_floating_point() or labels.is_complex():
                raise ValueError(f"{name} must be integer labels, found {labels.dtype}")
        batch = torch.stack(contingency(target, preds), dim=1)
        cells = [self.cells] if isinstance(self.cells, Tensor) else self.cells
        self.cells = [*cells, batch]
        if len(self.cells) >= _MERGE_AT:
            self.cells = [torch.stack(self._merged(), dim=1)]

    def forward(self, preds: Tensor, target: Tensor) -> Any:
        """Add a batch and return its score, NaN for an empty one."""
        return super().forward(preds, target) if len(preds) or len(target) else torch.tensor(float("nan")).double()

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the cells of all processes, including those without a batch."""
        if isinstance(self.cells, list) and not self.cells:
            self.cells = [torch.zeros(0, 3, dtype=torch.int64, device=self.device)]
        super().sync(*args, **kwargs)

    def compute(self) -> Tensor:
        """Return the score of all batches, a float64 scalar."""
        cells = self._merged()
        if not len(cells.count):
            raise ValueError(f"{type(self).__name__} has seen no labels: call update first")
        return torch.tensor(type(self).score_of(count_pairs(count_cells(cells))), dtype=torch.float64)

    def plot(self, val: Any = None, ax: Any = None) -> tuple[Any, Any]:
        """Draw the values `val` (one or several, by default that of `compute`); return Matplotlib's figure and axes."""
        return plot_single_or_multi_val(
            self.compute() if val is None else val,
            ax=ax,
            higher_is_better=self.higher_is_better,
            name=type(self).__name__,
            lower_bound=self.plot_lower_bound,
            upper_bound=self.plot_upper_bound,
        )

    def _merged(self) -> Cells:
        if isinstance(self.cells, list) and not self.cells:
            return Cells(*torch.zeros(3, 0, dtype=torch.int64))
        table = dim_zero_cat(self.cells).reshape(-1, 3).long()
        return merge(Cells(table[:, 0], table[:, 1], table[:, 2]))


class RandScore(_PairMetric):
    """Rand index over batches: `clustering.rand_score` of all labels, over all processes.

    The state has one row per pair of labels that occurs, instead of the labels; any integers are labels.

    Example:
        >>> import torch
        >>> metric = RandScore()
        >>> metric.update(torch.tensor([0, 0, 1]), torch.tensor([5, 5, 7]))
        >>> metric.update(torch.tensor([1]), torch.tensor([9]))
        >>> round(metric.compute().item(), 4)
        0.8333
    """

    score_of = staticmethod(rand_of)
    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 1.0


class AdjustedRandScore(_PairMetric):
    """Adjusted Rand index over batches: `clustering.adjusted_rand_score` of all labels, over all processes.

    Its state is that of `RandScore`; nothing overflows.

    Example:
        >>> import torch
        >>> metric = AdjustedRandScore()
        >>> metric.update(torch.tensor([0, 0, 1]), torch.tensor([5, 5, 7]))
        >>> metric.update(torch.tensor([1]), torch.tensor([9]))
        >>> round(metric.compute().item(), 4)
        0.5714
    """

    score_of = staticmethod(adjusted_rand_of)
    plot_lower_bound: float = -0.5
    plot_upper_bound: float = 1.0
