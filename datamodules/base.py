"""What all data modules share: options, split, loaders, sharding."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Never

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ._checks import at_least, data_folder, size
from .pipeline import placement
from .pipeline.augment import Augmentation
from .pipeline.batch import FlatBatch, ImageBatch, ImageStore
from .pipeline.loader import BatchLoader, Resident, Streamed
from .pipeline.split import stratified_split

Part = Literal["train", "val", "test"]


@dataclass
class Examples:
    """A set of examples: in memory (`store`) or to be read one by one (`dataset`)."""

    labels: Tensor
    store: ImageStore | Tensor | None = None
    dataset: Dataset[Tensor] | None = None

    def to(self, device: torch.device) -> "Examples":
        """Move what is in memory, and keep it there."""
        self.labels = self.labels.to(device)
        if self.store is not None:
            self.store = self.store.to(device)
        return self


class SplitDataModule(pl.LightningDataModule):
    """Base of the data modules. A subclass says what the examples are (`_load`) and how they are scaled.

    The training set is split into a training and a validation part, stratified by class, by `split_seed` alone: neither
    the training seed nor the size of the training part changes the validation part. Sets without a test set of their
    own (`test_size`) give up a test part first. A batch is `(images, labels)`: float32 `[N, C, H, W]` (flat: `[N, D]`),
    normalised with the mean and standard deviation of the training data, and int64 `[N]`.

    Args:
        data_dir: folder of the data; None is the environment's `DATA_DIR`, else `data`.
        batch_size: training examples per batch and process.
        eval_batch_size: the same for validation, test and prediction.
        train_size: training examples, a count or a fraction; None is all that the other parts leave.
        val_size: validation examples, a count or a fraction of all; 0 or None is no validation part.
        split_seed: seed of the split.
        seed: seed of order and augmentation; None is the seed of `seed_everything`, else 0.
        resident: hold the whole set in memory, on the device that trains; False reads it batch by batch with the
            workers of a `DataLoader`, for sets that do not fit. The batches are the same bit for bit.
        device: where the set lies and the batches are made; `"auto"` is the Trainer's device, or the CPU.
        num_workers: processes that read when `resident=False`.
        watch_test: `val_dataloader()` returns `[validation, test]`, so that the test curve can be watched in each
            epoch. It should never be used to select anything.
        drop_last: leave out a last training batch that is not full.

    Attributes:
        num_classes: number of classes, known before `setup`; 1 when the target is a number.
        image_shape: shape of one example, (C, H, W) or (D,), known before `setup`.
        classes: their names, known before `setup`.
        mean: mean per channel (images in units of the full scale) or column, known after `setup`.
        std: the standard deviation likewise.

    Raises:
        ValueError: if an option is out of its range.
    """

    num_classes: int
    image_shape: tuple[int, ...]
    classes: list[str]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __init__(
        self,
        data_dir: str | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 512,
        train_size: int | float | None = None,
        val_size: int | float | None = 0.1,
        split_seed: int = 0,
        seed: int | None = None,
        resident: bool = True,
        device: str = "auto",
        num_workers: int = 0,
        watch_test: bool = False,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        # Not for the loggers: Lightning refuses to log a module and its data when both have an option of one name.
        self.save_hyperparameters(logger=False)
        self.data_dir = data_folder(data_dir)
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.eval_batch_size = at_least("eval_batch_size", eval_batch_size, 1)
        self.train_size, self.val_size = size("train_size", train_size), size("val_size", val_size)
        self.test_size: int | float | None = None
        self.split_seed = at_least("split_seed", split_seed, 0)
        self.seed = None if seed is None else at_least("seed", seed, 0)
        self.resident = resident
        self.device = device
        placement.device(device)
        self.num_workers = at_least("num_workers", num_workers, 0)
        if num_workers and resident:
            raise ValueError(
                f"num_workers={num_workers} has no effect with resident=True; leave it 0 or stream the set"
            )
        self.watch_test, self.drop_last = watch_test, drop_last
        self.augmentation: Augmentation | None = None
        self._sets: dict[Literal["train", "test"], Examples] = {}
        self._indices: dict[str, Tensor] = {}

    # What a subclass says.

    def _load(self, part: Literal["train", "test"]) -> Examples | None:
        """The examples of the training or the test set; None for a test set that is split from the training set."""
        raise NotImplementedError  # images, folders and tables are read differently

    def _labels(self) -> Tensor:
        """The classes of the training set's examples, for the split."""
        return self._set("train").labels

    def _statistics(self, train: Tensor) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and standard deviation of the training part, which is `train` of the training set."""
        raise NotImplementedError  # only a kind of data knows over what its mean is taken

    def _batch_maker(self, training: bool) -> ImageBatch | FlatBatch:
        """What makes the batches, of the training part or of the others."""
        raise NotImplementedError  # images and flat rows are batched differently

    # Lightning's hooks.

    def setup(self, stage: str | None = None) -> None:
        """Read what `stage` (fit, validate, test, predict, None for all) needs, and split it; once only."""
        if stage not in ("test", "predict") or self.mean is None or self.test_size is not None:
            self._split()
        if stage in (None, "test", "predict") or self.watch_test:
            self._set("test")
        if stage in (None, "fit", "validate"):
            self._set("train")

    def train_dataloader(self) -> BatchLoader:
        """The training part, in a new order in each epoch, augmented."""
        return self._loader("train", training=True)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader | list[Never]]:
        """The validation part in order, or `[]` without one; with `watch_test` both, `[validation, test]`."""
        if self.watch_test:
            return [self._loader("val") if self.val_size else [], self._loader("test")]
        return self._loader("val") if self.val_size else []

    def test_dataloader(self) -> BatchLoader:
        """The test part, in order."""
        return self._loader("test")

    def predict_dataloader(self) -> BatchLoader:
        """The test part, in order."""
        return self._loader("test")

    def part_indices(self, part: Part) -> Tensor:
        """The examples of a part: positions in the training set, or in the test set if it is a set of its own."""
        if part == "test" and self.test_size is None:
            return torch.arange(len(self._set("test").labels))
        self._split()
        return self._indices[part]

    def part_labels(self, part: Part) -> Tensor:
        """The labels of a part, in the order of `part_indices`."""
        labels = self._set("test").labels if part == "test" else self._labels()
        return labels[self.part_indices(part).to(labels.device)]

    # How it is done.

    def _set(self, part: Literal["train", "test"]) -> Examples:
        if part not in self._sets:
            examples = self._load(part)
            self._sets[part] = self._set("train") if examples is None else examples
        return self._sets[part]

    def _split(self) -> None:
        if self._indices:
            return
        labels = self._labels().cpu().numpy()
        if labels.dtype.kind == "f":
            labels = labels.astype("int64") * 0
        sizes = {"test": self.test_size} if self.test_size is not None else {}
        parts = stratified_split(
            labels,
            sizes={**sizes, "val": self.val_size, "train": self.train_size},
            rest="train",
            seed=self.split_seed,
            class_names=self.classes or None,
        )
        self._indices = {name: torch.from_numpy(indices) for name, indices in parts.items()}
        if self.mean is None or self.std is None:
            mean, std = self._statistics(self._indices["train"])
            self.mean, self.std = tuple(mean), tuple(std)

    def _loader(self, part: Part, training: bool = False) -> BatchLoader:
        self._split()
        indices = self.part_indices(part)
        if not len(indices):
            raise ValueError(f"the {part} part is empty; set {part}_size")
        device = placement.device(self.device, self.trainer)
        examples = self._set("test" if part == "test" else "train").to(device)
        make_batch = self._batch_maker(training).to(device)
        source: Resident | Streamed
        if examples.dataset is not None:
            source = Streamed(examples.dataset, make_batch, device, self.num_workers)
        else:
            source = Resident(examples.store, make_batch)
        rank, world_size = placement.process(self.trainer)
        overfit = getattr(self.trainer, "overfit_batches", 0) > 0  # Lightning wants the same batches in each epoch
        return BatchLoader(
            source,
            examples.labels,
            indices,
            batch_size=self.batch_size if training else self.eval_batch_size,
            shuffle=training and not overfit,
            augmentation=self.augmentation if training else None,
            image_size=(self.image_shape[-2], self.image_shape[-1]) if len(self.image_shape) == 3 else (1, 1),
            seed=int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed,
            drop_last=self.drop_last and training,
            rank=rank,
            world_size=world_size,
            device=device,
        )
