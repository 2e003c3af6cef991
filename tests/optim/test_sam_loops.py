"""SAM in other loops: with a GradScaler, compiled, under Fabric and under Lightning's manual optimization."""

import functools
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision as FabricMixedPrecision
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import SGD

from optim import SAM


class Batches:
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(len(self)):
            yield torch.randn(5, 4, generator=generator), torch.randint(2, (5,), generator=generator)

    def __len__(self) -> int:
        return 6


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def sam(params: Any) -> SAM:
    return SAM(params, SGD, lr=0.3, momentum=0.9, rho=0.5)


def weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def step(optimizer: Any, backward: Callable[[], Any], by_hand: bool) -> None:
    if by_hand:
        backward()
        optimizer.first_step(zero_grad=True)
        backward()
        optimizer.second_step(zero_grad=True)
    else:
        optimizer.step(backward)


def evaluate(model: nn.Module, optimizer: SAM, x: Tensor, y: Tensor) -> Tensor:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss


@functools.cache
def plain() -> Tensor:
    model = network()
    optimizer = sam(model.parameters())
    for x, y in Batches():
        closure = functools.partial(evaluate, model, optimizer, x, y)
        optimizer.step(closure)
    return weights(model)


def test_zero_grad_clears_the_gradients() -> None:
    model = network()
    optimizer = sam(model.parameters())
    for half in (optimizer.first_step, optimizer.second_step):
        model(torch.ones(1, 4)).sum().backward()
        half()
        assert all(p.grad is not None for p in model.parameters())
        if half == optimizer.first_step:
            optimizer.restore()
            half(zero_grad=True)
            assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("by_hand", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_compiled_step(by_hand: bool) -> None:
    model = network()
    optimizer = sam(model.parameters())
    halves = [torch.compile(half, backend="eager") for half in (optimizer.first_step, optimizer.second_step)]
    compiled = torch.compile(optimizer.step, backend="eager")
    for x, y in Batches():
        closure = functools.partial(evaluate, model, optimizer, x, y)
        if by_hand:
            for half in halves:
                closure()
                half()
        else:
            compiled(closure)
    torch.testing.assert_close(weights(model), plain())


def scaled(breaks: tuple[int, ...] = (), unscale_both: bool = False) -> tuple[nn.Module, SAM, list[Tensor], float]:
    """A plain loop with a scaler; the evaluations `breaks` have an infinite gradient."""
    model, scaler, kept, evaluations = network(), torch.amp.GradScaler("cpu", init_scale=1024.0), [], iter(range(99))
    optimizer = sam(model.parameters())

    def backward(x: Tensor, y: Tensor) -> None:
        scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
        if next(evaluations) in breaks:
            model[0].bias.grad[0] = torch.inf  # type: ignore[index,union-attr]

    for x, y in Batches():
        kept.append(weights(model))
        backward(x, y)
        if unscale_both:
            scaler.unscale_(optimizer)
        optimizer.first_step(zero_grad=True)
        if unscale_both:
            scaler.update()
        backward(x, y)
        scaler.unscale_(optimizer)
        optimizer.second_step(zero_grad=True)
        scaler.update()
    return model, optimizer, [*kept, weights(model)], scaler.get_scale()


@pytest.mark.parametrize("unscale_both", [False, True])
def test_a_loop_with_a_scaler(unscale_both: bool) -> None:
    model, optimizer, _, scale = scaled(unscale_both=unscale_both)
    torch.testing.assert_close(weights(model), plain())
    assert (optimizer.skipped_steps, scale) == (0, 1024.0)


@pytest.mark.parametrize("unscale_both", [False, True])
@pytest.mark.parametrize("breaks", [(4, 5), (4,), (5,)])
def test_the_scaler_and_sam_skip_an_infinite_gradient(breaks: tuple[int, ...], unscale_both: bool) -> None:
    _, optimizer, kept, scale = scaled(breaks, unscale_both)
    assert [torch.equal(a, b) for a, b in itertools.pairwise(kept)] == [i == 2 for i in range(6)]
    assert (optimizer.skipped_steps, optimizer.is_perturbed) == (1, False)
    assert scale == {True: 1024.0 / 2 ** len(breaks), False: 1024.0 if breaks == (4,) else 512.0}[unscale_both]


def test_the_scalers_own_step_is_refused() -> None:
    model, scaler = network(), torch.amp.GradScaler("cpu", init_scale=2.0)
    optimizer = sam(model.parameters())
    scaler.scale(model(torch.ones(1, 4)).sum()).backward()
    with pytest.raises(ValueError, match=r"closure.*first_step"):
        scaler.step(optimizer)


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_fabric(by_hand: bool, half: bool) -> None:
    if half and not by_hand:
        pytest.skip("a scaler refuses closures")
    plugins = [FabricMixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))]
    fabric, model = Fabric(accelerator="cpu", devices=1, plugins=plugins if half else None), network()
    wrapped, optimizer = fabric.setup(model, sam(model.parameters()))
    for x, y in Batches():

        def backward(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(wrapped(x), y)
            fabric.backward(loss)
            return loss

        step(optimizer, backward, by_hand)
    torch.testing.assert_close(weights(model), plain(), **({"rtol": 1e-2, "atol": 1e-2} if half else {}))


class Manual(pl.LightningModule):
    """SAM under manual optimization; the gradients of the evaluations `breaks` are infinite."""

    def __init__(self, by_hand: bool, scheduled: bool = False, breaks: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.automatic_optimization, self.net = False, network()
        self.by_hand, self.scheduled, self.breaks, self.evaluations = by_hand, scheduled, breaks, 0

    def configure_optimizers(self) -> Any:
        optimizer = sam(self.parameters())
        if not self.scheduled:
            return optimizer
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()

        def backward() -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.manual_backward(loss)
            if self.evaluations in self.breaks:
                self.net[0].bias.grad[0] = torch.inf
            self.evaluations += 1
            return loss

        step(optimizer, backward, self.by_hand)
        if self.scheduled:
            self.lr_schedulers().step()  # type: ignore[union-attr,call-arg]


def fit(model: pl.LightningModule, **options: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"enable_checkpointing": "callbacks" in options, **options}
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", **quiet, **options)
    trainer.fit(model, Batches())
    return trainer


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("by_hand", [False, True])
def test_manual_optimization_counts_its_steps(tmp_path, by_hand: bool, scheduled: bool) -> None:
    model, saver = Manual(by_hand, scheduled), ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*lr_scheduler.step.*")
        trainer = fit(model, callbacks=[saver])
    assert trainer.global_step == 6
    assert len(list(tmp_path.glob("*.ckpt"))) == 3
    torch.testing.assert_close(weights(model.net), plain())


def half(scale: float) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


def test_manual_optimization_with_a_scaler() -> None:
    model, plugin = Manual(by_hand=True, breaks=(12, 13)), half(1024.0)
    assert fit(model, plugins=[plugin]).global_step == 6
    torch.testing.assert_close(weights(model.net), plain(), rtol=1e-2, atol=1e-2)
    model = Manual(by_hand=True, breaks=(10, 11))
    trainer = fit(model, plugins=[plugin])
    assert (trainer.global_step, plugin.scaler.get_scale()) == (6, 512.0)  # type: ignore[union-attr]
    assert trainer.optimizers[0].skipped_steps == 1  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="first_step"):
        fit(Manual(by_hand=False), plugins=[plugin])


class Automatic(Manual):
    def __init__(self) -> None:
        super().__init__(by_hand=False)
        self.automatic_optimization = True

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])


