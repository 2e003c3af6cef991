"""Figures of a classifier's mistakes: matplotlib figures that do not touch pyplot's global state."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .checks import Array, as_tensor
from .fonts import families, legible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

INK, RED = "#222222", "#c1272d"
_POINT = 1 / 72  # inches
_GLYPH = 0.62  # mean width of a character, in units of the font size


def to_rgb(figure: "Figure") -> npt.NDArray[np.uint8]:
    """Render a figure as uint8 `[height, width, 3]`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _axes_in_inches(figure: "Figure") -> "Axes":
    """Return invisible axes over the whole figure, in inches from its upper left corner.

    Texts and images are positioned in them directly: matplotlib's own ticks and labels take several times as long to
    draw, and these figures are drawn after each validation.
    """
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def _write(axes: "Axes", x: float, y: float, text: str, size: float, **style: Any) -> None:
    look: dict[str, Any] = {"fontsize": size, "ha": "center", "color": INK, "parse_math": False}
    if not text.isascii() and len(found := families(text)) > 1:
        look["fontfamily"] = found
    axes.text(x, y, text, **(look | style))


def confusion_matrix_figure(matrix: Array, classes: Sequence[str]) -> "Figure":
    """Draw a confusion matrix, each row coloured by the share of its class.

    Colours follow the square root of the share, so that 1% differs visibly from none. The counts are written into the
    cells for up to 20 classes.

    Args:
        matrix: `[K, K]` counts; row = true class, column = predicted class.
        classes: `K` names; long ones are shortened. One that no installed font can show is replaced by its number.

    Returns:
        The figure, about 5 inches wide for 10 classes and 12 for 100.

    Raises:
        ValueError: If the matrix is not square, has negative values, or not as many rows as there are names.

    Example:
        >>> figure = confusion_matrix_figure([[8, 2], [1, 9]], ["cat", "dog"])
        >>> figure.axes[0].texts[-1].get_text()
        '85.00% right (17 of 20)'
    """
    from matplotlib.colors import PowerNorm

    counts = as_tensor(matrix).cpu().numpy()
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise ValueError(f"matrix must be square [K, K], found {list(counts.shape)}")
    if len(classes) != len(counts):
        raise ValueError(f"classes must name each of the {len(counts)} rows of matrix, found {len(classes)} names")
    if counts.min() < 0:
        raise ValueError(f"matrix must hold counts, found {counts.min()}")
    size = len(counts)
    cell = float(np.clip(5 / size, 0.42, 0.8)) if size <= 20 else 10 / size
    font = float(np.clip(cell / _POINT * 0.8, 5.5, 9.0))
    names = [_short(name, 16) for name in legible(classes)]
    longest = max(map(len, names)) * font * _GLYPH * _POINT
    side, left, top = cell * size, longest + 0.5, 0.5
    upright = longest <= cell  # otherwise the names below the matrix are rotated
    right, bottom = (0.25 if size <= 20 else 1.0), 0.4 + (font * _POINT if upright else longest)
    figure = new_figure(left + max(side + right, 2.4), top + side + bottom)  # 2.4: width of the line above the matrix
    axes = _axes_in_inches(figure)

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    extent = (left, left + side, top + side, top)
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    axes.imshow(shares, cmap="Blues", norm=norm, extent=extent, interpolation="nearest", aspect="auto")
    centres = (np.arange(size) + 0.5) * cell
    every = math.ceil(6.0 * _POINT / cell)  # if there is no room for all names, write every second, third, ...
    for name, centre in list(zip(names, centres, strict=True))[::every]:
        _write(axes, left - 0.06, top + centre, name, font, ha="right", va="center_baseline")
        _write(axes, left + centre, top + side + 0.06, name, font, va="top", rotation=0 if upright else 90)
    _write(axes, 0.2, top + side / 2, "true class", 10, rotation=90, va="center")
    _write(axes, left + side / 2, top + side + bottom - 0.1, "predicted class", 10)
    if size <= 20:
        lines = np.arange(1, size) * cell
        axes.hlines(top + lines, left, left + side, color="#e4e4e4", linewidth=0.6)
        axes.vlines(left + lines, top, top + side, color="#e4e4e4", linewidth=0.6)
        for row, column in zip(*np.nonzero(counts), strict=True):
            text = str(counts[row, column])
            text_size = min(font, 0.9 * cell / (_POINT * _GLYPH * len(text)))
            colour = "white" if shares[row, column] > 0.3 else INK
            position = left + centres[column], top + centres[row]
            _write(axes, *position, text, text_size, color=colour, va="center_baseline")
    else:
        _draw_scale(axes, left + side + 0.15, top, side, norm)
    correct, total = counts.trace(), counts.sum()
    accuracy = f"{correct / total:.2%} right ({correct:,} of {total:,})" if total else "no example"
    _write(axes, left, top - 0.15, accuracy, 10, ha="left")
    return figure


