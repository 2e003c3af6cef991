"""The penultimate features of a trained classifier, with data and split rebuilt from its run's config.yaml."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from _cluster.scatter import SHOWN, in_the_plane, scatter_plots
from _common.rebuild import rebuild


class Features(NamedTuple):
    """The features of a split."""

    values: Tensor  # float32 [N, D], the input of the network's last affine layer
    labels: Tensor  # int64 [N]
    images: Tensor  # [N, C, H, W] as the network gets them
    classes: list[str]


def extract(checkpoint: Path, split: str = "test", trust: str = "") -> Features:
    """Return the features of a split: train (shuffled and augmented, as in training), val or test.

    Raises:
        ValueError: If the checkpoint is in no run, or the network has no affine layer.
    """
    run = rebuild(checkpoint, trust=trust)
    affine = [module for module in run.model.backbone.modules() if isinstance(module, nn.Linear)]
    if not affine:
        name = type(run.model.backbone).__name__
        raise ValueError(f"the network ({name}) has no nn.Linear whose input could be taken")
    run.datamodule.prepare_data()
    run.datamodule.setup("test" if split == "test" else "fit")
    taken: list[Tensor] = []
    affine[-1].register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].flatten(1).float().cpu()))
    images, labels = [], []
    with torch.inference_mode():
        for batch, target in getattr(run.datamodule, f"{split}_dataloader")():
            run.model(batch.to(run.model.device))
            images.append(batch.float().cpu())
            labels.append(target.cpu())
    targets = torch.cat(labels)
    classes = getattr(run.datamodule, "classes", None) or range(int(targets.max()) + 1)
    return Features(torch.cat(taken), targets, torch.cat(images), [str(name) for name in classes])


def figure(features: Features, clusters: Tensor, projection: str, seed: int) -> Figure:
    """Draw classes and clusters in two dimensions, the first principal components or t-SNE's."""
    shown = np.random.default_rng(seed).permutation(len(features.values))[:SHOWN]
    values = features.values.numpy()[shown]
    tsne = TSNE(random_state=seed, perplexity=min(30, (len(values) - 1) / 3))
    places = tsne.fit_transform(values) if projection == "tsne" else in_the_plane(values)
    labels, groups = features.labels.numpy()[shown], clusters.numpy()[shown]
    return scatter_plots([[("classes", places, labels), ("clusters", places, groups)]], features.classes, size=5)


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
