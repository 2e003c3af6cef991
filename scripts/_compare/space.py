"""One option's space of values to try: its grammar, and the value at a point of it."""

import math
import re
from typing import NamedTuple

GRAMMAR = "write a..b, a..b log, a..b int, a..b log int, or {x, y, z}"
EDGE = 0.1
"""Share of a range, in its own scale, at each end of which a best value suggests a wider range."""
_RANGE = re.compile(r"(?P<low>[^\s.][^\s]*?)\.\.(?P<high>[^\s]+)(?P<words>( (log|int))*)")


class Space(NamedTuple):
    """A range of numbers, or a set of choices."""

    text: str  # as it is written
    low: float = math.nan
    high: float = math.nan
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()

    def at(self, point: float) -> str:
        """Return the value at a point of [0, 1), as a command line has it.

        Example:
            >>> read_space("1e-4..1e-2 log").at(0.5)
            '0.001'
            >>> [read_space("{16, 32, 64}").at(point) for point in (0.0, 0.5, 0.99)]
            ['16', '32', '64']
        """
        if self.choices:
            return self.choices[min(int(point * len(self.choices)), len(self.choices) - 1)]
        # A whole number has the part of the range that is rounded to it, at the ends as in the middle.
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.log:
            value = math.exp(math.log(low) + point * (math.log(high) - math.log(low)))
        else:
            value = low + point * (high - low)
        value = min(max(value, self.low), self.high)
        return str(round(value)) if self.whole else f"{value:.6g}"

    def position(self, value: float) -> float:
        """Return where a number is in a range, 0 at its low end and 1 at its high end, in the range's scale."""
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def edge(self, value: str) -> str | None:
        """Return the end (`low` or `high`) that a value is at, or None; choices have no ends.

        Example:
            >>> read_space("1e-4..1e-1 log").edge("0.09")
            'high'
        """
        if self.choices:
            return None
        position = self.position(float(value))
        return "low" if position < EDGE else "high" if position > 1 - EDGE else None


def read_space(text: str) -> Space:
    """Read `a..b`, `a..b log`, `a..b int`, `a..b log int` or `{x, y, z}`.

    Raises:
        ValueError: If it is none of these, or the range is empty, not finite or, with `log`, not positive.

    Example:
        >>> read_space("1..8 int").at(0.999)
        '8'
    """
    text = " ".join(text.split())
    if text.startswith("{") and text.endswith("}"):
        choices = tuple(choice.strip() for choice in text[1:-1].split(","))
        if len(choices) < 2 or "" in choices:
            raise ValueError(f"a space of choices needs at least two, found {text!r}: write {{x, y, z}}")
        if len(set(choices)) < len(choices):
            raise ValueError(f"a choice is given twice, found {text!r}: give it once")
        return Space(text, choices=choices)
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f"cannot read the space {text!r}: {GRAMMAR}")
    words = found["words"].split()
    try:
        low, high = float(found["low"]), float(found["high"])
    except ValueError as error:
        raise ValueError(f"the ends of a space must be numbers, found {text!r}: {GRAMMAR}") from error
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise ValueError(f"a space must rise from a finite a to a finite b, found {text!r}")
    if len(set(words)) < len(words):
        raise ValueError(f"a word is given twice, found {text!r}: {GRAMMAR}")
    if "log" in words and low <= 0:
        raise ValueError(f"a logarithmic space must be positive, found {text!r}")
    if "int" in words and not (low.is_integer() and high.is_integer()):
        raise ValueError(f"the ends of a space of whole numbers must be whole, found {text!r}")
    return Space(text, low, high, "log" in words, "int" in words)
