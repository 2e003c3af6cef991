"""The penultimate features of a trained classifier, with data and split rebuilt from its run's config.yaml."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from _common.rebuild import rebuild
from lightning_modules import ImageClassifier


class Features(NamedTuple):
    """What a network makes of a split.

    Attributes:
        values: float32 ``[N, D]``, the input of the network's last affine layer.
        labels: int64 ``[N]``.
        images: ``[N, C, H, W]`` as the network gets them.
        classes: The classes' names.
    """

    values: Tensor
    labels: Tensor
    images: Tensor
    classes: list[str]


def extract(checkpoint: Path, split: str = "test") -> Features:
    """The features of a split.

    Args:
        checkpoint: A checkpoint in the folder of its run.
        split: ``"train"`` (as it is trained on: shuffled and augmented), ``"val"`` or ``"test"``.

    Raises:
        ValueError: If there is no run around the checkpoint, or the network has no affine layer.
    """
    run = rebuild(checkpoint)
    run.datamodule.prepare_data()
    run.datamodule.setup("test" if split == "test" else "fit")
    loader = getattr(run.datamodule, f"{split}_dataloader")()
    return _collect(run.model, loader, list(getattr(run.datamodule, "classes", []) or []))


def _collect(model: ImageClassifier, loader: Any, classes: list[str]) -> Features:
    affine = [module for module in model.backbone.modules() if isinstance(module, nn.Linear)]
    if not affine:
        raise ValueError(f"the network ({type(model.backbone).__name__}) has no nn.Linear whose input could be taken")
    taken: list[Tensor] = []
    hook = affine[-1].register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].flatten(1).float().cpu()))
    images, labels = [], []
    with torch.inference_mode():
        for batch, target in loader:
            model(batch.to(model.device))
            images.append(batch.float().cpu())
            labels.append(target.cpu())
    hook.remove()
    found = torch.cat(labels)
    names = classes or [str(number) for number in range(int(found.max()) + 1)]
    return Features(torch.cat(taken), found, torch.cat(images), names)
