"""Parts that are frozen until an epoch: what trains when, exact under resume, with every optimizer."""

import copy
import functools
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BackboneFinetuning
from torch import nn

from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier, LastCheckpoint
from optim import COCOB, LAMB, SAM, Muon
from workers import tuned_ranks

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
SGD = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:The number of training batches")


class Keeps(LastCheckpoint):
    """Keeps every checkpoint."""

    def _save(self, trainer):
        super()._save(trainer)
        shutil.copy(self.path, self.path.with_name(f"{len(list(self.path.parent.iterdir())):02d}.ckpt"))


class Watch(pl.Callback):
    """Notes how many parameters train in each step, and how many norms move their statistics."""

    def __init__(self):
        self.trained, self.moving = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.trained.append(sum(p.requires_grad for p in pl_module.parameters()))
        self.moving.append(sum(m.training for m in pl_module.modules() if isinstance(m, nn.BatchNorm2d)))


def classifier(**options):
    torch.manual_seed(1)
    return ImageClassifier(**{"backbone": "MLP", "num_classes": 10, "image_shape": (1, 8, 8)} | options)


def fit(folder, options, checkpoint=None, model=None, callbacks=(), size=16, **trainer):
    model = classifier(**options) if model is None else model
    callbacks = [*callbacks, Keeps(folder / "last.ckpt", 1)]
    trainer = pl.Trainer(**QUIET | {"max_epochs": 3, "callbacks": callbacks} | trainer)
    data = DigitsDataModule(train_size=size, val_size=10, batch_size=8)
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return model, trainer


def assert_same(one, other):
    for (name, value), same in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, same), name


CASES = {
    "the default": ({}, {}),
    "SGD, schedule, clipping": (
        {"optimizer": SGD, "lr_scheduler": "warmup 20%, cosine", "backbone": "resnet8", "layer_decay": 0.5},
        {"gradient_clip_val": 0.1},
    ),
    "LAMB, average": ({"optimizer": functools.partial(LAMB, lr=0.01), "ema_decay": 0.5, "head_lr": 0.05}, {}),
    "COCOB": ({"optimizer": COCOB}, {}),
    "SAM": (
        {"optimizer": functools.partial(SAM, base_optimizer=torch.optim.SGD, lr=0.1, every=2), "layer_decay": 0.5},
        {"accumulate_grad_batches": 2, "size": 32},
    ),
    "Muon": ({"optimizer": functools.partial(Muon, lr=0.02), "no_decay_on_1d": True, "head_lr": 0.1}, {}),
}


@pytest.mark.parametrize(("options", "trainer"), CASES.values(), ids=CASES)
def test_resumed_before_and_after_the_epoch_it_ends_alike(options, trainer, tmp_path):
    options = options | {"freeze": True, "unfreeze": 1}
    start, watch = classifier(**options), Watch()
    model, whole = fit(tmp_path / "whole", options, callbacks=[watch], **trainer)
    assert (
        watch.trained[1]
        < watch.trained[trainer.get("size", 16) // 8]
        == watch.trained[-1]
        == len(list(model.parameters()))
    )
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters(), strict=True))
    groups = [{name: value for name, value in g.items() if name != "params"} for g in whole.optimizers[0].param_groups]
    saved = sorted((tmp_path / "whole").glob("[0-9]*.ckpt"))
    frozen = torch.load(saved[1], weights_only=True)
    assert "fine_tuning" not in frozen
    for (name, value), first in zip(start.state_dict().items(), frozen["state_dict"].values(), strict=True):
        assert torch.equal(value, first) == (not name.startswith("backbone.head")), name
    for place, checkpoint in enumerate([saved[1], saved[2], saved[-2]]):
        resumed, ended = fit(tmp_path / str(place), options, checkpoint, **trainer)
        assert_same(model, resumed)
        assert [{n: v for n, v in g.items() if n != "params"} for g in ended.optimizers[0].param_groups] == groups


@pytest.mark.filterwarnings("error:.*eval mode")  # which Lightning warns of
def test_frozen_norms_stand_still_until_the_epoch_unless_they_train(tmp_path):
    options = {"backbone": "resnet8", "freeze": True, "unfreeze": 1}
    still, moving = Watch(), Watch()
    fit(tmp_path / "moving", options | {"train_bn": True}, callbacks=[moving], max_epochs=2)
    model, _ = fit(tmp_path / "still", options, callbacks=[still], max_epochs=2)
    assert (still.moving, moving.moving) == ([0, 0, 7, 7], [7, 7, 7, 7])
    assert (still.trained[0], moving.trained[0]) == (2, 2 + 2 * 7)
    assert all(module.training for module in model.modules())
    saved = torch.load(sorted((tmp_path / "still").glob("[0-9]*.ckpt"))[1], weights_only=True)["state_dict"]
    assert int(saved["backbone.bn.num_batches_tracked"]) == 0


def test_what_is_frozen_is_that_of_todays_arguments(tmp_path):
    for_good = {"optimizer": SGD, "freeze": True}
    model, _ = fit(tmp_path / "one", for_good, max_epochs=2)
    last = tmp_path / "one" / "last.ckpt"
    watch = Watch()
    fit(tmp_path / "two", for_good | {"unfreeze": 3}, last, callbacks=[watch], max_epochs=4)
    assert watch.trained == [2, 2, 6, 6]
    watch = Watch()
    fit(tmp_path / "three", {"optimizer": SGD}, last, callbacks=[watch], max_epochs=3)
    assert watch.trained == [6, 6]
    loaded = ImageClassifier.load_from_checkpoint(last).eval()
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(loaded(images), model.eval()(images))


