"""A Lightning callback that logs the calibration of a classifier."""

from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from ..calibration.bins import all_edges, bin_sums, error_from_sums
from ..calibration.inputs import Norm, Predictions, accumulation_dtype, check_options
from ..calibration.reliability import diagram_of_sums
from ..checks import check_count
from ..figures import to_rgb
from .tensorboard import add_images, draws_now, logits_and_labels

_SPLITS = ("val", "test")


class CalibrationMonitor(pl.Callback):
    """Log the calibration error as `val/ece` and `test/ece`, and draw reliability diagrams into TensorBoard.

    The value is `evaluation.calibration_error` of all logits of the epoch, on all processes; only three sums for each
    bin are kept. The names are the same for every norm. A split without a sample is not logged; NaN logits give NaN.

    The images `val/reliability` and, with a test split as second loader, `test/reliability` are drawn from the same
    sums at the end of each validation (`evaluation.reliability_diagram`), for every `TensorBoardLogger` of the trainer.
    Drawing one takes about 0.1 s of CPU time.

    Args:
        n_bins: Number of bins of equal width.
        norm: `"l1"` (expected), `"l2"` (root mean square) or `"max"` (maximum calibration error).
        every_n_epochs: Draw in every n-th training epoch and in the last one (`max_epochs`, `max_steps`).
            `trainer.validate` always draws.

    Raises:
        ValueError: For an unknown option; during evaluation, if a step does not return logits and labels.

    Example:
        >>> trainer = pl.Trainer(callbacks=[CalibrationMonitor()], logger=False, enable_checkpointing=False)
    """

    def __init__(self, n_bins: int = 15, norm: Norm = "l1", every_n_epochs: int = 1) -> None:
        check_options(n_bins, norm)
        self.n_bins, self.norm, self.every_n_epochs = n_bins, norm, check_count("every_n_epochs", every_n_epochs)
        self._sums = torch.zeros(0)

    def _start(self, pl_module: pl.LightningModule) -> None:
        dtype = accumulation_dtype(pl_module.device)
        self._sums = torch.zeros(len(_SPLITS), 3, self.n_bins, dtype=dtype, device=pl_module.device)

    def _add(self, outputs: Any, split: int) -> None:
        logits, labels = logits_and_labels(outputs, self)
        self._sums[split] += bin_sums(Predictions(logits, labels, from_logits=True), self.n_bins)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Tensor:
        sums = cast(Tensor, trainer.strategy.reduce(self._sums, reduce_op="sum"))
        for split, of_split in zip(_SPLITS, sums, strict=True):
            if of_split[0].any():
                # All processes have the same value; sync_dist only prevents a warning of Lightning.
                pl_module.log(f"{split}/ece", error_from_sums(of_split, self.norm), sync_dist=True)
        return sums

    def _draw(self, trainer: pl.Trainer, sums: Tensor) -> None:
        edges = all_edges(self.n_bins)
        pictures = {
            f"{split}/reliability": to_rgb(diagram_of_sums(edges, of_split, self.norm, title=split))
            for split, of_split in zip(_SPLITS, sums, strict=True)
            if of_split[0].any()
        }
        add_images(trainer, pictures)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start with empty bins."""
        self._start(pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch to the bins of its split."""
        if not trainer.sanity_checking and dataloader_idx < len(_SPLITS):
            self._add(outputs, dataloader_idx)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log `val/ece` and, for a second loader, `test/ece`; draw, on the first process."""
        if trainer.sanity_checking:
            return
        sums = self._log(trainer, pl_module)
        if trainer.is_global_zero and draws_now(trainer, self.every_n_epochs):
            self._draw(trainer, sums)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start with empty bins."""
        self._start(pl_module)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch of the first test loader."""
        if dataloader_idx == 0:
            self._add(outputs, _SPLITS.index("test"))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log `test/ece`."""
        self._log(trainer, pl_module)
