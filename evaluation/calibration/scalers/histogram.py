"""Histogram binning: a table from probability to probability for each class.

Zadrozny, Elkan, "Obtaining calibrated probability estimates from decision trees and naive Bayesian classifiers" (ICML
2001): the calibrated probability of a bin is the share of the class among the samples in it.
"""

import torch
from torch import Tensor

from ..bins import inner_edges, quantile_edges
from ..inputs import Strategy, check_options
from .one_vs_rest import OneVsRest, check_floor, laplace


class HistogramBinning(OneVsRest):
    """Replace each class's probability by the share of the class in its bin; an empty bin keeps its centre.

    With more than two classes each row is divided by its sum. Samples in one bin get the same probability, so the
    predicted class may change.

    Args:
        n_bins: Number of bins of each class.
        strategy: `"uniform"` (equal width) or `"quantile"` (equal numbers of samples).
        floor: Probabilities are kept within `[floor, 1 - floor]`; None: `1 / (N + 2)` for N samples.

    Attributes:
        edges_: `[K, n_bins - 1]` probabilities between the bins, each part of the bin below; `[1, n_bins - 1]` for two
            classes.
        values_: `[K, n_bins]` probabilities of the bins.

    Raises:
        ValueError: For a bad option.

    Example:
        >>> scaler = HistogramBinning(n_bins=2, floor=0).fit([-3.0, -1.0, -2.0, 1.0, 3.0, 2.0], [0, 0, 1, 0, 1, 1])
        >>> scaler.predict_proba([-5.0, 5.0])[:, 1].round(3)
        array([0.333, 0.667])
    """

    fitted = ("values_", "edges_")
    edges_: Tensor
    values_: Tensor

    def __init__(self, n_bins: int = 15, strategy: Strategy = "uniform", floor: float | None = None) -> None:
        super().__init__()
        check_options(n_bins, strategy=strategy)
        self.n_bins, self.strategy, self.floor = n_bins, strategy, check_floor(floor)

    def _fit_columns(self, scores: Tensor, hits: Tensor) -> None:
        p = scores.sigmoid().t().contiguous()
        if self.strategy == "uniform":
            edges = inner_edges(self.n_bins, p.dtype).to(p.device).repeat(len(p), 1)
        else:
            edges = torch.stack([quantile_edges(row, self.n_bins) for row in p])
        bins = torch.searchsorted(edges, p)
        count = torch.zeros(len(p), self.n_bins, dtype=p.dtype, device=p.device)
        samples = count.scatter_add(1, bins, torch.ones_like(p))
        positive = count.scatter_add(1, bins, hits.t().contiguous())
        ends = torch.nn.functional.pad(edges, (1, 0), value=0.0), torch.nn.functional.pad(edges, (0, 1), value=1.0)
        values = torch.where(samples > 0, positive / samples.clamp(min=1), (ends[0] + ends[1]) / 2)
        floor = laplace(self.floor, len(hits))
        self._set_fitted(edges_=edges, values_=values.clamp(floor, 1 - floor))

    def _columns(self, scores: Tensor) -> Tensor:
        p = scores.sigmoid().t().contiguous()
        bins = torch.searchsorted(self.edges_.to(p.dtype), p)
        return self.values_.to(p.dtype).gather(1, bins).t()
