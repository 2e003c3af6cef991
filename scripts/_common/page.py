"""Self-contained HTML pages."""

import base64
import io
from html import escape

from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; } pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; }
"""
# An empty icon: without one a browser asks the server for /favicon.ico.
ICON = '<link rel="icon" href="data:,">'


def page(title: str, *sections: str, head: str = "") -> str:
    """Return a whole HTML document.

    Args:
        title: Title and first heading, as plain text.
        sections: HTML of the body.
        head: More HTML for the head: styles, scripts.
    """
    start = f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
    top = f"{ICON}\n<style>{STYLE}</style>\n{head}</head>\n<body>\n<h1>{escape(title)}</h1>\n"
    return start + top + "\n".join(sections) + "\n</body>\n</html>\n"


def picture(figure: Figure, text: str, dpi: int = 100) -> str:
    """Return a figure as an `<img>` that holds its PNG.

    Args:
        figure: Any matplotlib figure.
        text: Description of the picture, for people who cannot see it.
        dpi: Dots per inch.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{content}">'
