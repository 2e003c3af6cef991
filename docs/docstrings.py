"""Docstrings have torch's notation for formulas and links; the site shows them as MathML, which needs no script."""

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

BLOCK = re.compile(r"^( *)\.\. math::\n((?:\1 +\S.*\n?)+)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]+)`")
LINK = re.compile(r"`([^`<]+?)\s*<(https?://[^>]+)>`__?")


def as_markdown(text: str) -> str:
    r"""Return a docstring with its formulas as MathML and its links as Markdown.

    >>> as_markdown("See `a paper <https://example.org>`_.")
    'See [a paper](https://example.org).'
    """
    text = BLOCK.sub(lambda found: f"{found[1]}{as_block(found[2])}\n", text)
    text = INLINE.sub(lambda found: convert(found[1]), text)
    text = LINK.sub(r"[\1](\2)", text)
    return re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)  # the title of a section of code


def as_block(formula: str) -> str:
    """Return a formula on a line of its own, which is moved sideways where the screen is narrower."""
    return f'<div style="overflow-x: auto">{convert(" ".join(formula.split()), display="block")}</div>'


class Docstrings(griffe.Extension):
    """Translates every docstring when it has been read."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Translate the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
