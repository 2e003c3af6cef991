"""Files that torchvision downloads and checks."""

from collections.abc import Callable
from typing import Any


def download(name: str, dataset: Callable[..., Any], data_dir: str) -> None:
    """Download what is missing of a torchvision data set.

    Raises:
        OSError: If the download fails.
    """
    try:
        dataset(data_dir, download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise OSError(f"{name} could not be downloaded to {data_dir}: {reason}; check the network") from error
