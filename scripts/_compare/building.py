"""Building what a run would train, without training it, so that a bad value is found before any run."""

from typing import Any

from _train.command_line import TrainCLI


def build(cli: TrainCLI) -> None:
    """Build data module, network, callbacks, optimizer and schedule of a parsed command line; nothing is read.

    Loggers are left out: some of them announce a run as soon as they are made.

    Raises:
        ValueError, TypeError and others: Of what cannot be built.
    """
    config = cli.config.clone()
    config["trainer"]["logger"] = None
    made: Any = cli.parser.instantiate(config)
    if made["evaluate_on"] == "val" and not getattr(made["data"], "val_size", True):
        raise ValueError("tuning needs a validation part, found --data.val_size 0")
    try:
        made["model"].configure_optimizers()
    except RuntimeError as error:
        if "Trainer" not in str(error):  # a schedule may ask it for the number of steps
            raise
