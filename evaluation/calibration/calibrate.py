"""Calibrating a trained classifier on the data that its data module holds out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from .errors import calibration_error
from .inputs import Norm, check_options, prepare
from .proper_scores import brier_score, negative_log_likelihood
from .scalers import Scaler, TemperatureScaling

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class CalibrationReport:
    """What :func:`calibrate` returns.

    Attributes:
        scaler: The fitted scaler.
        before: ``nll``, ``ece``, ``brier`` and ``accuracy`` of the network on the test split.
        after: The same with the scaler behind the network.
        fitted_on: The split that the scaler was fitted on, ``"val"`` or ``"train"``.
    """

    scaler: Scaler
    before: dict[str, float]
    after: dict[str, float]
    fitted_on: Split


def calibrate(
    model: nn.Module,
    datamodule: pl.LightningDataModule,
    scaler: Scaler | None = None,
    *,
    on_training_data: bool = False,
    n_bins: int = 15,
    norm: Norm = "l1",
) -> CalibrationReport:
    """Fit a scaler to a trained classifier's logits on the validation split, and report on the test split.

    Args:
        model: Maps images to logits ``[N, K]``; it is evaluated where its parameters are, in evaluation mode.
        datamodule: Its loaders yield ``(images, labels)``; of several validation loaders the first is the split.
        scaler: What to fit, by default :class:`evaluation.TemperatureScaling`.
        on_training_data: Fit on the training split instead. A network is surer of examples that it was trained on than
            of others, so that such a scaler leaves it overconfident.
        n_bins: Number of bins of the calibration error.
        norm: Norm of the calibration error.

    Returns:
        The scaler, and the metrics on the test split before and after.

    Raises:
        ValueError: If there is no validation split; as the scaler's ``fit``.

    Example:
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> class Data(pl.LightningDataModule):
        ...     def val_dataloader(self):
        ...         logits, labels = 4 * torch.eye(2).repeat(4, 1), torch.tensor([0, 1, 0, 1, 0, 1, 0, 0])
        ...         return DataLoader(TensorDataset(logits, labels))
        ...     test_dataloader = val_dataloader
        >>> report = calibrate(nn.Identity(), Data())
        >>> report.before["nll"] > report.after["nll"]
        True
    """
    check_options(n_bins, norm, "uniform")
    scaler = TemperatureScaling() if scaler is None else scaler
    split: Split = "train" if on_training_data else "val"
    scaler.fit(*split_logits(model, datamodule, split))
    logits, labels = split_logits(model, datamodule, "test")
    before = measure(logits, labels, n_bins, norm, from_logits=True)
    after = measure(scaler.predict_proba(logits), labels, n_bins, norm)
    return CalibrationReport(scaler, before, after, split)


def measure(
    preds: Tensor, labels: Tensor, n_bins: int = 15, norm: Norm = "l1", *, from_logits: bool = False
) -> dict[str, float]:
    """Return ``nll``, ``ece`` (of the norm), ``brier`` and ``accuracy`` of ``[N, K]`` predictions."""
    return {
        "nll": float(negative_log_likelihood(preds, labels, from_logits=from_logits)),
        "ece": float(calibration_error(preds, labels, n_bins=n_bins, norm=norm, from_logits=from_logits)),
        "brier": float(brier_score(preds, labels, from_logits=from_logits)),
        "accuracy": float((preds.argmax(dim=1) == labels.to(preds.device)).double().mean()),
    }


def split_logits(model: nn.Module, datamodule: pl.LightningDataModule, split: Split) -> tuple[Tensor, Tensor]:
    """Return a network's logits ``[N, K]`` and the labels ``[N]`` of a split.

    Args:
        model: Maps images to logits.
        datamodule: Its loaders yield ``(images, labels)``.
        split: ``"val"``, ``"test"``, or ``"train"`` (augmented and in the order of training).

    Raises:
        ValueError: If the split is empty.
    """
    datamodule.prepare_data()
    datamodule.setup({"train": "fit", "val": "validate", "test": "test"}[split])
    loader: Any = getattr(datamodule, f"{split}_dataloader")()
    if isinstance(loader, list | tuple):
        loader = loader[0] if loader else []
    logits, labels = _evaluate(model, loader)
    if not logits:
        remedy = ": train with one (val_size), or say on_training_data" if split == "val" else ""
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
