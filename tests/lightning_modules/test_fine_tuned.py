"""Layers that a callback unfreezes in mid-training: the schedule covers them, and a resumed training trains them."""

import functools
import shutil

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BackboneFinetuning, BaseFinetuning
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier, LastCheckpoint
from optim import COCOB, SAM

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class Keeps(LastCheckpoint):
    """Keeps every checkpoint."""

    def _save(self, trainer):
        super()._save(trainer)
        shutil.copy(self.path, self.path.with_name(f"{len(list(self.path.parent.iterdir())):02d}.ckpt"))


class InTwoStages(BaseFinetuning):
    """Trains the last layer, then all but the first, then all."""

    def layers(self, module):
        return [part for part in module.backbone.modules() if isinstance(part, nn.Linear | nn.Conv2d | nn.BatchNorm2d)]

    def freeze_before_training(self, pl_module):
        self.freeze(self.layers(pl_module)[:-1], train_bn=False)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(self.layers(pl_module)[1:-1], optimizer)
        if epoch == 2:
            self.unfreeze_and_add_param_group(self.layers(pl_module)[:1], optimizer, lr=0.002)


class ByHand(pl.Callback):
    """Adds a group without Lightning's help."""

    def setup(self, trainer, pl_module, stage):
        first, *_ = (part for part in pl_module.backbone.modules() if isinstance(part, nn.Linear))
        first.requires_grad_(False)

    def on_train_epoch_start(self, trainer, pl_module):
        first, *_ = (part for part in pl_module.backbone.modules() if isinstance(part, nn.Linear))
        if trainer.current_epoch == 1:
            first.requires_grad_(True)
            trainer.optimizers[0].add_param_group({"params": list(first.parameters()), "lr": 0.01})


def fit(folder, callback, options, epochs=3, checkpoint=None):
    torch.manual_seed(1)
    model = ImageClassifier(num_classes=10, image_shape=(1, 8, 8), **{"backbone": "MLP"} | options)
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[callback, Keeps(folder / "last.ckpt", 1)], **QUIET)
    data = DigitsDataModule(train_size=16, val_size=10, batch_size=8)
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return model, [(len(group["params"]), group["lr"]) for group in trainer.optimizers[0].param_groups]


SGD = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
CASES = {
    "the default": (InTwoStages, {}),
    "one cycle, norms": (
        InTwoStages,
        {
            "backbone": "SmallConvNet",
            "optimizer": SGD,
            "lr_scheduler": functools.partial(OneCycleLR, max_lr=0.1, total_steps=20),
        },
    ),
    "SAM": (
        InTwoStages,
        {
            "optimizer": functools.partial(SAM, base_optimizer=torch.optim.SGD, lr=0.1),
            "lr_scheduler": "warmup 1 step, cosine",
        },
    ),
    "by hand": (ByHand, {"optimizer": SGD}),
    "Lightning's": (functools.partial(BackboneFinetuning, unfreeze_backbone_at_epoch=1), {"optimizer": SGD}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("callback", "options"), CASES.values(), ids=CASES)
def test_resumed_before_and_after_it_unfroze_it_ends_alike(callback, options, tmp_path):
    model, groups = fit(tmp_path / "whole", callback(), options)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert sum(count for count, _ in groups) == len(list(model.parameters()))
    saved = sorted((tmp_path / "whole").glob("[0-9]*.ckpt"))[1:-1:4]
    for place, checkpoint in enumerate(saved):
        resumed, groups_then = fit(tmp_path / f"{place}", callback(), options, checkpoint=checkpoint)
        assert groups_then == groups
        for (name, one), other in zip(model.state_dict().items(), resumed.state_dict().values(), strict=True):
            assert torch.equal(one, other), (checkpoint.name, name)


@pytest.mark.filterwarnings("ignore")
def test_backbone_finetuning_needs_a_rate(tmp_path):
    with pytest.raises(ValueError, match="BackboneFinetuning needs a learning rate, COCOB has none"):
        fit(tmp_path, BackboneFinetuning(), {"optimizer": COCOB})


def test_groups_that_are_set_are_the_base_optimizers_too():
    layer = nn.Linear(2, 1)
    optimizer = SAM(layer.parameters(), torch.optim.SGD, lr=0.1)
    optimizer.param_groups = [dict(optimizer.param_groups[0])]
    optimizer.param_groups[0]["lr"] = 0.5
    assert optimizer.base_optimizer.param_groups is optimizer.param_groups
