"""What every script's command line shares: a user's mistake ends in one line and an exit code, not in a traceback."""

import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import ArgumentError, auto_cli
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lightning_modules.callbacks.training_monitor import NonFiniteLossError

TRACEBACK = "LIGHTNING_BLOCKS_TRACEBACK"
"""The environment variable that turns tracebacks on."""

_MISTAKES = (ValueError, OSError, ArgumentError, MisconfigurationException, NonFiniteLossError)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn the errors that a user can mend into ``error: <one line>`` and exit code 1."""
    try:
        yield
    except _MISTAKES as error:
        fail(error)
    except RuntimeError as error:
        if not str(error).startswith("Error(s) in loading state_dict"):
            raise
        fail(error)


@contextmanager
def quiet_lightning(*expected: str) -> Iterator[None]:
    """Without Lightning's notes, and without the warnings that are meant so: its own, and those given as patterns."""
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (r".*LeafSpec.* is deprecated", *expected):  # the first is Lightning's own code
            warnings.filterwarnings("ignore", message=message)
        yield


def run_command_line(commands: Any, args: list[str] | None, default: str | None = None) -> Any:
    """Call a function, or the subcommand named first, with the command line's options, and return what it returns.

    Args:
        commands: One function, or several by subcommand; options are made from signature and docstring. They may be
            written with hyphens, and those of ``bool`` without a value, which means true.
        args: The words; the process's own by default.
        default: The subcommand that is meant when none is named.
    """
    words = list(sys.argv[1:] if args is None else args)
    if default is not None and (not words or (words[0].startswith("-") and words[0] not in ("-h", "--help"))):
        words = [default, *words]
    words = _spelled(words, _switches(commands))
    with one_line_errors(), quiet_lightning():
        return auto_cli(commands, args=words, exit_on_error=False)


def _switches(commands: Any) -> set[str]:
    """The options whose value is true or false."""
    functions = commands.values() if isinstance(commands, dict) else [commands]
    parameters = [one for function in functions for one in inspect.signature(function).parameters.values()]
    return {f"--{one.name}" for one in parameters if one.annotation is bool}


def _spelled(words: list[str], switches: set[str]) -> list[str]:
    """The words with ``--on-training-data`` spelled ``--on_training_data true``."""
    spelled: list[str] = []
    for word, following in zip(words, [*words, "--"][1:], strict=True):
        option, equals, value = word.partition("=")
        if not option.startswith("--"):
            spelled.append(word)
            continue
        option = option.replace("-", "_").replace("__", "--", 1)
        spelled.append(f"{option}{equals}{value}")
        if option in switches and not equals and following.startswith("--"):
            spelled.append("true")
    return spelled


def fail(error: BaseException) -> None:
    """End the program with one line about ``error``."""
    if os.environ.get(TRACEBACK):
        raise error
    print(f"error: {one_line(error)}", file=sys.stderr)
    raise SystemExit(1) from error


def warn(message: str) -> None:
    """Print one line of warning."""
    print(f"warning: {message}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """The error's message on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    text = _union_error(str(error)) if "Union subtypes" in str(error) else str(error)
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= 600 else f"{text[:600]}... (all of it with {TRACEBACK}=1)"


def _union_error(text: str) -> str:
    """What jsonargparse says in ten lines when a value fits none of an option's types, in a dozen words."""
    keys = re.findall(r'Parser key "([^"]+)"', text)
    option = f"--{'.'.join(keys)}" if keys else "the configuration"
    unknown = re.search(r"Option '([^']+)' is not accepted", text)
    if unknown:
        return f"{option} has no option {unknown[1]!r}: see --help, or {option}.help CLASS"
    reasons = re.findall(r"^\s*- (?!Expected a |Type typing|Type collections)(.+)$", text, flags=re.MULTILINE)
    if reasons:
        return reasons[0]
    classes = re.findall(r"Expected a <class '([\w.]+)'>", text)
    literals = re.findall(r"Expected a typing\.Literal\[([^\]]*)\]", text)
    expected = dict.fromkeys([name for name in classes if name != "NoneType"] + literals)
    value = re.findall(r"Given value: (.+?)(?:\. Got value.*)?$", text, flags=re.MULTILINE)
    return (
        f"{option}: expected {' or '.join(expected) or 'another type'}, found {value[0] if value else 'another value'}"
    )
