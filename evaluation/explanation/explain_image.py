"""An eli5 explanation of a network's prediction for one image: a map of the places that speak for a class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..calibration.inputs import as_tensor
from .faithfulness import faithfulness
from .feature_weights import Top
from .grad_cam import NoFeatureMaps, grad_cam
from .image import ImageExplanation, ImageMap, put_together
from .integrated_gradients import integrated_gradients
from .network import undisturbed
from .pictures import Channels, to_picture
from .targets import display_names, find_target, probabilities


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
