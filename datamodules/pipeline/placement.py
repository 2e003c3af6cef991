"""The device on which batches are made, and the rank of this process among those that share the data."""

import pytorch_lightning as pl
import torch
import torch.distributed


def device(name: str, trainer: pl.Trainer | None = None) -> torch.device:
    """Return the device called `name`; `"auto"` is the trainer's if that is a CPU or CUDA device, otherwise the CPU.

    Raises:
        ValueError: If there is no such device.

    >>> device("auto")
    device(type='cpu')
    """
    if name == "auto":
        root = torch.device("cpu") if trainer is None else trainer.strategy.root_device
        # For other kinds of device the CPU makes the batches, and Lightning moves them.
        return root if root.type in ("cpu", "cuda") else torch.device("cpu")
    try:
        result = torch.device(name)
    except RuntimeError:
        raise ValueError(f'device must be "auto" or a device such as "cpu" or "cuda:0", found {name!r}') from None
    if result.type == "cuda" and (result.index or 0) >= torch.cuda.device_count():
        raise ValueError(f'device is {name!r}, found {torch.cuda.device_count()} CUDA devices; use "auto"')
    return result


def batch_format(trainer: pl.Trainer | None = None) -> tuple[torch.dtype, bool]:
    """Return the type of training batches, and whether they are channels-last, that the trainer's module asks for.

    A module asks by a method `batch_format()`. Without one, and outside of training, it is float32, contiguous.

    >>> batch_format()
    (torch.float32, False)
    """
    ask = getattr(trainer.lightning_module, "batch_format", None) if trainer is not None and trainer.training else None
    return (torch.float32, False) if ask is None else ask()


def process(trainer: pl.Trainer | None = None) -> tuple[int, int]:
    """Return the rank of this process and the number of processes that share the data."""
    if trainer is not None:
        shared = trainer.distributed_sampler_kwargs or {}
        return shared.get("rank", 0), shared.get("num_replicas", 1)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
