"""Explain what trained models look at.

    python scripts/explain.py image --checkpoint runs/.../checkpoints/best.ckpt --index '[0, 7]'
    python scripts/explain.py                          # trains the digits default first

Without a subcommand it means ``image``.
"""

from typing import Any

from command_line import run_command_line
from explain_image import image


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Run the command line ``args`` (the process's own by default)."""
    return run_command_line({"image": image}, args, default="image")


if __name__ == "__main__":
    main()
