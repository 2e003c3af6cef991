"""The commit, and the device as a file name."""

import re
import subprocess
from pathlib import Path


def commit(root: Path) -> str:
    """Return the commit of the checkout, marked if files differ from it, or "unknown" without git."""
    try:
        words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def slug(device: str) -> str:
    """Return a device's name as part of a file name.

    >>> slug("NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") or "unknown"
