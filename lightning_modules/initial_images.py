"""Starting weights that a network computes from its training images."""

from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

COUNT = 5000
"""Number of images that a network gets."""


def initialise_from_data(network: nn.Module, loader: Any) -> None:
    """Let a network compute weights from the first training images, if it does so and has not done so yet.

    Such a network has a method `initialise_from_data(images)` and a buffer `initialised`, which is False until then.
    The buffer is in every checkpoint, so that weights that were loaded (to resume, to fine-tune) are kept.

    Args:
        network: The network, on its device.
        loader: The training loader: with a method `first_images(count)` as those of our data modules have, or with a
            `dataset` of pairs.

    Raises:
        ValueError: If the network needs images, and the loader has neither.
    """
    initialised = getattr(network, "initialised", None)
    if not hasattr(network, "initialise_from_data") or not isinstance(initialised, Tensor) or bool(initialised):
        return
    images = first_images(loader, COUNT)
    initialise: Any = network.initialise_from_data
    initialise(images.to(initialised.device))


def first_images(loader: Any, count: int) -> Tensor:
    """Return the first `count` images of a loader's set, or all: `[N, C, H, W]`.

    From a `dataset` they come as training sees them, augmented if it augments. The random numbers of torch that this
    takes are given back.

    >>> loader = torch.utils.data.DataLoader([(torch.full((1, 2, 2), float(i)), 0) for i in range(5)])
    >>> first_images(loader, 3)[:, 0, 0, 0]
    tensor([0., 1., 2.])
    """
    if hasattr(loader, "first_images"):
        images: Tensor = loader.first_images(count)
        return images
    dataset = getattr(loader, "dataset", None)
    if dataset is None:
        raise ValueError(
            f"the network's first weights are computed from images, but {type(loader).__name__} has no `dataset` to "
            "take them from: call the network's initialise_from_data(images) before the training"
        )
    with torch.random.fork_rng([]):
        if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
            examples = [dataset[position] for position in range(min(count, len(dataset)))]
        else:
            examples = list(islice(dataset, count))
    return torch.stack([torch.as_tensor(example[0]) for example in examples])
