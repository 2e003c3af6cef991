"""Command lines: splitting and completing them, and making options of a function's arguments.

An experiment is a function with typed, documented arguments and one line:

    main = experiment(run)
"""

import argparse
import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, DefaultHelpFormatter

from _common.errors import one_line_errors, quiet_lightning
from _common.names import full_path, nearest

_OPTION = re.compile(r"--?[A-Za-z]")  # -1 is a value
_SHORT = {"c": "config", "h": "help"}


class Option(NamedTuple):
    """An option's name, without dashes and with underscores, and the words up to the next option."""

    name: str
    words: tuple[str, ...] = ()


def split(words: Iterable[str]) -> tuple[list[str], list[Option]]:
    """Return the words before the first option of a command line, and the options, with `~` expanded in their values.

    A shell does not expand it in `--data_dir=~/data`.

    Example:
        >>> split(["fit", "--save-every=5", "--watch"])
        (['fit'], [Option(name='save_every', words=('5',)), Option(name='watch', words=())])
    """
    leading: list[str] = []
    options: list[Option] = []
    for word in words:
        if _OPTION.match(word):
            option, equals, value = word.partition("=")
            name = option.lstrip("-").replace("-", "_")
            options.append(Option(_SHORT.get(name, name), (at_home(value),) if equals else ()))
        elif options:
            options[-1] = Option(options[-1].name, (*options[-1].words, at_home(word)))
        else:
            leading.append(word)
    return leading, options


def at_home(word: str) -> str:
    """Return a path with the user's home folder in place of `~/`; other words as they are."""
    return os.path.expanduser(word) if word.startswith("~/") else word


def join(options: Iterable[Option]) -> list[str]:
    """Return the command line of some options."""
    words: list[str] = []
    for name, values in options:
        if values and _OPTION.match(values[0]):  # a value that reads as an option
            words += [f"--{name}={values[0]}", *values[1:]]
        else:
            words += [f"--{name}", *values]
    return words


def value_of(name: str, options: Iterable[Option]) -> str | None:
    """Return the first word of an option, or None if it is not given."""
    return next((words[0] for option, words in options if option == name and words), None)


def replace(name: str, value: str, options: Iterable[Option]) -> list[Option]:
    """Return the options with another value for one of them."""
    return [Option(name, (value,)) if option.name == name else option for option in options]


def with_full_names(options: Iterable[Option]) -> list[Option]:
    """Return the options with import paths in place of short names of classes."""
    expanded = []
    for name, words in options:
        key = [part for part in ("", *name.split(".")) if part not in ("class_path", "help", "init_args")][-1]
        expanded.append(Option(name, (full_path(key, words[0]), *words[1:])) if words else Option(name))
    return expanded


