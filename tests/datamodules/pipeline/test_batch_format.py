"""On CUDA training batches come in the type and memory format that the module asks for, and labels have a logit."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules import DigitsDataModule
from datamodules.pipeline import batch
from lightning_modules import ImageClassifier


class Seen(pl.Callback):
    """Keeps what training and validation get."""

    def __init__(self) -> None:
        self.training: list[Tensor] = []
        self.validation: list[Tensor] = []
        self.losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.training.append(batch[0])
        self.losses.append(outputs["loss"])
        with torch.autocast("cpu", enabled=False):
            assert torch.isfinite(module(batch[0])).all()  # outside of the training step

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.validation.append(batch[0])


def trained(precision: Any, channels_last: bool, module: type[ImageClassifier] = ImageClassifier) -> Seen:
    pl.seed_everything(0)
    model = module("SmallConvNet", image_shape=(1, 8, 8), channels_last=channels_last)
    seen = Seen()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, limit_train_batches=2, limit_val_batches=1, precision=precision, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[seen],
    )  # fmt: skip
    data = DigitsDataModule(batch_size=16, crop_padding=1, flip="random")
    trainer.fit(model, data)
    loader = data.train_dataloader()
    assert next(iter(loader))[0].dtype is torch.float32  # after the training
    return seen


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_training_batches_need_no_conversion(monkeypatch, precision: Any, dtype: torch.dtype) -> None:
    expected = trained(precision, True)
    assert {images.dtype for images in expected.training + expected.validation} == {torch.float32}
    monkeypatch.setattr(batch, "KERNEL_DEVICES", {"cpu"})
    monkeypatch.setattr(batch, "kernels", lambda: None)
    made: list[Tensor] = []
    make = batch.ImageBatch.__call__
    monkeypatch.setattr(batch.ImageBatch, "__call__", lambda *args: made.append(make(*args)) or made[-1])
    found = trained(precision, True)
    assert {images.dtype for images in found.training} == {dtype}
    assert {images.dtype for images in found.validation} == {torch.float32}
    assert all(any(images is one for one in made) for images in found.training)
    assert torch.equal(torch.stack(found.losses), torch.stack(expected.losses))  # the first layer rounds likewise


def test_the_memory_format_is_the_modules(monkeypatch) -> None:
    monkeypatch.setattr(batch, "KERNEL_DEVICES", {"cpu"})
    monkeypatch.setattr(batch, "kernels", lambda: None)
    formats: list[tuple[torch.dtype, bool]] = []
    change = batch.ImageBatch.set_format

    def seen(self: Any, dtype: torch.dtype, channels_last: bool) -> None:
        formats.append((dtype, channels_last))
        change(self, dtype, channels_last)

    monkeypatch.setattr(batch.ImageBatch, "set_format", seen)
    trained("16-true", True)
    assert (torch.float16, True) in formats
    formats.clear()
    trained("bf16-mixed", False)
    assert (torch.bfloat16, False) in formats


def test_a_module_that_asks_for_nothing_gets_float32(monkeypatch) -> None:
    monkeypatch.setattr(batch, "KERNEL_DEVICES", {"cpu"})
    monkeypatch.setattr(batch, "kernels", lambda: None)

    class Silent(ImageClassifier):
        batch_format = None

    assert {images.dtype for images in trained("bf16-mixed", True, Silent).training} == {torch.float32}


def test_a_label_without_a_logit_is_refused_before_a_gpu_sees_it(monkeypatch) -> None:
    monkeypatch.setattr(batch, "KERNEL_DEVICES", {"cpu"})
    module = ImageClassifier("MLP", num_classes=7, image_shape=(1, 8, 8))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    monkeypatch.setattr(ImageClassifier, "training_step", lambda *_: pytest.fail("a step was taken"))
    monkeypatch.setattr(ImageClassifier, "validation_step", lambda *_: pytest.fail("a step was taken"))
    with pytest.raises(
        ValueError, match=r"labels must be below 7, .* from 0 to 9: set num_classes \(now 7\)"
    ) as caught:
        trainer.fit(module, DigitsDataModule())
    assert "\n" not in str(caught.value)
