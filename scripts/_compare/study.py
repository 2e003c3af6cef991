"""A study: a YAML file with the options of a comparison, which a command line completes or replaces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from _common.cli import Option


def read_study(path: Path, typed: Sequence[Option]) -> list[Option]:
    """Return the options of a study, except those that are typed, and then the typed ones.

    The file maps options to values, or to a list of them for an option that may be repeated. Under `axis` it maps
    options to lists of values, under `tune` options (or `VALUE: option`, or `VALUE` for `VALUE: none`) to spaces, or it
    has the word `spaces`.

    Raises:
        ValueError: If the file is no such mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"--study {path}: cannot read it as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"--study {path}: it must map options to values, found {type(content).__name__}")
    given = {option.name for option in typed}
    options: list[Option] = []
    for name, value in content.items():
        name = str(name).replace("-", "_")
        if name in given:
            continue
        if name == "axis":
            options += _axes(path, value)
        elif name == "tune" and isinstance(value, dict):
            options += [Option("tune", _tune(str(option), str(space))) for option, space in value.items()]
        elif isinstance(value, dict):
            raise ValueError(f"--study {path}: {name} must be one value or a list, found {type(value).__name__}")
        else:
            options += [Option(name, (_word(one),)) for one in (value if isinstance(value, list) else [value])]
    return [*options, *typed]


def _axes(path: Path, value: Any) -> list[Option]:
    if not isinstance(value, dict) or not all(isinstance(values, list) and values for values in value.values()):
        raise ValueError(f"--study {path}: axis must map options to lists of values, found {value!r}")
    options = []
    for option, values in value.items():
        options += [Option("axis", (str(option),)), Option("values", tuple(_word(one) for one in values))]
    return options


def _tune(option: str, space: str) -> tuple[str, ...]:
    return (f"{option}: none",) if space == "none" else (option, space)


def _word(value: Any) -> str:
    """A value as it is typed: YAML's true and null in lower case."""
    return value if isinstance(value, str) else yaml.safe_dump(value).removesuffix("\n...\n").strip()
