"""The figures of a classifier's mistakes: texts, colours, proportions."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg

from evaluation.figures import confusion_matrix_figure, mistakes_figure, to_rgb

CLASSES = [f"class {index}" for index in range(100)]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def boxes(figure):
    """The extent of each text, in pixels from the lower left corner, and the size of the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = {}
    for axes in figure.axes:
        for text in axes.texts:
            found[text.get_text()] = text.get_window_extent(canvas.get_renderer())
    return found, canvas.get_width_height()


def colour(figure, x, y):
    """The pixel at inches from the upper left corner."""
    return to_rgb(figure)[round(y * 100), round(x * 100)].astype(int)


def extent_of_first_image(figure):
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    return left, right, bottom, top


def test_confusion_matrix_shows_counts_and_accuracy():
    figure = confusion_matrix_figure(torch.tensor([[90, 10], [0, 300]]), ["cat", "dog"])
    assert {"90", "10", "300", "true class", "predicted class"} <= set(texts(figure))
    assert "0" not in texts(figure)  # an empty cell stays empty
    assert "97.50% right (390 of 400)" in texts(figure)
    assert texts(figure).count("cat") == texts(figure).count("dog") == 2


def test_confusion_matrix_rows_are_the_true_classes_and_set_the_colours():
    figure = confusion_matrix_figure(np.array([[5, 5], [0, 1000]]), ["cat", "dog"])
    left, right, bottom, top = extent_of_first_image(figure)
    width, height = (right - left) / 2, (bottom - top) / 2

    def cell(row, column):
        return colour(figure, left + (column + 0.1) * width, top + (row + 0.1) * height)

    assert (cell(0, 0) == cell(0, 1)).all()  # half of the row each
    assert cell(1, 1).sum() < cell(0, 0).sum() < cell(1, 0).sum()  # all of the row, half of it, nothing


@pytest.mark.parametrize("size", [1, 2, 3, 10, 20, 21, 100])
def test_confusion_matrix_text_stays_inside_the_figure(size):
    matrix = np.full((size, size), 7) + np.eye(size, dtype=int) * 12345
    found, (width, height) = boxes(confusion_matrix_figure(matrix, ["a long name of a class"] * size))
    for text, box in found.items():
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text


def test_confusion_matrix_of_many_classes_names_them_and_leaves_out_the_counts():
    figure = confusion_matrix_figure(np.eye(100, dtype=int) * 777, CLASSES)
    assert "777" not in texts(figure)
    assert all(texts(figure).count(name) == 2 for name in CLASSES)
    assert "50%" in texts(figure)  # a colour scale instead
    heights = [text.get_fontsize() for text in figure.axes[0].texts if text.get_text() in CLASSES]
    assert min(heights) >= 5.5
    thinned = confusion_matrix_figure(np.eye(600, dtype=int), [str(index) for index in range(600)])
    assert 40 < sum(text.get_fontsize() < 6 for text in thinned.axes[0].texts) / 2 < 150


def test_confusion_matrix_of_no_example():
    assert "no example" in texts(confusion_matrix_figure(torch.zeros(3, 3, dtype=torch.int64), "abc"))


@pytest.mark.parametrize(
    ("matrix", "classes", "words"),
    [
        (np.zeros((2, 3)), ["a", "b"], r"square \[K, K\], found \[2, 3\]"),
        (np.zeros((0, 0)), [], r"found \[0, 0\]"),
        (np.zeros((2, 2)), ["a"], "2 rows of matrix, found 1 names"),
        (-np.eye(2), ["a", "b"], "found -1"),
    ],
)
def test_confusion_matrix_refuses_bad_input(matrix, classes, words):
    with pytest.raises(ValueError, match=words):
        confusion_matrix_figure(matrix, classes)


def mistakes(count, shape=(3, 8, 8), classes=CLASSES):
    images = torch.rand(count, *shape)
    labels = torch.arange(count)
    return mistakes_figure(images, labels, labels + 1, torch.full((count,), 0.876), classes)


