"""Optimizers with modes in trainings: what is validated, saved, tested and resumed."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lightning_modules import ImageClassifier
from lightning_modules.training_loop import use_lean_steps


class Averaging(SGD):
    """SGD that evaluates the mean of its iterates, and refuses to step at it, as schedule-free optimizers do."""

    def __init__(self, params: Any, lr: float = 0.3) -> None:
        super().__init__(params, lr=lr, momentum=0.9)
        for group in self.param_groups:
            group["train_mode"] = False

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        assert all(group["train_mode"] for group in self.param_groups)
        loss = super().step(closure)
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            state["count"] = state.get("count", 0) + 1
            state.setdefault("gap", torch.zeros_like(p))  # iterate minus mean
            state["gap"].mul_(0.7).add_(p.detach(), alpha=0.01)
        return loss

    def _move(self, sign: float, train_mode: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] != train_mode:
                for p in group["params"]:
                    if "gap" in self.state[p]:
                        p.data.add_(self.state[p]["gap"], alpha=sign)
                group["train_mode"] = train_mode

    def train(self) -> None:
        self._move(1.0, True)

    def eval(self) -> None:
        self._move(-1.0, False)


def schedule_free(params: Any) -> Optimizer:
    import schedulefree

    made: Optimizer = schedulefree.AdamWScheduleFree(params, lr=0.05, warmup_steps=2)
    return made


def averaging(params: Any) -> Optimizer:
    return Averaging(params)


MISSING = importlib.util.find_spec("schedulefree") is None
OPTIMIZERS = [averaging, pytest.param(schedule_free, marks=pytest.mark.skipif(MISSING, reason="needs schedulefree"))]


class Batches:
    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            yield torch.randn(4, 1, 3, 3, generator=generator), torch.randint(3, (4,), generator=generator)


class Validated(Callback):
    """The weights of each validation, and what is saved at it."""

    def __init__(self, folder: Any) -> None:
        self.folder, self.weights = folder, list[Tensor]()

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0) -> None:
        self.weights.append(vector(pl_module))

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        trainer.save_checkpoint(self.folder / f"epoch{trainer.current_epoch}.ckpt")


def vector(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def classifier(make: Any, **options: Any) -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier("TwoLayerNet", 3, (1, 3, 3), optimizer=make, **options)


def fit(
    make: Any, *callbacks: Callback, lean: bool = False, epochs: int = 3, validate: bool = True, **options: Any
) -> Any:
    model = classifier(make)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    if lean:
        use_lean_steps(trainer)
    trainer.fit(model, Batches(), Batches() if validate else None, weights_only=True, **options)
    return trainer, model


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_validation_checkpoints_and_the_end_have_the_average(tmp_path, make: Any, lean: bool) -> None:
    seen = Validated(tmp_path)
    trainer, model = fit(make, seen, lean=lean)
    saved = [torch.load(tmp_path / f"epoch{epoch}.ckpt", weights_only=True) for epoch in range(3)]
    for epoch, checkpoint in enumerate(saved):
        average = torch.cat([checkpoint["state_dict"][name].flatten() for name, _ in model.named_parameters()])
        trained = torch.cat([one.flatten() for one in checkpoint["training_weights"].values()])
        assert torch.equal(average, seen.weights[5 * epoch + 4 + (len(seen.weights) - 15)])
        assert not torch.equal(average, trained)
    assert torch.equal(vector(model), average)
    assert not any(group["train_mode"] for group in trainer.optimizers[0].param_groups)
    loaded = classifier(make)
    loaded.load_state_dict(saved[-1]["state_dict"])
    assert torch.equal(vector(loaded), vector(model))


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_validation_leaves_the_training_as_it_is_and_a_resumed_one_is_the_same(tmp_path, make: Any) -> None:
    _, whole = fit(make, Validated(tmp_path))
    _, unseen = fit(make, validate=False)
    _, resumed = fit(make, ckpt_path=tmp_path / "epoch0.ckpt")
    for other in (unseen, resumed):
        assert torch.equal(vector(whole), vector(other))


def test_an_average_of_the_average_is_refused() -> None:
    model = classifier(averaging, ema_decay=0.9)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(
        ValueError, match="ema_decay averages the weights, as Averaging does by itself: leave ema_decay"
    ):
        trainer.fit(model, Batches())
