"""Base classes of the data modules: common options, the hooks that a data set overrides, split and loaders."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Never

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ._checks import at_least, labels_below, own_path, share, size
from .pipeline import batch, placement
from .pipeline.augment import Augmentation
from .pipeline.batch import FlatBatch, ImageBatch, ImageStore
from .pipeline.label_noise import noisy_labels
from .pipeline.loader import BatchLoader
from .pipeline.own_transform import Transform
from .pipeline.sources import Resident, Streamed
from .pipeline.split import Indices, stratified_split

Part = Literal["train", "val", "test"]


@dataclass
class Examples:
    """A set of examples and their labels: in memory, or a dataset that is read one example at a time."""

    values: ImageStore | Tensor | Dataset[Tensor]
    labels: Tensor


class SplitDataModule(pl.LightningDataModule, ABC):
    """Base of all data modules.

    A subclass sets `num_classes`, `image_shape` and `classes` (as class attributes or in its constructor) and
    implements `read`, `statistics` (not called if the class sets `mean` and `std`) and `batch_maker`. It may also
    override `labels`, `divide`, `load` and Lightning's `prepare_data` (downloads). `ImageDataModule` implements all but
    `read`.

    The training set is split into a training and a validation part, stratified by class. The split depends on
    `split_seed` only: neither the training seed nor the size of the training part changes the validation part. From a
    set without a test set of its own, a test part of `test_size` is split off first. A batch is `(images, labels)`:
    float32 `[N, C, H, W]` (flat: `[N, D]`), normalised with the mean and standard deviation of the training data, and
    int64 `[N]`.

    Args:
        data_dir: Folder of the data. None: the environment's `DATA_DIR`, or `data` without it.
        batch_size: Training examples per batch and process.
        eval_batch_size: Examples per batch and process for validation, test and prediction.
        train_size: Training examples, a count or a fraction. None: everything left by the other parts.
        val_size: Validation examples, a count or a fraction of all; 0 or None: no validation part.
        split_seed: Seed of the split.
        seed: Seed of order and augmentation. None: the seed of `seed_everything`, or 0 without it.
        resident: Hold the whole set in memory, on the training device. False reads it batch by batch with the workers
            of a `DataLoader`, for sets that do not fit. The batches are the same bit for bit.
        device: Where the set is kept and the batches are made. `"auto"`: the Trainer's device, or the CPU.
        num_workers: Worker processes that read when `resident=False`; they live from epoch to epoch. What a dataset
            draws from global generators there is a function of the seed, the epoch and the position.
        watch_test: Let `val_dataloader()` return `[validation, test]`, to plot the test curve in each epoch. Never use
            it to select anything.
        drop_last: Drop the last incomplete training batch.
        label_noise: Share of the training part's labels that are replaced by another class, in [0, 1]; always the same
            ones for a `split_seed`. Validation and test keep their labels, and so does `part_labels`.

    Attributes:
        num_classes: Number of classes, known before `setup`.
        image_shape: Shape of one example, (C, H, W) or (D,), known before `setup`.
        classes: Class names, known before `setup`.
        mean: Mean per channel (in units of the full scale) or column, known after `setup`.
        std: Standard deviation, likewise.

    Raises:
        ValueError: If an option is out of range.
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
        label_noise: float = 0.0,
    ) -> None:
        super().__init__()
        # Not for the loggers: Lightning refuses to log a module and its data when both have an option of one name.
        self.save_hyperparameters(ignore=["transform"], logger=False)
        self.data_dir = own_path(data_dir if data_dir is not None else os.environ.get("DATA_DIR") or "data")
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.eval_batch_size = at_least("eval_batch_size", eval_batch_size, 1)
        self.train_size, self.val_size = size("train_size", train_size), size("val_size", val_size)
        self.test_size: int | float | None = None
        self.split_seed = at_least("split_seed", split_seed, 0)
        self.seed = None if seed is None else at_least("seed", seed, 0)
        self.resident, self.device, self.watch_test, self.drop_last = resident, device, watch_test, drop_last
        placement.device(device)
        self.label_noise = share("label_noise", label_noise)
        self.num_workers = at_least("num_workers", num_workers, 0)
        if num_workers and resident:
            raise ValueError(
                f"num_workers={num_workers} has no effect with resident=True; set one of them to 0 or False"
            )
        self.augmentation: Augmentation | None = None
        self.transform: Transform | None = None
        self._sets: dict[Literal["train", "test"], Examples] = {}
        self._indices: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "trainer": None}  # which cannot be pickled; a LightningModule leaves its out too

    def __str__(self) -> str:
        """Return a line with what is known so far; nothing is read for it."""
        counts = {part: len(indices) for part, indices in self._indices.items()}
        if self.test_size is None and "test" in self._sets:
            counts["test"] = len(self._sets["test"].labels)
        known = ", ".join(f"{counts[part]} {part}" for part in ("train", "val", "test") if part in counts)
        shape = " x ".join(map(str, self.image_shape))
        return (
            f"{type(self).__name__}(batch_size={self.batch_size}): {known or 'not set up'}; "
            f"{self.num_classes} classes, shape {shape}"
        )

    # Hooks of a subclass.

    @abstractmethod
    def read(self, part: Literal["train", "test"]) -> tuple[Tensor | Dataset[Tensor], Tensor] | None:
        """Return the examples and the labels of a set, in a fixed order.

        Returns:
            Examples `[N, *image_shape]`, uint8 for images, or a `Dataset` of them, which is read one by one; and int64
            labels `[N]`. None for a test set that is split from the training set.
        """

    @abstractmethod
    def statistics(self, train: Tensor) -> tuple[Sequence[float], Sequence[float]]:
        """Return mean and standard deviation of the examples `train` (positions in the training set)."""

    @abstractmethod
    def batch_maker(self, training: bool) -> ImageBatch | FlatBatch:
        """Return what makes the batches of the training part, or of the others."""

    def labels(self) -> Tensor:
        """Return the labels of the training set, from which the split is drawn, if possible without its examples."""
        return self._set("train").labels

    def divide(self, labels: Indices) -> dict[str, Indices]:
        """Return the examples of each part, positions in the training set, from its labels `[N]`."""
        sizes = {"test": self.test_size} if self.test_size is not None else {}
        return stratified_split(
            labels,
            sizes={**sizes, "val": self.val_size, "train": self.train_size},
            rest="train",
            seed=self.split_seed,
            class_names=self.classes,
        )

    def load(self, part: Literal["train", "test"]) -> Examples | None:
        """Return what `read` gives, in the form in which it is kept."""
        examples = self.read(part)
        return None if examples is None else Examples(*examples)

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
        """Return the training part, in a new order in each epoch, augmented."""
        return self._loader("train", training=True)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader | list[Never]]:
        """Return the validation part in order, or `[]` without one; with `watch_test` both, `[validation, test]`."""
        if self.watch_test:
            return [self._loader("val") if self.val_size else [], self._loader("test")]
        return self._loader("val") if self.val_size else []

    def test_dataloader(self) -> BatchLoader:
        """Return the test part, in order."""
        return self._loader("test")

    def predict_dataloader(self) -> Any:
        """Return what predictions are made for: the test part."""
        return self.test_dataloader()

    def part_indices(self, part: Part) -> Tensor:
        """Return the examples of a part: positions in the training set, or in the test set if there is one."""
        if part == "test" and self.test_size is None:
            return torch.arange(len(self._set("test").labels))
        self._split()
        return self._indices[part]

    def part_labels(self, part: Part) -> Tensor:
        """Return the labels of a part, in the order of `part_indices`."""
        indices = self.part_indices(part)
        labels = self._set("test").labels if part == "test" else self.labels()
        return labels[indices.to(labels.device)]

    # Split and loaders.

    def _set(self, part: Literal["train", "test"]) -> Examples:
        if part not in self._sets:
            examples = self.load(part)
            self._sets[part] = self._set("train") if examples is None else examples
        return self._sets[part]

    def _split(self) -> None:
        if self._indices:
            return
        parts = self.divide(self.labels().cpu().numpy())
        self._indices = {name: torch.from_numpy(indices) for name, indices in parts.items()}
        if self.mean is None or self.std is None:
            mean, std = self.statistics(self._indices["train"])
            self.mean, self.std = tuple(mean), tuple(std)

    def _loader(self, part: Part, training: bool = False) -> BatchLoader:
        self._split()
        indices = self.part_indices(part)
        if not len(indices):
            raise ValueError(f"the {part} part is empty; set {part}_size")
        device = placement.device(self.device, self.trainer)
        examples = self._set("test" if part == "test" else "train")
        if device.type in batch.KERNEL_DEVICES:  # whose kernels do not survive a label without a logit
            labels_below(examples.labels, getattr(self.trainer, "lightning_module", None))
        examples.labels = examples.labels.to(device)
        make_batch = self.batch_maker(training).to(device)
        mixes = self.augmentation is not None and self.augmentation.mixes  # in float32, after the batch is made
        if training and isinstance(make_batch, ImageBatch) and device.type in batch.KERNEL_DEVICES and not mixes:
            make_batch.set_format(*placement.batch_format(self.trainer))
        source: Resident | Streamed
        if isinstance(examples.values, Dataset) or not self.resident:
            source = Streamed(examples.values, make_batch, device, self.num_workers)
        else:
            examples.values = examples.values.to(device)  # and stays there
            source = Resident(examples.values, make_batch)
        if isinstance(self.transform, torch.nn.Module):
            self.transform.to(device)
        rank, world_size = placement.process(self.trainer)
        overfit = getattr(self.trainer, "overfit_batches", 0) > 0  # Lightning wants the same batches in each epoch
        labels = examples.labels
        if training and self.label_noise:
            labels = noisy_labels(labels, indices, self.label_noise, self.num_classes, self.split_seed)
        return BatchLoader(
            source,
            labels,
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
            num_classes=self.num_classes,
            transform=self.transform if training else None,
        )
