"""Two processes train a network whose parts are frozen until an epoch, and resume it in the middle of a later one."""

import functools
import os
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BaseFinetuning
from pytorch_lightning.strategies import DDPStrategy

from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier, LastCheckpoint

OPTIONS = {"own": {"freeze": True, "unfreeze": 1, "layer_decay": 0.5}, "callback": {}}


class Later(BaseFinetuning):
    """Unfreezes the first layers in epoch 1."""

    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.backbone.hidden)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.backbone.hidden, optimizer)


def train(kind: str, folder: Path, world: int, steps: int, checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
    """Train until a step, and return the weights."""
    torch.manual_seed(1)
    sgd = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    model = ImageClassifier("MLP", 10, (1, 8, 8), optimizer=sgd, **OPTIONS[kind])
    more = [Later()] if kind == "callback" else []
    trainer = pl.Trainer(
        accelerator="cpu", devices=world, max_epochs=3, max_steps=steps, logger=False, enable_model_summary=False,
        strategy=DDPStrategy(process_group_backend="gloo") if world > 1 else "auto", enable_progress_bar=False,
        callbacks=[*more, LastCheckpoint(folder / "last.ckpt", 100)],
    )  # fmt: skip
    data = DigitsDataModule(train_size=64, val_size=0, batch_size=16 // world)
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    return {name: value.clone() for name, value in model.state_dict().items()}


if __name__ == "__main__":
    rank, port, root = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "tests",
    }  # fmt: skip
    results = {}
    for name in OPTIONS:
        results[name] = train(name, root / name, 2, 12)
        train(name, root / f"{name}-half", 2, 6)
        results[f"{name} resumed"] = train(name, root / f"{name}-more", 2, 12, root / f"{name}-half" / "last.ckpt")
    torch.save(results, root / f"{rank}.pt")
