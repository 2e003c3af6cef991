"""Self-contained HTML pages."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure

from _common.console import cell

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } img { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; }
"""
# An empty icon: without one a browser asks the server for /favicon.ico.
ICON = '<link rel="icon" href="data:,">'


def page(title: str, *sections: str, head: str = "") -> str:
    """Return an HTML document of a title in plain text, sections for the body, and further HTML for the head."""
    start = f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
    top = f"{ICON}\n<style>{STYLE}</style>\n{head}</head>\n<body>\n<h1>{escape(title)}</h1>\n"
    whole = start + top + "\n".join(sections) + "\n</body>\n</html>\n"
    return whole.encode(errors="backslashreplace").decode()  # names of folders need not be UTF-8


class Cell(str):
    """A table cell as HTML, from `<td>` to `</td>`."""


def html_table(rows: Sequence[Mapping[str, Any]], name: str = "", kind: str = "") -> str:
    """Return rows (heading -> value) as a table with the id `name` and the class `kind`.

    A value that is no `Cell` is formatted by `console.cell`. Columns whose texts all begin with a digit are
    right-aligned.
    """
    columns = dict.fromkeys(column for row in rows for column in row)
    numeric = {c for c in columns if all(re.match(r"[-+]?\d|nan$|$", cell(row.get(c))) for row in rows)}
    style = {c: ' class="number"' if c in numeric else "" for c in columns}
    head = "".join(f"<th{style[c]}>{escape(c)}</th>" for c in columns)
    lines = []
    for row in rows:
        plain = {c: f"<td{style[c]}>{escape(cell(row.get(c)))}</td>" for c in columns}
        lines.append("".join(row[c] if isinstance(row.get(c), Cell) else plain[c] for c in columns))
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    start = f'<table id="{name}" class="{kind}"><thead><tr>{head}</tr></thead>'
    return f'<div class="scroll">{start}\n<tbody>{body}</tbody></table></div>'


def picture(figure: Figure, text: str, dpi: int = 100) -> str:
    """Return a figure as an `<img>` that holds its PNG; the text describes it to readers who cannot see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{content}">'
