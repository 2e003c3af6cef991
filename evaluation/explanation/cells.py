"""The cells of a fixed grid over an image, and their names."""

from collections.abc import Iterator


def grid_cells(height: int, width: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Yield the cells of a fixed grid, row by row; the last ones end with the image."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def cell_name(rows: slice, columns: slice) -> str:
    """Name a rectangle of pixels, counted from the upper left one.

    >>> cell_name(slice(0, 4), slice(4, 5))
    'rows 0-3, column 4'
    """
    return f"{_range('row', rows)}, {_range('column', columns)}"


def _range(kind: str, part: slice) -> str:
    return f"{kind} {part.start}" if part.stop == part.start + 1 else f"{kind}s {part.start}-{part.stop - 1}"
