"""Trainings in processes of their own, forked from one that has imported everything. Arguments: device, folder.

Writes `whole.pt` and `resumed.pt`, the weights of a deterministic run with captured steps and of the same run killed by
SIGKILL and resumed, and `start.pt`, the seconds until a network with SPOCU has taken its first steps.
"""

import functools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # whether there is a GPU is asked without starting CUDA before a fork

import pytorch_lightning as pl
import torch

from activations import SPOCU
from datamodules import DigitsDataModule
from lightning_modules import AtomicCheckpointIO, ImageClassifier, LastCheckpoint
from lightning_modules.backbones import SmallConvNet
from lightning_modules.training_loop import use_lean_steps

KILLED_AT = 17


class Watch(pl.Callback):
    """Kills the process in a step, or keeps how often the network was captured and when the fourth step began."""

    def __init__(self, killed: bool = False) -> None:
        self.killed, self.captures, self.fourth = killed, 0, 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if self.killed and trainer.global_step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        if batch_idx == 3:
            self.fourth = time.monotonic()
        self.captures = getattr(module._captured, "captures", 0)


def trainer(device: str, watch: Watch, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """Return a Trainer of lean steps."""
    accelerator = "gpu" if device == "cuda" else "cpu"
    made = pl.Trainer(
        accelerator=accelerator, devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[watch, *callbacks], plugins=[AtomicCheckpointIO()], **options,
    )  # fmt: skip
    use_lean_steps(made)
    return made


def train(device: str, folder: Path, target: str, killed: bool = False, resumed: bool = False) -> None:
    """Train on digits for two epochs of 20 steps."""
    pl.seed_everything(1)
    network = functools.partial(SmallConvNet, width=8, dropout=0.3)
    make = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    model = ImageClassifier(network, 10, (1, 8, 8), optimizer=make, cuda_graph=device == "cuda")
    watch, path = Watch(killed), folder / ("last.ckpt" if killed or resumed else "other.ckpt")
    last = LastCheckpoint(path, every_n_train_steps=5)
    run = trainer(device, watch, last, max_epochs=2, deterministic=True)
    run.fit(model, DigitsDataModule(batch_size=64), ckpt_path=path if resumed else None, weights_only=True)
    weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    torch.save({"weights": weights, "captures": watch.captures, "steps": run.global_step}, folder / target)


def start(device: str, folder: Path) -> None:
    """Measure how soon resnet20 with SPOCU trains, with nothing compiled before."""
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
    began, watch = time.monotonic(), Watch()
    model = ImageClassifier("resnet20", 10, (1, 8, 8), functools.partial(SPOCU, c=1.0), channels_last=True)
    run = trainer(device, watch, max_steps=6, precision="bf16-mixed", enable_checkpointing=False)
    run.fit(model, DigitsDataModule(batch_size=64))
    torch.save({"seconds": watch.fourth - began, "steps": run.global_step}, folder / "start.pt")


def in_a_process(function: Any, *args: Any, **options: Any) -> int:
    """Return the exit status of a function that runs in a fork."""
    child = os.fork()
    if child == 0:
        try:
            function(*args, **options)
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    device, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    assert in_a_process(train, device, folder, "whole.pt") == 0
    assert in_a_process(train, device, folder, "killed.pt", killed=True) == -signal.SIGKILL
    assert in_a_process(train, device, folder, "resumed.pt", resumed=True) == 0
    assert in_a_process(start, device, folder) == 0
