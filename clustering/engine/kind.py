"""What the answers are given as: what the data came as, and where it lay."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .grid import Float64

_TORCH = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Kind(NamedTuple):
    """The type of centres and distances.

    Attributes:
        dtype: ``"float64"``, ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        device: The tensors' device; None for numpy arrays.
    """

    dtype: str
    device: str | None = None

    @classmethod
    def of(cls, data: Any) -> "Kind":
        """The kind of an array or a tensor; integers are answered in float64."""
        name = str(data.dtype).removeprefix("torch.")
        dtype = name if name in _TORCH else "float64"
        return cls(dtype, str(data.device) if isinstance(data, Tensor) else None)

    def round(self, values: Float64) -> Float64:
        """The values as this type would hold them, in float64."""
        if self.dtype == "bfloat16":
            rounded: Float64 = torch.from_numpy(values).bfloat16().double().numpy()
            return rounded
        with np.errstate(over="ignore"):
            return values.astype(self.dtype).astype(np.float64)

    def here(self) -> "Kind":
        """This kind, with the CPU for a device that is not there."""
        gone = self.device is not None and self.device.startswith("cuda") and not torch.cuda.is_available()
        return self._replace(device="cpu") if gone else self

    def give(self, values: npt.NDArray[Any]) -> Any:
        """Floating-point answers."""
        if self.device is None:
            return values.astype(self.dtype, copy=False)
        return torch.from_numpy(values).to(_TORCH[self.dtype]).to(self.device)

    def give_labels(self, labels: npt.NDArray[np.int32]) -> Any:
        """Labels: int32 in numpy, as scikit-learn's; int64 in torch, as its losses and indices want them."""
        return labels if self.device is None else torch.from_numpy(labels).long().to(self.device)


def plain(values: Any) -> npt.NDArray[Any]:
    """Answers as a numpy array again."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
