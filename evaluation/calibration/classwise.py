"""Class-wise calibration error: that of each class's probability, averaged over the classes.

With the probability of class ``k`` in bin ``b`` compared with the share of samples of class ``k`` there::

    error_k = calibration error of p_k as the probability of [label = k]      (norm l1, l2 or max, as for one class)
    class-wise error = (1/K) * sum_k error_k

References: Kull et al., "Beyond temperature scaling: obtaining well-calibrated multiclass probabilities with Dirichlet
calibration" (NeurIPS 2019); Nixon et al., "Measuring calibration in deep learning" (CVPR workshops 2019), who call the
l1 form static calibration error.
"""

import numpy.typing as npt
import torch
from torch import Tensor

from .bins import edges_and_sums, error_from_sums, inner_edges, uniform_bins
from .chunks import accumulation_dtype, sum_over
from .inputs import Norm, Strategy, answer, check_options, prepare


def probabilities(preds: Tensor, from_logits: bool) -> Tensor:
    """Return rows of probabilities: softmax in float64, or what is given, 16-bit types as float32."""
    if from_logits:
        return preds.to(accumulation_dtype(preds.device)).softmax(dim=1)
    return preds if preds.dtype == torch.float64 else preds.float()


def check_rows(preds: Tensor, name: str) -> None:
    """Raise a ValueError for the predictions ``[N]`` of a binary classifier."""
    if preds.ndim != 2:
        raise ValueError(f"{name} needs a column for each class [N, K], got {list(preds.shape)}")


def classwise_sums(preds: Tensor, target: Tensor, n_bins: int, from_logits: bool) -> Tensor:
    """Return ``[3, K, n_bins]``: samples, sum of ``p_k``, samples of class ``k`` in each equal-width bin of ``p_k``."""
    classes, work = preds.shape[1], accumulation_dtype(preds.device)
    first = torch.arange(classes, device=preds.device) * n_bins
    edges = inner_edges(n_bins, probabilities(preds[:1], from_logits).dtype).to(preds.device)

    def sums(piece: Tensor, labels: Tensor) -> Tensor:
        p = probabilities(piece, from_logits)
        index = uniform_bins(p, edges) + first
        flat, p = index.flatten(), p.to(work).flatten()
        found = torch.zeros(3, classes * n_bins, dtype=work, device=preds.device)
        found[0].scatter_add_(0, flat, torch.ones_like(p))
        found[1].scatter_add_(0, flat, p)
        own = index.gather(1, labels[:, None]).squeeze(1)
        found[2].scatter_add_(0, own, torch.ones_like(own, dtype=work))
        return found

    return sum_over(sums, preds, target).view(3, classes, n_bins)


def mean_over_classes(sums: Tensor, norm: Norm) -> Tensor:
    """Return the class-wise error of the sums ``[3, K, n_bins]``."""
    return torch.stack([error_from_sums(of_class, norm) for of_class in sums.unbind(dim=1)]).mean()


def classwise_calibration_error(
    preds: Tensor | npt.ArrayLike,
    target: Tensor | npt.ArrayLike,
    *,
    n_bins: int = 15,
    norm: Norm = "l1",
    strategy: Strategy = "uniform",
    from_logits: bool = False,
) -> Tensor | float:
    """Compute the calibration error of all K probabilities, not of the largest only.

    Args:
        preds: ``[N, K]`` probabilities (or logits), see :func:`evaluation.calibration_error`.
        target: ``[N]`` integer labels.
        n_bins: Number of bins of each class.
        norm: ``"l1"``, ``"l2"`` or ``"max"``, within a class.
        strategy: ``"uniform"`` or ``"quantile"``: equal width, or equal numbers of samples for each class.
        from_logits: ``preds`` are logits.

    Returns:
        The mean of the classes' errors, a float64 scalar tensor for a tensor, else a float.

    Raises:
        ValueError: As :func:`evaluation.calibration_error`; for ``preds`` ``[N]``.

    Example:
        >>> round(classwise_calibration_error([[0.8, 0.2], [0.6, 0.4]], [0, 1], n_bins=1), 6)
        0.2
    """
    check_options(n_bins, norm, strategy)
    scores, labels = prepare(preds, target, from_logits)
    check_rows(scores, "classwise_calibration_error")
    if strategy == "uniform":
        return answer(mean_over_classes(classwise_sums(scores, labels, n_bins, from_logits), norm), preds)
    p = probabilities(scores, from_logits)
    pairs = ((p[:, k].contiguous(), (labels == k).long()) for k in range(p.shape[1]))
    sums = [edges_and_sums(column, own, n_bins, strategy, False)[1] for column, own in pairs]
    return answer(mean_over_classes(torch.stack(sums, dim=1), norm), preds)
