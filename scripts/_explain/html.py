"""HTML helpers for the pages of `explain.py`."""

import copy
from html import escape
from typing import Any

import attr
import eli5
from eli5.base import Explanation
from eli5.formatters import fields
from eli5.formatters.html import format_html_styles

from _explain.local_explanations import BIAS

_MARKS = {ord(character): 0xE000 + number for number, character in enumerate("<>&\"'")}
FIELDS = tuple(field for field in fields.ALL if field != "description")
STYLES = f"""{format_html_styles()}
<style>
details {{ margin: .4rem 0 .4rem 0; padding: .4rem .8rem; border: 1px solid #ddd; border-radius: 6px; }}
summary {{ cursor: pointer; font-weight: 600; }}
.note {{ color: #666; }} .warning {{ color: #a40000; font-weight: 600; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }}
.card {{ border: 1px solid #e4e4e4; border-radius: 6px; padding: .2rem .8rem .6rem; max-width: 36rem; }}
.card h3 {{ font-size: 1rem; margin: .4rem 0; }} .card p {{ font-size: .85rem; margin: .4rem 0; max-width: 22rem; }}
.card pre {{ font-size: .75rem; line-height: 1.25; }} .card, .card pre {{ overflow-x: auto; }}
.card p:empty {{ display: none; }}
.document {{ line-height: 1.7; margin-bottom: 1.2rem; }}
</style>
"""
"""Styles for a page's head: eli5's and our own."""


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of the class `kind` (`note` or `warning`), or nothing for an empty text."""
    style = f' class="{kind}"' if kind else ""
    return f"<p{style}>{escape(text)}</p>" if text else ""


def fold(title: str, *content: str, is_open: bool = False) -> str:
    """Return content that a click on its title shows or hides."""
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{''.join(content)}</details>"


def cards(content: dict[str, str]) -> str:
    """Return pieces of HTML side by side, each under its title."""
    pieces = [f'<div class="card"><h3>{escape(title)}</h3>{html}</div>' for title, html in content.items()]
    return f'<div class="cards">{"".join(pieces)}</div>'


def explanation_html(explanation: Explanation, values: bool = False) -> str:
    """Format an explanation by eli5, with or without the features' values; `STYLES` has eli5's styles."""
    return escaped(explanation, force_weights=False, show=FIELDS, show_feature_values=values)


def escaped(explanation: Explanation, **options: Any) -> str:
    """Format an explanation by eli5, whose templates escape only some names, with every name and text escaped.

    While eli5 formats, characters of a private area stand for those of HTML, one for one, so that positions in a
    document stay right.
    """
    own = ("weighted_spans",) if explanation.image is not None else ()  # the picture, as HTML that is escaped already
    html = eli5.format_as_html(_marked(explanation, own), include_styles=False, **options)
    return html.translate({mark: escape(chr(character)) for character, mark in _MARKS.items()})


def _marked(value: Any, own: tuple[str, ...]) -> Any:
    """Return a copy of an explanation, or of a part of it, with marks in its texts, but for the fields `own`."""
    if isinstance(value, str):
        return value if value == BIAS else value.translate(_MARKS)
    if isinstance(value, dict):
        return {_marked(key, own): _marked(one, own) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_marked(one, own) for one in value)
    if not attr.has(type(value)):
        return value
    marked = copy.copy(value)
    for field in attr.fields(type(value)):
        if field.name not in own:
            setattr(marked, field.name, _marked(getattr(value, field.name), own))
    return marked
