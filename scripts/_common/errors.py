"""Reporting a user's mistake in one line, with exit code 1, instead of a traceback."""

import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import ArgumentError

from _common.console import plain
from _common.error_part import part_of
from _common.parser_errors import shorten

TRACEBACK = "LIGHTNING_BLOCKS_TRACEBACK"
"""Environment variable that turns tracebacks on."""

SCRIPTS = Path(__file__).parents[1]

_DOES_NOT_FIT = "Error(s) in loading state_dict"
"""How PyTorch says that weights have other names or shapes."""
_LIGHTNINGS = ("MisconfigurationException", "NonFiniteLossError")
"""Lightning's errors, by name, so that no command imports Lightning only to tell them apart."""


@contextmanager
def one_line_errors(options: Iterable[tuple[str, tuple[str, ...]]] = ()) -> Iterator[None]:
    """Turn errors into `error: <one line>` and exit code 1, and Ctrl-C into exit code 130.

    Args:
        options: Names and words of the options that were typed, for messages that do not say which one is wrong.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        fail(error, options)


@contextmanager
def quiet_lightning(*expected: str) -> Iterator[None]:
    """Silence Lightning's notes, its own deprecation warning, and the `expected` warnings, given as patterns."""
    hush()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="|".join((r".*LeafSpec.* is deprecated", *expected)))
        yield


def hush() -> None:
    """Silence Lightning's notes, but for what a user has asked for; importing Lightning turns them on again."""
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for tool in ("profilers", "tuner", "callbacks.early_stopping"):  # tables, and what was found
        logging.getLogger(f"pytorch_lightning.{tool}").setLevel(logging.INFO)


def fail(error: BaseException, options: Iterable[tuple[str, tuple[str, ...]]] = ()) -> None:
    """End the program with one line about `error`."""
    if os.environ.get(TRACEBACK):
        raise error
    print(f"error: {plain(with_option(one_line(error), options))}", file=sys.stderr)
    raise SystemExit(1) from error


def warn(message: str) -> None:
    """Print one line of warning."""
    print(f"warning: {plain(message)}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """Return the error's message on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    text = shorten(str(error)) if isinstance(error, ArgumentError | ValueError) else str(error)
    text = " ".join(text.split()) or type(error).__name__
    if text.startswith(_DOES_NOT_FIT):
        text = f"the checkpoint's weights do not fit the network, which must be the one they were trained in: {text}"
    part = None if isinstance(error, ArgumentError) else part_of(error)
    text = part.said_in(text) if part is not None else text
    if not _is_a_mistake(error) and not (part is not None and part.option in text and (part.made or not part.ours)):
        text = f"{type(error).__name__}: {text}{_place(error)}; the traceback with {TRACEBACK}=1"
    return text if len(text) <= 600 else f"{text[:600]}... (the full message with {TRACEBACK}=1)"


def with_option(text: str, options: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    """Return a message with the option that it is about, which has its name or its value in it.

    Example:
        >>> with_option("tol must be at least 0, found -1.0", [("k", ("5",)), ("tol", ("-1.0",))])
        '--tol must be at least 0, found -1.0'
        >>> with_option("No such file: a/b.npy", [("data", ("a/b.npy",))])
        '--data: No such file: a/b.npy'
    """
    if text.startswith("--"):
        return text
    for name, _ in options:
        if f"--{name}" in text:
            return text
        argument = name.rpartition(".")[2]
        if text.startswith((f"{argument} must", f"{argument}:")):
            return f"--{name}{text[len(argument) :]}"
    words_in = re.split(r"[\s'\"(),;]+|:(?=\s|$)", text)
    for name, (value, *_) in ((name, words) for name, words in options if words):
        is_file = re.search(r"[./]", value) is not None and not re.fullmatch(r"[-\d.e]+", value)
        if (is_file and value in words_in) or re.search(rf"(found|got|Got|=) ?'?{re.escape(value)}(?![\w])", text):
            return f"--{name}: {text}"
    return text


def _is_a_mistake(error: BaseException) -> bool:
    """Return whether the message alone says what to do."""
    return (
        isinstance(error, (ValueError, OSError, ArgumentError))
        or type(error).__name__ in _LIGHTNINGS
        or str(error).startswith(_DOES_NOT_FIT)
    )


def _place(error: BaseException) -> str:
    """Return the innermost line of the project's or the user's code, or of a library that a script has called."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if "site-packages" not in one.filename]
    frame = next(iter((own if own and Path(own[-1].filename).parent != SCRIPTS else frames)[-1:]), None)
    return f" ({frame.filename.rpartition('site-packages/')[2]}, line {frame.lineno})" if frame else ""
