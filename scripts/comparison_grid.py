"""What is compared: values of train.py's options, and the command line of each combination of them."""

import ast
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from command_line import one_line
from names import expand_config
from train import TrainCLI

OWN = {
    "seed_everything": "--seeds and --seed say which seeds run",
    "ckpt_path": "an interrupted comparison goes on by itself",
    "trainer.default_root_dir": "--output says where the runs are written",
}
"""Options of train.py that a comparison sets itself, and what to use instead."""
_CLASSES = ("optimizer", "base_optimizer", "lr_scheduler", "activation")
_PLAIN = re.compile(r"[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Axis:
    """One option of train.py and the values that it takes in turn.

    Attributes:
        option: Its name without the dashes.
        values: As they are given: ``LAMB``, ``SGD(lr=0.1)``, ``{class_path: SGD, init_args: {lr: 0.1}}``, ``64``.
    """

    option: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Combination:
    """One value of each axis.

    Attributes:
        name: Unique in the comparison.
        settings: Option -> value, as given.
        words: The command line of train.py but for ``fit``, the seed and the folder.
        config: What train.py makes of it.
        varied: Keys of the flat configuration that the values name.
    """

    name: str
    settings: dict[str, str]
    words: tuple[str, ...]
    config: dict[str, Any]
    varied: tuple[str, ...]


def make_grid(axes: Sequence[Axis], options: Sequence[str]) -> list[Combination]:
    """Every combination of the axes' values, each checked by train.py's own parser.

    Args:
        axes: At least one.
        options: Words for train.py that all runs share.

    Raises:
        ValueError: If an axis, a value or an option is not one of train.py's.
    """
    shared = groups(options)
    given = [group[0] for group in shared] + [axis.option for axis in axes]
    for option in given:
        if option in OWN:
            raise ValueError(f"--{option} cannot be given here: {OWN[option]}")
    twice = [option for option, count in ((o, given.count(o)) for o in given) if count > 1 and option != "config"]
    if twice:
        raise ValueError(f"--{twice[0]} is given twice: as an axis it must not be among the options too")
    combinations = []
    for values in itertools.product(*(axis.values for axis in axes)):
        settings = {axis.option: value for axis, value in zip(axes, values, strict=True)}
        name = ", ".join(label(option, value) for option, value in settings.items())
        chosen = [group for option, value in settings.items() for group in value_options(option, value)]
        words = in_order([*shared, *chosen])
        try:
            words, config = check(words)
        except Exception as error:
            raise ValueError(f"{name}: {one_line(error)}") from error
        combinations.append(Combination(name, settings, tuple(words), config, tuple(varied_keys(chosen))))
    names = [combination.name for combination in combinations]
    if len(set(names)) < len(names):
        raise ValueError(f"two combinations are both {next(n for n in names if names.count(n) > 1)}: give it once")
    return combinations


Option = tuple[str, tuple[str, ...]]
"""An option's name and its words."""


def groups(words: Sequence[str]) -> list[Option]:
    """Take a command line apart: each option with the words up to the next one."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if re.match(r"--?[A-Za-z]", word):
            option, equals, value = word.partition("=")
            found.append((option.lstrip("-") if option != "-c" else "config", [value] if equals else []))
        elif found:
            found[-1][1].append(word)
        else:
            raise ValueError(f"unexpected word {word!r}: options start with --")
    return [(option, tuple(rest)) for option, rest in found]


def in_order(options: Iterable[Option]) -> list[str]:
    """Put a command line together so that a class comes before its options, and recipes before all."""
    ordered = sorted(options, key=lambda group: (group[0] != "config", group[0].count(".")))
    return [word for option, rest in ordered for word in (f"--{option}", *rest)]


def value_options(option: str, value: str, nested: bool = False) -> list[Option]:
    """The options of train.py that give ``option`` a value with all that the value carries.

    A class that a value names starts from its own defaults, not from what a recipe says for another class.

    Example:
        >>> value_options("optimizer", "SGD(lr=0.1)")
        [('optimizer', ('null',)), ('optimizer', ('SGD',)), ('optimizer.lr', ('0.1',))]
        >>> value_options("data.batch_size", "64")
        [('data.batch_size', ('64',))]
    """
    key = option.rpartition(".")[2]
    start: list[Option] = [(option, ("null",))] if key in _CLASSES and not nested else []
    if value.lstrip().startswith("{"):
        content = expand_config({key: yaml.safe_load(value)})[key]
        return [*start, (option, (json.dumps(content),))]
    call = _call(value)
    if call is None:
        return [*start, (option, (value,))]
    found = [*start, (option, (ast.unparse(call.func),))]
    for keyword in call.keywords:
        below = f"{option}.{keyword.arg}"
        if isinstance(keyword.value, ast.Call):
            found += value_options(below, ast.unparse(keyword.value), nested=True)
        else:
            found.append((below, (_word(keyword.value, value),)))
    return found


def _word(node: ast.expr, source: str) -> str:
    """A value within a call as train.py takes it: numbers as they are written, tuples as lists."""
    try:
        content = ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)  # a bare name
    if isinstance(content, str):
        return content
    number = isinstance(content, int | float) and not isinstance(content, bool)
    return ast.get_source_segment(source, node) or "" if number else json.dumps(content)


def _call(value: str) -> ast.Call | None:
    """``NAME(option=value, ...)`` taken apart; None for any other value."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*\(.*\)", value, re.DOTALL):
        return None
    try:
        node = ast.parse(value, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"cannot read {value!r}: write NAME(option=value, ...)") from error
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError(f"cannot read {value!r}: write NAME(option=value, ...), every option with its name")
    return node