def test_mistakes_are_labelled_in_order():
    figure = mistakes(3)
    assert texts(figure)[1:] == ["class 0", "class 1 88%", "class 1", "class 2 88%", "class 2", "class 3 88%"]
    assert len(figure.axes[0].images) == 3


def test_mistakes_show_the_pixels():
    images = torch.zeros(2, 3, 8, 8)
    images[0, 0] = 1.0  # red
    images[1] = 0.5
    figure = mistakes_figure(images, [0, 1], [1, 0], [1.0, 1.0], ["a", "b"])
    middles = []
    for picture in figure.axes[0].images:
        left, right, bottom, top = picture.get_extent()
        middles.append(colour(figure, (left + right) / 2, (top + bottom) / 2).tolist())
    assert middles[0] == [255, 0, 0]
    assert middles[1] == pytest.approx([128] * 3, abs=1)


@pytest.mark.parametrize(("channels", "expected"), [(1, [51] * 3), (2, [102] * 3), (4, [102] * 3)])
def test_mistakes_of_other_channel_counts_are_grey(channels, expected):
    images = torch.full((1, channels, 8, 8), 0.6)
    images[:, 0] = 0.2
    images = images if channels < 4 else torch.full((1, 4, 8, 8), 0.4)
    figure = mistakes_figure(images, [0], [1], [1.0], ["a", "b"])
    left, right, bottom, top = extent_of_first_image(figure)
    assert colour(figure, (left + right) / 2, (top + bottom) / 2).tolist() == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 224, 224), (3, 30, 120), (3, 120, 30)])
@pytest.mark.parametrize("count", [1, 2, 5, 25, 26])
def test_mistakes_fit_the_figure_and_keep_their_proportions(count, shape):
    figure = mistakes(count, shape, classes=["a long name of a class"] * 100)
    found, (width, height) = boxes(figure)
    for box in found.values():
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
    assert len(figure.axes[0].images) == count
    for picture in figure.axes[0].images:
        left, right, bottom, top = picture.get_extent()
        assert (right - left) / (bottom - top) == pytest.approx(shape[2] / shape[1])
        assert bottom <= height / 100


def test_no_mistake_is_stated():
    figure = mistakes(0)
    assert texts(figure) == ["No mistake"]
    assert to_rgb(figure).min() < 100


def test_mistakes_of_shapes_that_do_not_match():
    with pytest.raises(ValueError, match=r"must match, found \[2, 1, 8, 8\], \[2\], \[1\], \[2\]"):
        mistakes_figure(torch.rand(2, 1, 8, 8), [0, 1], [0], [1.0, 1.0], CLASSES)
    with pytest.raises(ValueError, match="must match"):
        mistakes_figure(torch.rand(2, 8, 8), [0, 1], [0, 1], [1.0, 1.0], CLASSES)


def test_names_are_not_mathematics_and_long_ones_are_cut():
    names = ["$x_{", "a_b$c$^", "line\nbreak", "x" * 60]
    figure = confusion_matrix_figure(np.ones((4, 4), dtype=int), names)
    to_rgb(figure)
    assert {"$x_{", "a_b$c$^", "line break", "x" * 15 + "…"} <= set(texts(figure))
    figure = mistakes_figure(np.zeros((2, 1, 4, 4)), [0, 3], [3, 1], [1.0, 0.5], names)
    to_rgb(figure)
    assert "a_b$c$^ 50%" in texts(figure)


def test_pyplot_stays_untouched():
    backend = matplotlib.rcParams._get_backend_or_none()
    to_rgb(confusion_matrix_figure(np.eye(3, dtype=int), "abc"))
    to_rgb(mistakes(2))
    assert pyplot.get_fignums() == []
    assert matplotlib.rcParams._get_backend_or_none() == backend
