"""The columns of a CSV file as numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .csv_numbers import MISSING, WORDS_TOO, has_unit, is_date, is_grouped, is_missing, is_number, number

Text = Literal["auto", "onehot", "drop"]
Column = NDArray[np.float64]
MAX_WORDS, FEW_WORDS = 100, 10
"""A column of words has at most 100 different ones, and in small tables at most half as many as rows, or 10."""
MAX_CELLS = 1 << 27  # of the 0/1 columns of all words
EXACT = 2.0**53  # whole numbers from here on are not all floats
LARGEST = float(np.finfo(np.float32).max)


@dataclass
class Columns:
    """The features made of the columns of a file, and the remarks about them."""

    where: str  # the file, for errors
    decimal: str
    text: Text
    allow_missing: bool
    prefix: str  # how options are written in errors
    features: list[tuple[str, Column]] = field(default_factory=list)
    plain: dict[str, Column] = field(default_factory=dict)  # columns of nothing but numbers
    words: dict[str, int] = field(default_factory=dict)  # column -> number of its words
    left_out: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def encode(self, columns: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Turn columns, by name, into `features`.

        Raises:
            ValueError: If some of them cannot be read without a choice of the user's.
        """
        self.plain = {name: values for name, cells in columns if (values := self._plain(cells)) is not None}
        texts = {name for name, cells in columns if name not in self.plain and self._is_text(name, cells)}
        if self.text == "drop":
            self.left_out += [name for name, _ in columns if name in texts]
            columns = [(name, cells) for name, cells in columns if name not in texts]
        elif self.text == "auto":
            self._refuse(columns, texts, is_date, "dates or times", "turn them into numbers")
            self._refuse(columns, texts, _is_identifier, "words that differ in most rows", "group them")
        self._refuse_gaps(columns, texts)
        for name, cells in columns:
            if name in texts:
                self._add_words(name, cells)
            else:
                self._add_numbers(name, cells)

    def drop(self, *names: str) -> str:
        """Return the option that leaves columns out."""
        listed = ",".join(names)
        return f"{self.prefix}drop {listed if listed.replace(',', '').isalnum() else repr(listed)}"

    def _plain(self, cells: Sequence[str]) -> Column | None:
        return plain_numbers(cells) if self.decimal == "." else None

    def _is_text(self, name: str, cells: Sequence[str]) -> bool:
        """Return whether a column holds words; refuse numbers with a few of them, or written in an unusual way."""
        present = [cell for cell in cells if not is_missing(cell)]
        others = [cell for cell in present if not is_number(cell, self.decimal)]
        if not others or self.text == "drop":
            return bool(others)
        kinds: tuple[tuple[Callable[[str], bool], str], ...] = (
            (is_grouped, "numbers with thousands separators"),
            (has_unit, "numbers with a unit"),
        )
        for is_kind, kind in kinds:
            odd = [cell for cell in others if is_kind(cell)]
            if odd and 2 * (len(odd) + len(present) - len(others)) > len(present):
                raise ValueError(
                    f"column {name!r} of {self.where} has {kind}, such as {odd[0]!r}; write plain numbers, "
                    f"or leave it out by {self.drop(name)}"
                )
        if self.text == "auto" and 2 * len(others) < len(present):
            raise ValueError(
                f"column {name!r} of {self.where} has {len(present) - len(others)} numbers and {len(others)} other "
                f"entries, such as {others[0]!r} in row {cells.index(others[0])}; correct them, leave it out by "
                f"{self.drop(name)}, or take all entries as words by {self.prefix}text onehot"
            )
        return True

    def _refuse(
        self,
        columns: Sequence[tuple[str, Sequence[str]]],
        texts: set[str],
        is_kind: Callable[..., bool],
        kind: str,
        remedy: str,
    ) -> None:
        """Refuse the columns of words of a kind, all at once."""
        found = {}
        for name, cells in columns:
            if name not in texts:
                continue
            present = [cell for cell in cells if not is_missing(cell)]
            if is_kind(present) if is_kind is _is_identifier else 2 * sum(map(is_kind, present)) > len(present):
                found[name] = present[0]
        if found:
            names, example = ", ".join(map(repr, found)), next(iter(found.values()))
            one = len(found) == 1
            raise ValueError(
                f"column{'' if one else 's'} {names} of {self.where} hold{'s' if one else ''} {kind}, such as "
                f"{example!r}; {remedy}, leave {'it' if one else 'them'} out by {self.drop(*found)}, or make a column "
                f"of every word by {self.prefix}text onehot"
            )

    def _refuse_gaps(self, columns: Sequence[tuple[str, Sequence[str]]], texts: set[str]) -> None:
        gaps: dict[str, int] = {}
        for name, cells in columns:
            if name in self.plain:
                count = int(np.isnan(self.plain[name]).sum())
            else:
                missing = MISSING - WORDS_TOO if name in texts else MISSING
                count = sum(cell.lower() in missing for cell in cells)
            if count == len(cells):
                raise ValueError(f"column {name!r} of {self.where} has no value; leave it out by {self.drop(name)}")
            gaps |= {name: count} if count else {}
        if not gaps or self.allow_missing:
            return
        name, count = next(iter(gaps.items()))
        more = f", and {', '.join(f'{one!r} {n}' for one, n in list(gaps.items())[1:])}" if len(gaps) > 1 else ""
        raise ValueError(
            f"column {name!r} of {self.where} lacks {count} values{more}; fill them, or set missing to mean "
            f"({self.prefix}missing mean), or leave out columns by {self.drop(*gaps)}"
        )

    def _add_words(self, name: str, cells: Sequence[str]) -> None:
        kinds = sorted(set(cells))
        if len(kinds) * len(cells) > MAX_CELLS:
            raise ValueError(
                f"column {name!r} of {self.where} has {len(kinds)} different entries, too many for a column of each; "
                f"leave it out by {self.drop(name)}"
            )
        self.words[name] = len(kinds)
        self.features += [
            (f"{name}={kind or 'missing'}", np.array([float(cell == kind) for cell in cells])) for kind in kinds
        ]

    def _add_numbers(self, name: str, cells: Sequence[str]) -> None:
        values = self.plain[name] if name in self.plain else numbers(cells, self.decimal)
        present = values[~np.isnan(values)]
        if np.isinf(present).any() or (abs(present) > LARGEST).any():
            raise ValueError(
                f"column {name!r} of {self.where} holds an infinite number, or one beyond {LARGEST:.3g}; correct it or "
                "remove the row"
            )
        if (abs(present) >= EXACT).any() and (present % 1 == 0).all():
            raise ValueError(
                f"column {name!r} of {self.where} holds whole numbers beyond 2**53, which identify rows or are not "
                f"exact; leave it out by {self.drop(name)}"
            )
        if len(values) >= FEW_WORDS and (np.diff(values) == 1).all():
            self.remarks.append(f"{name} counts the rows ({self.drop(name)} leaves it out)")
        if len(values) > 1 and (present == present[0]).all():
            self.remarks.append(f"{name} is constant")
        self.features.append((name, values))


def plain_numbers(cells: Sequence[str]) -> Column | None:
    """Return a column in which every cell is a number with a decimal point, or NaN, fast; None for any other one.

    >>> plain_numbers(["1", "2.5e3"]).tolist(), plain_numbers(["1", "1_000"])
    ([1.0, 2500.0], None)
    """
    text = "".join(cells)
    if "_" in text or not text.isascii():  # which Python takes for digits
        return None
    try:
        return np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None


def numbers(cells: Sequence[str], decimal: str) -> Column:
    """Return a column of numbers, NaN where one is missing."""
    values = plain_numbers(cells) if decimal == "." else None
    if values is not None:
        return values
    return np.array([float("nan") if is_missing(cell) else number(cell, decimal) for cell in cells])


def _is_identifier(present: Sequence[str]) -> bool:
    """Return whether the words of a column differ in most rows."""
    kinds = len(set(present))
    return kinds > MAX_WORDS or kinds > max(FEW_WORDS, len(present) // 2)
