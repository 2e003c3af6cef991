"""A CSV file as rows of cells: its encoding, its separator."""

import codecs
import csv
import io
from pathlib import Path

from .csv_numbers import is_missing, is_number
from .messages import shown

SEPARATORS = (",", ";", "\t", "|")
NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " "}
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAMPLE = 1 << 16  # characters from which the separator is found
MINUS = "\u2212"  # the typographic sign, which word processors write
Rows = list[list[str]]


def read_cells(path: Path, separator: str | None, encoding: str | None, prefix: str) -> tuple[Rows, str]:
    """Return the cells of a file without empty rows, all rows of the same length, and the separator.

    Args:
        path: The file.
        separator: One character, or comma, semicolon, tab, pipe or space; None: found in the file.
        encoding: Name of its encoding; None: by its byte-order mark, or UTF-8.
        prefix: How options are written in errors, such as `--data.`.

    Raises:
        ValueError: If the file is no table of at least two rows.
    """
    text = _decoded(path, encoding, prefix)
    first, _, rest = text.partition("\n")
    if first[:4].lower() == "sep=" and len(first.strip()) == 5:  # Excel's hint
        text, separator = rest, separator or first[4]
    chosen = NAMES.get(separator or "", separator) or _separator(text[:SAMPLE])
    if len(chosen) != 1:
        raise ValueError(f"separator must be one character, or {', '.join(NAMES)}, found {separator!r}")
    try:
        rows = [[cell.strip() for cell in row] for row in _parsed(text, chosen) if any(row)]
        if MINUS in text:
            rows = [[_with_hyphen(cell) for cell in row] for row in rows]
        if text.count('"') % 2:
            _parsed(text, chosen, strict=True)  # an open quote would make the rest of the file one cell
    except csv.Error as error:
        raise ValueError(f"{shown(path)} is not a CSV file ({error}); correct its quotes") from error
    if len(rows) < 2:
        raise ValueError(f"{shown(path)} has {len(rows)} lines, too few for a table; give one with rows of values")
    width = len(rows[0])
    for number, cells in enumerate(rows, start=1):
        if len(cells) != width:
            raise ValueError(
                f"line {number} of {shown(path)} has {len(cells)} cells, the first has {width}, separated by "
                f"{chosen!r}; correct the file, or name another {prefix}separator"
            )
    return rows, chosen


def _with_hyphen(cell: str) -> str:
    """Return a number with a typographic minus sign as it is usually written, and any other cell as it is."""
    usual = cell.replace(MINUS, "-")
    return usual if MINUS in cell and (is_number(usual) or is_number(usual, ",")) else cell


def _parsed(text: str, separator: str, strict: bool = False) -> Rows:
    if separator == " ":
        return [line.split() for line in text.splitlines()]
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=strict))


def _separator(sample: str) -> str:
    """Return the separator that divides the lines most evenly, and of those the one that leaves most numbers."""
    lines = sample.splitlines(keepends=True)
    sample = "".join(lines[:-1] if len(lines) > 2 else lines)
    scores = {}
    for position, separator in enumerate(SEPARATORS):
        try:
            rows = [row for row in _parsed(sample, separator) if any(row)]
        except csv.Error:
            continue
        if not rows or len(rows[0]) < 2:
            continue
        even = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        cells = [cell.strip() for row in rows for cell in row]
        commas = separator != ","
        numbers = sum(is_missing(cell) or is_number(cell) or (commas and is_number(cell, ",")) for cell in cells)
        scores[separator] = (even, numbers / len(cells), -position)
    return max(scores, key=lambda one: scores[one], default=",")


def _decoded(path: Path, encoding: str | None, prefix: str) -> str:
    content = path.read_bytes()
    if content[:4] in (b"PK\3\4", b"\xd0\xcf\x11\xe0") or content[:2] == b"\x1f\x8b":
        raise ValueError(f"{shown(path)} is not a CSV file but a spreadsheet or an archive; save its table as CSV")
    name = encoding or next((one for mark, one in MARKS if content.startswith(mark)), None) or _without_mark(content)
    try:
        text = content.decode(name)
    except LookupError:
        raise ValueError(f"{prefix}encoding must be an encoding such as utf-8 or cp1252, found {encoding!r}") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{shown(path)} is not {name} (byte 0x{content[error.start]:02x} in line {line}); save it as UTF-8, or "
            f"name its encoding, such as {prefix}encoding cp1252"
        ) from None
    if "\0" in text:
        raise ValueError(f"{shown(path)} is not a CSV file but binary; give a text file")
    return text


def _without_mark(content: bytes) -> str:
    """Return UTF-16, in which every second byte of Western text is 0, or UTF-8."""
    start = content[:200]
    if start and start[1::2].count(0) > 0.4 * len(start):
        return "utf-16-le"
    return "utf-16-be" if start and start[::2].count(0) > 0.4 * len(start) else "utf-8"
