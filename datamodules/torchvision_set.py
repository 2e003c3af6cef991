"""Base class of the sets that torchvision downloads and reads."""

from typing import Any, ClassVar

from .image import ImageDataModule


class TorchvisionDataModule(ImageDataModule):
    """A set that torchvision reads, downloads and checks in `data_dir`.

    A subclass sets `dataset` (torchvision's class), `title`, `class_names` and what `ImageDataModule` asks for.

    Args:
        download: Download missing files.
        val_size: Validation examples, a count or a fraction of the training set; 0 or None: no validation part.
        **options: See `ImageDataModule` and `SplitDataModule`.

    Raises:
        FileNotFoundError: If the files are missing.
        ValueError: If an option is out of range, or a file is corrupt.
        OSError: If the download fails.
    """

    dataset: ClassVar[Any]
    title: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]

    def __init__(self, *, download: bool = False, val_size: int | float | None = 5000, **options: Any) -> None:
        super().__init__(val_size=val_size, **options)
        self.download = download
        self.classes = list(self.class_names)

    def fetch(self) -> None:
        """Download the files that are missing."""
        self.dataset(self.data_dir, download=True)

    def prepare_data(self) -> None:
        """Download the files if `download` is set."""
        if not self.download:
            return
        try:
            self.fetch()
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise OSError(
                f"{self.title} could not be downloaded to {self.data_dir}: {reason}; check the network"
            ) from error
