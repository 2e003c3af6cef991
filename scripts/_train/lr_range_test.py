"""The learning rate range test: the loss of some steps at rising rates, without a training after it."""

from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.tuner import Tuner
from pytorch_lightning.utilities import rank_zero_only

from _common.console import say
from _train.start import optimizer_name
from _train.warm_up import SAME
from evaluation.figures import RED, new_figure

if TYPE_CHECKING:
    from _train.command_line import TrainCLI

STEPS, LEAST, GREATEST = 100, 1e-6, 10.0


def lr_range_test(cli: "TrainCLI") -> None:
    """Write the curve of loss over learning rate and print Lightning's suggestion, the steepest descent of the loss.

    The rates rise exponentially over 100 steps, and the test ends early where the loss is four times its least. See
    Smith 2017, https://arxiv.org/abs/1506.01186.

    Raises:
        ValueError: If the training continues a checkpoint, the optimizer has no learning rate, or there are several
            processes.
    """
    if cli.config.ckpt_path is not None:
        raise ValueError("--lr_range_test belongs to a new training: leave out --ckpt_path, or use --init_from")
    if cli.trainer.world_size > 1:
        raise ValueError(f"--lr_range_test works for one process, found {cli.trainer.world_size}")
    given = cli.config_init["trainer"]
    options: dict[str, Any] = {name: given.get(name) for name in SAME}
    options |= {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1000}
    options |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    trainer = pl.Trainer(default_root_dir=cli.run.folder, **options)
    found: Any = Tuner(trainer).lr_find(
        cli.model, datamodule=cli.datamodule, min_lr=LEAST, max_lr=GREATEST, num_training=STEPS, update_attr=False
    )
    name = optimizer_name(trainer.optimizers[0])
    if "lr" not in trainer.optimizers[0].defaults:  # the finder has given its groups one
        raise ValueError(f"--lr_range_test: {name} has no learning rate to test")
    rates, losses, suggestion = found.results["lr"], found.results["loss"], found.suggestion()
    path = cli.run.folder / "lr_range_test.png"
    rank_zero_only(curve(rates, losses, suggestion).savefig)(path)
    say(f"{len(rates)} steps of {name} with rates from {LEAST:g} to {rates[-1]:.3g}; nothing was trained")
    if suggestion is None:
        say("the loss never falls steadily: no rate is suggested; see the curve")
    else:
        say(f"suggestion  {suggestion:.2g}, where the loss falls fastest; it is not applied")
    say(f"curve       {path}")


def curve(rates: list[float], losses: list[float], suggestion: float | None) -> Figure:
    """Draw the loss over the rate, and a line at the suggestion."""
    figure = new_figure(6.4, 4.2)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    axes.plot(rates, losses)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed", title="Learning rate range test")
    if suggestion is not None:
        axes.axvline(suggestion, color=RED, linestyle="--", label=f"suggestion: {suggestion:.2g}")
        axes.legend()
    return figure
