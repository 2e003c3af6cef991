"""A training step on CUDA: nothing waits, the step is the CPU's, and a killed run ends with the same bits."""

import functools
import io
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from rich.console import Console
from torch.optim import LBFGS, SGD, AdamW
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import CSVLog, ImageClassifier, LastCheckpoint, TensorBoardLog, TrainingMonitor, TrainingProgress
from lightning_modules.callbacks.train_clock import TrainClock
from lightning_modules.training_loop import use_lean_steps
from optim import COCOB, LAMB, SAM, Muon

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
STEPS = 42
SMALL_SGD = functools.partial(SGD, lr=0.05, momentum=0.9)
SMALL_SAM = functools.partial(SAM, base_optimizer=SGD, lr=0.05)
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "SGD": (SMALL_SGD, {}, {}),
    "AdamW": (functools.partial(AdamW, lr=0.01), {}, {}),
    "LAMB": (functools.partial(LAMB, lr=0.01), {}, {}),
    "COCOB": (COCOB, {}, {}),
    "Muon": (Muon, {}, {}),
    "SAM": (SMALL_SAM, {}, {}),
    "LBFGS": (functools.partial(LBFGS, lr=0.02, max_iter=2), {}, {}),  # with longer steps rounding errors grow
    "EMA": (SMALL_SGD, {"ema_decay": 0.9}, {}),
    "accumulation": (SMALL_SGD, {}, {"accumulate_grad_batches": 2}),
    "clipping": (SMALL_SGD, {}, {"gradient_clip_val": 0.1}),
    "SAM, all of it": (SMALL_SAM, {"ema_decay": 0.9}, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}),
}
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class Watch(pl.Callback):
    """Makes each wait for the device an error from step 10 to 40, or traces these steps, and keeps the losses."""

    def __init__(self, watches: bool, traces: bool = False) -> None:
        self.watches = watches
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) if traces else None
        self.losses: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx in (10, 40) and self.watches:
            torch.cuda.set_sync_debug_mode("error" if batch_idx == 10 else "default")
        if batch_idx in (10, 40) and self.profile is not None:
            torch.cuda.synchronize()
            (self.profile.start if batch_idx == 10 else self.profile.stop)()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"].clone())

    def copies(self) -> dict[str, int]:
        """Return the number of copies to and from the host."""
        assert self.profile is not None
        events = [event for event in self.profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        return {way: sum(way in event.name for event in events) for way in ("DtoH", "HtoD")}


def half_precision(device: str) -> MixedPrecision:
    """Return half precision at a scale of which no step is skipped."""
    return MixedPrecision("16-mixed", device, torch.amp.GradScaler(device, init_scale=1024.0, growth_interval=1000))


def trained(
    device: str, case: str, precision: str, watch: Watch | None = None, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of a training, and its weights, of which the first are those before it."""
    pl.seed_everything(0)
    make, of_model, of_trainer = CASES[case]
    model = ImageClassifier("SmallConvNet", 7, (3, 8, 8), optimizer=make, **of_model)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(STEPS, 16, 3, 8, 8, generator=generator).to(device)
    labels = torch.randint(7, (STEPS, 16), generator=generator).to(device)
    half = {"plugins": [half_precision(device)]}
    chosen: dict[str, Any] = half if precision == "16-mixed" else {"precision": precision}
    watch = watch or Watch(device == "cuda" and precision != "16-mixed" and case != "LBFGS")
    trainer = pl.Trainer(**{
        "accelerator": "gpu" if device == "cuda" else "cpu", "devices": 1, "max_epochs": 1, "logger": False,
        "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
        "log_every_n_steps": 50, **of_trainer, **chosen, **options,
        "callbacks": [TrainingMonitor(), *options.get("callbacks", []), watch],
    })  # fmt: skip
    use_lean_steps(trainer)
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    try:
        trainer.fit(model, DataLoader(TensorDataset(images, labels), batch_size=None))
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    after = torch.nn.utils.parameters_to_vector(model.parameters()).detach().cpu()
    return torch.stack(watch.losses).float().cpu(), torch.stack([before, after])


@functools.cache
def on_the_cpu(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    return trained("cpu", case, "32-true")


def check(device: str, case: str, precision: str) -> None:
    """Compare a training with that of the CPU in float32."""
    losses, weights = trained(device, case, precision)
    expected, (before, after) = on_the_cpu(case)
    tolerance = 0.02 if precision == "32-true" else 0.15
    torch.testing.assert_close(losses, expected, rtol=tolerance, atol=tolerance)
    assert (weights[1] - after).norm() < (0.2 if precision == "32-true" else 0.7) * (after - before).norm()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "precision"),
    [("LAMB", "16-mixed"), ("COCOB", "bf16-mixed"), ("LBFGS", "bf16-mixed"), ("SAM, all of it", "16-mixed")],
)
def test_mixed_precision_follows_float32_on_a_cpu_too(case, precision):
    check("cpu", case, precision)


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_and_the_training_is_the_cpus_in_float32(case, precision, monkeypatch):
    if (case, precision) == ("LBFGS", "16-mixed"):
        with pytest.raises(ValueError, match=r"LBFGS evaluates .*: use bf16-mixed or 32-true$") as caught:
            trained("cuda", case, precision)
        assert "\n" not in str(caught.value)
        return
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # whose error is that of bfloat16's products
    check("cuda", case, precision)


def everything(folder: Path, every: int) -> dict[str, Any]:
    """Return the Trainer's options with what `scripts/train.py` logs, shows and saves."""
    progress = TrainingProgress()
    progress.console = Console(force_terminal=True, file=io.StringIO())
    saving = LastCheckpoint(folder / "last.ckpt", every_n_train_steps=100)
    return {
        "logger": [TensorBoardLog(folder), CSVLog(folder / "metrics.csv")], "log_every_n_steps": every,
        "callbacks": [TrainClock(), progress, saving], "enable_checkpointing": True, "enable_progress_bar": True,
    }  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, on_a_gpu])])
