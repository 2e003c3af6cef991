"""Launches of the kernels of `optim/kernels.py`: what is kept from step to step, and the arguments of a step.

A `...Lists` object steps lists of tensors of one device and one type each. Its constructor needs Triton.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from . import kernels
from ._table import Table, pairs_to_device

OPTIONS = {"num_warps": 4}


TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, None: tl.float32}


def _types(**lists: list[Tensor]) -> dict[str, Any]:
    """Return the element types of lists, as arguments of a kernel."""
    return {name: TYPES[tensors[0].dtype] for name, tensors in lists.items()}


def _changed(*lists: list[Tensor]) -> None:
    for tensors in lists:  # a kernel does not tell autograd
        torch.autograd.graph.increment_version(tensors)


class LambLists:
    """LAMB in two launches: the moments with the norms, and the weights.

    Attributes:
        ratios: The trust ratios of the adapted tensors, overwritten by each step.
        adapted: Their parameters.
    """

    def __init__(self, lists: Sequence[list[Tensor]], adapts: Sequence[bool]) -> None:
        *tensors, steps = lists
        self.adapted = [p for p, adapt in zip(tensors[0], adapts, strict=True) if adapt]
        slots = [sum(adapts[:i]) if adapt else -1 for i, adapt in enumerate(adapts)]
        self.table = table = Table(tensors, [steps], [slots])
        visits = [(i, k) for i, k in table.chunks if adapts[i]]
        visits += [(i, 0) for i in range(len(adapts)) if not adapts[i] or tensors[0][i].numel() == 0]
        self._visits, self._number = pairs_to_device(visits, table.device), len(visits)
        self._sums = torch.zeros(2, max(len(table.chunks), 1), dtype=torch.float32, device=table.device)
        self._corrections = torch.ones(2, len(steps), dtype=torch.float32, device=table.device)
        self.ratios = torch.ones(len(self.adapted), dtype=torch.float32, device=table.device)

    def step(self, group: dict[str, Any], grads: list[Tensor]) -> None:
        """Step the lists along gradients."""
        table, (beta1, beta2) = self.table, group["betas"]
        w, m, v, _ = table.lists
        sent, grads_aligned, kept = table.gradients(grads)
        lr, common = group["lr"], {**_types(W=w, M=m), "ALIGNED": table.aligned, **OPTIONS}
        common["LR_IS_TENSOR"] = isinstance(lr, Tensor) and lr.device == table.device
        lr = lr if common["LR_IS_TENSOR"] else float(lr)
        low, high = group["norm_bounds"] or (0.0, math.inf)
        logs = [math.log(beta) if beta > 0 else -math.inf for beta in (beta1, beta2)]
        number = len(table.chunks)
        with table.guard():
            if number:
                kernels.lamb_moments[(number,)](
                    table.rows, table.items, sent, self._sums, self._corrections, lr, float(group["eps"]),
                    float(group["weight_decay"]), 1.0 - beta1, 1.0 - beta2, *logs, -1.0 if group["maximize"] else 1.0,
                    len(w), number, G=TYPES[table.grad_dtype], CORRECTED=group["bias_correction"],
                    G_ALIGNED=grads_aligned, **common,
                )  # fmt: skip
            kernels.lamb_weights[(self._number,)](
                table.rows, self._visits, self._sums, self._corrections, self.ratios, lr,
                float(group["weight_decay"]), float(low), float(high), len(w), number, self._number, **common,
            )  # fmt: skip
        del kept
        _changed(w, m, v)


class CocobLists:
    """COCOB in one launch."""

    def __init__(self, lists: Sequence[list[Tensor]]) -> None:
        self.table = Table(lists)

    def step(self, group: dict[str, Any], grads: list[Tensor]) -> None:
        """Step the lists along gradients."""
        table = self.table
        sent, grads_aligned, kept = table.gradients(grads)
        w, _, *changed = table.lists
        number = len(table.chunks)
        if number:
            with table.guard():
                kernels.cocob[(number,)](
                    table.rows, table.items, sent, float(group["alpha"]), float(group["weight_decay"]),
                    -1.0 if group["maximize"] else 1.0, len(w), number, G=TYPES[table.grad_dtype],
                    ALIGNED=table.aligned, G_ALIGNED=grads_aligned, **_types(W=w, S=changed[0]), **OPTIONS,
                )  # fmt: skip
        del kept
        _changed(w, *changed)


class SamLists:
    """SAM's squares, climb and way back, each in one launch."""

    def __init__(self, lists: Sequence[list[Tensor]]) -> None:
        self.table = Table(lists)
        self._kept: Any = None

    def squares(self, group: dict[str, Any], grads: list[Tensor], sums: Tensor) -> None:
        """Write the partial sums of |T g|² to `sums`, one for each chunk."""
        self._kept = self.table.gradients(grads)
        self._launch(kernels.sam_squares, group, sums, float(group["eta"]))

    def climb(self, group: dict[str, Any], sums: Tensor, squared: Tensor) -> None:
        """Keep the weights and move them; `sums` holds those of all lists, and `squared` gets their sum."""
        rho = -group["rho"] if group.get("maximize", False) else group["rho"]  # the worst point is then the lowest one
        self._launch(kernels.sam_climb, group, sums, squared, float(rho), float(group["eta"]), parts=sums.numel())
        self._kept = None
        _changed(self.table.lists[0])

    def _launch(self, kernel: Any, group: dict[str, Any], sums: Tensor, *values: Any, **more: int) -> None:
        table, number = self.table, len(self.table.chunks)
        sent, grads_aligned, _ = self._kept
        if number:
            with table.guard():
                kernel[(number,)](
                    table.rows, table.items, sent, sums, *values, count=len(table.lists[0]), chunks=number,
                    G=TYPES[table.grad_dtype], ADAPTIVE=group["adaptive"], ALIGNED=table.aligned,
                    G_ALIGNED=grads_aligned, **_types(W=table.lists[0]), **more, **OPTIONS,
                )  # fmt: skip

    def restore(self) -> None:
        """Copy the weights back."""
        table, number = self.table, len(self.table.chunks)
        if number:
            with table.guard():
                kernels.sam_restore[(number,)](
                    table.rows, table.items, len(table.lists[0]), number, ALIGNED=table.aligned,
                    **_types(W=table.lists[0]), **OPTIONS,
                )  # fmt: skip
        _changed(table.lists[0])


class AverageLists:
    """A moving average in one launch."""

    def __init__(self, lists: Sequence[list[Tensor]]) -> None:
        self.table = Table(lists)

    def step(self, share: float) -> None:
        """Move the first list by `share` of its distance to the second."""
        table, number = self.table, len(self.table.chunks)
        if number:
            with table.guard():
                kernels.average[(number,)](
                    table.rows, table.items, float(share), len(table.lists[0]), number, ALIGNED=table.aligned,
                    **_types(A=table.lists[0], X=table.lists[1]), **OPTIONS,
                )  # fmt: skip
        _changed(table.lists[0])