def test_a_second_training_begins_frozen(tmp_path):
    options = {"optimizer": SGD, "freeze": True, "unfreeze": 1}
    model, _ = fit(tmp_path / "one", options, max_epochs=2)
    before, watch = copy.deepcopy(model.state_dict()), Watch()
    fit(tmp_path / "two", options, model=model, callbacks=[watch], max_steps=2, max_epochs=-1)
    assert watch.trained == [2, 2]
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["backbone.head.weight", "backbone.head.bias"]


class Net(nn.Module):
    """Has its own frozen tensor, and batch normalisation without parameters."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(64, 8)
        self.stem.bias.requires_grad_(False)
        self.norm = nn.BatchNorm1d(8, affine=False)
        self.block = nn.Linear(8, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, images):
        return self.head(self.block(self.norm(self.stem(images.flatten(1)))))


def test_lazy_layers_are_frozen_by_name():
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(10))
    model = ImageClassifier(network, num_classes=10, image_shape=(1, 8, 8), freeze="^1")
    pl.Trainer(max_steps=2, enable_checkpointing=False, **QUIET).fit(model, DigitsDataModule())
    trained = [name for name, param in model.named_parameters() if param.requires_grad]
    assert trained == ["backbone.3.weight", "backbone.3.bias"]


def test_names_are_patterns_and_what_was_frozen_before_stays_so():
    model = classifier(backbone=Net(), freeze="^(stem|norm)", unfreeze=0)
    assert model._freezing.names == ["backbone.stem.weight"]
    assert model._freezing._norms == ["backbone.norm"]
    assert classifier(backbone=Net(), freeze=r"backbone\.block")._freezing.names == [
        "backbone.block.weight",
        "backbone.block.bias",
    ]
    assert classifier(backbone=Net(), freeze=True)._freezing._norms == ["backbone.norm"]
    trainer = pl.Trainer(**QUIET, max_epochs=1, enable_checkpointing=False)
    trainer.fit(model, DigitsDataModule(train_size=16, val_size=0, batch_size=8))
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["backbone.stem.bias"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unfreeze": 1}, "unfreeze needs freeze"),
        ({"train_bn": True}, "train_bn needs freeze"),
        ({"freeze": True, "unfreeze": -1}, "unfreeze must be an epoch, 0 or more, found -1"),
        ({"freeze": True, "unfreeze": 1.5}, "unfreeze must be an epoch, 0 or more, found 1.5"),
        ({"freeze": "blocks"}, "freeze: 'blocks' matches none of hidden.0.weight, "),
        ({"freeze": "."}, "freeze: '.' leaves no parameter to train"),
        ({"freeze": "("}, r"freeze: '\(' is no regular expression"),
        ({"freeze": ""}, "freeze must be True or a regular expression of names, found ''"),
        ({"freeze": True, "backbone": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}, "has nothing but its head"),
    ],
)
def test_bad_arguments_are_one_line(options, message):
    with pytest.raises(ValueError, match=message) as refused:
        classifier(**options)
    assert "\n" not in str(refused.value)


def test_bad_trainings_are_one_line(tmp_path):
    options = {"optimizer": SGD, "freeze": True, "unfreeze": 3}
    with pytest.raises(ValueError, match="unfreeze=3 is never reached: the training has 3 epochs"):
        fit(tmp_path, options)
    with pytest.raises(ValueError, match="freeze and BackboneFinetuning exclude each other"):
        fit(tmp_path, options, callbacks=[BackboneFinetuning(1)], max_epochs=4)
    with pytest.warns(UserWarning, match="unfreeze=3 is never reached: max_steps end in epoch 1"):
        fit(tmp_path, options, max_epochs=-1, max_steps=3)
    exchanged = classifier(**options)
    exchanged.backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match=r"freeze: backbone\.hidden\.0\.bias is no longer there"):
        fit(tmp_path, options, model=exchanged, max_epochs=4)


class OnlyTrained(ImageClassifier):
    """Builds an optimizer of what trains at first."""

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


def test_an_optimizer_without_the_frozen_part_is_refused(tmp_path):
    model = OnlyTrained("MLP", 10, (1, 8, 8), freeze=True, unfreeze=1)
    with pytest.raises(ValueError, match=r"unfreeze: backbone\.hidden\.0\.weight and 3 more are in no group"):
        fit(tmp_path, {}, model=model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_end_as_one_and_resume_after_the_epoch(tmp_path):
    """All that is trained is synchronised, also where a resumed training begins with all parts."""
    root = Path(__file__).parents[2]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(root), str(root / "tests")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(root / "tests" / "workers" / "tuned_ranks.py")]
    processes = [
        subprocess.Popen([*command, str(rank), port, str(tmp_path)], env=environment, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=180)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for kind in tuned_ranks.OPTIONS:
        one = tuned_ranks.train(kind, tmp_path / "one" / kind, 1, 12)
        for name, value in one.items():
            torch.testing.assert_close(first[kind][name], value, rtol=1e-4, atol=1e-5)
            for same in (second[kind], first[f"{kind} resumed"], second[f"{kind} resumed"]):
                assert torch.equal(first[kind][name], same[name]), (kind, name)
