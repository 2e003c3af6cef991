"""The combinations of a comparison, and the command line of train.py for each."""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import yaml

from _common.cli import Option, join, split
from _common.errors import one_line
from _compare.building import build
from _compare.values import label, value_options, varied_keys
from _train.command_line import TrainCLI
from _train.words import choose_classifier
from _train.words import complete as complete_words

train_cli = cache(lambda words: TrainCLI(list(words)))
"""One parser for all combinations: making it takes longer than parsing."""
OWN = {
    "seed_everything": "--seeds and --seed choose the seeds",
    "name": "a run is named after its values of the axes",
    "ckpt_path": "the same command resumes an interrupted comparison",
    "trainer.default_root_dir": "--output names the folder of the runs",
    "evaluate_on": "the table is of the test split, and trials leave it unread",
    "keep_predictions": "a comparison always keeps them",
    "seed": "--seeds N makes N runs of each combination, from --seed on",
    "seeds": "--seeds N makes N runs of each combination, from --seed on",
}
"""Options of train.py that a comparison sets itself, and two that an axis cannot be; with the option to use instead."""


class Axis(NamedTuple):
    """One option of train.py and its values."""

    option: str  # without dashes
    values: tuple[str, ...]  # as written: LAMB, SGD(lr=0.1), {class_path: SGD, init_args: {lr: 0.1}}, 64


class Combination(NamedTuple):
    """One value of each axis."""

    name: str  # unique in the comparison
    settings: dict[str, str]  # option -> value, as the user writes it
    words: tuple[str, ...]  # command line of train.py, without fit, the seed and the folder
    config: dict[str, Any]  # its whole configuration, without the seed and the folder
    varied: tuple[str, ...]  # keys of the flat configuration that the values set


class Faults(ValueError):
    """Several mistakes, one a line."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(lines[-1])
        self.others = list(lines[:-1])


def make_grid(axes: Sequence[Axis], options: Sequence[str]) -> list[Combination]:
    """Return every combination of the axes' values, with the options of train.py that all runs share.

    Each is built once.

    Raises:
        Faults: If some of them cannot be made.
        ValueError: If an option is given twice, or is one that a comparison sets itself.
    """
    shared = parse(options)
    given = [option.name for option in shared] + [axis.option for axis in axes]
    for option in given:
        if option in OWN:
            raise ValueError(f"--{option} cannot be given here: {OWN[option]}")
    axis_options = [axis.option for axis in axes]
    for option in given:
        if given.count(option) > 1 and option != "config":
            both = option in axis_options and axis_options.count(option) < given.count(option)
            remedy = "as an axis it must not be among the options too" if both else "give it once"
            raise ValueError(f"--{option} is given twice: {remedy}")
    combinations: list[Combination] = []
    faults: dict[str, str] = {}  # what is wrong -> the first combination in which it is
    for values in itertools.product(*(axis.values for axis in axes)):
        settings = {axis.option: value for axis, value in zip(axes, values, strict=True)}
        name = ", ".join(label(option, value) for option, value in settings.items())
        chosen = [one for option, value in settings.items() for one in value_options(option, value)]
        # A class comes before its options, and recipes before everything.
        order = sorted([*shared, *chosen], key=lambda one: (one.name != "config", one.name.count(".")))
        try:
            words, config = check(join(order))
        except Exception as error:
            faults.setdefault(one_line(error), name)
            continue
        combinations.append(Combination(name, settings, tuple(words), config, tuple(varied_keys(chosen))))
    if faults:
        raise Faults([f"{name}: {fault}" for fault, name in faults.items()])
    names = [combination.name for combination in combinations]
    if len(set(names)) < len(names):
        raise ValueError(f"two combinations are both {next(n for n in names if names.count(n) > 1)}: give it once")
    return combinations


def parse(words: Sequence[str]) -> list[Option]:
    """Take a command line of options apart."""
    leading, options = split(words)
    if leading:
        raise ValueError(f"unexpected word {leading[0]!r}: options start with --")
    return options


def check(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Complete a run's command line, and return it with its configuration, after building what it describes.

    It gets one device, no progress bar, the test curve, and the predictions for the test split.
    """
    complete = [*words, "--trainer.enable_progress_bar", "false", "--keep_predictions", "true"]
    config = configured(complete)
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


def configured(words: Sequence[str]) -> dict[str, Any]:
    """Return the configuration of a run's command line, after building what it describes."""
    completed, classifier = choose_classifier(complete_words("fit", list(words)))
    cli = train_cli(("fit", "--model", f"{classifier.__module__}.{classifier.__qualname__}"))
    cli.parse_arguments(cli.parser, completed)
    build(cli)
    config: dict[str, Any] = yaml.safe_load(cli.config_text())  # as config.yaml would hold it
    del config["seed_everything"], config["trainer"]["default_root_dir"]
    return config
