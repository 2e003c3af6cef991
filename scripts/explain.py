"""Explain what trained models do, globally and example by example.

    python scripts/explain.py tabular                            # diabetes and breast cancer, ten kinds of models
    python scripts/explain.py tabular --csv housing.csv --target medv
    python scripts/explain.py text                               # docstrings, classified by library
    python scripts/explain.py text --corpus FOLDER

Each writes a picture, a page for the browser and ``results.json`` into a new folder under runs/, or into ``--output``.
"""

from typing import Any

from command_line import run_command_line
from explain_tabular import tabular
from explain_text import text


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Run the command line ``args`` (the process's own by default)."""
    return run_command_line({"tabular": tabular, "text": text}, args)


if __name__ == "__main__":
    main()
