"""Where the examples of a batch come from: memory, or worker processes that read them."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .augment import Plan


class Resident:
    """The whole set, in the memory of the training device."""

    def __init__(self, store: Any, make_batch: Any) -> None:
        self.store, self.make_batch = store, make_batch

    num_workers = 0

    def stream(self, plan: Plan, bounds: list[tuple[int, int]], key: tuple[int, int]) -> Iterator[Tensor]:
        """Yield the batch of the plan's positions `start..stop-1` for each (start, stop) of `bounds`."""
        for start, stop in bounds:
            yield self.make_batch(self.store, plan.slice(start, stop))

    def plain(self, examples: Tensor) -> Tensor:
        """Return the batch of some examples, int64 `[n]`, without augmentation."""
        return self.make_batch(self.store, Plan(examples))


class Streamed:
    """A dataset (or tensor) read example by example by a DataLoader; batches are made on the training device.

    Workers live as long as this object. What they read is a function of the seed, the epoch and the position, also for
    a dataset that draws random numbers: it does not matter which epochs they have read before.

    Args:
        dataset: The dataset, of tensors of one shape.
        make_batch: An `ImageBatch` or `FlatBatch`.
        device: The training device.
        num_workers: Number of worker processes; 0: this process reads.
    """

    def __init__(self, dataset: Any, make_batch: Any, device: torch.device, num_workers: int = 0) -> None:
        self.dataset, self.make_batch, self.device, self.num_workers = dataset, make_batch, device, num_workers
        self._places: list[list[tuple[int, ...]]] = []  # of an epoch's batches; the workers' loader looks them up here
        self._workers: DataLoader[Tensor] | None = None
        self._is_busy = False

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled, which has no processes."""
        return vars(self) | {"_places": [], "_workers": None, "_is_busy": False}

    def stream(self, plan: Plan, bounds: list[tuple[int, int]], key: tuple[int, int]) -> Iterator[Tensor]:
        """Yield the batch of the plan's positions `start..stop-1` for each (start, stop) of `bounds`.

        Args:
            plan: The epoch's plan.
            bounds: Positions.
            key: Seed and epoch.
        """
        order = plan.order.cpu().tolist()
        batches: list[list[tuple[int, ...]]] = [
            [(*key, position, order[position]) for position in range(*ends)] for ends in bounds
        ]
        lends = self.num_workers > 0 and not self._is_busy
        if lends:
            self._workers = self._workers or self._loader(self._places)
            self._places[:] = batches
            self._is_busy = True
        # A second iteration before the end of the first one has workers of its own.
        loader = self._workers if lends and self._workers is not None else self._loader(batches)
        try:
            for done, ((start, stop), raw) in enumerate(zip(bounds, loader, strict=True), 1):
                if lends and done == len(bounds):  # nobody may ask for more
                    self._is_busy = lends = False
                yield self._batch(raw, plan.slice(start, stop))
        finally:
            if lends:
                self._is_busy = False

    def plain(self, examples: Tensor) -> Tensor:
        """Return the batch of some examples, int64 `[n]`, without augmentation, read in this process."""
        raw = torch.stack([self.dataset[example] for example in examples.tolist()])
        return self._batch(raw, Plan(examples))

    def _loader(self, batches: list[list[tuple[int, ...]]]) -> "DataLoader[Tensor]":
        return DataLoader(
            ByPlace(self.dataset, seeds=self.num_workers > 0),
            batch_sampler=batches,
            num_workers=self.num_workers,
            persistent_workers=batches is self._places,
            collate_fn=torch.stack,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # DataLoader would draw from the global one, which changes dropout
        )

    def _batch(self, raw: Tensor, plan: Plan) -> Tensor:
        store = self.make_batch.collate(raw.to(self.device, non_blocking=True))
        rows = torch.arange(len(raw), device=self.device)
        return self.make_batch(store, plan._replace(order=rows))


class ByPlace(Dataset[Tensor]):
    """A dataset read by (seed, epoch, position, example).

    Args:
        dataset: The dataset.
        seeds: Whether to seed the global generators of torch, NumPy and Python by seed, epoch and position before an
            example is read; in a worker, where nobody else draws from them.
    """

    def __init__(self, dataset: Any, seeds: bool) -> None:
        self.dataset, self.seeds = dataset, seeds

    def __getitem__(self, place: tuple[int, ...]) -> Tensor:
        *key, example = place
        if self.seeds:
            words = np.random.SeedSequence([*key, 9]).generate_state(4, np.uint32).tolist()
            torch.manual_seed(words[0] << 31 | words[1] >> 1)
            np.random.seed(words[2])
            random.seed(words[3])
        result: Tensor = self.dataset[example]
        return result
