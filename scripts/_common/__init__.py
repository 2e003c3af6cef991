"""Modules shared by the scripts.

Importing it lets a checkout work without installation, from any working directory: a command imports it first.
"""

import sys
from pathlib import Path

REPOSITORY = str(Path(__file__).resolve().parents[2])

if REPOSITORY not in sys.path:
    sys.path.insert(1, REPOSITORY)  # after scripts/, before anything installed
if "" not in sys.path:
    sys.path.append("")  # the working directory, for the user's own modules; last, so that it shadows nothing
