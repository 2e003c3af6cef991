"""Trains with SAM, LAMB or COCOB in two processes (DDP, or FSDP2), or in one. Arguments: rank, port, folder, cases."""

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Optimizer

from lightning_modules import ImageClassifier, TwoPassMixin
from optim import COCOB, LAMB, SAM

SHAPE, CLASSES, RANKS = (1, 3, 3), 4, 2


class Batches:
    """Five batches; `rank` gets its half of each, None all of it."""

    def __init__(self, rank: int | None, broken: int | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(60, *SHAPE, generator=generator, dtype=torch.float64)
        labels = torch.randint(CLASSES, (60,), generator=generator)
        part = slice(None) if rank is None else slice(6 * rank, 6 * rank + 6)
        self.batches = [(x[part].clone(), y[part]) for x, y in zip(images.split(12), labels.split(12), strict=True)]
        if broken is not None:
            self.batches[broken][0][0] = torch.inf

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


def network(num_classes: int, image_shape: Any, activation: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, num_classes))


class Own(TwoPassMixin, pl.LightningModule):
    """A module of one's own, with the classifier's network and loss."""

    def __init__(self, network: Any, num_classes: int, image_shape: Any, optimizer: Any) -> None:
        super().__init__()
        self.net, self.make = network(num_classes, image_shape, None), optimizer

    def configure_optimizers(self) -> Optimizer:
        return self.make(self.parameters())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])


class Sharded(ImageClassifier):
    """The classifier under FSDP2."""

    def configure_model(self) -> None:
        if not any(isinstance(p, DTensor) for p in self.parameters()):
            mesh = self.device_mesh["data_parallel"]  # type: ignore[index]
            for layer in (self.backbone[1], self.backbone[3], self):
                fully_shard(layer, mesh=mesh)


def optimizer(params: Any, name: str, sync: bool = False, every: int = 1) -> Optimizer:
    if name == "SAM":
        return SAM(params, functools.partial(SGD, lr=0.2, momentum=0.9), rho=0.3, sync_perturbation=sync, every=every)
    if name == "ASAM":
        return SAM(params, functools.partial(LAMB, lr=0.05), rho=0.3, adaptive=True)
    return {"LAMB": functools.partial(LAMB, lr=0.05), "COCOB": COCOB}[name](params)


def train(
    cls: type[ImageClassifier] | type[Own], make: Any, strategy: Strategy | str, batches: Batches, **options: Any
) -> tuple[list[Tensor], pl.Trainer]:
    """Two epochs with windows of two batches, the last one shorter; returns the whole weights."""
    model = cls(network, CLASSES, SHAPE, optimizer=make).double()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "barebones": False}
    trainer = pl.Trainer(
        accelerator="cpu", strategy=strategy, enable_model_summary=False, max_epochs=2, accumulate_grad_batches=2,
        **quiet, **options,
    )  # fmt: skip
    trainer.fit(model, batches)
    whole = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
    return [p.detach().clone() for p in whole], trainer


def factory(name: str, sync: bool = False, every: int = 1) -> Any:
    make = functools.partial(optimizer, name=name, sync=sync, every=every)
    return make


def main() -> None:
    rank, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(RANKS), "RANK": str(rank),
        "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(RANKS), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for sync in (False, True):
        strategy = DDPStrategy(process_group_backend="gloo")
        results[f"ddp {sync}"], _ = train(ImageClassifier, factory("SAM", sync), strategy, Batches(rank), devices=RANKS)
        strategy = DDPStrategy(process_group_backend="gloo")
        results[f"own {sync}"], _ = train(Own, factory("SAM", sync), strategy, Batches(rank), devices=RANKS)
    strategy = DDPStrategy(process_group_backend="gloo")
    results["every"], _ = train(Own, factory("SAM", every=2), strategy, Batches(rank), devices=RANKS)
    # One process's third batch is broken: both must leave out the step.
    strategy = DDPStrategy(process_group_backend="gloo")
    batches = Batches(rank, broken=2 if rank == 1 else None)
    results["broken"], trainer = train(ImageClassifier, factory("SAM"), strategy, batches, devices=RANKS)
    results["skipped"] = trainer.optimizers[0].skipped_steps  # type: ignore[attr-defined]
    for name in ("LAMB", "COCOB", "SAM", "ASAM"):
        sharded: Any = ModelParallelStrategy(data_parallel_size=RANKS, tensor_parallel_size=1)
        results[f"fsdp2 {name}"], _ = train(Sharded, factory(name), sharded, Batches(rank), devices=RANKS)
    torch.save(results, folder / f"{rank}.pt")


if __name__ == "__main__":
    main()
