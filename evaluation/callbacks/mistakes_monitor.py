"""A Lightning callback that shows what a classifier gets wrong."""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from ..checks import check_count
from ..figures import confusion_matrix_figure, mistakes_figure, to_rgb
from .mistakes import MistakeRecord, Mistakes, merge
from .tensorboard import StepCallback, add_images, draws_now


class MistakesMonitor(StepCallback):
    """Write the confusion matrix and a grid of the worst mistakes of the validation split to TensorBoard.

    The images `val/confusion_matrix` and `val/mistakes` go to every `TensorBoardLogger` of the trainer, at its global
    step; without one, nothing is computed. Class names, `mean` and `std` come from the trainer's data module if it has
    them. Without `mean` and `std` the images are scaled from their minimum to their maximum. Batches are
    `(images, labels)`; if the images are not `[N, C, H, W]`, only the confusion matrix is drawn. During an epoch the
    matrix and the worst images so far stay on the device. Drawing takes a few tenths of a second of CPU time: increase
    `every_n_epochs` if a training epoch takes only seconds.

    Args:
        images: Number of mistakes in the grid, those of highest cross-entropy.
        every_n_epochs: Draw in every n-th training epoch and in the last one (`max_epochs`, `max_steps`).
            `trainer.validate` always draws.

    Raises:
        ValueError: If an argument is not a positive integer; during validation, if a step does not return logits and
            labels.

    Example:
        >>> trainer = pl.Trainer(callbacks=[MistakesMonitor(images=16)], logger=False, enable_checkpointing=False)
    """

    def __init__(self, images: int = 25, every_n_epochs: int = 1) -> None:
        self.images, self.every_n_epochs = check_count("images", images), check_count("every_n_epochs", every_n_epochs)
        self._record: MistakeRecord | None = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start with an empty record, if this validation is to be drawn."""
        self._record = MistakeRecord(self.images) if draws_now(trainer, self.every_n_epochs) else None

    def _add(self, outputs: Any, batch: Any, split: int) -> None:
        if self._record is not None and split == 0:
            images = batch[0] if isinstance(batch, list | tuple) else None
            images = images if isinstance(images, Tensor) and images.ndim == 4 else None
            self._record.update(*self._answers(outputs), images)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the mistakes of all processes, on the first process."""
        if self._record is None:
            return
        parts = _gather(self._record.cpu(), trainer)
        self._record = None
        matrices = [matrix for matrix, _ in parts if matrix is not None]
        mistakes = [mistakes for _, mistakes in parts if mistakes is not None]
        if matrices:
            matrix = torch.stack(matrices).sum(dim=0)
            self._draw(trainer, matrix, merge(mistakes, self.images) if mistakes else None)

    def _draw(self, trainer: pl.Trainer, matrix: Tensor, mistakes: Mistakes | None) -> None:
        datamodule = getattr(trainer, "datamodule", None)
        classes = getattr(datamodule, "classes", None)
        if classes is None or len(classes) != len(matrix):
            classes = [str(index) for index in range(len(matrix))]
        pictures = {"val/confusion_matrix": to_rgb(confusion_matrix_figure(matrix, classes))}
        if mistakes is not None:
            images = viewable(mistakes["image"], getattr(datamodule, "mean", None), getattr(datamodule, "std", None))
            columns = mistakes["label"], mistakes["prediction"], mistakes["confidence"]
            pictures["val/mistakes"] = to_rgb(mistakes_figure(images, *columns, classes))
        add_images(trainer, pictures)


def _gather(part: tuple[Tensor | None, Mistakes | None], trainer: pl.Trainer) -> list[Any]:
    """Return the parts of all processes on the first process, an empty list on the others."""
    if trainer.world_size == 1 or not (dist.is_available() and dist.is_initialized()):
        return [part]
    parts: list[Any] | None = [None] * trainer.world_size if trainer.is_global_zero else None
    dist.gather_object(part, parts, dst=0)
    return parts or []


def viewable(images: Tensor, mean: Any, std: Any) -> Tensor:
    """Return images `[M, C, H, W]` with their normalisation undone, in [0, 1].

    Without `mean` and `std`, numbers or one for each channel, they are scaled from their minimum to their maximum.
    """
    if mean is not None and std is not None:
        mean, std = (torch.as_tensor(value, dtype=images.dtype, device="cpu").flatten() for value in (mean, std))
        if mean.shape == std.shape and len(mean) in (1, images.shape[1]):
            return (images * std[:, None, None] + mean[:, None, None]).clamp(0, 1)
    if images.numel() == 0:
        return images
    low, high = images.amin(), images.amax()
    return (images - low) / (high - low).clamp(min=torch.finfo(images.dtype).tiny)
