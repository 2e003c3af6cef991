"""SAM that perturbs every k-th step, under automatic optimization, against a loop written by hand."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import SGD

from lightning_modules import TrainingMonitor, TwoPassMixin
from lightning_modules.training_loop import LeanEpochLoop, use_lean_steps
from optim import SAM


class Batches:
    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batches = [
            (torch.randn(4, 3, generator=generator), torch.randint(2, (4,), generator=generator)) for _ in range(7)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


def sam(params: Any, every: int) -> SAM:
    return SAM(params, SGD, lr=0.2, momentum=0.9, rho=0.3, every=every)


class Own(TwoPassMixin, pl.LightningModule):
    """A network whose evaluations are counted; those of `breaks` have an infinite gradient."""

    def __init__(self, every: int, breaks: tuple[int, ...] = ()) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))
        self.every, self.breaks = every, breaks
        self.counted = iter(range(100))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        evaluation = next(self.counted)
        logits = self.net(batch[0])
        if evaluation in self.breaks:
            logits.register_hook(lambda grad: grad * torch.inf)
        return F.cross_entropy(logits, batch[1])

    def configure_optimizers(self) -> SAM:
        return sam(self.net.parameters(), self.every)


def fit(model: Own, lean: bool = False, ckpt_path: Any = None, **options: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"max_epochs": 2, "log_every_n_steps": 50, "enable_checkpointing": False, **options}
    trainer = pl.Trainer(accelerator="cpu", **quiet, **options)
    if lean:
        use_lean_steps(trainer)
    trainer.fit(model, Batches(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def by_hand(every: int, accumulate: int, clip: float | None = None) -> tuple[list[Tensor], int]:
    """The weights after two epochs, and the number of evaluations."""
    net = Own(every).net.train()
    optimizer, evaluations, batches = sam(net.parameters(), every), 0, list(Batches())
    for window in 2 * [batches[i : i + accumulate] for i in range(0, 7, accumulate)]:

        def backward(window: Any = window) -> None:
            optimizer.zero_grad()
            for x, y in window:
                (F.cross_entropy(net(x), y) / len(window)).backward()

        backward()
        evaluations += len(window)
        if optimizer.perturbs_next:
            optimizer.first_step()
            statistics = copy.deepcopy(list(net.buffers()))
            backward()
            evaluations += len(window)
            for buffer, before in zip(net.buffers(), statistics, strict=True):
                buffer.copy_(before)
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.second_step()
    return [p.detach() for p in net.parameters()], evaluations


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize(("every", "accumulate", "clip"), [(1, 1, None), (2, 1, None), (3, 3, None), (2, 2, 0.1)])
def test_training_is_the_hand_written_loop(every: int, accumulate: int, clip: float | None, lean: bool) -> None:
    model = Own(every)
    monitor = TrainingMonitor()
    trainer = fit(model, lean, callbacks=[monitor], accumulate_grad_batches=accumulate, gradient_clip_val=clip)
    expected, evaluations = by_hand(every, accumulate, clip)
    torch.testing.assert_close([p.detach() for p in model.net.parameters()], expected)
    assert next(model.counted) == evaluations
    assert monitor._evaluations == evaluations
    assert model.net[1].num_batches_tracked == 14
    loop = trainer.fit_loop.epoch_loop
    assert not lean or (isinstance(loop, LeanEpochLoop) and loop.lean_steps > 0)


def test_a_resumed_training_is_bit_for_bit_the_whole_one(tmp_path) -> None:
    whole, first, second = Own(4), Own(4), Own(4)
    fit(whole)
    fit(first, max_epochs=1).save_checkpoint(tmp_path / "first.ckpt")
    trainer = fit(second, ckpt_path=tmp_path / "first.ckpt")
    assert all(map(torch.equal, whole.net.parameters(), second.net.parameters()))
    assert trainer.optimizers[0].steps == 14  # type: ignore[attr-defined]


@pytest.mark.parametrize("broken", [2, 4])
def test_a_scaler_skips_an_infinite_gradient_of_any_step(broken: int) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    model = Own(2, breaks=(broken,))  # evaluations 0 and 1 are the first step, 2 the second, 3 and 4 the third
    trainer = fit(model, plugins=[MixedPrecision("16-mixed", "cpu", scaler)], max_epochs=1)
    optimizer: Any = trainer.optimizers[0]
    assert (optimizer.skipped_steps, optimizer.steps, scaler.get_scale()) == (1, 6, 512.0)
