"""Reporting a user's mistake in one line, with exit code 1, instead of a traceback."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from jsonargparse import ArgumentError

TRACEBACK = "LIGHTNING_BLOCKS_TRACEBACK"
"""Environment variable that turns tracebacks on."""

_LIGHTNINGS = ("MisconfigurationException", "NonFiniteLossError")
"""Lightning's errors, by name, so that no command imports Lightning only to catch them."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors that a user can fix into `error: <one line>` and exit code 1."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, OSError, ArgumentError) as error:
        fail(error)
    except Exception as error:
        if type(error).__name__ not in _LIGHTNINGS and not str(error).startswith("Error(s) in loading state_dict"):
            raise
        fail(error)


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


def fail(error: BaseException) -> None:
    """End the program with one line about `error`."""
    if os.environ.get(TRACEBACK):
        raise error
    print(f"error: {one_line(error)}", file=sys.stderr)
    raise SystemExit(1) from error


def warn(message: str) -> None:
    """Print one line of warning."""
    print(f"warning: {message}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """Return the error's message on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    text = _union_error(str(error)) if "Union subtypes" in str(error) else str(error)
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= 600 else f"{text[:600]}... (the full message with {TRACEBACK}=1)"


def _union_error(text: str) -> str:
    """Shorten jsonargparse's ten-line message about a value that fits none of an option's types."""
    keys = re.findall(r'Parser key "([^"]+)"', text)
    option = f"--{'.'.join(keys)}" if keys else "the configuration"
    unknown = re.search(r"Option '([^']+)' is not accepted", text)
    if unknown:
        return f"{option} has no option {unknown[1]!r}: see --help, or {option}.help CLASS"
    problem = re.search(r"Problem with given class_path '([^']+)':\s*([^\n]+)", text)
    if problem:
        return f"{option} {problem[1]}: {problem[2]}"
    reasons = re.findall(r"^\s*- (?!Expected a |Type typing|Type collections)(.+)$", text, flags=re.MULTILINE)
    if reasons:
        return reasons[0]
    types = r"Expected a <class '(?!NoneType)([\w.]+)'>|Expected a typing\.Literal\[([^\]]*)\]"
    expected = dict.fromkeys(one or other for one, other in re.findall(types, text))
    if len(keys) > 1 and len(expected) > 1:  # a name in place of the whole, which the outer option takes too
        expected.pop("str", None)
    value = re.search(r"Given value: (.+?)(?:\. Got value.*)?$", text, flags=re.MULTILINE)
    return f"{option}: expected {' or '.join(expected) or 'another type'}, found {value[1] if value else 'another one'}"
