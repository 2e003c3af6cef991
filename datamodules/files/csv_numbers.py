"""Which cells of a CSV file are numbers, missing, dates, or numbers written in a way that must not be guessed."""

import re
from collections.abc import Sequence

MISSING = {
    *("", "?", "-", ".", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none", "nat"),
    *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
}
"""Cells without a value, in small letters."""
WORDS_TOO = {"none", "null", "-", "."}
"""Those of them that are words among words, such as the class `none`."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?(\d+(,\d*)?|,\d+)([eE][+-]?\d+)?")
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}([.,' \u00a0\u202f’]\d{3})+([.,]\d*)?")  # 1,234 1.234,5 1 234 1'234.50
_WITH_UNIT = re.compile(r"[$€£¥]\s?[+-]?\d[\d.,]*|[+-]?\d[\d.,]*\s?[%$€£¥]")
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( .*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
)


def is_missing(cell: str) -> bool:
    """Return whether a cell stands for a missing value.

    >>> is_missing("N/A"), is_missing("0")
    (True, False)
    """
    return cell.lower() in MISSING


def is_number(cell: str, decimal: str = ".") -> bool:
    """Return whether a cell is a number.

    >>> is_number("1e-3"), is_number("1_000"), is_number("1,5"), is_number("1,5", ",")
    (True, False, False, True)
    """
    return (_NUMBER if decimal == "." else _COMMA).fullmatch(cell) is not None


def number(cell: str, decimal: str = ".") -> float:
    """Return the number in a cell."""
    return float(cell if decimal == "." else cell.replace(",", "."))


def is_grouped(cell: str) -> bool:
    """Return whether a cell may be a number with thousands separators.

    >>> is_grouped("1,234"), is_grouped("1.234.567,8"), is_grouped("1,5"), is_grouped("0,123")
    (True, True, False, False)
    """
    return _GROUPED.fullmatch(cell) is not None


def has_unit(cell: str) -> bool:
    """Return whether a cell is a number with a per cent or currency sign."""
    return _WITH_UNIT.fullmatch(cell) is not None


def is_date(cell: str) -> bool:
    """Return whether a cell is a date or a time.

    >>> is_date("2024-02-01"), is_date("1.2.24"), is_date("1.2")
    (True, True, False)
    """
    return _DATE.fullmatch(cell) is not None


def find_decimal(columns: Sequence[Sequence[str]], where: str, prefix: str) -> str:
    """Return the decimal mark of a table: a comma if columns of numbers have one that cannot group thousands.

    Raises:
        ValueError: If a comma may be either, or if both marks occur.
    """
    commas = [cell for column in columns for cell in _commas(column)]
    if not commas:
        return "."
    clear = next((cell for cell in commas if not is_grouped(cell)), None)
    if clear is None:
        raise ValueError(
            f"{commas[0]!r} in {where} may be {commas[0].replace(',', '')} or {commas[0].replace(',', '.')}; "
            f"write it without thousands separators, or set {prefix}decimal to a comma"
        )
    points = (cell for column in columns for cell in column if "." in cell and is_number(cell))
    if (point := next(points, None)) is not None:
        raise ValueError(
            f"{where} has both {clear!r} and {point!r}; use one decimal mark, or name it by {prefix}decimal"
        )
    return ","


def _commas(column: Sequence[str]) -> list[str]:
    """Return the cells with a comma of a column in which most are numbers then."""
    if "," not in "".join(column):
        return []
    present = [cell for cell in column if not is_missing(cell)]
    numbers = [cell for cell in present if is_number(cell) or is_number(cell, ",")]
    return [cell for cell in numbers if "," in cell] if 2 * len(numbers) > len(present) else []
