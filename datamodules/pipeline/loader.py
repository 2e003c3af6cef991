"""The batch loader, for sets in memory and for streamed sets."""

import itertools
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, SequentialSampler

from .augment import Augmentation, Plan, draw_plan
from .mixing import mixed, mixed_labels, partners, window
from .own_transform import Transform, transformed
from .sources import Resident, Streamed


@dataclass(eq=False, repr=False)
class BatchLoader:
    """Iterates over `(images, labels)` batches; order and augmentation are pure functions of (seed, epoch, position).

    Labels are int64 `[B]`; where images are mixed, they are the shares of the classes, float32 `[B, K]`.

    With W processes the global batch b has the positions `b*B*W .. (b+1)*B*W-1` of the epoch, and each process takes
    its `torch.tensor_split` share. W processes with batch size B thus see the batches of one process with batch size
    B*W, each example once, and have the same number of batches (a last batch of fewer than W examples is merged with
    the one before it).

    The epoch advances from one iteration to the next, or is set by `set_epoch`. After `load_state_dict` the next
    iteration continues from the saved position.

    Loops written for a `DataLoader` find its attributes: `dataset`, `sampler`, `batch_size`, `drop_last`,
    `num_workers`.
    """

    source: Resident | Streamed
    labels: Tensor  # [N], of the whole set, on the source's device
    indices: Tensor  # int64 [n], examples of this loader
    _: KW_ONLY
    batch_size: int  # examples per batch and process
    shuffle: bool = False  # draw a new order in each epoch
    augmentation: Augmentation | None = None
    image_size: tuple[int, int] = (1, 1)  # height and width
    seed: int = 0  # key of order and augmentation
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    device: torch.device | str = "cpu"  # of the plan and the labels
    num_classes: int = 0  # K, for the labels [B, K] of mixed images
    transform: Transform | None = None  # applied to each batch

    batch_sampler = None  # Lightning reads it, and `sampler`, to find out whether an evaluation loader shuffles

    def __post_init__(self) -> None:
        self.bounds = self._shares()
        self._epoch = self._batch = 0
        self._rest: list[tuple[int, int]] | None = None  # of an epoch that began with batches of another size
        self._started = False  # whether an iteration has begun since the position was set
        self._drawn: tuple[Any, Plan] | None = None

    @property
    def dataset(self) -> "Part":
        """Return the examples of this loader, of all processes."""
        return Part(self)

    @property
    def sampler(self) -> "PartSampler":
        """Return the positions in `dataset` that this process takes."""
        return PartSampler(self) if self.shuffle else InOrder(self)

    @property
    def num_workers(self) -> int:
        """Return the number of worker processes that read."""
        return self.source.num_workers

    def __len__(self) -> int:
        return len(self.bounds)

    def first_images(self, count: int) -> Tensor:
        """Return the first `count` examples, or all, of all processes: in order, normalised, without augmentation."""
        return self.source.plain(self.indices[:count].to(self.device))

    def set_epoch(self, epoch: int) -> None:
        """Start the next iteration with this epoch, at a position just loaded for the same epoch."""
        if self._started or epoch != self._epoch:
            self._epoch, self._batch, self._started, self._rest = epoch, 0, False, None

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches yielded; the end of an epoch is the start of the next."""
        if self._batch >= len(self):
            return {"epoch": self._epoch + 1, "batch": 0}
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Start the next iteration at this position.

        With `"examples"`, the number of the epoch's examples that all processes have seen, `"batch"` is ignored: the
        rest of the epoch is divided into batches of today's size, of which the first may be smaller.

        Raises:
            ValueError: If the position does not exist because the batch size or the set has changed.
        """
        epoch, batch, rest = state_dict["epoch"], state_dict["batch"], None
        if "examples" in state_dict:
            rest = self._shares(state_dict["examples"])
            batch = len(self) - len(rest)
        if not (epoch >= 0 and 0 <= batch < len(self)):
            raise ValueError(
                f"the loader's saved position is batch {batch} of epoch {epoch}, but an epoch has {len(self)} batches; "
                "resume with the data and batch size of the run that saved it"
            )
        self._epoch, self._batch, self._started, self._rest = epoch, batch, False, rest

    def _shares(self, first: int = 0) -> list[tuple[int, int]]:
        return shares(len(self.indices), self.batch_size, self.rank, self.world_size, self.drop_last, first)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # Nothing in a generator runs before the first `next`, so that `set_epoch` may be called after `iter`.
        if self._started:
            self._epoch, self._batch, self._rest = self._epoch + 1, 0, None
        self._started = True
        first, epoch = self._batch, self._epoch
        plan = self._on_device(epoch)
        bounds = self.bounds[first:] if self._rest is None else self._rest
        read = bounds if plan.share is None else [window(*ends, len(self.indices)) for ends in bounds]
        for done, images in enumerate(self.source.stream(plan, read, (self.seed, epoch if self.shuffle else 0))):
            # Before the yield: Lightning does not ask for a batch after the last one, so later code never runs.
            self._batch = first + done + 1
            images, labels = self._batch_of(plan, bounds[done], read[done], images)
            if self.transform is not None:
                images = transformed(self.transform, images, (self.seed, epoch, 8, bounds[done][0]))
            yield images, labels
            if done == 0:
                self._on_device(epoch + 1)  # while the device is busy

    def _batch_of(
        self, plan: Plan, bounds: tuple[int, int], read: tuple[int, int], images: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the batch of the positions `bounds` from the images of the positions `read`."""
        labels = self.labels.index_select(0, plan.order[slice(*read)])
        if plan.share is None or plan.inserted is None:
            return images, labels
        own = slice(bounds[0] - read[0], bounds[1] - read[0])
        partner = partners(*bounds, len(self.indices), self.device) - read[0]
        share, inserted = plan.share[slice(*bounds)], plan.inserted[slice(*bounds)]
        return (
            mixed(images[own], images.index_select(0, partner), share, inserted),
            mixed_labels(labels[own], labels.index_select(0, partner), share, self.num_classes),
        )

    def _on_device(self, epoch: int) -> Plan:
        """Return the plan of an epoch on the device, which is drawn once."""
        key = (epoch if self.shuffle else 0, self.shuffle, self.seed, self.augmentation, id(self.indices))
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, self.plan(self.indices, epoch).to(self.device))
        return self._drawn[1]

    def plan(self, examples: Tensor, epoch: int | None = None) -> Plan:
        """Draw the order and the augmentation of an epoch, by default this one."""
        epoch = self._epoch if epoch is None else epoch
        return draw_plan(
            examples,
            shuffle=self.shuffle,
            augmentation=self.augmentation,
            image_size=self.image_size,
            seed=self.seed,
            epoch=epoch if self.shuffle else 0,
        )


class Part(Dataset[tuple[Tensor, Tensor]]):
    """The examples of a loader and their labels, one by one: normalised, in order, without augmentation."""

    def __init__(self, loader: BatchLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        example = self._loader.indices[[position]].to(self._loader.device)  # an IndexError ends a loop
        return self._loader.source.plain(example)[0], self._loader.labels[example[0]]


class PartSampler(Sampler[int]):
    """The positions in a loader's `dataset` that this process takes, in the order of the epoch."""

    def __init__(self, loader: BatchLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        """Return their number, as `DistributedSampler` does: that of the process with the most."""
        return -(-len(self._loader.indices) // self._loader.world_size)

    def __iter__(self) -> Iterator[int]:
        order = self._loader.plan(torch.arange(len(self._loader.indices))).order
        return iter(torch.cat([order[start:stop] for start, stop in self._loader.bounds]).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Start the loader's next iteration with this epoch."""
        self._loader.set_epoch(epoch)


class InOrder(PartSampler, SequentialSampler):
    """The positions of a loader that does not shuffle, which Lightning recognises by its type."""


def shares(
    total: int, batch_size: int, rank: int, world_size: int, drop_last: bool = False, first: int = 0
) -> list[tuple[int, int]]:
    """Return the positions (start, stop) that `rank` takes of each batch of an epoch, or of its rest from `first`.

    The batches of a rest end where those of the whole epoch end.

    >>> shares(10, 2, rank=0, world_size=2), shares(10, 2, rank=1, world_size=2)
    ([(0, 2), (4, 6), (8, 9)], [(2, 4), (6, 8), (9, 10)])
    >>> shares(10, 4, rank=0, world_size=1, first=6)
    [(6, 8), (8, 10)]
    """
    if total < world_size:
        raise ValueError(f"{total} examples cannot be shared by {world_size} processes; use fewer processes")
    step = batch_size * world_size
    edges = [*range(0, total, step), total]
    tail = edges[-1] - edges[-2]
    if drop_last and tail < step:
        if len(edges) == 2:
            raise ValueError(f"drop_last=True leaves no batch: {total} examples are less than one batch of {step}")
        edges.pop()
    elif tail < world_size:
        edges.pop(-2)
    if first:
        later = [edge for edge in edges if edge >= first + world_size] or edges[-1:]
        edges = [min(first, later[0] - world_size), *later]  # a rest that is too small repeats some examples
    result = []
    for start, stop in itertools.pairwise(edges):
        size, extra = divmod(stop - start, world_size)
        mine = start + rank * size + min(rank, extra)
        result.append((mine, mine + size + (rank < extra)))
    return result
