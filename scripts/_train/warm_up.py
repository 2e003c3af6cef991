"""A short training before the one that is timed: what is compiled, captured and allocated is so beforehand."""

import copy
import warnings
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from lightning_modules.runs.random_state import random_state, restore_random_state
from lightning_modules.training_loop import use_lean_steps

if TYPE_CHECKING:
    from .command_line import TrainCLI

SAME = (
    "accelerator", "devices", "precision", "deterministic", "benchmark", "accumulate_grad_batches",
    "gradient_clip_val", "gradient_clip_algorithm", "inference_mode",
)  # fmt: skip
"""The Trainer's options that hold for the warm-up too."""


def warm_up(cli: "TrainCLI", steps: int) -> None:
    """Train for some steps and test some batches; then restore the weights and all random numbers.

    What lasts is what the process has made: the compiled network, the set on the device, CUDA's libraries. The training
    that follows has the weights that it has without a warm-up, bit for bit on a CPU.

    Raises:
        ValueError: If `steps` is negative, or there are several processes.
    """
    if steps < 0:
        raise ValueError(f"--warm_up must be at least 0, found {steps}")
    if cli.trainer.world_size > 1:
        raise ValueError(f"--warm_up works for one process, found {cli.trainer.world_size}: leave it at 0")
    given = cli.config_init["trainer"]
    options: dict[str, Any] = {name: given.get(name) for name in SAME}
    options |= {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    weights, numbers = copy.deepcopy(cli.model.state_dict()), random_state()
    trainer = pl.Trainer(max_steps=steps, limit_test_batches=2, **options)
    if cli.config.fast_loop:
        use_lean_steps(trainer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="unfreeze=.* is never reached")  # in these steps
        trainer.fit(cli.model, cli.datamodule)
    trainer.test(cli.model, cli.datamodule, verbose=False)
    cli.model.load_state_dict(weights)
    restore_random_state([numbers], 0)
