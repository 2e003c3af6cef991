"""A training step on CUDA: nothing waits, and the step is the CPU's."""

import functools
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.optim import SGD, AdamW
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ImageClassifier
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.training_loop import use_lean_steps
from optim import COCOB, LAMB, SAM

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
OPTIMIZERS = {
    "SGD": functools.partial(SGD, lr=0.05, momentum=0.9),
    "AdamW": functools.partial(AdamW, lr=0.01),
    "LAMB": functools.partial(LAMB, lr=0.01),
    "COCOB": COCOB,
    "SAM": functools.partial(SAM, base_optimizer=SGD, lr=0.05),
}


class Watch(pl.Callback):
    """Makes each wait for the device an error from step 10 to 40, and keeps the losses."""

    def __init__(self) -> None:
        self.losses: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx in (10, 40) and module.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error" if batch_idx == 10 else "default")

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"].clone())


def losses(accelerator: str, optimizer: str, ema_decay: float | None, **options: Any) -> torch.Tensor:
    pl.seed_everything(0)
    model = ImageClassifier("SmallConvNet", 7, (3, 8, 8), optimizer=OPTIMIZERS[optimizer], ema_decay=ema_decay)
    device = "cuda" if accelerator == "cuda" else "cpu"
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(45, 16, 3, 8, 8, generator=generator).to(device)
    labels = torch.randint(7, (45, 16), generator=generator).to(device)
    watch = Watch()
    trainer = pl.Trainer(
        accelerator=accelerator, devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=50,
        callbacks=[TrainingMonitor(), watch], **options,
    )  # fmt: skip
    use_lean_steps(trainer)
    try:
        trainer.fit(model, DataLoader(TensorDataset(images, labels), batch_size=None))
    finally:
        if accelerator == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    return torch.stack(watch.losses).float().cpu()


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("options", [{}, {"precision": "bf16-mixed"}, {"accumulate_grad_batches": 2}], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_step_waits_and_the_losses_are_the_cpus(optimizer, options, ema_decay):
    found = losses("cuda", optimizer, ema_decay, **options)
    if ema_decay is None:
        tolerance = 0.1 if "precision" in options else 5e-3
        torch.testing.assert_close(found, losses("cpu", optimizer, None, **options), rtol=tolerance, atol=tolerance)
