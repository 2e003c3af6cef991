"""A map of an image in the form in which eli5's text, HTML and image formatters all take it."""

from html import escape
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from eli5.base import DocWeightedSpans, Explanation, TargetExplanation, WeightedSpans
from eli5.formatters.image import format_as_image
from PIL import Image

from .cells import cell_name
from .faithfulness import Faithfulness
from .feature_weights import Top, weights_of
from .pictures import to_heatmap, to_img


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
