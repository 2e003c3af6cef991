"""A map of an image in the form in which eli5's text, HTML and image formatters all take it.

An eli5 explanation of a network's prediction for one image: a map of the places that speak for a class.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from eli5.base import DocWeightedSpans, Explanation, TargetExplanation, WeightedSpans
from eli5.formatters.image import format_as_image
from PIL import Image
from torch import Tensor, nn

from ..calibration.inputs import as_tensor
from .faithfulness import Faithfulness, faithfulness
from .grad_cam import NoFeatureMaps, grad_cam
from .integrated_gradients import integrated_gradients
from .network import display_names, find_target, probabilities, undisturbed
from .permutation import cell_name
from .pictures import Channels, to_heatmap, to_img, to_picture
from .row import Top, weights_of


class ImageMap(NamedTuple):
    """How much each place of an image speaks for a class.

    Attributes:
        values: float64 ``[h, w]``.
        method: How it was made.
        layer: Name of the layer that was mapped, if one was.
        difference: What integrated gradients lack, if it was them.
    """

    values: npt.NDArray[np.float64]
    method: str
    layer: str | None
    difference: float | None


class ImageExplanation(Explanation):
    """An eli5 explanation of an image, which eli5's text, HTML and image formatters can all format.

    Beside the heatmap its target has, as feature weights, the strongest places, which the text formatter insists on,
    and as its document the picture itself, which the HTML formatter shows.

    Attributes:
        map: float64 ``[h, w]``, the map before it was scaled to the heatmap's [0, 1].
        layer: Name of the layer that is mapped; None for integrated gradients of the pixels.
        difference: For integrated gradients, the sum of all contributions minus what they explain; else None.
        faithfulness: What :func:`evaluation.explanation.faithfulness.faithfulness` says, if it was asked for.
    """

    map: npt.NDArray[np.float64]
    layer: str | None
    difference: float | None
    faithfulness: Faithfulness | None

    def __repr__(self) -> str:
        target = self.targets[0].target
        return f"{type(self).__name__}({self.estimator}, target={target!r}, method={self.method!r})"


def put_together(
    found: ImageMap,
    picture: Image.Image,
    size: tuple[int, ...],
    target: Any,
    proba: float,
    score: float,
    relu: bool,
    top: Top,
    measured: Faithfulness | None,
) -> ImageExplanation:
    """Build the explanation of a map.

    Args:
        found: The map.
        picture: The image.
        size: ``(H, W)`` of the image as the network gets it.
        target: The class's name.
        proba: Its probability.
        score: Its score.
        relu: Whether only what speaks for the class counts.
        top: Name so many places.
        measured: The map's faithfulness.
    """
    explained = TargetExplanation(target, proba=proba, score=score, heatmap=to_heatmap(found.values, signed=not relu))
    explained.feature_weights = _places(found, size, top)
    explanation = ImageExplanation(
        estimator="",
        method=found.method,
        description=_description(found, relu, measured),
        targets=[explained],
        image=picture,
    )
    shown = to_img(format_as_image(explanation), f"{found.method} for {target}")
    # eli5 writes the name of a document into the page as it is, and the document itself escaped.
    caption = f"{shown}<br>{escape(str(target))}"
    document = DocWeightedSpans(f"{found.method}, probability {proba:.3f}", [], vec_name=caption)
    explained.weighted_spans = WeightedSpans([document])
    explanation.map, explanation.layer = found.values, found.layer
    explanation.difference, explanation.faithfulness = found.difference, measured
    return explanation


def _places(found: ImageMap, size: tuple[int, ...], top: Top) -> Any:
    """The map's places as named features."""
    rows, columns = (
        [slice(i * pixels // count, max((i + 1) * pixels // count, i * pixels // count + 1)) for i in range(count)]
        for pixels, count in zip(size, found.values.shape, strict=True)
    )
    names = [cell_name(row, column) for row in rows for column in columns]
    greatest = np.abs(found.values).max() if found.layer is not None else 1.0
    return weights_of(names, found.values.flatten() / (greatest or 1.0), None, top)


def _description(found: ImageMap, relu: bool, measured: Faithfulness | None) -> str:
    what = "Places that speak for the class" + ("" if relu else " (positive) and against it (negative)")
    scale = "1 is the strongest" if found.layer is not None else "what each pixel adds to the score"
    lines = [f"{what}; {scale}."]
    if (found.values == found.values.flat[0]).all():
        lines.append("The map is constant: it tells no place from another.")
    if found.difference is not None:
        lines.append(f"All contributions sum to the score minus the baseline's, up to {found.difference:+.2e}.")
    if measured is not None:
        lines += [
            f"Deletion AUC {measured.deletion:.3f}, in random order {measured.random_deletion:.3f} (lower better).",
            f"Insertion AUC {measured.insertion:.3f}, in random order {measured.random_insertion:.3f} (higher better).",
            f"Correlation with the map of re-initialised weights: {measured.correlation_text} (near 0 better).",
        ]
    return "\n".join(lines)


def explain_image(
    model: nn.Module,
    image: Tensor | npt.ArrayLike,
    *,
    targets: Sequence[Any] | None = None,
    target_names: Sequence[Any] | Mapping[Any, Any] | None = None,
    layer: str | nn.Module | None = None,
    relu: bool = True,
    mean: Channels = None,
    std: Channels = None,
    baseline: Tensor | npt.ArrayLike | float = 0.0,
    top: Top = 10,
    max_steps: int = 1024,
    measure: bool = True,
    seed: int = 0,
) -> ImageExplanation:
    """Explain the prediction for an image by a map of the places that speak for a class.

    The map is Grad-CAM (:func:`evaluation.explanation.grad_cam.grad_cam`), in a transformer on the grid of its tokens;
    for a network that has neither, such as an MLP, the integrated gradients of the pixels, summed over the channels.
    This is what ``eli5.explain_prediction(model, image)`` calls; ``eli5.format_as_text``, ``eli5.format_as_html`` (with
    the picture as PNG), ``eli5.format_as_image`` and ``eli5.show_prediction`` take what it returns.

    Args:
        model: Maps ``[N, C, H, W]`` to logits ``[N, K]`` or ``[N]``. It is left as it was.
        image: ``[C, H, W]`` or ``[1, C, H, W]``, floating point, normalised as the network was trained.
        targets: One class, by index or by name, in a list; by default that of the highest score.
        target_names: ``K`` names, or new names by index.
        layer: The layer to map, by name or as the module.
        relu: Leave out what speaks against the class. Otherwise the heatmap's 0 is the place that speaks most against
            it.
        mean: What was subtracted from each channel, to undo it in the picture.
        std: What each channel was divided by. Without both, the picture is scaled from its least to its greatest value.
        baseline: A number or an image from which integrated gradients are counted.
        top: Name so many places, or ``(positive, negative)`` ones.
        max_steps: Greatest number of points of integrated gradients.
        measure: Measure the map's faithfulness too, which takes some 200 evaluations of the network.
        seed: Of these measurements.

    Returns:
        The explanation.

    Raises:
        ValueError: If an argument has a bad value; if the network cannot be explained so.
    """
    pixels = as_tensor(image)
    pixels = pixels[0] if pixels.ndim == 4 and len(pixels) == 1 else pixels
    if pixels.ndim != 3 or pixels.numel() == 0:
        shape = list(pixels.shape)
        raise ValueError(f"give one image [C, H, W] or [1, C, H, W], got shape {shape}: explain the images one by one")
    if not pixels.is_floating_point():
        raise ValueError(f"the image must be normalised as the network was trained, got {pixels.dtype} values")
    with undisturbed(model) as network, torch.no_grad():
        scores = network.scores(network.place(pixels[None])).cpu().double()[0]
    shown = display_names(len(scores), target_names, is_regression=False)
    if targets is not None and len(targets) != 1:
        raise ValueError(f"targets must hold one target, since eli5 shows one map a picture, got {len(targets)}")
    index = int(scores.argmax()) if targets is None else find_target(targets[0], shown)
    options: dict[str, Any] = {"layer": layer, "relu": relu, "baseline": baseline, "max_steps": max_steps}
    found = _explain(model, pixels, index, **options)
    if not np.isfinite(found.values).all():
        raise ValueError("the map must be finite, got NaN or inf")
    measured = None
    if measure:
        fill = float(baseline) if isinstance(baseline, int | float) else 0.0

        def again(other: nn.Module) -> Tensor:
            # The same layer, also where the one that is chosen by itself would be another.
            return torch.from_numpy(_explain(other, pixels, index, **(options | {"layer": found.layer})).values)

        measured = faithfulness(model, pixels, found.values, again, index, fill=fill, seed=seed)
    explanation = put_together(
        found,
        to_picture(pixels, mean, std),
        tuple(pixels.shape[1:]),
        shown[index],
        float(probabilities(scores)[index]),
        float(scores[index]),
        relu,
        top,
        measured,
    )
    explanation.estimator = type(model).__name__
    return explanation


def _explain(
    model: nn.Module,
    pixels: Tensor,
    index: int,
    layer: str | nn.Module | None,
    relu: bool,
    baseline: Tensor | npt.ArrayLike | float,
    max_steps: int,
) -> ImageMap:
    try:
        cam = grad_cam(model, pixels[None], index, layer=layer, relu=relu)
    except NoFeatureMaps:
        found = integrated_gradients(model, pixels[None], index, baseline=baseline, max_steps=max_steps)
        values = found.values[0].sum(dim=0)
        kept = values.clamp(min=0) if relu else values
        return ImageMap(kept.numpy(), "integrated gradients of the pixels", None, float(found.difference[0]))
    kind = "Grad-CAM of tokens" if cam.tokens else "Grad-CAM"
    return ImageMap(cam.values[0].numpy(), f"{kind} at {cam.layer}", cam.layer, None)
