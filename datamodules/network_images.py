"""The images that a trained network expects, from what it knows of its training data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from ._pixels import black_and_white, channels, colour
from .files.decoding import Decoding


@dataclass(frozen=True)
class NetworkImages:
    """How image files become the batches that a network was trained with."""

    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    how: Decoding


def images_of(
    trainer: pl.Trainer | None,
    image_size: int | None,
    given: dict[str, Any],
    normalisation: tuple[Sequence[float], Sequence[float]] | None,
) -> NetworkImages:
    """Return the images that the trainer's network expects.

    A network tells their shape by an attribute `image_shape`, and the rest by a dictionary `data_description`, both as
    `ImageClassifier` has them. What is given as an option comes first.

    Args:
        trainer: The trainer.
        image_size: Side of the images, for networks that do not tell their shape.
        given: Options of `Decoding`; those that are the defaults are taken from the description.
        normalisation: Mean and standard deviation per channel, or None.

    Raises:
        ValueError: If the network takes no images in RGB or grey, an option contradicts it, or mean and standard
            deviation are unknown.
    """
    network = getattr(trainer, "lightning_module", None)
    known: dict[str, Any] = getattr(network, "data_description", None) or {}
    shape = _shape(network, image_size)
    described = {
        "background": colour("background", known.get("background", Decoding.background)),
        "value_range": black_and_white(known.get("value_range")),
        "reduced": known.get("reduced_decoding", False),
    }
    chosen = {name: described[name] if given[name] == getattr(Decoding, name) else given[name] for name in given}
    mean, std = normalisation or (known.get("mean"), known.get("std"))
    if mean is None or std is None:
        raise ValueError(
            "the network's checkpoint has no mean and std (an older version wrote it): set those of its training by "
            "--data.mean and --data.std"
        )
    for name, values in (("mean", mean), ("std", std)):
        if len(channels(name, values)) != shape[0]:
            raise ValueError(f"{name} must have a number for each of the network's {shape[0]} channels, found {values}")
    how = Decoding((shape[1], shape[2]), **chosen, grey=shape[0] == 1)
    return NetworkImages(shape, tuple(mean), tuple(std), how)


def _shape(network: Any, image_size: int | None) -> tuple[int, int, int]:
    """Return channels, height and width of the network's images."""
    shape = getattr(network, "image_shape", None)
    if shape is None:
        if image_size is None:
            raise ValueError("predict_dir needs image_size, as the network does not tell its image_shape; set it")
        return 3, image_size, image_size
    if len(shape) != 3:
        raise ValueError(f"predict_dir needs a network for images, found one for {shape[0]} columns of a table")
    if shape[0] not in (1, 3):
        raise ValueError(f"predict_dir needs a network for 3 channels, or 1 (grey), found {shape[0]}")
    if image_size is not None and (image_size, image_size) != tuple(shape[1:]):
        raise ValueError(
            f"image_size must be the size of the network's images, {shape[1]} x {shape[2]}, found {image_size}: "
            "leave it out"
        )
    return int(shape[0]), int(shape[1]), int(shape[2])
