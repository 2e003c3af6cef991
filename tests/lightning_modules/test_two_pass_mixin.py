"""TwoPassMixin in other LightningModules, against ImageClassifier, other optimizers and loops written by hand."""

import copy
import functools
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import LBFGS, SGD
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassPrecision, MulticlassRecall

from lightning_modules import ImageClassifier, TwoPassMixin
from optim import SAM

SHAPE, CLASSES = (6,), 3


class Batches:
    """Seven batches, the last one shorter."""

    def __init__(self, as_dict: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(53, *SHAPE, generator=generator), torch.randint(CLASSES, (53,), generator=generator)
        batches = zip(x.split(8), y.split(8), strict=True)
        self.batches: list[Any] = [{"x": x, "y": y} for x, y in batches] if as_dict else list(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def network(**_: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, CLASSES))


def sam(params: Any) -> SAM:
    return SAM(params, SGD, lr=0.2, momentum=0.9, rho=0.3)


def lbfgs(params: Any) -> LBFGS:
    return LBFGS(params, lr=0.5, max_iter=4)


class Own(TwoPassMixin, LightningModule):
    """A user's module."""

    def __init__(self, make: Any = sam) -> None:
        super().__init__()
        self.net, self.make = network(), make

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.net(batch[0]), batch[1])


def fit(model: LightningModule, *callbacks: Callback, batches: Any = None, **options: Any) -> pl.Trainer:
    options = {"max_epochs": 2, "logger": False, "enable_checkpointing": False, **options}
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(model, batches or Batches())
    return trainer


def state(module: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in module.state_dict().values()]


@functools.cache
def expected(make: Any = sam, **options: Any) -> list[Tensor]:
    """Return the final weights of ImageClassifier, which test_two_pass compares with the slow reference."""
    model = ImageClassifier(network, CLASSES, SHAPE, optimizer=make)
    fit(model, **options)
    return state(model.backbone)


def check(model: Any, make: Any = sam, exact: bool = True, **options: Any) -> None:
    tolerance = {"rtol": 0, "atol": 0} if exact else {}
    torch.testing.assert_close(state(model.net), expected(make, **options), **tolerance)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate_grad_batches": 3},
    "clipped": {"gradient_clip_val": 0.1, "accumulate_grad_batches": 2},
    "value-clipped": {"gradient_clip_val": 0.02, "gradient_clip_algorithm": "value"},
    "bf16": {"precision": "bf16-mixed"},
    "few batches": {"accumulate_grad_batches": 10},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("make", [sam, lbfgs])
