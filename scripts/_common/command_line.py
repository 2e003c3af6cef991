"""The former names of `errors.py` and `cli.py`."""

from collections.abc import Callable, Mapping
from typing import Any

from _common.cli import experiment
from _common.errors import fail as fail
from _common.errors import one_line as one_line
from _common.errors import one_line_errors as one_line_errors
from _common.errors import quiet_lightning as quiet_lightning
from _common.errors import warn as warn


def run_command_line(
    commands: Callable[..., Any] | Mapping[str, Callable[..., Any]], args: list[str] | None, default: str = ""
) -> Any:
    """Call a function, or the subcommand named first, with the command line's options."""
    return experiment(commands, default)(args)