def test_a_lightning_module_in_a_plain_loop() -> None:
    model = Automatic()
    optimizer = sam(model.parameters())

    def closure(model: Automatic, batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = model.training_step(batch, 0)
        loss.backward()
        return loss

    for batch in Batches():
        optimizer.step(functools.partial(closure, model, batch))
    torch.testing.assert_close(weights(model.net), plain())


def test_hooks_of_a_step_are_called_once() -> None:
    for by_hand in (False, True):
        model, calls = network(), list[str]()
        optimizer = sam(model.parameters())
        optimizer.register_step_pre_hook(lambda *_, calls=calls: calls.append("before"))
        optimizer.register_step_post_hook(lambda *_, calls=calls: calls.append("after"))
        step(optimizer, lambda model=model: model(torch.ones(1, 4)).sum().backward(), by_hand)
        assert calls == ["before", "after"]


class Direct(Automatic):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.optimizer.step(optimizer_closure)


@pytest.mark.parametrize("cls", [Automatic, Direct])
@pytest.mark.parametrize("options", [{}, {"precision": "bf16-mixed"}, {"plugins": [half(1024.0)]}])
def test_automatic_optimization_alone_is_refused(cls: type[Automatic], options: dict[str, Any]) -> None:
    model = cls()
    with pytest.raises((RuntimeError, ValueError), match="TwoPassMixin") as caught:
        fit(model, accumulate_grad_batches=2, **options)
    assert "\n" not in str(caught.value)
    assert torch.equal(weights(model.net), weights(network()))
