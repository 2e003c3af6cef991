"""The one place that chooses where the rows of a problem are processed."""

from .problem import Problem
from .rows import Rows


def open_rows(problem: Problem) -> Rows:
    """Return the rows of a problem, on the device where they are to be processed."""
    from .cpu import CpuRows  # here, because it loads Faiss

    return CpuRows(problem)
