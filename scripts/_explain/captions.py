"""What the pages of ``explain.py`` are made of, beside ``page.py``."""

from html import escape
from typing import Any

import eli5
from eli5.base import Explanation
from eli5.formatters import fields
from eli5.formatters.html import format_html_styles

from _common.console import cell

SHOWN = tuple(field for field in fields.ALL if field != "description")
STYLES = f"""{format_html_styles()}
<style>
details {{ margin: .4rem 0 .4rem 0; padding: .4rem .8rem; border: 1px solid #ddd; border-radius: 6px; }}
summary {{ cursor: pointer; font-weight: 600; }}
.scroll {{ overflow-x: auto; }} .note {{ color: #666; }} .warning {{ color: #a40000; font-weight: 600; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }}
.card {{ border: 1px solid #e4e4e4; border-radius: 6px; padding: .2rem .8rem .6rem; max-width: 36rem; }}
.card h3 {{ font-size: 1rem; margin: .4rem 0; }} .card p {{ font-size: .85rem; margin: .4rem 0; max-width: 22rem; }}
.card pre {{ font-size: .75rem; line-height: 1.25; }} .card, .card pre {{ overflow-x: auto; }}
.card p:empty {{ display: none; }}
.document {{ line-height: 1.7; margin-bottom: 1.2rem; }}
</style>
"""
"""For a page's head: eli5's styles, and ours."""


def rows_html(rows: dict[str, dict[str, Any]], first: str = "") -> str:
    """The table that ``console.print_rows`` prints, as HTML."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    numbers = {column: all(isinstance(row.get(column, 0), int | float) for row in rows.values()) for column in columns}
    mark = {column: ' class="number"' if numbers[column] else "" for column in columns}
    head = "".join(f"<th{mark[column]}>{escape(column)}</th>" for column in columns)
    lines = [f"<tr><th>{escape(first)}</th>{head}</tr>"]
    for name, row in rows.items():
        cells = "".join(f"<td{mark[c]}>{escape(cell(row[c])) if c in row else ''}</td>" for c in columns)
        lines.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def heading(text: str) -> str:
    """A heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; ``kind`` is ``note`` or ``warning``."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def fold(title: str, *content: str, is_open: bool = False) -> str:
    """Content that a click shows."""
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{''.join(content)}</details>"


def cards(content: dict[str, str]) -> str:
    """Pieces side by side, each under its name."""
    pieces = [f'<div class="card"><h3>{escape(name)}</h3>{html}</div>' for name, html in content.items()]
    return f'<div class="cards">{"".join(pieces)}</div>'


def explanation_html(explanation: Explanation, values: bool = False) -> str:
    """An explanation as eli5 formats it, without the styles, which ``STYLES`` has, and without eli5's caveats."""
    return eli5.format_as_html(
        explanation, include_styles=False, force_weights=False, show=SHOWN, show_feature_values=values
    )
