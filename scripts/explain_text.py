"""d"""

from typing import Any


def text(output: str = "") -> dict[str, Any]:
    """T."""
    return {}
