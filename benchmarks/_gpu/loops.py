"""Training loops written by hand: eager, captured in one CUDA graph, compiled."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules import backbones

from .clocked import Clocked
from .data import Batch
from .timing import captured


@dataclass(frozen=True)
class Setting:
    """A network, its data and its precision."""

    batch: int
    bf16: bool
    device: str
    backbone: str = "resnet20"
    activation: Callable[[], nn.Module] = nn.ReLU

    @property
    def name(self) -> str:
        """Return it in words."""
        return f"{self.backbone}, batch {self.batch}, {'bfloat16' if self.bf16 else 'float32'}"

    @property
    def precision(self) -> str:
        """Return Lightning's name of the precision."""
        return "bf16-mixed" if self.bf16 else "32-true"

    def network(self) -> nn.Module:
        """Return a new network."""
        network: nn.Module = getattr(backbones, self.backbone)(10, (3, 32, 32), self.activation)
        return network

    def autocast(self, cache: bool = True) -> AbstractContextManager[Any]:
        """Return the context of the forward pass."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16, cache_enabled=cache)


class ByHand:
    """Network, optimizer and step of every tutorial, with what makes them fast: channels-last and a fused SGD."""

    def __init__(self, setting: Setting, compiled: bool = False) -> None:
        torch.manual_seed(0)
        network = setting.network().to(setting.device, memory_format=torch.channels_last)
        self.setting = setting
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
        self.network: Callable[[Tensor], Tensor] = network
        if compiled:
            mode = "reduce-overhead" if setting.device != "cpu" else "default"
            self.network = torch.compile(network, mode=mode, dynamic=False)

    def step(self, images: Tensor, labels: Tensor, cache: bool = True) -> Tensor:
        """Take one step."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.setting.autocast(cache):
            logits = self.network(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        self.optimizer.step()
        return loss


def eager(setting: Setting, clocked: Clocked) -> None:
    """Train with a plain loop."""
    program = ByHand(setting)
    for images, labels in clocked:
        program.step(images, labels)


def graphed(setting: Setting, clocked: Clocked) -> None:
    """Train by replaying one graph of the whole step, into which each batch is copied."""
    replay = captured_step(setting, next(clocked.batches))
    for images, labels in clocked:
        replay(images, labels)


def captured_step(setting: Setting, batch: Batch) -> Callable[[Tensor, Tensor], None]:
    """Return a function that copies a batch into place and replays a captured step."""
    program = ByHand(setting)
    images, labels = (tensor.clone() for tensor in batch)
    # Outside autocast's cache, whose casts of the weights would be captured as results of an earlier step.
    graph = captured(lambda: program.step(images, labels, cache=False), warm_up=5)

    def replay(new_images: Tensor, new_labels: Tensor) -> None:
        images.copy_(new_images, non_blocking=True)
        labels.copy_(new_labels, non_blocking=True)
        graph.replay()

    # The graph uses their memory.
    replay.keeps = (program, images, labels, graph)  # type: ignore[attr-defined]
    return replay


def compiled(setting: Setting, clocked: Clocked) -> None:
    """Train with the network compiled, its forward and backward pass captured."""
    program = ByHand(setting, compiled=True)
    for images, labels in clocked:
        torch.compiler.cudagraph_mark_step_begin()
        program.step(images, labels)
