"""Names in any script, legible in matplotlib's figures."""

import functools
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNKNOWN = "\N{WHITE SQUARE}"
"""Stands for a character that no installed font has."""


def legible(names: Sequence[str]) -> list[str]:
    r"""Return the names of classes, in one line each; the class's number for a name that no installed font can show.

    >>> legible(["cat", "two\nlines", "\U000F0000"])
    ['cat', 'two lines', '2']
    """
    lines = [" ".join(_printable(str(name)).split()) for name in names]
    return [line if line and families(line) else str(number) for number, line in enumerate(lines)]


def families(text: str) -> list[str]:
    """Return the default font family, and another that has the text's other characters; `[]` if there is none."""
    default = _default_font()
    missing = frozenset(map(ord, text)) - _characters(default) - {ord("\n")}
    other = _font_with(missing) if missing else ""
    if other is None:
        return []
    return [_family(path) for path in (default, other) if path]


def draw_literally(figure: "Figure") -> None:
    """Show all texts of a figure as they are: no `$` starts a formula, and each text has fonts with its characters."""
    from matplotlib.text import Text

    for artist in figure.findobj(Text):
        assert isinstance(artist, Text)  # which findobj selects
        artist.set_parse_math(False)
        text = artist.get_text()
        if text.isascii() and text.replace("\n", "").isprintable():
            continue
        shown = "\n".join(map(_printable, text.split("\n")))
        if not families(shown):  # not even one font for all: each character that it lacks becomes a square
            shown = "".join(character if families(character) else UNKNOWN for character in shown)
            shown = shown if families(shown) else "".join(c if _is_default(c) else UNKNOWN for c in shown)
        if shown != text:
            artist.set_text(shown)
        if len(found := families(shown)) > 1:
            artist.set_fontfamily(found)


def _printable(text: str) -> str:
    """Return a text with plain spaces, without control characters and the marks that only choose a coloured picture."""
    spaced = (" " if c.isspace() else c for c in text)
    return "".join(c for c in spaced if unicodedata.category(c) != "Cc" and c not in "\ufe0e\ufe0f")


def _is_default(character: str) -> bool:
    return ord(character) in _characters(_default_font()) or character == "\n"


def _default_font() -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return str(findfont(FontProperties()))


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Return the characters of a font file; none if matplotlib cannot draw with it."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError):  # coloured pictures, or a file that is gone
        return frozenset()


@functools.cache
def _family(path: str) -> str:
    from matplotlib.ft2font import FT2Font

    return str(FT2Font(path).family_name)


@functools.cache
def _font_with(characters: frozenset[int]) -> str | None:
    """Return the installed font, upright and of usual weight if possible, that has all the characters."""
    from matplotlib.font_manager import fontManager

    entries = [entry for entry in fontManager.ttflist if "Last Resort" not in entry.name]  # which has boxes only
    entries.sort(key=lambda entry: (entry.style != "normal", abs(_weight(entry.weight) - 400), entry.name))
    return next((entry.fname for entry in entries if characters <= _characters(entry.fname)), None)


def _weight(weight: int | str) -> int:
    from matplotlib.font_manager import weight_dict

    return weight if isinstance(weight, int) else weight_dict.get(weight, 400)
