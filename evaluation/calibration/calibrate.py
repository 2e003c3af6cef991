"""Calibrating a trained classifier on the data that its data module holds out."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from .bins import edges_and_sums
from .bootstrap import interval
from .errors import binned_error
from .inputs import Norm, Predictions, check_options, prepare
from .proper_scores import brier_sum, log_loss_sum
from .reliability import diagram_of_sums
from .scalers.base import Scaler
from .scalers.temperature import TemperatureScaling

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from matplotlib.figure import Figure

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class CalibrationResult:
    """Calibration of a network on the test split, with a scaler or without one.

    Attributes:
        scaler: The fitted scaler; None for the network itself.
        metrics: `nll`, `ece`, `brier` and `accuracy`; empty if the scaler could not be fitted.
        ece_interval: Bootstrap interval of `ece`, if it was asked for.
        remarks: Warnings of the fit, or the reason why it failed.
        predictions: The predictions on the test split; None if the fit failed.
    """

    scaler: Scaler | None
    metrics: dict[str, float]
    ece_interval: tuple[float, float] | None = None
    remarks: tuple[str, ...] = ()
    predictions: Predictions | None = None

    def reliability_diagram(self, n_bins: int = 15, norm: Norm = "l1", title: str = "") -> "Figure":
        """Draw `evaluation.reliability_diagram` of the test split."""
        if self.predictions is None:
            raise ValueError(f"{type(self.scaler).__name__} was not fitted: {'; '.join(self.remarks)}")
        return diagram_of_sums(*edges_and_sums(self.predictions, n_bins, "uniform"), norm, title=title)


@dataclass(frozen=True)
class CalibrationReport:
    """The results of `calibrate`.

    Attributes:
        uncalibrated: The network without a scaler.
        calibrated: One result for each scaler, in their order.
        fitted_on: The split that the scalers were fitted on, `"val"` or `"train"`.
        samples: Number of samples of that split.
        test_samples: Number of samples of the test split.
    """

    uncalibrated: CalibrationResult
    calibrated: tuple[CalibrationResult, ...]
    fitted_on: Split
    samples: int
    test_samples: int


def calibrate(
    model: nn.Module,
    datamodule: "pl.LightningDataModule",
    scaler: Scaler | Sequence[Scaler] | None = None,
    *,
    on_training_data: bool = False,
    n_bins: int = 15,
    norm: Norm = "l1",
    replicates: int = 0,
) -> CalibrationReport:
    """Fit scalers to a trained classifier's logits on the validation split, and measure them on the test split.

    Args:
        model: Maps images to logits `[N, K]`; it runs on the device of its parameters, in evaluation mode.
        datamodule: Its loaders yield `(images, labels)`; of several validation loaders the first is used.
        scaler: A scaler, by default `TemperatureScaling`, or several. If one of several cannot be fitted, its result
            says why; a single one raises the error.
        on_training_data: Fit on the training split instead. Networks are overconfident on their training data, so such
            a scaler leaves the network overconfident on new data.
        n_bins: Number of bins of the calibration error.
        norm: Norm of the calibration error.
        replicates: Number of resampled sets for the interval of the calibration error; 0 for no interval.

    Returns:
        The fitted scalers, and the metrics on the test split without and with each of them.

    Raises:
        ValueError: If there is no validation split; as the scaler's `fit`.

    Example:
        >>> import pytorch_lightning as pl
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> class Data(pl.LightningDataModule):
        ...     def val_dataloader(self):
        ...         logits, labels = 4 * torch.eye(2).repeat(4, 1), torch.tensor([0, 1, 0, 1, 0, 1, 0, 0])
        ...         return DataLoader(TensorDataset(logits, labels))
        ...     test_dataloader = val_dataloader
        >>> report = calibrate(nn.Identity(), Data())
        >>> report.uncalibrated.metrics["nll"] > report.calibrated[0].metrics["nll"]
        True
    """
    check_options(n_bins, norm)
    single = not isinstance(scaler, Sequence)
    scalers = scaler if isinstance(scaler, Sequence) else [scaler or TemperatureScaling()]
    split: Split = "train" if on_training_data else "val"
    held_out = split_predictions(model, datamodule, split)
    test = split_predictions(model, datamodule, "test")

    def result(predictions: Predictions, each: Scaler | None, remarks: tuple[str, ...]) -> CalibrationResult:
        ends = None
        if replicates:
            ends = interval(lambda sample: binned_error(sample, n_bins, norm), predictions, replicates=replicates)
        return CalibrationResult(each, _measure(predictions, n_bins, norm), ends, remarks, predictions)

    calibrated = []
    for each in scalers:
        with warnings.catch_warnings(record=not single, action=None if single else "always") as caught:
            try:
                each.fit_checked(held_out)
            except ValueError as error:
                if single:
                    raise
                calibrated.append(CalibrationResult(each, {}, remarks=(str(error),)))
                continue
        after = Predictions(each.predict_proba(test.scores), test.labels, from_logits=False)
        calibrated.append(result(after, each, tuple(str(warning.message) for warning in caught or ())))
    return CalibrationReport(result(test, None, ()), tuple(calibrated), split, len(held_out), len(test))


def _measure(predictions: Predictions, n_bins: int, norm: Norm) -> dict[str, float]:
    correct = predictions.scores.argmax(dim=1) == predictions.labels
    values = {
        "nll": predictions.mean(log_loss_sum),
        "ece": binned_error(predictions, n_bins, norm),
        "brier": predictions.mean(brier_sum),
        "accuracy": correct.double().mean(),
    }
    return {name: float(value) for name, value in values.items()}


def split_predictions(model: nn.Module, datamodule: "pl.LightningDataModule", split: Split) -> Predictions:
    """Return a network's logits `[N, K]` and the labels `[N]` of a split, or raise a ValueError if it is empty.

    The training split is augmented and in the order of training.
    """
    datamodule.prepare_data()
    datamodule.setup({"train": "fit", "val": "validate", "test": "test"}[split])
    loader: Any = getattr(datamodule, f"{split}_dataloader")()
    if isinstance(loader, list | tuple):
        loader = loader[0] if loader else []
    logits, labels = _evaluate(model, loader)
    if not logits:
        remedy = ": train with one (val_size), or set on_training_data" if split == "val" else ""
        raise ValueError(f"there is no {split} split to calibrate on{remedy}")
    return prepare(torch.cat(logits), torch.cat(labels), from_logits=True)


def _evaluate(model: nn.Module, loader: Iterable[Any]) -> tuple[list[Tensor], list[Tensor]]:
    tensor = next(model.parameters(), None)
    device = torch.device("cpu") if tensor is None else tensor.device
    modes = {module: module.training for module in model.modules()}
    model.eval()
    logits, labels = [], []
    try:
        with torch.no_grad():
            for images, target in loader:
                logits.append(model(images.to(device)))
                labels.append(target.to(device))
    finally:
        for module, training in modes.items():
            module.training = training
    return logits, labels
