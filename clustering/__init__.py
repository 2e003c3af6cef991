"""Clustering: k-means for data of any size, and the Rand index as functions and as metrics.

`RandScore` and `AdjustedRandScore` are imported on first use, because torchmetrics takes as long to import as torch.
"""

from typing import TYPE_CHECKING, Any

from .kmeans import KMeans as KMeans
from .rand.scores import adjusted_rand_score as adjusted_rand_score
from .rand.scores import pair_confusion_matrix as pair_confusion_matrix
from .rand.scores import rand_score as rand_score

if TYPE_CHECKING:
    from .rand.metrics import AdjustedRandScore as AdjustedRandScore
    from .rand.metrics import RandScore as RandScore

__all__ = ["AdjustedRandScore", "KMeans", "RandScore", "adjusted_rand_score", "pair_confusion_matrix", "rand_score"]


def __getattr__(name: str) -> Any:
    if name not in ("RandScore", "AdjustedRandScore"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .rand import metrics

    return getattr(metrics, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
