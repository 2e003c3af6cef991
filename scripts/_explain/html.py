"""HTML helpers for the pages of `explain.py`."""

from html import escape

import eli5
from eli5.base import Explanation
from eli5.formatters import fields
from eli5.formatters.html import format_html_styles

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
    return eli5.format_as_html(
        explanation, include_styles=False, force_weights=False, show=FIELDS, show_feature_values=values
    )
