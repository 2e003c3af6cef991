"""One value of an axis: its notation, its name in tables, and the options of train.py that set it."""

import ast
import json
import re
from collections.abc import Iterable
from typing import Any

import yaml

from _common.cli import Option
from _common.names import expand_config
from _common.run import flatten

_CLASSES = ("optimizer", "base_optimizer", "lr_scheduler", "activation")


def value_options(option: str, value: str, nested: bool = False) -> list[Option]:
    """Return the options of train.py that set `option` to a value and the value's own options.

    A class starts from its own defaults, not from a recipe's options of another class.

    Example:
        >>> [(name, *words) for name, words in value_options("optimizer", "SGD(lr=0.1)")]
        [('optimizer', 'null'), ('optimizer', 'SGD'), ('optimizer.lr', '0.1')]
        >>> value_options("data.batch_size", "64")
        [Option(name='data.batch_size', words=('64',))]
    """
    key = option.rpartition(".")[2]
    start: list[Option] = [Option(option, ("null",))] if key in _CLASSES and not nested else []
    if value.lstrip().startswith("{"):
        content = expand_config({key: yaml.safe_load(value)})[key]
        return [*start, Option(option, (json.dumps(content),))]
    call = _call(value)
    if call is None:
        return [*start, Option(option, (value,))]
    options = [*start, Option(option, (ast.unparse(call.func),))]
    for keyword in call.keywords:
        below = f"{option}.{keyword.arg}"
        if isinstance(keyword.value, ast.Call):
            options += value_options(below, ast.unparse(keyword.value), nested=True)
        else:
            options.append(Option(below, (_word(keyword.value, value),)))
    return options


def _word(node: ast.expr, source: str) -> str:
    """A value inside a call as train.py reads it: numbers as they are written, tuples as lists."""
    try:
        content = ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)  # a bare name
    if isinstance(content, str):
        return content
    number = isinstance(content, int | float) and not isinstance(content, bool)
    return ast.get_source_segment(source, node) or "" if number else json.dumps(content)


def _call(value: str) -> ast.Call | None:
    """The parsed `NAME(option=value, ...)`; None for any other value."""
    if not re.match(r"[A-Za-z_][\w.]*\(", value):
        return None
    try:
        node = ast.parse(value, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"cannot read {value!r}: write NAME(option=value, ...)") from error
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError(f"cannot read {value!r}: write NAME(option=value, ...), every option with its name")
    return node


def label(option: str, value: str) -> str:
    """Return the name of a value in tables.

    Example:
        >>> label("optimizer", "{class_path: torch.optim.SGD, init_args: {lr: 0.1}}")
        'SGD(lr=0.1)'
        >>> label("data.batch_size", "64")
        'batch_size=64'
    """
    key = option.rpartition(".")[2]
    if value.lstrip().startswith("{"):
        try:
            return _describe(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise ValueError(f"--{option}: cannot read {value!r} as YAML or JSON") from error
    if _call(value) is not None:
        return value
    if re.fullmatch(r"[A-Za-z_][\w.]*", value) and value.lower() not in ("true", "false", "null", "none", "nan", "inf"):
        return value.rpartition(".")[2]
    return f"{key}={value.rpartition('/')[2]}"


def _describe(content: Any) -> str:
    if not isinstance(content, dict):
        return str(content)
    arguments = content.get("init_args") or {k: v for k, v in content.items() if k != "class_path"}
    inner = ", ".join(f"{key}={_describe(value)}" for key, value in arguments.items())
    return f"{str(content.get('class_path', '')).rpartition('.')[2]}({inner})"


def varied_keys(options: Iterable[Option]) -> list[str]:
    """Return the keys of the flat configuration that an axis's options set, classes as `....class_path`."""
    keys: dict[str, None] = {}
    for option, rest in options:
        if rest[:1] == ("null",):
            continue
        if rest and rest[0].startswith("{"):
            keys |= dict.fromkeys(flatten(json.loads(rest[0]), option))
        elif option == "schedule":
            keys["lr_scheduler.init_args.text"] = None
        else:
            keys[f"{option}.class_path"] = keys[option] = None
    return list(keys)
