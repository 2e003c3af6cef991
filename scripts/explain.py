"""Explain what trained models look at, in general and example by example.

    python scripts/explain.py image --checkpoint runs/.../checkpoints/best.ckpt --index '[0, 7]'
    python scripts/explain.py tabular                  # diabetes and breast cancer, models of every kind
    python scripts/explain.py tabular --csv housing.csv --target medv
    python scripts/explain.py text                     # docstrings, classified by library
    python scripts/explain.py text --corpus FOLDER

Without a subcommand it means ``image``, which without a checkpoint trains the digits default first. Each writes
pictures, a page for the browser and ``results.json``, into a new folder under runs/ or into ``--output``.
"""

from typing import Any

from _common.command_line import run_command_line
from _explain.image import image
from _explain.tabular import tabular
from _explain.text import text


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Run the command line ``args`` (the process's own by default)."""
    return run_command_line({"image": image, "tabular": tabular, "text": text}, args, default="image")


if __name__ == "__main__":
    main()
