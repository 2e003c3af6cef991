"""The penultimate features of a trained classifier, with data and split rebuilt from its run's config.yaml."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from _cluster.methods import SHOWN, in_the_plane, scatter_plots
from _common.rebuild import rebuild
from lightning_modules import ImageClassifier


class Features(NamedTuple):
    """The features of a split.

    Attributes:
        values: float32 `[N, D]`, the input of the network's last affine layer.
        labels: int64 `[N]`.
        images: `[N, C, H, W]` as the network gets them.
        classes: Names of the classes.
    """

    values: Tensor
    labels: Tensor
    images: Tensor
    classes: list[str]


def extract(checkpoint: Path, split: str = "test") -> Features:
    """Return the features of a split.

    Args:
        checkpoint: A checkpoint in the folder of its run.
        split: `"train"` (shuffled and augmented, as in training), `"val"` or `"test"`.

    Raises:
        ValueError: If the checkpoint is in no run, or the network has no affine layer.
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
    targets = torch.cat(labels)
    names = classes or [str(number) for number in range(int(targets.max()) + 1)]
    return Features(torch.cat(taken), targets, torch.cat(images), names)


def figure(features: Features, clusters: Tensor, projection: str, seed: int) -> Figure:
    """Draw classes and clusters in two dimensions, the first principal components or t-SNE's."""
    shown = np.random.default_rng(seed).permutation(len(features.values))[:SHOWN]
    values = features.values.numpy()[shown]
    if projection == "tsne":
        places = TSNE(random_state=seed, perplexity=min(30, (len(values) - 1) / 3)).fit_transform(values)
    else:
        places = in_the_plane(values)
    labels, groups = features.labels.numpy()[shown], clusters.numpy()[shown]
    return scatter_plots([[("classes", places, labels), ("clusters", places, groups)]], size=5)


def write_projector(features: Features, clusters: Tensor, folder: Path) -> None:
    """Write features, classes, clusters and images for TensorBoard's projector."""
    pairs = zip(features.labels, clusters, strict=True)
    metadata = [[features.classes[int(label)], int(group)] for label, group in pairs]
    low, high = features.images.amin(), features.images.amax()
    images = ((features.images - low) / (high - low).clamp(min=1e-12)) if features.images.ndim == 4 else None
    # One sprite holds all images, and browsers hold sprites up to 8192 pixels wide.
    if images is not None and len(images) ** 0.5 * images.shape[-1] > 8192:
        images = None
    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(features.values, metadata, images, tag="features", metadata_header=["class", "cluster"])