def command_of(words: Sequence[str], commands: Iterable[str], default: str) -> tuple[str, list[str]]:
    """Divide a command line into the subcommand, which may be left out, and the rest."""
    if not words or words[0].startswith("-"):
        return default, list(words)
    if words[0] not in commands:
        raise ValueError(f"unknown command {words[0]!r}: {nearest(words[0], commands)}")
    return words[0], list(words[1:])


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help that keeps the line breaks of the description, which holds the examples."""


class ShortHelp:
    """Mixin of a jsonargparse parser: no lists of every subclass, and a hint in the error about an unknown option."""

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Return the help without lists of known subclasses, and without defaults of nothing."""
        text = super().format_help(*args, **kwargs)  # type: ignore[misc]
        text = re.sub(r",\s+known\s+subclasses:[^()]*(?=\))", "", text)
        return re.sub(r",\s+default:\s+null(?=\)|,)|\s+\(default:\s+null\)", "", text)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse, and name the options most similar to an unknown one."""
        try:
            return super().parse_args(*args, **kwargs)  # type: ignore[misc]
        except ArgumentError as error:
            text = str(error)
            unknown = re.search(r"unrecognized arguments: --([\w.]+)", text)
            inside = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text)
            top = re.match(r"Option '([\w.]+)' is not accepted", text)
            if not (unknown or inside or top):
                raise
            name = unknown[1] if unknown else f"{inside[1]}.{inside[2]}" if inside else top[1] if top else ""
            line = text if unknown else f"there is no option --{name}"
            options = list(self.get_defaults().keys())  # type: ignore[attr-defined]
            near = [one for one in options if one.startswith(name)] or difflib.get_close_matches(name, options)
            hint = f"did you mean {' or '.join(f'--{one}' for one in near[:3])}?" if near else "see --help"
            raise ValueError(f"{line}: {hint}") from error


class Parser(ShortHelp, ArgumentParser):
    """A parser whose description is shown as it is written, and which accepts no abbreviated options."""

    def __init__(self, description: str | None = None, command: str = "", **kwargs: Any) -> None:
        program = f"{Path(sys.argv[0]).name} {command}".strip()
        options: dict[str, Any] = {
            "prog": program,
            "formatter_class": HelpFormatter,
            "exit_on_error": False,
            "allow_abbrev": False,
        }
        # jsonargparse makes parsers of the same class, with some of these options, for arguments that are classes.
        super().__init__(description=description, **(options | kwargs))


def experiment(
    commands: Callable[..., Any] | Mapping[str, Callable[..., Any]],
    default: str = "",
    description: str | None = None,
    words: Callable[[list[str]], list[str]] | None = None,
) -> Callable[..., Any]:
    """Make a script's `main(args=None)` of one function, or of several by subcommand.

    Options are made from signature and docstring. They may be written with hyphens, and those of `bool` without a
    value, which means true. A user's mistake is reported in one line.

    Args:
        commands: The function, or subcommand -> function.
        default: The subcommand used when none is given.
        description: Text above the options in `--help`; by default the docstring of the function's module.
        words: Rewrites the command line before it is parsed; see `described.gather`.
    """
    functions = dict(commands) if isinstance(commands, Mapping) else {"": commands}
    home = inspect.getmodule(functions[default])
    text = description or inspect.getdoc(home) or ""

    def main(args: list[str] | None = None) -> Any:
        """Run the command line `args` (the process's own by default)."""
        typed = list(sys.argv[1:] if args is None else args)
        with one_line_errors(split(typed)[1]), quiet_lightning():
            if len(functions) > 1 and typed[:1] in (["-h"], ["--help"]):
                print(text)
                raise SystemExit(0)
            name, rest = command_of(typed, functions, default) if default else ("", typed)
            rest = words(rest) if words else rest
            function = functions[name]
            about = text if len(functions) == 1 else (inspect.getdoc(function) or "").partition("\n\nArgs:")[0]
            parser = Parser(about, name)
            parser.add_argument("--config", action=ActionConfigFile, help="YAML file with options.")
            parser.add_function_arguments(function, as_group=False, as_positional=True)
            options = parser.instantiate(parser.parse_args(_spelled(rest, function)))
            options.pop("config")
            _check_common(options)
            return function(**options)

    return main


def at_least(least: int, **options: float) -> None:
    """Refuse an option whose value is smaller than `least`."""
    for name, value in options.items():
        if value < least:
            raise ValueError(f"--{name} must be at least {least}, found {value}")


def _check_common(options: Mapping[str, Any]) -> None:
    """Refuse an output folder and a seed that would fail after the work."""
    output, seed = options.get("output"), options.get("seed")
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise ValueError(f"--output must be a folder, found the file {output}")
    if output is not None:
        _check_writable(Path(output))
    if seed is not None and not 0 <= seed < 2**32:
        raise ValueError(f"--seed must be 0 to {2**32 - 1}, found {seed}")


def _check_writable(output: Path) -> None:
    """Make the folder and remove it again: the work may take long before there is something to write."""
    missing = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            folder.rmdir()
    except OSError as error:
        raise ValueError(
            f"--output must be a folder that can be written, found {output} ({error.strerror}): choose another"
        ) from error
    if not os.access(output if not missing else missing[-1].parent, os.W_OK):
        raise ValueError(f"--output must be a folder that can be written, found {output}: choose another")


def _spelled(words: list[str], function: Callable[..., Any]) -> list[str]:
    """Spell `--on-training-data` as `--on_training_data true`."""
    switches = {one.name for one in inspect.signature(function).parameters.values() if one.annotation is bool}
    leading, options = split(words)
    return leading + join(Option(n, w or ("true",)) if n in switches else Option(n, w) for n, w in options)
