"""The predictions of a network, for a data module's examples or for a folder of images without labels."""

import csv
from inspect import signature
from pathlib import Path
from typing import Any

from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only

from _common.cli import Option, split
from _common.console import say
from _common.errors import one_line
from _common.names import full_path, read_config
from _common.rebuild import build_data, imported
from _common.run import run_of
from _common.trust import checked_config, packages
from _train.words import options_in
from lightning_modules import ImageClassifier
from lightning_modules.known_data import describe

_PLACES = ("data.predict_dir", "data.init_args.predict_dir")


def predicts_folder(command: str, words: list[str], typed: list[str]) -> bool:
    """Return whether `predict` reads a folder of images without labels.

    Args:
        command: The command.
        words: The completed words after it, with the configurations that they name.
        typed: The words that were typed.

    Raises:
        ValueError: If the data module has no such option, or options of the network are typed.
    """
    if command != "predict":
        return False
    folder: Any = None
    module: Any = None
    for option in (one for one in split(words)[1] if one.words):
        if option.name == "config" and Path(option.words[0]).is_file():
            data = options_in(Path(option.words[0])).get("data")
            if isinstance(data, dict):
                module = data.get("class_path", module)
                folder = (data.get("init_args") or {}).get("predict_dir", folder)
        elif option.name in _PLACES:
            folder = option.words[0]
        elif option.name in ("data", "data.class_path"):
            module = option.words[0]
    if folder in (None, "null"):
        return False
    _check(module, split(typed)[1])
    return True


def _check(module: Any, typed: list[Option]) -> None:
    found = imported("--data", full_path("data", module)) if isinstance(module, str) else None
    if not any("predict_dir" in signature(one.__init__).parameters for one in getattr(found, "__mro__", ())):
        named = f"--data {module.rpartition('.')[2]}" if module else "no --data"
        raise ValueError(f"--data.predict_dir needs --data ImageFolderDataModule, found {named}")
    for option in typed:
        if option.name.startswith("model."):
            raise ValueError(f"--{option.name} has no effect with --data.predict_dir: the checkpoint has the network")


def network_of(checkpoint: str, classifier: type[ImageClassifier], trust: str | None) -> ImageClassifier:
    """Return the network of a checkpoint, which knows its classes and their images.

    For a checkpoint of an older version, which has neither, they are those of its run's data, if these are there.
    """
    model = classifier.load_from_checkpoint(checkpoint, map_location="cpu", trust=packages(trust))
    if not model.data_description:
        model.data_description = _of_run(checkpoint, trust)
    if model.class_names is None:
        rank_zero_only(say)(f"classes     numbers: the checkpoint has no names for its {model.num_classes} classes")
    return model


def _of_run(checkpoint: str, trust: str | None) -> dict[str, Any]:
    folder = run_of(checkpoint)
    if folder is None:
        return {}
    checked_config(folder, trust or "")
    try:
        data: Any = build_data(read_config((folder / "config.yaml").read_text())["data"])
        data.setup("fit")
    except (OSError, ValueError, LookupError) as error:
        rank_zero_only(say)(f"data        those of the training, which an older checkpoint needs: {one_line(error)}")
        return {}
    return describe(data)


def one_process(given: Any) -> dict[str, Any]:
    """Return the Trainer's options with which one process predicts, where the training had several."""
    strategy = given.get("strategy") or "auto"
    if not (isinstance(strategy, DDPStrategy) or str(strategy).startswith(("auto", "ddp"))):
        return {}  # a network that is sharded may need all of them
    return {"devices": 1, "num_nodes": 1, "strategy": "auto"}


def write_unreadable(path: Path, unreadable: dict[str, str]) -> Path:
    """Write the files that were left out, and why; return the path."""
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([("file", "reason"), *unreadable.items()])
    return path
