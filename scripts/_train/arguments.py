"""What ``train.py`` adds to a command line before it is parsed."""

from pathlib import Path

from _common.names import expand_arguments
from _common.runs import find_last, run_of
from lightning_modules.runs.checkpoint_io import read_checkpoint

ROOT = "runs"
ASKING = {"-h", "--help", "-c", "--config", "--print_config"}
DEFAULT_RECIPE = Path(__file__).parents[1] / "recipes" / "digits.yaml"


def prepare(arguments: list[str]) -> list[str]:
    """Complete a command line: ``fit`` for no subcommand, full class paths, and the configuration that it starts from.

    That is the one of the checkpoint's run; without a checkpoint, and when no data is named, the digits' recipe.
    """
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["fit", *arguments]
    arguments = expand_arguments(arguments)
    start: Path | None = None
    given = _value(arguments, "--ckpt_path")
    if given is not None:
        checkpoint = (
            find_last(_value(arguments, "--trainer.default_root_dir") or ROOT) if given == "last" else Path(given)
        )
        read_checkpoint(checkpoint)
        arguments = _replace(arguments, "--ckpt_path", str(checkpoint))
        run = run_of(checkpoint)
        start = run / "config.yaml" if run is not None else None
    elif arguments[0] == "fit" and _value(arguments, "--data") is None:
        start = DEFAULT_RECIPE
    elif arguments[0] in ("validate", "test", "predict") and not ASKING & set(arguments):
        raise ValueError(f"{arguments[0]} needs a trained network: add --ckpt_path FILE, or --ckpt_path last")
    if start is not None and _value(arguments, "--config") is None and _value(arguments, "-c") is None:
        arguments[1:1] = ["--config", str(start)]
    return arguments


def _replace(arguments: list[str], option: str, value: str) -> list[str]:
    place = next(i for i, word in enumerate(arguments) if word.partition("=")[0] == option)
    words = 1 if "=" in arguments[place] else 2
    return [*arguments[:place], option, value, *arguments[place + words :]]


def _value(arguments: list[str], option: str) -> str | None:
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
