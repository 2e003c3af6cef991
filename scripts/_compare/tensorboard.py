"""The columns of TensorBoard's HParams tab: the settings that vary, and the final metrics."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from _common.run import flatten
from _compare.grid import Combination
from _train.settings import NAMES, NUMBERS, divide
from lightning_modules.runs.columns import columns
from lightning_modules.runs.loggers import card


def announce(folder: Path, combinations: Sequence[Combination], seeds: Sequence[int], metrics: Iterable[str]) -> None:
    """Choose the columns: the settings of every run of train.py, what varies first, and the given metrics."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    configs = [flatten(one.config) for one in combinations]
    first, others = divide(shown(combinations))
    settings: dict[str, Sequence[object]] = {name: [0.0 if name in NUMBERS else ""] for name in NAMES}
    settings |= {key: [config[key] for config in configs if key in config] for key in others}
    settings["seed"] = list(seeds)
    titles = {card(f"final/{name}"): name for name in metrics}
    with SummaryWriter(str(folder)) as writer:
        writer.file_writer.add_summary(columns(settings, titles, [*first, *others]))


def shown(combinations: Sequence[Combination]) -> tuple[str, ...]:
    """Return the keys of the flat configuration that differ between runs."""
    keys = dict.fromkeys(key for one in combinations for key in one.varied)
    return (*(key for key in keys if any(key in flatten(one.config) for one in combinations)), "seed_everything")
