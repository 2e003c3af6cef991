"""A trained network's logits and features of a split, or of images of another kind."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from _common.names import known
from _common.rebuild import AtPrecision, TrainedRun, build_data
from datamodules import ImageFolderDataModule
from datamodules.files.decoding import Decoding
from datamodules.files.image_listing import unlabelled_images
from datamodules.files.unlabelled import UnlabelledImages
from datamodules.pipeline.batch import ImageBatch


class Outputs(NamedTuple):
    """The outputs of a network, on the CPU."""

    logits: Tensor  # [N, K]
    features: Tensor | None  # [N, D], the input of the last affine layer; None without one
    labels: Tensor  # int64 [N]


def outputs_of(run: TrainedRun, split: str = "", batches: Iterable[tuple[Tensor, Tensor]] = ()) -> Outputs:
    """Return the outputs for a split of the run's data (train is augmented, as in training), or for batches.

    Raises:
        ValueError: If the split is empty.
    """
    if split:
        run.datamodule.prepare_data()
        run.datamodule.setup("test" if split == "test" else "fit")
        loader = getattr(run.datamodule, f"{split}_dataloader")()
        batches = loader[0] if isinstance(loader, list) and loader else loader
    affine = [module for module in run.model.backbone.modules() if isinstance(module, nn.Linear)]
    taken: list[Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].flatten(1).float().cpu()))
        for layer in affine[-1:]
    ]
    network, logits, labels = AtPrecision(run.model, run.trainer), [], []
    try:
        with torch.inference_mode():
            for images, target in batches:
                logits.append(network(images.to(run.model.device)).float().cpu())
                labels.append(target.cpu())
    finally:
        for hook in hooks:
            hook.remove()
    if not logits:
        raise ValueError(f"the run has no {split} split: train with one (--data.{split}_size)")
    return Outputs(torch.cat(logits), torch.cat(taken) if affine else None, torch.cat(labels))


def outside_batches(run: TrainedRun, outside: str, count: int, seed: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Return batches of images of another kind, normalised as the run's.

    Raises:
        ValueError: If there is no such data module or folder, or its images have another shape.
    """
    data: Any = run.datamodule
    if outside == "photos":
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
        pieces = (photo_pieces(data.image_shape, count, seed) - mean) / std
        return [(part, torch.zeros(len(part), dtype=torch.long)) for part in pieces.split(500)]
    folder = Path(outside)
    if folder.is_dir() and not (folder / "train").is_dir():
        return unlabelled(folder, data)
    other = outside_data(outside, data.image_shape)
    if other.image_shape != data.image_shape:
        raise ValueError(
            f"--outside {outside}: its images are {list(other.image_shape)}, the network takes {list(data.image_shape)}"
        )
    other.prepare_data()
    other.setup("test")
    other.mean, other.std, other.trainer = data.mean, data.std, data.trainer
    return other.test_dataloader()


def unlabelled(folder: Path, data: Any) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield the images below a folder, scaled and cut to the run's shape and normalised as its own.

    Files that cannot be read are listed and left out.

    Raises:
        ValueError: If the run's examples are no images of one or three channels.
        OSError: If none can be read.
    """
    shape = data.image_shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"--outside {folder} needs images of one or three channels, found {list(shape)}")
    files = unlabelled_images(folder)
    bounds = [(start, min(start + 500, len(files))) for start in range(0, len(files), 500)]
    how, make_batch = Decoding(tuple(shape[1:]), grey=shape[0] == 1), ImageBatch(shape, data.mean, data.std)
    for images, _ in UnlabelledImages(folder, files, how, make_batch, bounds, torch.device("cpu"), skip=True):
        yield images, torch.zeros(len(images), dtype=torch.long)


def outside_data(outside: str, shape: tuple[int, ...]) -> Any:
    """Return the data module of a name, or of a folder whose images are scaled to the shape."""
    if Path(outside).is_dir():
        return ImageFolderDataModule(data_dir=outside, image_size=shape[-1])
    paths = known("data")
    if outside not in paths:
        raise ValueError(f"--outside must be photos, a folder or one of {', '.join(paths)}, found {outside!r}")
    return build_data({"class_path": paths[outside]})


def photo_pieces(shape: tuple[int, ...], count: int, seed: int) -> Tensor:
    """Return pieces of scikit-learn's two photographs, float32 `[count, *shape]` in [0, 1], grey for one channel.

    Raises:
        ValueError: If the examples are no images of one or three channels.
    """
    from sklearn.datasets import load_sample_images

    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"--outside photos needs images of one or three channels, found {list(shape)}")
    photos = torch.stack([torch.tensor(photo) for photo in load_sample_images().images])
    photos = photos.permute(0, 3, 1, 2) / 255
    if shape[0] == 1:
        photos = photos.mean(1, keepdim=True)
    columns = unfold(photos, shape[1:], stride=max(1, min(shape[1:]) // 2))
    pieces = columns.transpose(1, 2).flatten(0, 1)
    chosen = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(seed))[:count]
    return pieces[chosen].view(-1, *shape)
