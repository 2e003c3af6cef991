"""Every optimizer in scripts/train.py: a run resumed in mid-epoch ends like an uninterrupted one."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import optim
import train
from lightning_modules import ImageClassifier
from lightning_modules.runs.loggers import read_column
from optim import LAMB, SAM

RUN = [
    *("--model.backbone", "MLP", "--model.backbone.dropout", "0.3", "--data.batch_size", "128"),
    *("--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "3", "--save_every", "2"),
    *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
]
SAM_LAMB = ["SAM", "--optimizer.base_optimizer", "LAMB", "--optimizer.base_optimizer.lr", "0.01"]
MEMBERS = {name: member for name, member in vars(optim).items() if isinstance(member, type)}
NAMES = [name for name, member in MEMBERS.items() if issubclass(member, torch.optim.Optimizer)]
OPTIMIZERS: dict[str, list[str]] = {
    **{name: [name] for name in NAMES},
    "LAMB, fused": ["LAMB", "--optimizer.fused", "true"],
    "SAM around LAMB, two batches a step": [*SAM_LAMB, "--trainer.accumulate_grad_batches", "2"],
}


def run(root: Path, *arguments: str) -> Path:
    return train.main([*RUN, "--trainer.default_root_dir", str(root), *arguments]).run.folder


class Interruption(BaseException):
    """Stands in for a kill."""


@pytest.mark.slow  # each takes three trainings
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_resume_in_mid_epoch_is_bit_exact(tmp_path, monkeypatch, optimizer: list[str]) -> None:
    whole = run(tmp_path / "whole", "--optimizer", *optimizer)

    step = ImageClassifier.training_step

    def interrupted(self, batch, batch_idx):
        if self.trainer.current_epoch == 1 and batch_idx == 7:  # in the second pass, if there is one
            self.seen = getattr(self, "seen", 0) + 1
            if self.seen == 1 + (self._two_pass is not None):
                raise Interruption
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ImageClassifier, "training_step", interrupted)
        with pytest.raises(Interruption):
            run(tmp_path / "parts", "--optimizer", *optimizer)
    (last,) = (tmp_path / "parts").glob("*/checkpoints/last.ckpt")
    saved = torch.load(last, weights_only=True)
    assert saved["epoch"] == 1
    batches = saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"]
    assert 0 < batches < 8
    accumulate = 2 if "--trainer.accumulate_grad_batches" in optimizer else 1
    assert batches % accumulate == 0  # checkpoints are written at the end of a window
    resumed = run(tmp_path / "parts", "--ckpt_path", "last")

    assert resumed == last.parent.parent
    results = []
    for folder in (whole, resumed):
        checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        names = (folder / "metrics.csv").read_text().splitlines()[0].split(",")[1:]
        logged = {n: read_column(folder / "metrics.csv", n) for n in names if "second" not in n}
        (saved,) = checkpoint["optimizer_states"]
        groups = saved.pop("param_groups")
        results.append((groups, checkpoint["state_dict"], saved, logged))
    assert results[0][0] == results[1][0]
    torch.testing.assert_close(results[0][1:], results[1][1:], rtol=0, atol=0)


def test_short_names_inside_sam_and_its_curves_on_tensorboard(tmp_path) -> None:
    folder = run(tmp_path, "--optimizer", *SAM_LAMB, "--optimizer.rho", "0.1")
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    group = saved["optimizer_states"][0]["param_groups"][0]
    assert {"rho": 0.1, "lr": 0.01, "exclude_1d": True}.items() <= group.items()
    model = ImageClassifier.load_from_checkpoint(folder / "checkpoints" / "best.ckpt", weights_only=True)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, SAM)
    assert isinstance(optimizer.base_optimizer, LAMB)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = {f"train/trust_ratio/{name}" for name in ("mean", "min", "max")} | {"train/sharpness"}
    assert tags <= set(events.Tags()["scalars"])
    assert len(events.Scalars("train/sharpness")) == len(events.Scalars("train/loss_window"))
    assert json.loads((folder / "results.json").read_text())["test/accuracy"] > 0.3
