"""Predictions as a CSV file, written batch by batch."""

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter


class PredictionCSV(BasePredictionWriter):
    """Writes `index, label, prediction, probability of each class` for every example of the predict loader.

    For files without labels (`ImageFolderDataModule(predict_dir=...)`) the columns are `index, file, prediction,
    class_number, probability of each class`: the file's name relative to the folder, the name of the predicted class,
    and its number.

    Names are quoted where CSV asks for it. One that begins with `=` or `@`, which a spreadsheet would run as a formula,
    is written behind an apostrophe; all others are unchanged.

    It takes the dictionaries that `ImageClassifier.predict_step` returns; without labels that column is empty. Rows go
    to a hidden file, renamed after the last one, so that an interrupted prediction leaves no partial file.

    Args:
        path: The CSV file; an existing one is replaced.
        classes: Class names, in the order of the network's outputs. None: those that the network's checkpoint has, or
            numbers.

    >>> PredictionCSV("predictions.csv", ["cat", "dog"]).header
    ['index', 'label', 'prediction', 'probability_cat', 'probability_dog']
    """

    def __init__(self, path: str | Path, classes: Sequence[str] | None = None) -> None:
        super().__init__(write_interval="batch")
        self.path, self._names = Path(path), classes
        self._set_classes(classes or ())
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        self._file: IO[str] | None = None
        self._index = 0

    def _set_classes(self, names: Sequence[str]) -> None:
        self.classes = [_no_formula(str(name)) for name in names]
        self.header = ["index", "label", "prediction", *(f"probability_{name}" for name in names)]

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the file.

        Raises:
            ValueError: If several processes predict, each of which has only a part of the rows.
        """
        if trainer.world_size > 1:
            raise ValueError(f"predictions go to one file: use one device, found {trainer.world_size} processes")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Names of folders need not be UTF-8: their bytes are written as they are. Closed when predict ends.
        self._file = open(self._partial, "w", newline="", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
        self._index = 0
        known = self._names or getattr(pl_module, "class_names", None)
        self._set_classes(known or [str(number) for number in range(getattr(pl_module, "num_classes", 0))])

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Append the batch's rows."""
        predicted, probabilities = prediction["prediction"].tolist(), prediction["probabilities"].tolist()
        labels = prediction["label"].tolist() if "label" in prediction else [None] * len(predicted)
        files = prediction.get("file", labels)
        if "file" in prediction and self._index == 0:
            self.header[1:3] = ["file", "prediction", "class_number"]
        rows: list[list[Any]] = [self.header] if self._index == 0 else []
        for file, label, found, shares in zip(files, labels, predicted, probabilities, strict=True):
            named = "" if label is None else self.classes[label]
            if not math.isfinite(sum(shares)):
                which = f"file {file!r}" if "file" in prediction else f"example {self._index}"
                raise ValueError(
                    f"the network's output for {which} is NaN or infinite: no predictions are written; check its "
                    "weights and the normalisation of the data"
                )
            name = self.classes[found]
            known = [_no_formula(file), name, found] if "file" in prediction else [named, name]
            rows.append([self._index, *known, *(f"{share:.7g}" for share in shares)])
            self._index += 1
        csv.writer(self._file).writerows(rows)  # type: ignore[arg-type]  # not None: opened when predict starts

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Rename the finished file."""
        if self._file is not None and self._index == 0:
            csv.writer(self._file).writerow(self.header)
        self._close()
        os.replace(self._partial, self.path)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the partial file."""
        self._close()
        self._partial.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _no_formula(name: str) -> str:
    return f"'{name}" if name.startswith(("=", "@")) else name
