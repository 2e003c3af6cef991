"""The data module that `--data` names: a short name, a class, a table or a folder of images."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from _common.cli import Parser
from _common.described import Described, as_words, parts
from _common.names import full_path
from _common.rebuild import imported
from datamodules.base import SplitDataModule

SHORT = {"digits": "DigitsDataModule", "mnist": "MNISTDataModule"}


def data_module(described: Described, **defaults: Any) -> pl.LightningDataModule:
    """Return the data module of `--data NAME --data.OPTION VALUE`.

    Args:
        described: `digits`, `mnist`, a data module's name or import path, a file (a table), or a folder (of images).
        **defaults: Options of this project's data modules that are not given.

    Raises:
        ValueError: If there is no such data module, or an option does not fit.
    """
    name, values = parts(described, "data")
    if Path(name).expanduser().is_file():
        name, values = "TabularDataModule", {"table": name} | values
    elif Path(name).expanduser().is_dir():
        name, values = "ImageFolderDataModule", {"data_dir": name} | values
    path = full_path("data", SHORT.get(name, name))
    found = imported("--data", path)
    if isinstance(found, type) and issubclass(found, SplitDataModule):
        values = {option: value for option, value in defaults.items() if value is not None} | values
    parser = Parser()
    parser.add_subclass_arguments(pl.LightningDataModule, "data")
    module = parser.instantiate(parser.parse_args([f"--data={path}", *as_words("data", values)])).data
    assert isinstance(module, pl.LightningDataModule)
    return module