def _draw_scale(axes: "Axes", left: float, top: float, side: float, norm: "PowerNorm") -> None:
    """Draw the colour scale from 0 (bottom) to 1."""
    from matplotlib.colors import Normalize

    ramp = np.linspace(1, 0, 256)[:, None]
    axes.imshow(ramp, cmap="Blues", norm=Normalize(0, 1), extent=(left, left + 0.14, top + side, top), aspect="auto")
    for share in (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1):
        height = top + side * (1 - float(norm(share)))
        _write(axes, left + 0.2, height, f"{share:.0%}", 7, ha="left", va="center_baseline")
    _write(axes, left + 0.62, top + side / 2, "share of the true class", 8, rotation=90, va="center")


def mistakes_figure(
    images: Array,
    labels: Array,
    predictions: Array,
    confidences: Array,
    classes: Sequence[str],
) -> "Figure":
    """Draw a grid of wrongly classified images, the true class above each and the predicted one below it.

    Args:
        images: `[M, C, H, W]` in [0, 1]; three channels are red, green, blue, any other number of channels is averaged
            to grey. `M` may be 0.
        labels: `[M]` true classes.
        predictions: `[M]` predicted classes.
        confidences: `[M]` probabilities of the predicted classes.
        classes: A name for each class, as in `confusion_matrix_figure`.

    Returns:
        The figure, the images in the given order, row by row, on a nearly square grid.

    Raises:
        ValueError: If the shapes do not match.

    Example:
        >>> figure = mistakes_figure(np.zeros((2, 1, 8, 8)), [0, 1], [1, 0], [0.9, 0.8], ["cat", "dog"])
        >>> [text.get_text() for text in figure.axes[0].texts[1:3]]
        ['cat', 'dog 90%']
    """
    from matplotlib.colors import Normalize

    arrays = (as_tensor(values).cpu().numpy() for values in (images, labels, predictions, confidences))
    pictures, true, predicted, confidence = arrays
    if pictures.ndim != 4 or not len(pictures) == len(true) == len(predicted) == len(confidence):
        shapes = ", ".join(str(list(values.shape)) for values in (pictures, true, predicted, confidence))
        raise ValueError(f"images [M, C, H, W], labels, predictions and confidences [M] must match, found {shapes}")
    if len(pictures) == 0:
        figure = new_figure(4.0, 1.0)
        figure.text(0.5, 0.5, "No mistake", ha="center", va="center", fontsize=12, color=INK)
        return figure
    classes = legible(classes)
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures.shape[2:]
    tile_x, tile_y = 1.15 * min(1.0, width / height), 1.15 * min(1.0, height / width)
    pitch_x, pitch_y, top = max(tile_x, 1.0) + 0.14, tile_y + 0.46, 0.4
    figure = new_figure(max(columns * pitch_x + 0.14, 3.7), rows * pitch_y + top + 0.1)
    axes = _axes_in_inches(figure)
    _write(axes, 0.14, 0.24, "Worst mistakes: true class above, prediction below", 9, ha="left")
    smooth = "nearest" if max(height, width) < 64 else "antialiased"
    letters = int(pitch_x / (8 * _GLYPH * _POINT))
    for index, picture in enumerate(pictures):
        x = 0.14 + (index % columns) * pitch_x + (pitch_x - 0.14 - tile_x) / 2
        y = top + (index // columns) * pitch_y + 0.18
        extent = (x, x + tile_x, y + tile_y, y)
        grey = Normalize(0, 1)
        axes.imshow(_pixels(picture), cmap="gray", norm=grey, extent=extent, interpolation=smooth, aspect="auto")
        above, below = classes[int(true[index])], classes[int(predicted[index])]
        share = f" {float(confidence[index]):.0%}"
        _write(axes, x + tile_x / 2, y - 0.04, _short(above, letters), 8)
        _write(axes, x + tile_x / 2, y + tile_y + 0.14, _short(below, letters - len(share)) + share, 8, color=RED)
    return figure


def _pixels(picture: npt.NDArray) -> npt.NDArray:
    """Convert `[C, H, W]` to imshow's `[H, W, 3]`, or `[H, W]` for grey."""
    pixels = np.clip(np.nan_to_num(picture.astype(np.float32)), 0, 1)
    return pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels.mean(axis=0)