def test_any_module_trains_as_the_classifier(make: Any, options: dict[str, Any]) -> None:
    model = Own(make)
    trainer = fit(model, **options)
    check(model, make, **options)
    assert model.net[1].num_batches_tracked == 14
    assert trainer.global_step == 2 * -(-7 // options.get("accumulate_grad_batches", 1))
    assert "training_step" not in vars(model)


def test_float16_with_a_scaler() -> None:
    results = []
    for model in (Own(), ImageClassifier(network, CLASSES, SHAPE, optimizer=sam)):
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        fit(model, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
        results.append(state(model.net if isinstance(model, Own) else model.backbone))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    torch.testing.assert_close(results[0], expected(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("accumulate", [1, 3, 4])
def test_with_no_radius_sam_is_its_base_optimizer(accumulate: int) -> None:
    one, other = Own(lambda params: SAM(params, SGD, lr=0.2, rho=0.0)), Own(lambda params: SGD(params, lr=0.2))
    for model in (one, other):
        fit(model, accumulate_grad_batches=accumulate)
    torch.testing.assert_close(state(one.net), state(other.net))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_accumulation_is_the_hand_written_loop_over_the_windows(accumulate: int) -> None:
    model = Own()
    model.net[1] = nn.Identity()
    net = copy.deepcopy(model.net)
    fit(model, accumulate_grad_batches=accumulate, max_epochs=1)
    optimizer, batches = sam(net.parameters()), list(Batches())
    for start in range(0, 7, accumulate):

        def closure(window: Any = tuple(batches[start : start + accumulate])) -> Tensor:
            optimizer.zero_grad()
            loss = sum(F.cross_entropy(net(x), y) for x, y in window) / len(window)
            loss.backward()
            return loss

        optimizer.step(closure)
    torch.testing.assert_close(state(model.net), state(net))


# Overridden steps


class BatchOnly(Own):
    def training_step(self, batch: Any) -> Any:  # type: ignore[override]
        return {"loss": F.cross_entropy(self.net(batch[0]), batch[1]), "more": 1}


class Pops(Own):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.net(batch.pop("x")), batch.pop("y"))


class Closes(Own):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


class Calls(Own):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


class Precedes(Own):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer_closure()
        optimizer.step()


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("make", [sam, lbfgs])
@pytest.mark.parametrize("cls", [BatchOnly, Pops, Closes, Calls, Precedes])
def test_overridden_steps(cls: Any, make: Any, accumulate: int) -> None:
    model = cls(make)
    fit(model, batches=Batches(as_dict=cls is Pops), accumulate_grad_batches=accumulate)
    check(model, make, accumulate_grad_batches=accumulate)


def test_a_step_is_along_the_batches_since_the_gradients_were_cleared() -> None:
    class EverySecond(Own):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if batch_idx % 2:
                optimizer_closure()
            else:
                optimizer.step(closure=optimizer_closure)

    class Half(Own):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx % 2 else super().training_step(batch, batch_idx)

    one, other = EverySecond(), Half()
    for model in (one, other):
        model.net[1] = nn.Identity()
        fit(model)
    torch.testing.assert_close(state(one.net), state(other.net), rtol=0, atol=0)


@pytest.mark.parametrize("make", [sam, lbfgs])
def test_a_batch_without_a_loss_is_left_out(make: Any) -> None:
    class Leaves(Own):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx in (1, 6) else super().training_step(batch, batch_idx)

    model = Leaves(make)
    model.net[1] = nn.Identity()
    net = copy.deepcopy(model.net)
    fit(model, accumulate_grad_batches=3, max_epochs=1)
    optimizer, batches = make(net.parameters()), list(Batches())
    for window in ((0, 2), (3, 4, 5)):

        def closure(window: Any = window) -> Tensor:
            optimizer.zero_grad()
            loss = sum(F.cross_entropy(net(batches[i][0]), batches[i][1]) for i in window) / 3
            loss.backward()
            return loss

        optimizer.step(closure)
    torch.testing.assert_close(state(model.net), state(net))


class Configured(ImageClassifier):
    def configure_optimizers(self) -> Any:
        return {"optimizer": sam(self.parameters())}


class Stepped(Configured):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self(batch[0]), batch[1])

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)

    def setup(self, stage: str) -> None:
        pass


@pytest.mark.parametrize("cls", [Configured, Stepped])
def test_the_classifiers_methods_may_be_overridden(cls: Any) -> None:
    model = cls(network, CLASSES, SHAPE)
    fit(model, accumulate_grad_batches=3)
    torch.testing.assert_close(state(model.backbone), expected(accumulate_grad_batches=3), rtol=0, atol=0)
    assert model.backbone[1].num_batches_tracked == 14


HOOKS = [
    name
    for name in dir(ImageClassifier)
    if name.startswith("on_") and callable(getattr(LightningModule, name, None)) and name != "on_gpu"
]


@pytest.mark.parametrize("base", [Own, ImageClassifier])
def test_every_hook_may_be_overridden_and_call_super(base: Any) -> None:
    seen = set()

    def overriding(name: str) -> Any:
        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.add(name)
            return getattr(super(cls, self), name)(*args, **kwargs)

        return functools.wraps(getattr(base, name))(hook)

    cls = type("Hooked", (base,), {name: overriding(name) for name in HOOKS})
    model = cls() if base is Own else cls(network, CLASSES, SHAPE, optimizer=sam)
    fit(model)
    torch.testing.assert_close(state(model.net if base is Own else model.backbone), expected(), rtol=0, atol=0)
    assert {"on_train_start", "on_train_batch_start", "on_before_backward", "on_before_optimizer_step"} <= seen


@pytest.mark.parametrize("make", [sam, lbfgs])
def test_an_on_train_start_that_does_not_call_ours(make: Any) -> None:
    class Forgets(Own):
        def on_train_start(self) -> None:
            pass

        def on_train_epoch_start(self) -> None:
            pass

    with pytest.raises(RuntimeError, match=r"on_train_start of Forgets .*super") as caught:
        fit(Forgets(make))
    assert "\n" not in str(caught.value)


def test_a_loader_as_the_argument_is_refused() -> None:
    class Loads(Own):
        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            raise AssertionError("not reached")

    with pytest.raises(ValueError, match=r"SAM .*dataloader_iter"):
        fit(Loads())


def test_an_optimizer_exchanged_during_the_training() -> None:
    class Exchanges(Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                trainer.strategy.optimizers = [sam(pl_module.parameters())]

    class Reference(Own):
        def on_train_epoch_end(self) -> None:
            self.make = sam

    one, other = Own(lambda params: SGD(params, lr=0.2)), Reference(lambda params: SGD(params, lr=0.2))
    fit(one, Exchanges())
    fit(other, max_epochs=1)
    fit(other, max_epochs=1)
    torch.testing.assert_close(state(one.net), state(other.net), rtol=0, atol=0)


def test_manual_optimization_and_other_optimizers_are_left_alone() -> None:
    class Manual(Own):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert "training_step" not in vars(self)
            if self.automatic_optimization:
                return super().training_step(batch, batch_idx)
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()
            return None

    results = []
    for automatic in (True, False):
        model = Manual(lambda params: SGD(params, lr=0.2))
        model.automatic_optimization = automatic
        fit(model)
        results.append(state(model.net))
    torch.testing.assert_close(*results, rtol=0, atol=0)


# Traces


class Measured(Own):
    """Logs and counts in every way that a training step may."""

    def __init__(self, make: Any = sam) -> None:
        super().__init__(make)
        options = {"num_classes": CLASSES, "average": "micro"}
        self.forwarded, self.updated = MulticlassAccuracy(**options), MulticlassAccuracy(**options)
        self.together = MetricCollection([MulticlassPrecision(CLASSES), MulticlassRecall(CLASSES)], prefix="all/")
        self.seen: list[int] = []
        self.counts, self.total, self.steps = {"batches": 0}, torch.zeros(()), 0
        self.replays: list[bool] = []
        self.epochs: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.forwarded(logits, y)
        self.updated.update(logits, y)
        self.together.update(logits, y)
        self.log("accuracy", self.forwarded, on_step=True, on_epoch=True)
        self.log("updated", self.updated, on_step=False, on_epoch=True)
        self.log_dict({"loss": loss, "one": torch.ones(())}, on_step=False, on_epoch=True, batch_size=len(y))
        self.log("batches", 1.0, on_step=False, on_epoch=True, reduce_fx="sum")
        self.seen.append(batch_idx)
        self.counts["batches"] += 1
        self.total += len(y)
        self.steps += 1
        return {"loss": loss, "logits": logits.detach()}

    def on_train_epoch_end(self) -> None:
        collected = {name: value.item() for name, value in self.together.compute().items()}
        self.epochs.append((list(self.seen), self.steps, self.counts["batches"], self.total.item(), collected))
        self.seen.clear()
        self.together.reset()


class LogsGradients(Callback):
    def on_after_backward(self, trainer: pl.Trainer, pl_module: LightningModule) -> None:
        self.log("backward", 1.0, on_step=False, on_epoch=True, reduce_fx="sum")  # type: ignore[attr-defined]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("make", [sam, lbfgs])
def test_a_replay_leaves_no_trace(make: Any, accumulate: int) -> None:
    model, logits = Measured(make), []

    class Keeps(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            logits.append((outputs["logits"], batch[1]))

    trainer = fit(model, Keeps(), LogsGradients(), accumulate_grad_batches=accumulate)
    check(model, make, accumulate_grad_batches=accumulate)
    first, last = logits[:7], logits[7:]
    for (seen, steps, batches, total, collected), epoch, count in zip(model.epochs, (first, last), (1, 2), strict=True):
        assert (seen, steps, batches, total) == (list(range(7)), 7 * count, 7 * count, 53.0 * count)
        outputs, labels = torch.cat([part for part, _ in epoch]), torch.cat([part for _, part in epoch])
        own = MetricCollection([MulticlassPrecision(CLASSES), MulticlassRecall(CLASSES)], prefix="all/")
        own.update(outputs, labels)
        assert collected == pytest.approx({name: value.item() for name, value in own.compute().items()})
    accuracy = (outputs.argmax(1) == labels).float().mean().item()
    metrics = trainer.callback_metrics
    assert metrics["accuracy_epoch"].item() == metrics["updated"].item() == pytest.approx(accuracy)
    step_accuracy = (outputs[-5:].argmax(1) == labels[-5:]).float().mean().item()
    assert metrics["accuracy_step"].item() == pytest.approx(step_accuracy)
    assert metrics["loss"].item() == pytest.approx(F.cross_entropy(outputs, labels).item(), rel=1e-5)
    assert (metrics["one"].item(), metrics["batches"].item(), metrics["backward"].item()) == (1.0, 7.0, 7.0)


def test_metrics_of_a_validation_in_between() -> None:
    class Validated(Measured):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.updated.update(self.net(batch[0]), batch[1])
            self.best = torch.ones(())  # an inference tensor

        def on_validation_epoch_end(self) -> None:
            self.updated.reset()

    model = Validated()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, val_check_interval=2,
    )  # fmt: skip
    trainer.fit(model, Batches(), Batches())
    assert model.epochs[1][:3] == (list(range(7)), 14, 14)


@pytest.mark.parametrize("make", [sam, lbfgs])
def test_a_validation_that_calls_the_training_step(make: Any) -> None:
    class Shares(Own):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", self.training_step(batch, batch_idx))

    model = Shares(make)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, val_check_interval=2, accumulate_grad_batches=3,
    )  # fmt: skip
    trainer.fit(model, Batches(), Batches())
    check(model, make, accumulate_grad_batches=3)
    assert "val" in trainer.callback_metrics


@pytest.mark.parametrize("make", [sam, lbfgs])
def test_an_epoch_without_gradients_takes_no_step(make: Any) -> None:
    # StochasticWeightAveraging ends with one, for the statistics of normalisation layers.
    class Starts(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            self.weights = [p.detach().clone() for p in pl_module.parameters()]

    model, starts = Own(make), Starts()
    fit(model, starts, StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1), max_epochs=3)
    torch.testing.assert_close([p.detach() for p in model.parameters()], starts.weights, rtol=0, atol=0)


# Copies


def test_training_resumes_bit_for_bit(tmp_path) -> None:
    whole, first, second = Own(), Own(), Own()
    fit(whole, accumulate_grad_batches=2)
    trainer = fit(first, accumulate_grad_batches=2, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    resumed = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accumulate_grad_batches=2,
    )  # fmt: skip
    resumed.fit(second, Batches(), ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    torch.testing.assert_close(state(second.net), state(whole.net), rtol=0, atol=0)


def test_copies_of_a_module_that_is_being_trained() -> None:
    class Copies(Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            self.copied = copy.deepcopy(pl_module)
            copy.deepcopy(self.copied).training_step(next(iter(Batches())), 0)
            assert "training_step" not in vars(pickle.loads(pickle.dumps(pl_module)))

    model, copies = Own(), Copies()
    fit(model, copies, max_epochs=1)
    before = state(model.net)
    fit(copies.copied, max_epochs=1)
    assert all(map(torch.equal, state(model.net), before))
    assert not all(map(torch.equal, state(copies.copied.net), before))
    fit(model, max_epochs=1)
    torch.testing.assert_close(state(copies.copied.net), state(model.net), rtol=0, atol=0)


def test_torchscript_leaves_the_mixin_out() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "replaying" not in Scripted().to_torchscript().code  # type: ignore[union-attr]


class Scripted(Own):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_the_mixin_comes_first() -> None:
    with pytest.raises(TypeError, match="consistent method resolution"):
        type("Wrong", (LightningModule, TwoPassMixin), {})


def test_the_optimizer_is_given_back_its_step() -> None:
    model = Own()
    fit(model, max_epochs=1)
    assert "step" not in vars(model.optimizers())  # a search of Lightning's trains again with the same optimizer
