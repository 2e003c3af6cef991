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
from .tensorboard import SPLITS, StepCallback, add_images, draws_now


class CalibrationMonitor(StepCallback):
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

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start with empty bins."""
        dtype = accumulation_dtype(pl_module.device)
        self._sums = torch.zeros(len(SPLITS), 3, self.n_bins, dtype=dtype, device=pl_module.device)

    on_test_epoch_start = on_validation_epoch_start

    def _add(self, outputs: Any, batch: Any, split: int) -> None:
        self._sums[split] += bin_sums(Predictions(*self._answers(outputs), from_logits=True), self.n_bins)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log `val/ece` and, for a second loader, `test/ece`; draw, on the first process."""
        sums = self._log(trainer, pl_module)
        if trainer.is_global_zero and draws_now(trainer, self.every_n_epochs):
            edges = all_edges(self.n_bins)
            figures = {name: diagram_of_sums(edges, each, self.norm, title=name) for name, each in sums.items()}
            add_images(trainer, {f"{name}/reliability": to_rgb(figure) for name, figure in figures.items()})

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log `test/ece`."""
        self._log(trainer, pl_module)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        """Log the error of the splits that have a sample, and return the sums of these splits."""
        total = cast(Tensor, trainer.strategy.reduce(self._sums, reduce_op="sum"))
        sums = {name: each for name, each in zip(SPLITS, total, strict=True) if each[0].any()}
        for name, each in sums.items():
            # All processes have the same value; sync_dist only prevents a warning of Lightning.
            pl_module.log(f"{name}/ece", error_from_sums(each, self.norm), sync_dist=True)
        return sums
