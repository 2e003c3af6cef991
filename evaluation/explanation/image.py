"""An eli5 explanation of a network's prediction for one image: a heatmap of the regions that support a class.

It has the form that eli5's text, HTML and image formatters all accept.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from eli5.base import DocWeightedSpans, Explanation, TargetExplanation, WeightedSpans
from eli5.formatters.image import format_as_image
from torch import Tensor, nn

from ..checks import Array, as_tensor
from .faithfulness import Faithfulness, faithfulness
from .grad_cam import NoFeatureMaps, grad_cam
from .integrated_gradients import integrated_gradients
from .network import display_names, eval_mode, find_target, probabilities
from .permutation import cell_name
from .pictures import Channels, to_heatmap, to_img, to_picture
from .row import Top, weights_of


class ImageExplanation(Explanation):
    """An eli5 explanation of an image, which eli5's text, HTML and image formatters can all format.

    In addition to the heatmap its target has the strongest regions as feature weights, which the text formatter
    requires, and the picture as its document, which the HTML formatter shows.

    Attributes:
        map: float64 `[h, w]`, the map before it was scaled to the heatmap's [0, 1].
        layer: Name of the layer that is mapped; None for integrated gradients of the pixels.
        difference: For integrated gradients, their error of completeness; otherwise None.
        faithfulness: The result of `evaluation.explanation.faithfulness`, if it was measured.
    """

    map: npt.NDArray[np.float64]
    layer: str | None
    difference: float | None
    faithfulness: Faithfulness | None

    def __repr__(self) -> str:
        target = self.targets[0].target
        return f"{type(self).__name__}({self.estimator}, target={target!r}, method={self.method!r})"


def explain_image(
    model: nn.Module,
    image: Array,
    *,
    targets: Sequence[Any] | None = None,
    target_names: Sequence[Any] | Mapping[Any, Any] | None = None,
    layer: str | nn.Module | None = None,
    relu: bool = True,
    mean: Channels = None,
    std: Channels = None,
    baseline: Array = 0.0,
    top: Top = 10,
    max_steps: int = 1024,
    measure: bool = True,
    seed: int = 0,
) -> ImageExplanation:
    """Explain the prediction for an image with a heatmap of the regions that support a class.

    The map is Grad-CAM (`evaluation.explanation.grad_cam`), in a transformer on the grid of its tokens; for a network
    that has neither, such as an MLP, the integrated gradients of the pixels, summed over the channels.
    `eli5.explain_prediction(model, image)` calls this function; `eli5.format_as_text`, `eli5.format_as_html` (with the
    picture as PNG), `eli5.format_as_image` and `eli5.show_prediction` accept its result.

    Args:
        model: Maps `[N, C, H, W]` to logits `[N, K]` or `[N]`. It is left unchanged.
        image: `[C, H, W]` or `[1, C, H, W]`, floating point, normalised as in training.
        targets: A list of one class, by index or by name; by default that of the highest score.
        target_names: `K` names, or new names by index.
        layer: The layer to map, by name or as the module.
        relu: Whether to set regions that oppose the class to 0; otherwise the heatmap is 0 at the most opposing one.
        mean: Mean that was subtracted from each channel, undone in the picture.
        std: Divisor of each channel. Without both, the picture is scaled from its minimum to its maximum.
        baseline: The number or image at which integrated gradients start.
        top: Number of regions to name, or a pair `(positive, negative)`.
        max_steps: Maximum number of points of integrated gradients.
        measure: Whether to measure the map's faithfulness, with about 200 evaluations of the network.
        seed: Random seed of these measurements.

    Raises:
        ValueError: If an argument has a bad value, or this network cannot be explained.
    """
    pixels = _one_image(image)
    with eval_mode(model) as network, torch.no_grad():
        scores = network.scores(network.place(pixels[None])).cpu().double()[0]
    names = display_names(len(scores), target_names, is_regression=False)
    if targets is not None and len(targets) != 1:
        raise ValueError(f"targets must hold one target, since eli5 shows one map per picture, found {len(targets)}")
    index = int(scores.argmax()) if targets is None else find_target(targets[0], names)
    explain = partial(_explain, pixels=pixels, index=index, relu=relu, baseline=baseline, max_steps=max_steps)
    image_map = explain(model, layer)
    if not np.isfinite(image_map.values).all():
        raise ValueError("the map must be finite, found NaN or inf")
    measured = None
    if measure:
        fill = float(baseline) if isinstance(baseline, int | float) else 0.0

        def explain_again(other: nn.Module) -> Tensor:
            # The same layer, even if another one would be chosen for the other network.
            return torch.from_numpy(explain(other, image_map.layer).values)

        measured = faithfulness(model, pixels, image_map.values, explain_again, index, fill=fill, seed=seed)
    target = TargetExplanation(names[index], proba=float(probabilities(scores)[index]), score=float(scores[index]))
    target.heatmap = to_heatmap(image_map.values, signed=not relu)
    target.feature_weights = _regions(image_map, tuple(pixels.shape[1:]), top)
    explanation = ImageExplanation(
        estimator=type(model).__name__,
        method=image_map.method,
        description=_description(image_map, relu, measured),
        targets=[target],
        image=to_picture(pixels, mean, std),
    )
    _add_document(explanation)
    explanation.map, explanation.layer = image_map.values, image_map.layer
    explanation.difference, explanation.faithfulness = image_map.difference, measured
    return explanation


def _one_image(image: Array) -> Tensor:
    pixels = as_tensor(image)
    pixels = pixels[0] if pixels.ndim == 4 and len(pixels) == 1 else pixels
    if pixels.ndim != 3 or pixels.numel() == 0:
        wanted = "image must be [C, H, W] or [1, C, H, W]"
        raise ValueError(f"{wanted}, found shape {list(pixels.shape)}: explain the images one by one")
    if not pixels.is_floating_point():
        raise ValueError(f"image must be normalised as in training, found {pixels.dtype} values")
    return pixels


class _ImageMap(NamedTuple):
    """How much each region `[h, w]` supports a class, and how that was computed."""

    values: npt.NDArray[np.float64]
    method: str
    layer: str | None
    difference: float | None


def _explain(
    model: nn.Module,
    layer: str | nn.Module | None,
    pixels: Tensor,
    index: int,
    relu: bool,
    baseline: Array,
    max_steps: int,
) -> _ImageMap:
    try:
        cam = grad_cam(model, pixels[None], index, layer=layer, relu=relu)
    except NoFeatureMaps:
        attribution = integrated_gradients(model, pixels[None], index, baseline=baseline, max_steps=max_steps)
        summed = attribution.values[0].sum(dim=0)
        values = (summed.clamp(min=0) if relu else summed).numpy()
        return _ImageMap(values, "integrated gradients of the pixels", None, float(attribution.difference[0]))
    kind = "Grad-CAM of tokens" if cam.tokens else "Grad-CAM"
    return _ImageMap(cam.values[0].numpy(), f"{kind} at {cam.layer}", cam.layer, None)


def _regions(image_map: _ImageMap, size: tuple[int, ...], top: Top) -> Any:
    """Return the regions of the map as named features."""
    rows, columns = (
        [slice(i * pixels // count, max((i + 1) * pixels // count, i * pixels // count + 1)) for i in range(count)]
        for pixels, count in zip(size, image_map.values.shape, strict=True)
    )
    names = [cell_name(row, column) for row in rows for column in columns]
    greatest = np.abs(image_map.values).max() if image_map.layer is not None else 1.0
    return weights_of(names, image_map.values.flatten() / (greatest or 1.0), None, top)


def _add_document(explanation: ImageExplanation) -> None:
    """Add the picture as the target's document, for the HTML formatter."""
    (target,) = explanation.targets
    picture = to_img(format_as_image(explanation), f"{explanation.method} for {target.target}")
    # eli5 writes the name of a document into the page unescaped, and the document itself escaped.
    caption = f"{picture}<br>{escape(str(target.target))}"
    document = DocWeightedSpans(f"{explanation.method}, probability {target.proba:.3f}", [], vec_name=caption)
    target.weighted_spans = WeightedSpans([document])


def _description(image_map: _ImageMap, relu: bool, measured: Faithfulness | None) -> str:
    subject = "Regions that support the class" + ("" if relu else " (positive) or oppose it (negative)")
    scale = "1 is the strongest" if image_map.layer is not None else "contribution of each pixel to the score"
    lines = [f"{subject}; {scale}."]
    if (image_map.values == image_map.values.flat[0]).all():
        lines.append("The map is constant: it does not distinguish any region.")
    if image_map.difference is not None:
        lines.append(f"All contributions sum to the score minus the baseline's, up to {image_map.difference:+.2e}.")
    if measured is not None:
        lines += [
            f"Deletion AUC {measured.deletion:.3f}, in random order {measured.random_deletion:.3f} (lower better).",
            f"Insertion AUC {measured.insertion:.3f}, in random order {measured.random_insertion:.3f} (higher better).",
            f"Correlation with the map of re-initialised weights: {measured.correlation_text} (near 0 better).",
        ]
    return "\n".join(lines)
