"""The import paths that a file may name.

A checkpoint, and the config.yaml beside it, hold import paths. Importing or calling what an unknown file names would
run its author's code, so every path is looked at first, arguments included. Without being trusted, a file may name

- a module, optimizer, scheduler, data module or callback class of this project, torch.nn, torch.optim, torchvision,
  timm or Lightning's callbacks;
- a public function of this project that is annotated as returning one of these;
- a model that `list_models` of torchvision or timm knows;
- such a class, or a function, of `__main__` or of a module outside the installed packages that the program has
  imported already.
"""

import inspect
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

from pytorch_lightning import Callback, LightningDataModule
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..backbones.named import in_library
from ..paths import OURS, find_path, importable, load, public_path

KINDS = (nn.Module, Optimizer, LRScheduler, LightningDataModule, Callback)
PACKAGES = (*OURS, "torch.nn", "torch.optim", "torchvision", "timm", "pytorch_lightning.callbacks")

FUNCTIONS = {"pytorch_lightning.callbacks.finetuning.multiplicative"}
"""Further functions that a file may name: the default of `BackboneFinetuning`, which multiplies a rate by 2."""

MAX_DEPTH = 100
MAX_ENTRIES = 1_000_000
_OPENS_FILES = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"}  # arguments of timm's models
_FILES = (".csv", ".tsv", ".txt", ".npy", ".npz", ".yaml", ".yml", ".json", ".ckpt", ".pt", ".pth", ".onnx")
_FACTORIES = {"backbone", "activation", "optimizer", "lr_scheduler", "trainer"}  # where strings are imported


def check(data: Any, source: str | Path, trust: Iterable[str] = ()) -> None:
    """Refuse plain data that names what a file may not.

    Args:
        data: Nested dictionaries and lists.
        source: The file, for the message.
        trust: Packages or modules that a file may name too.

    Raises:
        ValueError: If a path is refused, an argument makes timm open another file, or the data are nested too deeply.

    >>> check({"backbone": "resnet20", "activation": "torch.nn.GELU"}, "net.ckpt")
    >>> check({"activation": {"class_path": "os.system"}}, "net.ckpt")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: net.ckpt names 'os.system' (activation), which a file may not: if you trust it, add --trust os ...
    """
    trust = tuple(trust)
    for place, value in leaves(data, source):
        key = next((name for name in reversed(place) if name not in ("class_path", "init_args")), "content")
        opens = next((name for name in place if name in _OPENS_FILES), None)
        if opens is not None and value is not None:
            raise ValueError(f"{source} sets {opens}, with which timm opens another file: remove it")
        try:
            refused = _is_refused(place, value, trust, imported=True)
        except Exception as error:  # whatever a trusted module raises
            raise ValueError(
                f"{source} names {value!r} ({key}): the import failed: {type(error).__name__}: {error}"
            ) from error
        if refused:
            package = _home(value)
            raise ValueError(
                f"{source} names {value!r} ({key}), which a file may not: if you trust it, add --trust {package} "
                f'(in Python: trust=["{package}"])'
            )


def needed(data: Any) -> list[str]:
    """Return the packages that a program must trust to read `data`, if it has imported none of its user's modules.

    >>> needed({"optimizer": {"class_path": "my_optimizers.Mine"}, "model": {"activation": "torch.nn.GELU"}})
    ['my_optimizers']
    """
    return sorted({_home(value) for place, value in leaves(data, "") if _is_refused(place, value, (), imported=False)})


def leaves(data: Any, source: str | Path) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the place and the value of each entry of plain data.

    Raises:
        ValueError: If the data are nested deeper than `MAX_DEPTH`, or have more than `MAX_ENTRIES` entries (a list that
            holds itself has no end).
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), data)]
    for _ in range(MAX_ENTRIES):
        if not waiting:
            return
        place, value = waiting.pop()
        if len(place) > MAX_DEPTH:
            raise ValueError(f"{source} holds data nested deeper than {MAX_DEPTH}: it is damaged or made to do harm")
        if isinstance(value, dict):
            waiting += [((*place, str(name)), item) for name, item in dict.items(value)]
        elif isinstance(value, list | tuple | set):
            waiting += [((*place, place[-1] if place else ""), item) for item in value]
        else:
            yield place, value
    raise ValueError(f"{source} holds more than {MAX_ENTRIES:,} entries: it is damaged or made to do harm")


def _is_refused(place: tuple[str, ...], value: Any, trust: tuple[str, ...], imported: bool) -> bool:
    if not isinstance(value, str) or "." not in value:  # a short name is looked up in our lists only
        return False
    if value in FUNCTIONS:
        return False
    if place[-1:] != ("class_path",) and not (importable if _FACTORIES & {*place} else may_be_imported)(value):
        return False
    if _within(value, trust):
        tops = [one.split(".")[0] for one in trust]
        target = load(value)
        is_kind = inspect.isclass(target) and issubclass(target, KINDS)
        return not (is_kind or _is_defined_in(target, tops) or _is_listed(target))
    if _within(value, PACKAGES):
        target = load(find_path(value))
        return target is not None and not _is_listed(target)
    return not imported or not _is_own(_imported(value))


def may_be_imported(text: str) -> bool:
    """Return whether a string may be an import path, and is not a file's name, without importing anything."""
    return not text.lower().endswith(_FILES) and importable(text)


def _is_listed(target: Any) -> bool:
    """Return whether a class or function is one that every file may name."""
    if inspect.isclass(target):
        return issubclass(target, KINDS) and _is_defined_in(target, PACKAGES)
    if in_library("torchvision", target) or in_library("timm", target):
        return True
    home = sys.modules.get((public_path(target) or "").rpartition(".")[0])
    return _is_defined_in(target, OURS) and hasattr(home, "__path__") and _makes_a_kind(target, unknown=False)


def _is_own(target: Any) -> bool:
    """Return whether a class or function is the user's own, from a module that is not installed."""
    name = getattr(target, "__module__", None)
    module = sys.modules.get(name or "")
    file = getattr(module, "__file__", None)
    by_hand = module is not None and file is None and getattr(module, "__spec__", None) is None  # such as a notebook's
    if name != "__main__" and not by_hand and (file is None or _is_installed(Path(file).resolve())):
        return False
    return issubclass(target, KINDS) if inspect.isclass(target) else _makes_a_kind(target, unknown=True)


def _makes_a_kind(function: Any, unknown: bool) -> bool:
    """Return whether a function is annotated as returning one of the kinds; `unknown` if it has no annotation."""
    if not inspect.isfunction(function):
        return False
    try:
        made = get_type_hints(function).get("return", KINDS)
    except Exception:  # an annotation may be any text
        made = KINDS
    return unknown if made is KINDS else inspect.isclass(made) and issubclass(made, KINDS)


def _is_installed(file: Path) -> bool:
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return any(file.is_relative_to(Path(folder).resolve()) for folder in folders)


def _imported(path: str) -> Any:
    """Return the object at a path whose modules are all imported, or None."""
    parts = path.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        value = sys.modules.get(".".join(parts[:depth]))
        if value is not None:
            for part in parts[depth:]:
                value = getattr(value, part, None)
            return value
    return None


def _is_defined_in(target: Any, packages: Iterable[str]) -> bool:
    return _within(getattr(target, "__module__", None) or "", packages)


def _within(path: str, packages: Iterable[str]) -> bool:
    return any(path == one or path.startswith(f"{one}.") for one in packages)


def _home(path: str) -> str:
    return path.rpartition(".")[0] or path
