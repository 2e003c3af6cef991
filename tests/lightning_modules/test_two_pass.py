"""SAM and LBFGS under automatic optimization, against the slow twin and against loops written by hand."""

import copy
import functools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import LBFGS, SGD
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ImageClassifier
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.runs.loggers import CSVLog, read_column
from optim import COCOB, LAMB, SAM
from optim.reference import SlowSAM

SHAPE = (1, 3, 3)


class Batches:
    """Seven batches of random points, the last one shorter."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(53, *SHAPE, generator=generator).to(dtype)
        self.batches = list(zip(images.split(8), torch.randint(4, (53,), generator=generator).split(8), strict=True))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


class Normed(nn.Module):
    """A network with batch normalisation; `breaks` says at which evaluations its gradient is infinite."""

    def __init__(self, num_classes: int, momentum: float | None = 0.1, norm: bool = True, breaks: Any = ()) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(9, 6), nn.Linear(6, num_classes)
        self.norm = nn.BatchNorm1d(6, momentum=momentum) if norm else nn.Identity()
        self.breaks, self.evaluations = breaks, 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.norm(self.first(x.flatten(1))).tanh())
        if self.training:
            if self.evaluations in self.breaks:
                x.register_hook(lambda grad: grad * math.inf)
            self.evaluations += 1
        return x


def network(
    num_classes: int,
    image_shape: Any,
    activation: Any,
    momentum: float | None = 0.1,
    norm: bool = True,
    breaks: tuple[int, ...] = (),
) -> nn.Module:
    torch.manual_seed(0)
    return Normed(num_classes, momentum, norm, breaks)


network.__annotations__["return"] = nn.Module


def sam(params: Any) -> SAM:
    return SAM(params, functools.partial(SGD, lr=0.2, momentum=0.9), rho=0.3)


def lbfgs(params: Any) -> LBFGS:
    return LBFGS(params, lr=0.5, max_iter=4)


def classifier(optimizer: Any = sam, cls: type[ImageClassifier] = ImageClassifier, **options: Any) -> ImageClassifier:
    optimizer.__annotations__["return"] = torch.optim.Optimizer
    return cls(functools.partial(network, **options), 4, SHAPE, optimizer=optimizer)


class Losses(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.steps = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.losses.append(outputs["loss"].item())

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.steps += 1


def fit(model: ImageClassifier, *callbacks: Callback, dtype: torch.dtype = torch.float64, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    precision = {} if {"plugins", "precision"} & set(options) or dtype != torch.float64 else {"precision": "64-true"}
    options = {**quiet, "enable_model_summary": False, "max_epochs": 2, **precision, **options}
    trainer = pl.Trainer(callbacks=list(callbacks), **options)
    trainer.fit(model, Batches(dtype))
    return trainer


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def windows(accumulate: int) -> list[list[tuple[Tensor, Tensor]]]:
    """The batches of each step of two epochs."""
    batches = list(Batches())
    return 2 * [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]


def loss_of(model: nn.Module, window: list[tuple[Tensor, Tensor]]) -> Callable[[Any], Tensor]:
    """The loss of a window as a function of the weights."""
    names = [name for name, _ in model.named_parameters()]

    def loss(values: Any) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        state = buffers | dict(zip(names, values, strict=True))
        return sum(F.cross_entropy(functional_call(model, state, x), y) for x, y in window) / len(window)

    return loss


def norm_clip(grads: list[Tensor]) -> list[Tensor]:
    norm = sum((g**2).sum().item() for g in grads) ** 0.5
    return [g * min(1.0, 0.1 / (norm + 1e-6)) for g in grads]  # as torch.nn.utils.clip_grad_norm_ has it


def value_clip(grads: list[Tensor]) -> list[Tensor]:
    return [g.clamp(-0.02, 0.02) for g in grads]


CLIPS: dict[str, tuple[dict[str, Any], Callable[[list[Tensor]], list[Tensor]]]] = {
    "no clipping": ({}, list),
    "norm": ({"gradient_clip_val": 0.1}, norm_clip),
    "value": ({"gradient_clip_val": 0.02, "gradient_clip_algorithm": "value"}, value_clip),
}


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip", CLIPS)
def test_training_is_that_of_the_twin(momentum: float | None, accumulate: int, clip: str) -> None:
    options, by_hand = CLIPS[clip]
    model, seen = classifier(momentum=momentum), Losses()
    reference = copy.deepcopy(model.backbone).double().train()
    trainer = fit(model, seen, accumulate_grad_batches=accumulate, **options)

    # `reference` sees every batch once, at the twin's unperturbed weights.
    twin = SlowSAM(list(reference.parameters()), lambda w: torch.zeros(()), lr=0.2, rho=0.3, clip=by_hand)
    losses, correct = [], []
    for window in windows(accumulate):
        nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(twin.weights), reference.parameters())
        for x, y in window:
            logits = reference(x)
            losses.append((F.cross_entropy(logits, y) / accumulate).item())
            correct.append((logits.argmax(1) == y).sum().item())
        twin.loss = loss_of(reference, window)
        first, second = twin.step()
    torch.testing.assert_close(weights(model), twin.weights, rtol=1e-9, atol=1e-12)
    for name, buffer in reference.named_buffers():
        torch.testing.assert_close(model.backbone.get_buffer(name), buffer, rtol=1e-9, atol=1e-12)
    assert reference.norm.num_batches_tracked == 14
    assert seen.losses == pytest.approx(losses, rel=1e-9)
    assert seen.steps == len(windows(accumulate)) == trainer.global_step
    assert trainer.callback_metrics["train/accuracy"].item() == pytest.approx(sum(correct[7:]) / 53)
    sizes = [8] * 6 + [5]
    mean = sum(size * loss for size, loss in zip(sizes, losses[7:], strict=True)) * accumulate / 53
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(mean, rel=1e-6)
    optimizer: Any = trainer.optimizers[0]
    assert optimizer.sharpness.item() == pytest.approx((second - first).item(), rel=1e-6)
    assert not optimizer.is_perturbed


def test_layers_in_evaluation_mode_keep_their_statistics() -> None:
    model = classifier()
    trainer = fit(model, Freeze())
    assert trainer.global_step == 14
    assert model.backbone.norm.num_batches_tracked == 0
    assert torch.equal(model.backbone.norm.running_mean, torch.zeros(6, dtype=torch.float64))


class Freeze(Callback):
    def on_train_epoch_start(self, trainer, pl_module) -> None:
        pl_module.backbone.norm.eval()


def by_hand(model: nn.Module, optimizer: Any, dtype: torch.dtype, epochs: int = 2) -> None:
    """A loop with autocast."""
    for _ in range(epochs):
        for x, y in Batches(torch.float32):

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                with torch.autocast("cpu", dtype):
                    logits = model(x)
                loss = F.cross_entropy(logits.float(), y)
                optimizer.zero_grad()
                loss.backward()
                return loss

            optimizer.step(closure)


def test_bfloat16_mixed_is_the_hand_written_loop() -> None:
    model = classifier(norm=False)
    reference = copy.deepcopy(model.backbone).train()
    fit(model, dtype=torch.float32, precision="bf16-mixed")
    by_hand(reference, sam(reference.parameters()), torch.bfloat16)
    for ours, theirs in zip(weights(model), weights(reference), strict=True):
        assert torch.equal(ours, theirs)


def half(scale: float = 1024.0) -> MixedPrecision:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    return MixedPrecision("16-mixed", "cpu", scaler)


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 1e6}])
def test_float16_mixed_is_the_hand_written_loop(options: dict[str, Any]) -> None:
    model = classifier(norm=False)
    reference = copy.deepcopy(model.backbone).train()
    plugin = half()
    fit(model, dtype=torch.float32, plugins=[plugin], **options)
    by_hand(reference, sam(reference.parameters()), torch.half)
    # Scaling loses fewer gradients to float16's small range.
    torch.testing.assert_close(weights(model), weights(reference), rtol=1e-2, atol=1e-3)
    assert plugin.scaler is not None
    assert plugin.scaler.get_scale() == 1024.0


class KeepWeights(Callback):
    def __init__(self) -> None:
        self.kept: list[list[Tensor]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.kept.append(weights(pl_module))


@pytest.mark.parametrize("broken", [4, 5])
def test_the_scaler_skips_where_either_gradient_is_infinite(broken: int) -> None:
    plugin, seen = half(), KeepWeights()
    model = classifier(norm=False, breaks=(broken,))  # two evaluations a step: those of the third one
    trainer = fit(model, seen, dtype=torch.float32, plugins=[plugin], max_epochs=1)
    assert plugin.scaler is not None
    assert plugin.scaler.get_scale() == 512.0
    same = [all(map(torch.equal, a, b)) for a, b in zip(seen.kept, seen.kept[1:], strict=False)]
    assert same == [False, False, True, False, False, False]
    optimizer: Any = trainer.optimizers[0]
    assert optimizer.skipped_steps == 1
    assert trainer.global_step == 7


def test_lbfgs_trains_channels_last_kernels_as_others() -> None:
    weights_of = []
    for channels_last in (True, False):
        pl.seed_everything(0)
        make = functools.partial(LBFGS, lr=0.1, max_iter=3)
        model = ImageClassifier("SmallConvNet", 7, (3, 8, 8), optimizer=make, channels_last=channels_last)
        images, labels = torch.randn(12, 3, 8, 8), torch.arange(12) % 7
        loader = DataLoader(TensorDataset(images, labels), batch_size=6)
        pl.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(model, loader)  # fmt: skip
        weights_of.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(*weights_of, rtol=1e-4, atol=1e-5)


def test_lbfgs_with_a_scaler_is_refused_in_one_line() -> None:
    model = classifier(lbfgs, norm=False)
    with pytest.raises(
        ValueError, match=r"LBFGS evaluates .* precision 16-mixed .*: use bf16-mixed or 32-true"
    ) as caught:
        fit(model, dtype=torch.float32, plugins=[half()])
    assert "\n" not in str(caught.value)


def test_a_norm_that_overflows_is_skipped_by_the_scaler_too() -> None:
    plugin, seen = half(), KeepWeights()

    class Overflows(ImageClassifier):
        def on_after_backward(self) -> None:
            if self.trainer.global_step == 2:  # finite, but not its square
                for p in self.parameters():
                    p.grad.fill_(1e30)  # type: ignore[union-attr]

    model = classifier(cls=Overflows, norm=False)
    fit(model, seen, dtype=torch.float32, plugins=[plugin], max_epochs=1)
    assert all(map(torch.equal, seen.kept[2], seen.kept[3]))
    assert not all(map(torch.equal, seen.kept[3], seen.kept[4]))


def test_a_gradient_that_is_not_finite_skips_the_step() -> None:
    model, seen = classifier(norm=False, breaks=(4,)), KeepWeights()
    trainer = fit(model, seen, max_epochs=1)
    same = [all(map(torch.equal, a, b)) for a, b in zip(seen.kept, seen.kept[1:], strict=False)]
    assert same == [False, False, True, False, False, False]
    optimizer: Any = trainer.optimizers[0]
    assert optimizer.skipped_steps == 1
    assert trainer.global_step == 7
    assert model.backbone.evaluations == 13


def test_an_error_in_the_second_pass_leaves_the_weights_where_they_were() -> None:
    seen = KeepWeights()

    class Breaks(ImageClassifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.replaying and batch_idx == 3:
                raise ArithmeticError("second pass")
            return super().training_step(batch, batch_idx)

    model = classifier(cls=Breaks)
    with pytest.raises(ArithmeticError, match="second pass"):
        fit(model, seen)
    assert all(map(torch.equal, weights(model), seen.kept[3]))
    assert model.backbone.norm.num_batches_tracked == 4


@pytest.mark.parametrize("optimizer", [sam, lbfgs])
def test_what_a_training_step_logs_counts_once(optimizer: Any) -> None:
    class Logs(ImageClassifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            output = super().training_step(batch, batch_idx)
            self.log("mine", output["loss"].detach(), on_step=False, on_epoch=True, batch_size=len(batch[0]))
            self.log_dict({"one": 1.0}, on_step=False, on_epoch=True, reduce_fx="sum")
            return output

    model = classifier(optimizer, cls=Logs)
    trainer = fit(model, max_epochs=1)
    assert trainer.callback_metrics["mine"].item() == pytest.approx(trainer.callback_metrics["train/loss"].item())
    assert trainer.callback_metrics["one"] == 7.0
    assert "log" not in vars(model)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_lbfgs_is_the_hand_written_loop_and_counts_once(tmp_path, accumulate: int) -> None:
    model, seen = classifier(lbfgs), Losses()
    reference = copy.deepcopy(model.backbone).double().train()
    log = CSVLog(tmp_path / "metrics.csv")
    trainer = fit(model, seen, TrainingMonitor(), logger=log, log_every_n_steps=2, accumulate_grad_batches=accumulate)

    optimizer = lbfgs(reference.parameters())
    once = copy.deepcopy(reference)
    losses, count = [], 0
    for window in windows(accumulate):
        once.load_state_dict(reference.state_dict() | dict(once.named_buffers()))
        losses += [(F.cross_entropy(once(x), y) / accumulate).item() for x, y in window]

        def closure(window: Any = window) -> Tensor:
            nonlocal count
            count += 1
            optimizer.zero_grad()
            loss = loss_of(reference, window)(list(reference.parameters()))
            loss.backward()
            return loss

        optimizer.step(closure)
    assert count > 2 * len(windows(accumulate))
    torch.testing.assert_close(weights(model), weights(reference), rtol=1e-7, atol=1e-9)
    for name, buffer in once.named_buffers():
        torch.testing.assert_close(model.backbone.get_buffer(name), buffer, rtol=1e-7, atol=1e-9)
    assert seen.losses == pytest.approx(losses, rel=1e-7)
    assert trainer.global_step == len(windows(accumulate))
    logged = [step for step, _ in read_column(log.path, "train/loss_window")]
    assert logged == list(range(1, trainer.global_step, 2))


def test_a_schedule_is_stepped_once_a_step_without_a_warning() -> None:
    make = functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    model = ImageClassifier(network, 4, SHAPE, optimizer=sam, lr_scheduler=make, lr_interval="step")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = fit(model, max_epochs=1)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.2 * 0.5**7)
    assert not [w for w in caught if "lr_scheduler" in str(w.message)]


def test_a_second_training_with_an_ordinary_optimizer_keeps_nothing() -> None:
    class Changes(ImageClassifier):
        def configure_optimizers(self) -> Any:
            return sam(self.parameters()) if self.trainer.max_epochs == 1 else SGD(self.parameters(), lr=0.1)

    model = classifier(cls=Changes)
    fit(model, max_epochs=1)
    fit(model, max_epochs=2)
    assert model._two_pass is None
    assert "training_step" not in vars(model)


def test_an_average_of_the_weights_is_that_of_the_unperturbed_ones() -> None:
    seen, plain = KeepWeights(), classifier()
    fit(plain, seen, max_epochs=1)
    averaged = ImageClassifier(network, 4, SHAPE, optimizer=sam, ema_decay=0.5)
    fit(averaged, max_epochs=1)
    average, *others = [*seen.kept[1:], weights(plain)]
    for after in others:
        average = [0.5 * a + 0.5 * b for a, b in zip(average, after, strict=True)]
    torch.testing.assert_close(weights(averaged), average)


# Curves


def curves(tmp_path, optimizer: Any) -> tuple[CSVLog, Any]:
    log = CSVLog(tmp_path / "metrics.csv")
    trainer = fit(classifier(optimizer), TrainingMonitor(), logger=log, log_every_n_steps=7, max_epochs=1)
    return log, trainer.optimizers[0]


def last(log: CSVLog, name: str) -> float:
    ((step, value),) = read_column(log.path, name)
    assert step == 6
    return value


def lamb_in_sam(params: Any) -> SAM:
    return SAM(params, LAMB)


def cocob(params: Any) -> COCOB:
    return COCOB(params)


def test_curves_of_lamb_and_sam(tmp_path) -> None:
    log, optimizer = curves(tmp_path, lamb_in_sam)
    ratios = optimizer.base_optimizer.trust_ratios()
    assert ratios.shape == (2,)
    assert last(log, "train/trust_ratio/mean") == pytest.approx(ratios.mean().item())
    assert last(log, "train/trust_ratio/min") == pytest.approx(ratios.min().item())
    assert last(log, "train/trust_ratio/max") == pytest.approx(ratios.max().item())
    assert last(log, "train/sharpness") == pytest.approx(optimizer.sharpness.item())


def test_curves_of_cocob(tmp_path) -> None:
    log, optimizer = curves(tmp_path, cocob)
    assert last(log, "train/step_size") == pytest.approx(optimizer.step_sizes().mean().item())
