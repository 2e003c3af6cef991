"""eli5 for PyTorch: importing this module lets `eli5` explain any `torch.nn.Module`.

    import eli5
    import evaluation.explanation

    eli5.explain_prediction(model, image, mean=mean, std=std)  # Grad-CAM
    eli5.explain_prediction(model, row, feature_names=names)   # signed contributions, by integrated gradients
    eli5.explain_weights(model, data=loader)                   # permutation importance

The same holds for `eli5.show_prediction`, `eli5.show_weights`, the formatters and the data-frame functions.
"""

from typing import Any

import eli5
from eli5.base import Explanation
from torch import nn

from ..checks import Array, as_tensor
from .image import ImageExplanation as ImageExplanation
from .image import explain_image as explain_image
from .network import check_inputs
from .row import RowExplanation as RowExplanation
from .row import explain_row as explain_row
from .weights import explain_weights as explain_weights


def explain_prediction(model: nn.Module, doc: Array, **options: Any) -> Explanation:
    """Explain the prediction for an image (`explain_image`) or a row (`explain_row`).

    Args:
        model: Any network.
        doc: An image `[C, H, W]` or `[1, C, H, W]`, or a row `[D]` or `[1, D]`.
        options: Those of the function for images or for rows.

    Raises:
        ValueError: If an argument has a bad value, or there is more than one example.
        TypeError: If the function has no such option.

    Example:
        >>> import torch
        >>> net = nn.Linear(2, 1)
        >>> _ = net.weight.data.copy_(torch.tensor([[2.0, -1.0]])), net.bias.data.fill_(0.5)
        >>> explanation = eli5.explain_prediction(net, [3.0, 4.0], feature_names=["size", "age"])
        >>> [(feature.feature, feature.weight) for feature in explanation.targets[0].feature_weights.pos]
        [('size', 6.0), ('<BIAS>', 0.5)]
    """
    check_inputs(model)  # before several inputs are taken for one array
    explain = explain_image if as_tensor(doc).ndim in (3, 4) else explain_row
    return explain(model, doc, **options)


eli5.explain_prediction.register(nn.Module)(explain_prediction)
eli5.explain_weights.register(nn.Module)(explain_weights)
