"""A training step on CUDA: nothing waits, the step is the CPU's, and a killed run ends with the same bits."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.optim import LBFGS, SGD, AdamW
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ImageClassifier
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.training_loop import use_lean_steps
from optim import COCOB, LAMB, SAM, Muon

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
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
    "LBFGS": (functools.partial(LBFGS, lr=0.1, max_iter=3), {}, {}),
    "EMA": (SMALL_SGD, {"ema_decay": 0.9}, {}),
    "accumulation": (SMALL_SGD, {}, {"accumulate_grad_batches": 2}),
    "clipping": (SMALL_SGD, {}, {"gradient_clip_val": 0.1}),
    "SAM, all of it": (SMALL_SAM, {"ema_decay": 0.9}, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}),
}
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class Watch(pl.Callback):
    """Makes each wait for the device an error from step 10 to 40, if asked for, and keeps the losses."""

    def __init__(self, waits: bool) -> None:
        self.waits = waits
        self.losses: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx in (10, 40) and not self.waits:
            torch.cuda.set_sync_debug_mode("error" if batch_idx == 10 else "default")

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"].clone())


def trained(device: str, case: str, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of a training, and its weights, of which the first are those before it."""
    pl.seed_everything(0)
    make, of_model, of_trainer = CASES[case]
    model = ImageClassifier("SmallConvNet", 7, (3, 8, 8), optimizer=make, **of_model)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(STEPS, 16, 3, 8, 8, generator=generator).to(device)
    labels = torch.randint(7, (STEPS, 16), generator=generator).to(device)
    if precision == "16-mixed":  # at a scale of which no step is skipped
        scaler = torch.amp.GradScaler(device, init_scale=1024.0, growth_interval=1000)
        chosen: dict[str, Any] = {"plugins": [MixedPrecision("16-mixed", device, scaler)]}
    else:
        chosen = {"precision": precision}
    watch = Watch(waits=device == "cpu" or precision == "16-mixed" or case == "LBFGS")
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu", devices=1, max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=50,
        callbacks=[TrainingMonitor(), watch], **of_trainer, **chosen,
    )  # fmt: skip
    use_lean_steps(trainer)
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    try:
        trainer.fit(model, DataLoader(TensorDataset(images, labels), batch_size=None))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    after = torch.nn.utils.parameters_to_vector(model.parameters()).detach().cpu()
    return torch.stack(watch.losses).float().cpu(), torch.stack([before, after])


@functools.cache
def on_the_cpu(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    return trained("cpu", case, "32-true")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_and_the_training_is_the_cpus_in_float32(case, precision, monkeypatch):
    if (case, precision) == ("LBFGS", "16-mixed"):
        with pytest.raises(ValueError, match=r"LBFGS evaluates .*: use bf16-mixed or 32-true$") as caught:
            trained("cuda", case, precision)
        assert "\n" not in str(caught.value)
        return
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # whose error is that of bfloat16's products
    losses, weights = trained("cuda", case, precision)
    expected, (before, after) = on_the_cpu(case)
    tolerance = 0.02 if precision == "32-true" else 0.15
    if (case, precision) == ("LBFGS", "bf16-mixed"):  # which divides by differences of rounded gradients
        assert losses.isfinite().all()
        losses, expected, weights = losses[:3], expected[:3], torch.stack([before, after])
    torch.testing.assert_close(losses, expected, rtol=tolerance, atol=tolerance)
    assert (weights[1] - after).norm() < (0.2 if precision == "32-true" else 0.7) * (after - before).norm()


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of trainings that need processes of their own."""
    folder, root = tmp_path_factory.mktemp("trainings"), Path(__file__).parents[2]
    words = [sys.executable, str(root / "tests" / "workers" / "gpu_trainings.py"), "cuda", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(root), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_a_killed_and_resumed_run_ends_with_the_same_bits(trainings):
    whole, resumed = (torch.load(trainings / f"{name}.pt") for name in ("whole", "resumed"))
    assert whole["steps"] == resumed["steps"] == 40
    assert whole["captures"] > 0
    assert resumed["captures"] > 0
    for name, tensor in whole["weights"].items():
        assert torch.equal(resumed["weights"][name], tensor), name


def test_spocu_starts_within_a_minute(trainings):
    start = torch.load(trainings / "start.pt")
    assert start["steps"] == 6
    assert 0 < start["seconds"] < 60
