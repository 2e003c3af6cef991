"""The settings of a run that TensorBoard's HParams tab shows, under the same names for every run."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

from _common.console import say
from _common.run import flatten
from _train.command_line import TrainCLI
from _train.size import SIZE
from _train.start import learning_rate, optimizer_name
from lightning_modules.paths import importable, load
from lightning_modules.runs.loggers import CSVLog, TensorBoardLog

NAMES = {
    "optimizer": ("optimizer", "optimizer.class_path"),
    "learning_rate": ("optimizer.lr",),
    "backbone": ("model.backbone", "model.backbone.class_path"),
    "activation": ("model.activation", "model.activation.class_path"),
    "batch_size": ("data.batch_size",),
    "epochs": ("trainer.max_epochs",),
    "data": ("data.class_path",),
    "seed": ("seed_everything",),
    "options": (),
}
"""The settings that each run has, with the options that choose them; `options` are all others that were chosen."""
NUMBERS = ("learning_rate", "batch_size", "epochs", "seed")
TRAINER = (
    "accumulate_grad_batches", "gradient_clip_algorithm", "gradient_clip_val", "limit_train_batches", "max_steps",
    "max_time", "overfit_batches", "precision",
)  # fmt: skip
"""The Trainer's options that decide what is learned."""


FIRST = ("optimizer", "learning_rate")


def log_settings(cli: TrainCLI, varied: Sequence[str], results: Mapping[str, Any], loggers: Sequence[Any]) -> None:
    """Log the settings with the final results of a run that has ended.

    The HParams tab takes its columns from any one run, so that all write the same; a comparison writes its own, with
    the options that it has `varied`.
    """
    final = {f"final/{name}": value for name, value in results.items() if name not in SIZE}
    chosen = settings(cli, varied)
    for logger in loggers:
        if getattr(logger, "dropped", 0):
            say(f"warning: {logger.save_dir}: {logger.dropped} writes of {logger.name or 'tensorboard'} were refused")
        if isinstance(logger, TensorBoardLogger | CSVLog):  # no other logger takes metrics with the hyperparameters
            step = cli.trainer.global_step if isinstance(logger, TensorBoardLogger) else None
            logger.log_hyperparams(chosen, final, step)
            if isinstance(logger, TensorBoardLog) and not varied:
                kinds = {name: [0.0 if name in NUMBERS else ""] for name in NAMES}
                logger.log_columns(kinds, [name for name in results if name.startswith("test/")], FIRST)
        else:
            logger.log_hyperparams(flatten(cli.config.clone()))
            logger.log_metrics(final, step=cli.trainer.global_step)
        logger.save()


def settings(cli: TrainCLI, more: Sequence[str] = ()) -> dict[str, float | str]:
    """Return the settings of a run whose training has ended, and `more` of its flat configuration.

    What a run does not have, such as COCOB's learning rate, is left out.
    """
    made, trainer = cli.trainer.optimizers[0], cli.trainer
    flat = flatten(cli.config.clone())
    epochs = trainer.max_epochs if (trainer.max_epochs or 0) > 0 and trainer.max_steps == -1 else trainer.current_epoch
    known: dict[str, Any] = {
        "optimizer": optimizer_name(made),
        "learning_rate": learning_rate(made),
        "backbone": short(cli.model.hparams["backbone"]),
        "activation": short(cli.model.hparams["activation"] or "own"),
        "batch_size": getattr(cli.datamodule, "batch_size", None),
        "epochs": epochs,
        "data": type(cli.datamodule).__name__,
        "seed": int(flat["seed_everything"]),
        "options": " ".join(f"{name}={value}" for name, value in chosen(cli).items()),
    } | {name: flat[name] for name in more if name in flat}
    return {name: value for name, value in known.items() if isinstance(value, int | float | str)}


def chosen(cli: TrainCLI) -> dict[str, Any]:
    """Return the options that differ from their defaults, but for those that have a name of their own."""
    config = cli.config.clone().as_dict()
    trainer = {name: config["trainer"][name] for name in TRAINER}
    every = cli.parser.get_defaults()["trainer"]  # which takes a tenth of a second
    defaults = flatten({"trainer": {name: every[name] for name in TRAINER}})
    found = {name: value for name, value in flatten({"trainer": trainer}).items() if value != defaults[name]}
    model = {name: value for name, value in config["model"].items() if name not in ("optimizer", "lr_scheduler")}
    found |= _differing({"class_path": cli.classifier, "init_args": model}, "model")
    for key in ("data", "optimizer", "lr_scheduler"):
        found |= _differing(config[key], key)
    if config["init_from"] is not None:
        found["init_from"] = config["init_from"]
    named = {option for options in NAMES.values() for option in options} | {"model", "data"}
    return {name: short(value) for name, value in found.items() if name not in named}


def _differing(value: Any, name: str, default: Any = None) -> dict[str, Any]:
    """Return what differs from the defaults in an option, those of a class among them."""
    if not (isinstance(value, Mapping) and "class_path" in value):
        return {} if value == default else {name: value}
    made = value["class_path"]
    defaults = _defaults(load(made) if isinstance(made, str) else made)
    found: dict[str, Any] = {name: made}
    for key, given in value.get("init_args", {}).items():
        found |= _differing(given, f"{name}.{key}", defaults.get(key))
    return found


def _defaults(made: Any) -> dict[str, Any]:
    """Return the defaults of a factory's arguments, and of those that a class hands on to the classes above it."""
    factories = (
        [vars(one)["__init__"] for one in made.__mro__ if "__init__" in vars(one)] if isinstance(made, type) else [made]
    )
    parameters = [one for factory in reversed(factories) for one in inspect.signature(factory).parameters.values()]
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def short(value: Any) -> Any:
    """Return the last part of an import path, and any other value as it is.

    >>> short("activations.SPOCU"), short("resnet18.a1_in1k"), short(0.5)
    ('SPOCU', 'resnet18.a1_in1k', 0.5)
    """
    path = value["class_path"] if isinstance(value, Mapping) and "class_path" in value else value
    return path.rpartition(".")[2] if isinstance(path, str) and "." in path and importable(path) else path


def divide(keys: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the settings that keys of the flat configuration choose, and the keys that choose none of them."""
    named = [name for name, options in NAMES.items() if set(options) & set(keys)]
    known = {option for options in NAMES.values() for option in options}
    return named, [key for key in keys if key not in known]