def label(option: str, value: str) -> str:
    """What a value is called in tables.

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
    if _PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "null", "none", "nan", "inf"):
        return value.rpartition(".")[2]
    return f"{key}={value.rpartition('/')[2]}"


def _describe(content: Any) -> str:
    if not isinstance(content, dict):
        return str(content)
    arguments = content.get("init_args") or {k: v for k, v in content.items() if k != "class_path"}
    inner = ", ".join(f"{key}={_describe(value)}" for key, value in arguments.items())
    return f"{str(content.get('class_path', '')).rpartition('.')[2]}({inner})"


def varied_keys(options: Iterable[Option]) -> list[str]:
    """The keys of the flat configuration that an axis's options set, classes as ``....class_path``."""
    keys: dict[str, None] = {}
    for option, rest in options:
        if rest[:1] == ("null",):
            continue
        if rest and rest[0].startswith("{"):
            keys |= dict.fromkeys(_flat_keys(json.loads(rest[0]), option))
        else:
            keys[f"{option}.class_path"] = keys[option] = None
    return list(keys)


def _flat_keys(content: Any, prefix: str) -> list[str]:
    if not isinstance(content, dict):
        return [prefix]
    below = ((prefix if key == "init_args" else f"{prefix}.{key}", value) for key, value in content.items())
    return [key for name, value in below for key in _flat_keys(value, name)]


class CheckedCLI(TrainCLI):
    """train.py's command line, parsed and not run."""

    def before_instantiate_classes(self) -> None:
        """Nothing: no folder is made."""

    def instantiate_classes(self) -> None:
        """Nothing: no data is read."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""

    def plain(self, words: Sequence[str]) -> dict[str, Any]:
        """The whole configuration that ``words`` make, as config.yaml would have it, but for seed and folder."""
        self.arguments = ["fit", *words]
        self.parse_arguments(self.parser, None)
        text = self._parser("fit").dump(self.config["fit"], skip_none=False, format="yaml")
        config: dict[str, Any] = yaml.safe_load(text)
        config.pop("seed_everything")
        config["trainer"].pop("default_root_dir")
        return config


@cache
def _command_line() -> CheckedCLI:
    """One for all combinations: to make it takes longer than to parse."""
    return CheckedCLI(["fit"])


def check(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Parse a run's command line as train.py will, and complete it by what a comparison needs.

    One device a run, no progress bar of its own, and the test curve (``--data.watch_test true``) unless it is given.

    Returns:
        The words and the configuration that they make.
    """
    complete = [*words, "--trainer.enable_progress_bar", "false"]
    config = _command_line().plain(complete)
    trainer, data = config["trainer"], config["data"].get("init_args") or {}
    if trainer["fast_dev_run"]:
        raise ValueError("--trainer.fast_dev_run tests nothing: limit the batches by --trainer.limit_train_batches")
    if str(trainer["devices"]) not in ("auto", "1") or trainer["num_nodes"] != 1:
        raise ValueError(
            f"a run of a comparison has one device, found --trainer.devices {trainer['devices']} on "
            f"{trainer['num_nodes']} machines: several runs at a time by --jobs"
        )
    if str(trainer["devices"]) == "auto":
        complete += ["--trainer.devices", "1"]
        trainer["devices"] = 1
    if data.get("watch_test") is False and "data.watch_test" not in [option for option, _ in groups(words)]:
        complete += ["--data.watch_test", "true"]
        data["watch_test"] = True
    return complete, config
