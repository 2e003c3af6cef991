"""The combinations of a comparison, and the command line of train.py for each."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from _common.cli import Option, join, split
from _common.errors import one_line
from _compare.values import label, value_options, varied_keys
from _train.command_line import TrainCLI

OWN = {
    "seed_everything": "--seeds and --seed choose the seeds",
    "ckpt_path": "the same command resumes an interrupted comparison",
    "trainer.default_root_dir": "--output names the folder of the runs",
}
"""Options of train.py that a comparison sets itself, and the option to use instead."""


@dataclass(frozen=True)
class Axis:
    """One option of train.py and its values.

    Attributes:
        option: Name without dashes.
        values: Values as the user writes them: `LAMB`, `SGD(lr=0.1)`, `{class_path: SGD, init_args: {lr: 0.1}}`, `64`.
    """

    option: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Combination:
    """One value of each axis.

    Attributes:
        name: Unique in the comparison.
        settings: Option -> value, as the user writes it.
        words: Command line of train.py, without `fit`, the seed and the folder.
        config: Configuration that train.py parses it to.
        varied: Keys of the flat configuration that the values set.
    """

    name: str
    settings: dict[str, str]
    words: tuple[str, ...]
    config: dict[str, Any]
    varied: tuple[str, ...]


def make_grid(axes: Sequence[Axis], options: Sequence[str]) -> list[Combination]:
    """Return every combination of the axes' values, each checked by train.py's parser.

    Args:
        axes: Axes, at least one.
        options: Words for train.py that all runs share.

    Raises:
        ValueError: If an axis, a value or an option is not one of train.py's.
    """
    shared = parse(options)
    given = [option.name for option in shared] + [axis.option for axis in axes]
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
        chosen = [one for option, value in settings.items() for one in value_options(option, value)]
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


def parse(words: Sequence[str]) -> list[Option]:
    """Take a command line apart.

    Raises:
        ValueError: If it does not start with an option.
    """
    leading, options = split(words)
    if leading:
        raise ValueError(f"unexpected word {leading[0]!r}: options start with --")
    return options


def in_order(options: Iterable[Option]) -> list[str]:
    """Put a command line together so that a class comes before its options, and recipes before everything."""
    return join(sorted(options, key=lambda option: (option.name != "config", option.name.count("."))))


@cache
def _command_line() -> TrainCLI:
    """One parser for all combinations: making it takes longer than parsing."""
    return TrainCLI(["fit"])


def _configuration(words: Sequence[str]) -> dict[str, Any]:
    """The whole configuration of a command line, as config.yaml would hold it, except seed and folder."""
    cli = _command_line()
    cli.parse_arguments(cli.parser, list(words))
    config: dict[str, Any] = yaml.safe_load(cli.config_text())
    config.pop("seed_everything")
    config["trainer"].pop("default_root_dir")
    return config


def check(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Parse a run's command line as train.py does, and complete it: one device, no progress bar, the test curve.

    Returns:
        The words, and their configuration.
    """
    complete = [*words, "--trainer.enable_progress_bar", "false"]
    config = _configuration(complete)
    trainer, data = config["trainer"], config["data"].get("init_args") or {}
    if trainer["fast_dev_run"]:
        raise ValueError("--trainer.fast_dev_run tests nothing: limit the batches by --trainer.limit_train_batches")
    if str(trainer["devices"]) not in ("auto", "1") or trainer["num_nodes"] != 1:
        raise ValueError(
            f"a run of a comparison has one device, found --trainer.devices {trainer['devices']} on "
            f"{trainer['num_nodes']} machines: use --jobs for several runs at a time"
        )
    if str(trainer["devices"]) == "auto":
        complete += ["--trainer.devices", "1"]
        trainer["devices"] = 1
    if data.get("watch_test") is False and "data.watch_test" not in [option.name for option in parse(words)]:
        complete += ["--data.watch_test", "true"]
        data["watch_test"] = True
    return complete, config