def test_nothing_that_is_logged_shown_or_saved_waits_in_a_step(device, tmp_path):
    losses, _ = trained(device, "EMA", "32-true", Watch(device == "cuda"), **everything(tmp_path, 50))
    assert len(losses) == STEPS
    assert (tmp_path / "metrics.csv").exists()


@pytest.mark.gpu
@on_a_gpu
def test_a_window_of_the_log_is_one_copy_to_the_host_and_a_step_none(tmp_path):
    watch = Watch(False, traces=True)
    trained("cuda", "EMA", "32-true", watch, **everything(tmp_path, 15))
    assert watch.copies() == {"DtoH": 2, "HtoD": 0}  # after 15 and after 30 steps


@pytest.mark.parametrize("broken", [10, 11])
@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=[pytest.mark.gpu, on_a_gpu])]
)
def test_the_scaler_skips_where_either_gradient_is_infinite(device, broken, monkeypatch):
    evaluations, weights = iter(range(999)), []

    def loss(self: Any, batch: Any, batch_idx: int) -> Any:
        if batch_idx == len(weights) and not self.replaying:
            weights.append(torch.cat([p.detach().flatten().clone() for p in self.parameters()]))
        value = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        return {"loss": value * (float("inf") if next(evaluations) == broken else 1.0)}

    monkeypatch.setattr(ImageClassifier, "training_step", loss)
    seen: list[Any] = []
    after = pl.callbacks.LambdaCallback(on_train_end=lambda trainer, _: seen.append(trainer.optimizers[0]))
    plugin = half_precision(device)
    monkeypatch.setattr(TrainingMonitor, "_check_finite", lambda *_: None)  # the loss is infinite on purpose
    trained(device, "SAM", "16-mixed", Watch(False), plugins=[plugin], callbacks=[after])
    assert plugin.scaler is not None
    assert plugin.scaler.get_scale() == 512.0
    assert seen[0].skipped_steps == 1
    same = [bool(torch.equal(one, other)) for one, other in itertools.pairwise(weights)]
    assert same == [step == 5 for step in range(STEPS - 1)]  # two evaluations a step: those of the sixth one


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of trainings that need processes of their own."""
    folder, root = tmp_path_factory.mktemp("trainings"), Path(__file__).parents[2]
    words = [sys.executable, str(root / "tests" / "workers" / "gpu_trainings.py"), "cuda", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(root), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.gpu
@on_a_gpu
def test_a_killed_and_resumed_run_ends_with_the_same_bits(trainings):
    whole, resumed = (torch.load(trainings / f"{name}.pt") for name in ("whole", "resumed"))
    assert whole["steps"] == resumed["steps"] == 40
    assert whole["captures"] > 0
    assert resumed["captures"] > 0
    for name, tensor in whole["weights"].items():
        assert torch.equal(resumed["weights"][name], tensor), name


@pytest.mark.gpu
@on_a_gpu
def test_spocu_starts_within_a_minute(trainings):
    start = torch.load(trainings / "start.pt")
    assert start["steps"] == 6
    assert 0 < start["seconds"] < 60
