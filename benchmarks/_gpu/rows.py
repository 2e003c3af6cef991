"""The rows of a part: written one by one, merged by the program that reads them."""

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass
class Bench:
    """The task of a part, and the file to which it appends its rows.

    A row is a dictionary with a `case` (what is measured) and a `name` (who is measured). A later row of the same case
    and name adds to the earlier one.
    """

    rows: Path
    device: str  # "cuda" or "cpu"
    quick: bool = False  # tiny sizes
    data: Path | None = None  # folder of images; None: random ones
    seconds: float = 120.0  # when the part is killed, from now on
    began: float = field(default_factory=time.monotonic)

    @property
    def cuda(self) -> bool:
        """Whether a card is measured."""
        return self.device != "cpu"

    def left(self) -> float:
        """Return the seconds left, with some for the end of the process."""
        return self.began + 0.95 * self.seconds - 2 - time.monotonic()

    def row(self, case: str, name: str, **values: Any) -> None:
        """Append a row, at once: the process may be killed at any time."""
        with open(self.rows, "a") as file:
            file.write(json.dumps({"case": case, "name": name, **values}, default=float) + "\n")

    def measure(
        self, case: str, name: str, function: Callable[[], Row], needs: float = 4.0, cuda_only: bool = False
    ) -> Row | None:
        """Append what `function` returns, or why there is nothing; return it.

        Args:
            case: What is measured.
            name: Who is measured.
            function: Returns the values of the row.
            needs: Seconds that it takes at most; with fewer left it is not called.
            cuda_only: Whether it needs a card.
        """
        if cuda_only and not self.cuda:
            self.row(case, name, skipped="needs CUDA")
        elif self.left() < needs:
            self.row(case, name, skipped="no time left")
        else:
            began = time.monotonic()
            try:
                values = function()
            except ModuleNotFoundError as error:
                self.row(case, name, skipped=f"not installed: {error.name}")
            except (Exception, SystemExit) as error:  # the row's own; the others are still measured
                self.failed(case, name, error)
            else:
                self.row(case, name, **values, took=round(time.monotonic() - began, 1))
                return values
        return None

    def add_trace(self, case: str, name: str, function: Callable[[], Row], needs: float = 4.0) -> Row | None:
        """Add the counts that `function` returns to a row, or why there are none; return them."""
        if self.left() < needs:
            self.row(case, name, trace_error="not traced: no time left")
            return None
        try:
            counts = function()
        except (Exception, SystemExit) as error:
            traceback.print_exception(error, file=sys.stderr)
            self.row(case, name, trace_error=f"not traced: {one_line(error)}")
            return None
        self.row(case, name, **counts)
        return counts

    def failed(self, case: str, name: str, error: BaseException) -> None:
        """Append an error."""
        print(f"\n{case}: {name}", file=sys.stderr)
        traceback.print_exception(error, file=sys.stderr)
        self.row(case, name, error=one_line(error))


def one_line(error: BaseException) -> str:
    """Return the type and the beginning of the message of an error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def read(lines: Iterable[str]) -> list[Row]:
    r"""Return the rows of a file, those of the same case and name merged; a half-written last line is left out.

    >>> read(['{"case": "a", "name": "b", "x": 1}\n', '{"case": "a", "name": "b", "y": 2}\n', '{"case": "a"'])
    [{'case': 'a', 'name': 'b', 'x': 1, 'y': 2}]
    """
    merged: dict[tuple[str, str], Row] = {}
    for line in lines:
        if line.endswith("\n"):
            row = json.loads(line)
            merged.setdefault((row["case"], row["name"]), {}).update(row)
    return list(merged.values())
