"""The words of `train.py`'s command line, completed before they are parsed."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from _common.cli import Option, join, replace, split, value_of, with_full_names
from _common.names import backbones, classifier_path
from _common.rebuild import classifier_class, imported
from _common.run import ROOT, find_last, run_of
from _common.trust import checked_config
from lightning_modules import ImageClassifier
from lightning_modules.runs.reading import check_resumable, read_checkpoint
from lightning_modules.runs.trust import may_be_imported
from lightning_modules.schedule import is_schedule, parse

NO_CHECKPOINT = "{} needs a trained network: add --ckpt_path FILE, or --ckpt_path last"
_HELP = "model.backbone.help"
DEFAULT_RECIPE = Path(__file__).parents[1] / "recipes" / "digits.yaml"


def complete(command: str, words: list[str]) -> list[str]:
    """Complete the words after the command: full class paths, and the configuration to start from.

    That is the configuration of the checkpoint's run or, if neither data nor a checkpoint is named, the digits' recipe.
    """
    leading, options = split(words)
    switch = Option("lr_range_test", ("true",))
    options = [switch if one == Option("lr_range_test", ()) else one for one in options]
    options = with_full_names(with_timm(with_scheduler(options)))
    for name, values in options:
        if values and name != "name" and may_be_imported(values[0]):
            imported(f"--{name}", values[0])  # so that the reason of a failure is the message
    given = value_of("ckpt_path", options)
    start: Path | None = None
    if given is not None:
        root = value_of("trainer.default_root_dir", options) or ROOT
        checkpoint = find_last(root) if given == "last" else Path(given)
        if command == "fit":
            check_resumable(read_checkpoint(checkpoint), checkpoint)
        else:
            read_checkpoint(checkpoint)
        options = replace("ckpt_path", str(checkpoint), options)
        if command == "fit" and value_of("resume_optimizer", options) is None:  # once, not each time
            options.append(Option("resume_optimizer", ("true",)))
        run = run_of(checkpoint)
        if run is not None and value_of("config", options) is None:
            checked_config(run, value_of("trust", options) or "")
            start = run / "config.yaml"
    elif command == "fit" and value_of("data", options) is None:
        start = DEFAULT_RECIPE
    elif command != "fit" and not {"help", "config", "print_config"} & {option.name for option in options}:
        raise ValueError(NO_CHECKPOINT.format(command))
    if start is not None and value_of("config", options) is None:
        options = [Option("config", (str(start),)), *options]
    return leading + join(options)


def with_timm(options: list[Option]) -> list[Option]:
    """Return the options with the class of timm's networks where one of them has options of its own.

    `--model.backbone resnet18 --model.backbone.pretrained true` is `--model.backbone TimmModel` with a name.
    """
    given = value_of("model.backbone", options)
    has_options = any(option.name.startswith("model.backbone.") and option.name != _HELP for option in options)
    if given is None or not has_options or given in backbones().keys() - {"timm_model"}:
        return options
    made = [Option("model.backbone", ("TimmModel",))]
    if given not in ("timm_model", backbones()["timm_model"]):
        import timm  # takes seconds

        if not timm.is_model(given):
            return options
        made.append(Option("model.backbone.name", (given,)))
    return [one for option in options for one in (made if option.name == "model.backbone" else [option])]


def with_scheduler(options: list[Option]) -> list[Option]:
    """Return the options with the scheduler that `--schedule TEXT`, or a text as `--lr_scheduler`, stands for."""
    made: list[Option] = []
    for option in options:
        value = option.words[0] if option.words else None
        if option.name != "schedule" and not (option.name == "lr_scheduler" and is_schedule(value)):
            made.append(option)
            continue
        if len(option.words) != 1:
            raise ValueError(
                f"--schedule needs one text in quotation marks, found {len(option.words)} words: write it as "
                '--schedule "warmup 5%, cosine"'
            )
        if option.name == "schedule" and any(other.name.startswith("lr_scheduler") for other in options):
            raise ValueError("--schedule and --lr_scheduler exclude each other: give one")
        made.append(Option("lr_scheduler", ("null",)))  # so that no option of a recipe's scheduler is left
        if value not in ("null", "None"):
            parse(str(value))
            made += [Option("lr_scheduler", ("Schedule",)), Option("lr_scheduler.text", (str(value),))]
    return made


def choose_classifier(words: list[str]) -> tuple[list[str], type[ImageClassifier]]:
    """Return the words without `--model CLASS`, and the class that they or their configuration files name."""
    leading, options = split(words)
    typed = [option for option in options if option.name == "model" and option.words]
    if typed and not Path(typed[-1].words[0]).is_file():
        return leading + join(option for option in options if option not in typed), classifier_class(typed[-1].words[0])
    files = [Path(option.words[0]) for option in options if option.name == "config" and option.words]
    named = [classifier_path(options_in(file)) for file in files if file.is_file()]
    return words, classifier_class(next((path for path in reversed(named) if path is not None), None))


def options_in(file: Path) -> dict[str, Any]:
    """Return what a configuration file holds.

    Raises:
        ValueError: If that is not YAML or no options.
    """
    try:
        config = get_loader("yaml")(file.read_text())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"--config {file}{place}: {getattr(error, 'problem', None) or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"--config {file} must be a text file") from None
    if not isinstance(config, dict):
        raise ValueError(f"--config {file} must hold options, found {config!r:.40}")
    for group in ("trainer", "monitor", "model"):
        if not isinstance(config.get(group, {}), dict):
            raise ValueError(f"--config {file}: {group} must hold options, found {config[group]!r:.40}")
    return config
