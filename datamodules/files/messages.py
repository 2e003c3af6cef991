"""Lines and a progress bar for the user, from the first process."""

import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

PATIENCE = 1.0
"""Seconds of work after which a progress bar appears."""
_JOINERS = "\u200c\u200d"  # which Persian, Indian scripts and emoji need


def shown(text: object) -> str:
    r"""Return a text in one line that moves no terminal: control characters are written as escapes.

    >>> print(shown("a\nb\x1b[2J [kg]"))
    a\nb\x1b[2J [kg]
    """
    line = str(text)
    if line.isprintable():
        return line
    return "".join(c if _is_harmless(c) else c.encode("unicode_escape").decode() for c in line)


def _is_harmless(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _is_first() -> bool:
    return not vars(rank_zero_only).get("rank")  # of the process, which Lightning has read from the environment


def say(line: str) -> None:
    """Print a line about the data; errors stay alone on standard error."""
    if _is_first():
        with suppress(OSError):  # standard output may be a file on a full disk
            print(line, flush=True)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts finished items; work of over a second shows a bar, in a terminal only."""
    start = time.monotonic()
    bars: list[Any] = []  # none or one
    done, watched = 0, sys.stderr.isatty() and _is_first()

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if watched and not bars and time.monotonic() - start > PATIENCE:
            bars.append(_bar(title, total))
        for bar in bars:
            bar.update(bar.task_ids[0], completed=done)

    try:
        yield advance
    finally:
        for bar in bars:
            bar.stop()


def _bar(title: str, total: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}", markup=False)
    bar = Progress(
        text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )
    bar.add_task(title, total=total)
    bar.start()
    return bar
