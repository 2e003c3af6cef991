"""The one place that chooses where the rows of a problem are processed."""

import importlib.util
import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .problem import Problem
from .rows import Rows


class Place(NamedTuple):
    """Where the rows are processed: by torch on one GPU, or by Faiss, on the CPU or several GPUs."""

    device: torch.device | None = None
    gpus: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.device is not None:
            return f"torch on {self.device}"
        return f"Faiss on GPUs {', '.join(map(str, self.gpus))}" if self.gpus else "Faiss on the CPU"


def find_place(device: Any, data: Any = None) -> Place:
    """Return what `device` (see `clustering.KMeans`) names; `"auto"` is the GPU of the data, or the current one."""
    match = re.fullmatch(r"cuda(?::(\d+(?:,\d+)*))?", device) if isinstance(device, str) else None
    if match is None and device not in ("auto", "cpu"):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or like 'cuda:0,1', found {device!r}")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return Place()
    if match is None or match[1] is None:
        where = data.device if isinstance(data, Tensor) and data.is_cuda else None
        numbers = [(where.index if where is not None else torch.cuda.current_device()) if _found() else 0]
    else:
        numbers = list(dict.fromkeys(int(number) for number in match[1].split(",")))
    if len(numbers) > 1:
        available, finder = _of_faiss(), "Faiss"
    else:
        available, finder = _found(), "torch"
    if any(number >= available for number in numbers):
        raise ValueError(f"device is {device!r}, but {finder} finds {available} GPUs: use device='cpu' or 'auto'")
    return Place(gpus=tuple(numbers)) if len(numbers) > 1 else Place(torch.device("cuda", numbers[0]))


def _found() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _of_faiss() -> int:
    if importlib.util.find_spec("faiss") is None:
        return 0
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def open_rows(problem: Problem) -> Rows:
    """Return the rows of a problem, on the device where they are to be processed."""
    if problem.device is not None:
        from .gpu.rows import GpuRows

        return GpuRows(problem, problem.device)
    from .cpu import CpuRows  # here, because it loads Faiss

    data = getattr(problem.source, "data", None)
    if isinstance(data, Tensor) and data.is_cuda:  # threads copy it, each on a stream that waits for nobody
        torch.cuda.current_stream(data.device).synchronize()
    return CpuRows(problem)


def place(problem: Problem) -> Problem:
    """Return the problem with its rows on its GPU, if it has one and they fit; otherwise they are streamed."""
    if problem.device is None:
        return problem
    from .gpu.chunks import place as on_the_gpu

    return on_the_gpu(problem)
