"""Any folder of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._checks import at_least, own_path
from ._pixels import black_and_white, channels, colour
from .base import Examples
from .files.array_cache import ArrayCache
from .files.decoding import Decoding, decode, of_any_size
from .files.image_files import FolderImages
from .files.image_listing import (
    Listing,
    class_names,
    first_image,
    joined,
    list_images,
    similar_names,
    unlabelled_images,
)
from .files.messages import say, shown
from .files.unlabelled import UnlabelledImages
from .image import ImageDataModule
from .network_images import images_of
from .pipeline import placement
from .pipeline.batch import ImageBatch, ImageStore
from .pipeline.loader import shares
from .pipeline.scaling import mean_and_std
from .pipeline.split import Indices, stratified_split

VALIDATION = ("val", "valid", "validation")
"""Names of the folder of the validation part."""


class ImageFolderDataModule(ImageDataModule):
    """Images in `data_dir/train/<class>/` and `data_dir/test/<class>/`, of any format of Pillow, converted to RGB.

    With a folder `val/` (or `valid/`, `validation/`) as in ImageNet, it is the validation part and all of `train/` the
    training part; without `test/` it is the test part too. Class folders are read with their subfolders. Hidden files
    and folders are left out; one line says how many images are used, how many files are left out, and why.

    An image is turned upright by its EXIF orientation. What is transparent is drawn over `background`. Values of more
    than 8 bits are scaled to 0..255: 16 bits from 0..65535, floats from 0..1; others are refused unless `value_range`
    is given. Of several frames the first is used.

    All images are decoded once, in parallel threads, and kept as one array of bytes in `cache_dir`, with checksums of
    the file list (paths, sizes, times) and of the array itself. The next start reads the array; images are decoded
    again when a file was added, changed or removed, or when the array is damaged. With `resident=False` the images are
    decoded for each batch and never kept; `cache_dir` then holds only the sums for mean and standard deviation.

    With `predict_dir`, `Trainer.predict` reads the images below that folder, and neither `train/` nor `test/`: batches
    are `(images, files)`, in the order of the files' names. What the network's training knew of its images (size,
    channels, mean, standard deviation, background, ...) comes from the network's checkpoint, unless it is given here;
    an image of another size is scaled until it covers the network's, and cut in the middle.

        model = ImageClassifier.load_from_checkpoint("best.ckpt")
        data = ImageFolderDataModule(predict_dir="photos")
        for batch in Trainer().predict(model, data):
            for file, number in zip(batch["file"], batch["prediction"].tolist()):
                print(file, model.class_names[number])

    Args:
        image_size: Scale the shorter side to this length and keep the square in the middle. None: all images must have
            the same size.
        background: Colour under transparent images: a name, or `"#rrggbb"`.
        value_range: Values that become black and white in images of more than 8 bits, such as `(0, 4095)` for 12 bits
            in a file of 16; values beyond are clipped. None: the whole range of 16 bits, and 0 to 1 for floats.
        reduced_decoding: Decode JPEG files at 1/2, 1/4 or 1/8 of their size, as long as the shorter side keeps at least
            twice `image_size`: faster, with slightly other pixels.
        cache_dir: Folder of the decoded images. None: `data_dir/.decoded`, with a warning if it cannot be written.
        mean: Mean per channel, in units of the full scale. None: that of the training part.
        std: Standard deviation per channel, likewise.
        predict_dir: Folder of images without labels, at any depth, that `predict` reads.
        skip_unreadable: Predict without the files of `predict_dir` that cannot be read, and list them at the end.
        **options: See `ImageDataModule` and `SplitDataModule`.

    Raises:
        FileNotFoundError: If a folder is missing.
        OSError: If an image cannot be read, or `cache_dir` cannot be written.
        ValueError: If an option is out of range, a class has no image, `test/` has a class missing from `train/`, or
            images differ in size.
    """

    def __init__(
        self,
        *,
        image_size: int | None = None,
        background: str = "white",
        value_range: tuple[float, float] | None = None,
        reduced_decoding: bool = False,
        cache_dir: str | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        predict_dir: str | None = None,
        skip_unreadable: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.image_size = None if image_size is None else at_least("image_size", image_size, 1)
        if reduced_decoding and image_size is None and predict_dir is None:
            raise ValueError("reduced_decoding needs image_size, the side that images are scaled to; set it")
        if skip_unreadable and predict_dir is None:
            raise ValueError("skip_unreadable needs predict_dir, the folder of the images to predict; set it")
        self.background, self.value_range = colour("background", background), black_and_white(value_range)
        self.reduced_decoding, self.skip_unreadable = reduced_decoding, skip_unreadable
        self.how = Decoding(self.image_size, self.background, self.value_range, reduced_decoding)
        self.cache_dir = None if cache_dir is None else own_path(cache_dir)
        if (mean is None) != (std is None):
            raise ValueError(f"mean and std belong together: set both or neither, found {mean} and {std}")
        self._given: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        if mean is not None and std is not None:
            self.mean, self.std = self._given = channels("mean", mean), channels("std", std)
        self.predict_dir = None if predict_dir is None else own_path(predict_dir)
        self._listings: dict[str, Listing] = {}
        self._sums: NDArray[np.int64] | None = None
        if predict_dir is None:
            self._find_classes()

    def __getattr__(self, name: str) -> Any:
        """Look for the training set only when it is asked for, if there may be none because `predict_dir` is given."""
        if name not in ("classes", "num_classes", "image_shape", "_validation") or "predict_dir" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._find_classes()
        return vars(self)[name]

    def _find_classes(self) -> None:
        train = Path(self.data_dir) / "train"
        self.classes = class_names(train)
        self.num_classes = len(self.classes)
        if similar := similar_names(self.classes):
            say(f"{shown(train)}: the classes {', '.join(map(shown, similar[:4]))} differ by case only")
        folders = (Path(self.data_dir) / name for name in VALIDATION)
        self._validation = next((folder for folder in folders if folder.is_dir()), None)
        if self._validation is not None:
            if self.val_size and self.val_size != 0.1:
                raise ValueError(
                    f"val_size={self.val_size} has no effect, as {shown(self._validation)} is the validation part; "
                    "leave it out, or set it to 0 to train without validation"
                )
            if not (Path(self.data_dir) / "test").is_dir():
                self.test_size = 0  # the test part is taken from the folders that are read for training
        side = self.image_size
        if side:
            self.image_shape = (3, side, side)
        else:
            with of_any_size():
                self.image_shape = decode(first_image(train, self.classes), self.how).pixels.shape

    def prepare_data(self) -> None:
        """Decode what is not in the cache, once per machine."""
        if self._predicts():
            return
        self._split()
        self._set("train")
        self._set("test")

    def setup(self, stage: str | None = None) -> None:
        """Read what `stage` needs; nothing for predictions in `predict_dir`."""
        if stage != "predict" or self.predict_dir is None:
            super().setup(stage)

    def predict_dataloader(self) -> Any:
        """Return the images of `predict_dir`, or the test part."""
        if self.predict_dir is None:
            return self.test_dataloader()
        root = Path(self.predict_dir)
        files = unlabelled_images(root)
        given = {"background": self.background, "value_range": self.value_range, "reduced": self.reduced_decoding}
        wanted = images_of(self.trainer, self.image_size, given, self._given)
        device = placement.device(self.device, self.trainer)
        make_batch = ImageBatch(wanted.image_shape, wanted.mean, wanted.std).to(device)
        rank, world_size = placement.process(self.trainer)
        bounds = shares(len(files), self.eval_batch_size, rank, world_size)
        return UnlabelledImages(root, files, wanted.how, make_batch, bounds, device, self.skip_unreadable)

    def _predicts(self) -> bool:
        return self.predict_dir is not None and self.trainer is not None and self.trainer.predicting

    def read(self, part: Literal["train", "test"]) -> tuple[FolderImages, Tensor] | None:
        """Return the images of `train/` (with those of `val/` behind) or `test/` as a dataset, and their labels.

        None for the test part if there is no `test/`.
        """
        if part == "test" and self.test_size is not None:
            return None
        listing = self._listing(part)
        return FolderImages(listing, self.how, self.image_shape), torch.from_numpy(listing.labels)

    def labels(self) -> Tensor:
        """Return the labels of `train/` and `val/`, which the folder names give."""
        return torch.from_numpy(self._listing("train").labels)

    def divide(self, labels: Indices) -> dict[str, Indices]:
        """Return the examples of each part: those of `val/`, if there is one, are the validation part."""
        if self._validation is None:
            return super().divide(labels)
        first = len(labels) - self._behind
        options: dict[str, Any] = {"rest": "train", "seed": self.split_seed, "class_names": self.classes}
        parts = stratified_split(labels[:first], sizes={"train": self.train_size}, **options)
        behind = np.arange(first, len(labels))
        parts["val"] = behind if self.val_size else behind[:0]
        return parts if self.test_size is None else parts | {"test": behind}

    def load(self, part: Literal["train", "test"]) -> Examples | None:
        """Return the images in an `ImageStore`, decoded or from the cache; if not `resident`, as a dataset."""
        content = self.read(part)
        if content is None:
            return None
        images, labels = content
        if not self.resident:
            return Examples(images, labels)
        # Decoded straight into the store, so that the set is never in memory twice.
        store = ImageStore(len(images), self.image_shape, self.augmentation.crop_padding)
        pixels = store.images.numpy()
        cache = self._cache(part)
        if not cache.read("pixels", pixels):
            sums = images.sums(pixels)
            cache.write(pixels=pixels, sums=sums)
            if part == "train":
                self._sums = sums
        return Examples(store, labels)

    def statistics(self, train: Tensor) -> tuple[Sequence[float], Sequence[float]]:
        """Return mean and standard deviation per channel, from the sums of each image, which the cache holds too."""
        if self.resident:
            self._set("train")  # decodes once for pixels and sums
        if self._sums is None:
            images = FolderImages(self._listing("train"), self.how, self.image_shape)
            cache = self._cache("train")
            self._sums = np.empty((len(images), 3, 2), dtype=np.int64)
            if not cache.read("sums", self._sums):
                self._sums = images.sums(None)
                cache.write(sums=self._sums)
        return mean_and_std(self._sums[train.numpy()], self.image_shape[1] * self.image_shape[2])

    def _listing(self, part: Literal["train", "test"]) -> Listing:
        if part not in self._listings:
            listing = list_images(Path(self.data_dir) / part, self.classes)
            if part == "train" and self._validation is not None:
                validation = list_images(self._validation, self.classes)
                self._behind = len(validation.files)
                listing = joined(Path(self.data_dir), listing, validation)
                if self.test_size is not None:
                    say(f"{shown(self.data_dir)} has no test/: the test part is {self._validation.name}/")
            self._listings[part] = listing
        return self._listings[part]

    def _cache(self, part: Literal["train", "test"]) -> ArrayCache:
        folder = Path(self.data_dir) / ".decoded" if self.cache_dir is None else Path(self.cache_dir)
        name = f"{part}-{self.image_size or 'original'}"
        source = f"{self._listing(part).checksum} {self.how}"
        return ArrayCache(folder, name, source, required=self.cache_dir is not None)
