"""Batches of the images of a folder without labels, for predictions."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..pipeline.augment import Plan
from ..pipeline.batch import ImageBatch
from ..pipeline.scaling import Pixels
from .decoding import Decoding, decode, of_any_size
from .messages import say, shown

LISTED = 20
"""Most unreadable files that are named on the terminal."""


class UnlabelledImages:
    """Yields `(images, files)`: normalised images `[B, C, H, W]`, and the names of their files, in order.

    A batch is decoded in parallel threads when it is asked for, so that memory holds one batch.

    Args:
        root: The folder.
        files: Paths relative to it.
        how: How the files become pixels of the same size.
        make_batch: Normalises a batch.
        bounds: First and last (exclusive) file of each batch.
        device: Where batches are made.
        skip: Leave out files that cannot be read, and list them at the end.

    Attributes:
        unreadable: The files that are left out, and why.

    Raises:
        OSError: While iterating, if a file cannot be read (with `skip`: if none can).
    """

    batch_sampler = None  # which Lightning looks for

    def __init__(
        self,
        root: Path,
        files: list[str],
        how: Decoding,
        make_batch: ImageBatch,
        bounds: list[tuple[int, int]],
        device: torch.device,
        skip: bool = False,
    ) -> None:
        self.root, self.files, self.how, self.skip = root, files, how, skip
        self.make_batch, self.bounds, self.device = make_batch, bounds, device
        self.unreadable: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.bounds)

    def __iter__(self) -> Iterator[tuple[Tensor, list[str]]]:
        self.unreadable = {}
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        with ThreadPoolExecutor(threads) as pool:
            for start, stop in self.bounds:
                files = self.files[start:stop]
                with of_any_size():
                    read = dict(zip(files, pool.map(self._read, files), strict=True))
                found = {file: pixels for file, pixels in read.items() if pixels is not None}
                if stop == self.bounds[-1][1]:  # before the yield, after which Lightning asks for nothing more
                    self._report()
                if found:
                    yield self._batch(np.stack(list(found.values()))), list(found)

    def _read(self, file: str) -> Pixels | None:
        try:
            return decode(self.root / file, self.how).pixels
        except (OSError, ValueError) as error:
            if not self.skip:
                hint = "or leave such files out with --data.skip_unreadable true"
                raise type(error)(f"{error}, {hint}") from error
            self.unreadable[file] = str(error)
            return None

    def _batch(self, pixels: Pixels) -> Tensor:
        store = self.make_batch.collate(torch.from_numpy(pixels).to(self.device))
        return self.make_batch(store, Plan(torch.arange(len(pixels), device=self.device)))

    def _report(self) -> None:
        """List what was left out, in the order of the files, whichever thread has found it first."""
        self.unreadable = {file: self.unreadable[file] for file in self.files if file in self.unreadable}
        count = len(self.unreadable)
        if count and count == sum(stop - start for start, stop in self.bounds):
            first = next(iter(self.unreadable.values()))
            raise OSError(f"none of the {count:,} images below {shown(self.root)} can be read: {first}")
        if count:
            say(f"{shown(self.root)}: {count:,} of {len(self.files):,} images cannot be read and are left out:")
        for reason in list(self.unreadable.values())[:LISTED]:
            say(f"  {reason.removesuffix('; replace it or remove it')}")
        if count > LISTED:
            say(f"  and {count - LISTED:,} more")
