"""Base class of the image data sets."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from .base import Examples, SplitDataModule
from .pipeline.augment import Augmentation, Flip, PaddingMode
from .pipeline.auto_augment import Policy
from .pipeline.batch import ImageBatch, ImageStore
from .pipeline.scaling import mean_and_std, sums_of


class ImageDataModule(SplitDataModule):
    """Base of the data modules for images. A subclass sets `num_classes`, `image_shape`, `classes`, implements `read`.

    `SplitDataModule` lists what else it may override, and documents the options that are not named here.

    Args:
        crop_padding: Crop each training image to its own size at a random place after padding it with this many pixels.
        flip: Mirror left and right: `"none"`, `"random"` with probability 1/2, or `"alternating"`: random in the first
            epoch and the other way in each following one (Jordan 2024, https://arxiv.org/abs/2404.00498).
        cutout: Side in pixels of a square, centred at a random pixel and clipped at the border, that is set to the mean
            (DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552); 0 for none.
        padding_mode: The pixels of `crop_padding`: `"zeros"` (black), or `"reflect"`: the mirror image at the border.
        random_resized_crop: Scale a random part of each training image bilinearly to the size of the whole, as
            torchvision's `RandomResizedCrop`.
        crop_scale: Smallest and largest share of the image's area that such a crop has.
        crop_ratio: Its smallest and largest ratio of width to height.
        vertical_flip: Probability of mirroring top and bottom.
        color_jitter: Largest change of the factors of brightness, contrast and saturation: one number for all three, or
            three, or four with the largest shift of the hue, at most 0.5. They are applied in random order, as
            torchvision's `ColorJitter` does. Images of one channel have neither saturation nor hue.
        random_erasing: Probability of setting a random rectangle of 2 to 33 % of the area to the mean (Zhong et al.
            2020, https://arxiv.org/abs/1708.04896), as torchvision's `RandomErasing`.
        augment: Apply random operations to each training image, with torchvision's defaults: one of random strength by
            `"TrivialAugment"` (Müller and Hutter 2021, https://arxiv.org/abs/2103.10158), or several of one strength by
            `"RandAugment"` (Cubuk et al. 2020, https://arxiv.org/abs/1909.13719). What comes from outside of the image
            is black.
        augment_ops: Number of operations of `RandAugment`.
        augment_magnitude: Their strength, 0 to 30.
        mixup: alpha of mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412): an image and its label become sums
            with those of another, with shares of the distribution Beta(alpha, alpha); 0 for none. Labels of training
            batches are then shares of the classes, float32 `[N, K]`.
        cutmix: alpha of CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899): a rectangle comes from another
            image, and the label by its area; 0 for none. With `mixup` too, either is drawn for each image.
        mixup_prob: Share of the images that are mixed.
        transform: A function of your own, or a module such as those of torchvision's `transforms.v2` and kornia, from a
            float training batch `[N, C, H, W]`, on the training device, to another: after all of the above. Random
            numbers of torch's, NumPy's and Python's global generators are then a function of the seed, the epoch and
            the batch's first position: resuming is exact with the same batch size and number of processes, and no
            other draw changes. A transform of torchvision draws once for the whole batch. It is not among `hparams`.
        compile: Normalise and cut out training batches in code compiled by `torch.compile`, with the same bits.
        **options: See `SplitDataModule`.

    Raises:
        ValueError: If an option is out of range.
    """

    def __init__(
        self,
        *,
        crop_padding: int = 0,
        flip: Flip = "none",
        cutout: int = 0,
        padding_mode: PaddingMode = "zeros",
        random_resized_crop: bool = False,
        crop_scale: tuple[float, float] = Augmentation.crop_scale,
        crop_ratio: tuple[float, float] = Augmentation.crop_ratio,
        vertical_flip: float = 0.0,
        color_jitter: float | list[float] = 0.0,
        random_erasing: float = 0.0,
        augment: Policy = "none",
        augment_ops: int = 2,
        augment_magnitude: int = 9,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        mixup_prob: float = 1.0,
        transform: Callable[..., Any] | None = None,  # not of tensors: jsonargparse would look for a class of tensors
        compile: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if transform is not None and not callable(transform):
            raise ValueError(f"transform must be a function of a batch, found {transform!r}")
        self.compile, self.transform = compile, transform
        self.augmentation: Augmentation = Augmentation(
            crop_padding,
            flip,
            cutout,
            padding_mode,
            random_resized_crop=random_resized_crop,
            crop_scale=crop_scale,
            crop_ratio=crop_ratio,
            vertical_flip=vertical_flip,
            color_jitter=color_jitter,
            random_erasing=random_erasing,
            augment=augment,
            augment_ops=augment_ops,
            augment_magnitude=augment_magnitude,
            mixup=mixup,
            cutmix=cutmix,
            mixup_prob=mixup_prob,
        )

    def statistics(self, train: Tensor) -> tuple[Sequence[float], Sequence[float]]:
        """Return mean and standard deviation per channel, exactly; override it where they are known."""
        values = self._set("train").values
        images: Any = values.images if isinstance(values, ImageStore) else values
        sums = np.stack([sums_of(images[index].numpy()) for index in train.tolist()])
        return mean_and_std(sums, pixels=self.image_shape[1] * self.image_shape[2])

    def load(self, part: Literal["train", "test"]) -> Examples | None:
        """Return what `read` gives; if `resident`, tensors are copied into an `ImageStore`."""
        examples = super().load(part)
        if examples is not None and self.resident and isinstance(examples.values, Tensor):
            examples.values = ImageStore.of(examples.values, self.augmentation.crop_padding)
        return examples

    def batch_maker(self, training: bool) -> ImageBatch:
        """Return an `ImageBatch`, which augments the training part."""
        assert self.mean is not None  # since the split is made
        assert self.std is not None
        if not training:
            return ImageBatch(self.image_shape, self.mean, self.std)
        compile_for = self.batch_size if self.compile else None
        return ImageBatch(self.image_shape, self.mean, self.std, self.augmentation, compile_for)
