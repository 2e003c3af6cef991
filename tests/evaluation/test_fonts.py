"""Class names in any script, with markup and control characters, in figures."""

import warnings

import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from evaluation import fonts
from evaluation.figures import confusion_matrix_figure, mistakes_figure, to_rgb
from evaluation.fonts import draw_literally, families, legible

NAMES = ["$x_1$", "cost $5", "кот", "قط", "a\nb\x1b[2J", "<b>&\"'", "e\u0301\ufe0f", "  "]


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def only(monkeypatch):
    """Return a function that leaves only fonts of these families installed."""

    def install(*families):
        found = [one for one in font_manager.fontManager.ttflist if one.name in families]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", found)
        fonts._font_with.cache_clear()

    yield install
    fonts._font_with.cache_clear()


def test_names_that_the_default_font_has_stay():
    assert legible(NAMES) == ["$x_1$", "cost $5", "кот", "قط", "a b[2J", "<b>&\"'", "e\u0301", "7"]


def test_a_font_that_has_the_characters_is_chosen(only):
    script = "\N{MATHEMATICAL SCRIPT CAPITAL A}"  # which DejaVu Sans lacks, and STIX, which matplotlib brings, has
    only("DejaVu Sans", "STIXGeneral")
    assert families(script) == ["DejaVu Sans", "STIXGeneral"]
    assert legible([script, "\U000f0000"]) == [script, "1"]
    figure = confusion_matrix_figure([[1, 2], [3, 4]], [script, "dog"])
    to_rgb(figure)
    written = next(text for text in figure.axes[0].texts if text.get_text() == script)
    assert written.get_fontfamily() == ["DejaVu Sans", "STIXGeneral"]


def test_a_name_that_no_font_has_is_the_number_of_its_class(only):
    only("DejaVu Sans")
    names = ["dog", "\u732b", "\U000f0000"]
    figure = confusion_matrix_figure([[1, 2, 3]] * 3, names)
    to_rgb(figure)
    assert {"dog", "1", "2"} <= {text.get_text() for text in figure.axes[0].texts}
    figure = mistakes_figure([[[[0.5]]]], [1], [2], [0.9], names)
    to_rgb(figure)
    assert {"1", "2 90%"} <= {text.get_text() for text in figure.axes[0].texts}


def test_all_texts_of_a_figure_are_drawn_as_they_are():
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.set_title("$\\frac{$ \U000f0000\x07")
    axes.set_yticks(range(len(NAMES)), NAMES)
    axes.plot([1], label="a_$1$")
    axes.legend()
    draw_literally(figure)
    to_rgb(figure)
    assert axes.get_title() == "$\\frac{$ □"
    assert [text.get_text() for text in axes.get_yticklabels()][:3] == NAMES[:3]
