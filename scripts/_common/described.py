"""Options that name an object of the user's, such as `--module my.Layer --module.width 8`.

`gather` writes such words as one option, whose value a function gets as text or as a dictionary; `arguments` parses the
object's options by its signature, once it is known.
"""

import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jsonargparse import ArgumentError, Namespace

from _common.cli import Option, Parser, join, split

Described: TypeAlias = str | dict[str, Any]
"""An import path, or `{"class_path": path, "init_args": {name: value}}`, as in a configuration file."""


def gather(words: Sequence[str], *names: str) -> list[str]:
    """Write each option `--NAME PATH --NAME.OPTION VALUE ...` of a command line as one option.

    Example:
        >>> gather(["--module", "my.Layer", "--module.width", "8", "--seed", "1"], "module")
        ['--module', '{"class_path": "my.Layer", "init_args": {"width": "8"}}', '--seed', '1']
        >>> gather(["--module", "my.Layer"], "module")
        ['--module', 'my.Layer']
    """
    leading, options = split(words)
    for name in names:
        inner = {one.removeprefix(f"{name}."): values for one, values in options if one.startswith(f"{name}.")}
        typed = [place for place, one in enumerate(options) if one.name == name and one.words]
        if not inner:
            continue
        if not typed:
            first = next(iter(inner))
            raise ValueError(f"--{name}.{first} belongs to a class that is not chosen: add --{name} NAME before it")
        (path, *rest), given = options[typed[-1]].words, {one: " ".join(values) for one, values in inner.items()}
        written = json.dumps({"class_path": path, "init_args": given})
        options[typed[-1]] = Option(name, (written, *rest))
        options = [one for one in options if not one.name.startswith(f"{name}.")]
    return leading + join(options)


def repeated(words: Sequence[str], name: str) -> list[str]:
    """Write the values of an option that may be given several times as one list.

    Example:
        >>> repeated(["--shape", "4,3", "--shape", "4:int", "5"], "shape")
        ['--shape', '["4,3", "4:int", "5"]']
        >>> repeated(["--shape", "[4,3]"], "shape")
        ['--shape', '["[4,3]"]']
    """
    leading, options = split(words)
    values = [word for one in options if one.name == name for word in one.words]
    if not values:
        return list(words)
    return leading + join([*(one for one in options if one.name != name), Option(name, (json.dumps(values),))])


def parts(described: Described, option: str) -> tuple[str, dict[str, Any]]:
    """Return the import path, and the values by name.

    Raises:
        ValueError: If it is a dictionary of other keys.
    """
    if isinstance(described, str):
        return described, {}
    path, values = described.get("class_path"), described.get("init_args") or {}
    if not isinstance(path, str) or not isinstance(values, dict) or set(described) - {"class_path", "init_args"}:
        raise ValueError(f"--{option}: expected a name, or class_path and init_args, found {described}")
    return path, values


def as_words(option: str, values: dict[str, Any]) -> list[str]:
    """Return values by name, as text or as a configuration file holds them, as the words of a command line."""
    texts = {name: one if isinstance(one, str) else json.dumps(one) for name, one in values.items()}
    return [f"--{option}.{name}={text}" for name, text in texts.items()]


def arguments(target: Callable[..., Any], option: str, values: dict[str, Any]) -> Callable[[], Any]:
    """Parse the options of a class or function by its signature; return what calls it with them.

    Args:
        target: The class or function.
        option: Name of the option, without dashes.
        values: Values by name: what was typed, or what a configuration file holds.

    Raises:
        SystemExit: For the value of `help`, after printing the options.
    """
    parser = Parser()
    if inspect.isclass(target):
        parser.add_class_arguments(target, option, fail_untyped=False, instantiate=False)
    else:
        parser.add_function_arguments(target, option, fail_untyped=False)
    if "help" in values:
        print(parser.format_help())
        raise SystemExit(0)
    try:
        parsed = parser.parse_args(as_words(option, values))
    except ArgumentError as error:
        if missing := re.search(rf"arguments are required: {option}\.(\w+)", str(error)):
            raise ValueError(
                f"--{option} {target.__name__} needs {missing[1]}: add --{option}.{missing[1]} VALUE"
            ) from None
        raise

    # Only what was given: a default that is no plain data would come back as the text that describes it.
    given = {name.partition(".")[0] for name in values}

    def call() -> Any:
        made = parser.instantiate(parsed).get(option) or Namespace()
        return target(**{name: value for name, value in vars(made).items() if name in given})

    return call
