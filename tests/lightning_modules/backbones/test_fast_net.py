"""The speed record's network: its whitening, its start, and its initialisation from the training data."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier
from lightning_modules.backbones import FastNet
from lightning_modules.initial_images import first_images, initialise_from_data


def correlated_images(count=200, shape=(3, 6, 5)):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, *shape, generator=generator)
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1)), 3, 1) + 0.3 * images.mean(1, keepdim=True)


def test_first_filters_whiten_the_patches():
    images = correlated_images()
    network = FastNet(10, (3, 6, 5))
    network.initialise_from_data(images)
    weight = network.whiten.weight
    assert not weight.requires_grad
    assert torch.equal(weight[:12], -weight[12:])
    responses = F.conv2d(images, weight[:12]).transpose(0, 1).flatten(1).double()
    covariance = responses @ responses.T / responses.shape[1]
    variances = covariance.diagonal()
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-3
    # Against the definition: v / (v + 5e-4) for the eigenvalues v of the patches, one by one.
    patches = torch.stack(
        [images[n, :, y : y + 2, x : x + 2].flatten() for n in range(200) for y in range(5) for x in range(4)]
    ).double()
    values = torch.linalg.eigvalsh(patches.T @ patches / len(patches)).flip(0)
    torch.testing.assert_close(variances, values / (values + 5e-4), rtol=1e-3, atol=1e-4)


def test_its_parts_are_the_records():
    torch.manual_seed(0)
    network = FastNet()
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if "whiten" in name or "norm" in name} == (
        {"whiten.bias"} | {f"groups.{group}.norm{norm}.bias" for group in range(3) for norm in (1, 2)}
    )
    convolutions = [one for one in network.groups.modules() if isinstance(one, nn.Conv2d)]
    shapes = [(24, 64), (64, 64), (64, 256), (256, 256), (256, 256), (256, 256)]
    assert [(one.in_channels, one.out_channels) for one in convolutions] == shapes
    images = torch.randn(2, 24, 5, 5)
    torch.testing.assert_close(convolutions[0](images)[:, :24], images)
    assert network.head.weight.std().item() == pytest.approx(1)
    norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    assert {(one.eps, one.momentum, one.weight.requires_grad) for one in norms} == {(1e-12, 0.4, False)}
    assert network.pool.kernel_size == (3, 3)
    torch.testing.assert_close(network(torch.zeros(2, 3, 32, 32)).shape, (2, 10))


def test_an_image_of_one_pixel_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 x 2.*found 1 x 4"):
        FastNet(2, (3, 1, 4))


class Endless(IterableDataset):
    """Images that come one after the other."""

    def __iter__(self):
        for number in range(10**9):
            yield torch.full((1, 2, 2), float(number)), 0


def test_images_of_every_kind_of_loader():
    for resident in (True, False):
        module = DigitsDataModule(batch_size=16, crop_padding=2, flip="random", resident=resident)
        module.setup("fit")
        loader = module.train_dataloader()
        images = first_images(loader, 30)
        assert torch.equal(images, torch.stack([loader.dataset[position][0] for position in range(30)]))
    assert len(first_images(loader, 10**6)) == len(loader.indices)
    assert first_images(DataLoader(Endless()), 4)[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"list has no `dataset`.*initialise_from_data"):
        initialise_from_data(FastNet(2, (1, 4, 4)), [])
    initialise_from_data(nn.Linear(1, 1), [])


class SmallImages(DigitsDataModule):
    """A few digits."""

    def __init__(self):
        super().__init__(batch_size=16, train_size=64, val_size=0, seed=0)


def test_training_initialises_once_and_loaded_weights_stay(tmp_path):
    def trainer(epochs):
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return pl.Trainer(accelerator="cpu", max_epochs=epochs, limit_train_batches=1, **options)

    def model():
        torch.manual_seed(0)
        return ImageClassifier("fast_net", image_shape=(1, 8, 8), ema_decay=0.5)

    data = SmallImages()
    first, run = model(), trainer(1)
    run.fit(first, data)
    expected = FastNet(10, (1, 8, 8))
    expected.initialise_from_data(first_images(data.train_dataloader(), 5000))
    assert torch.equal(first.backbone.whiten.weight, expected.whiten.weight)  # of the average too
    run.save_checkpoint(tmp_path / "one.ckpt")
    resumed, changed = model(), torch.load(tmp_path / "one.ckpt", weights_only=True)
    for state in (changed["state_dict"], changed["current_model_state"]):
        state["backbone.whiten.weight"] += 1
    torch.save(changed, tmp_path / "one.ckpt")
    trainer(2).fit(resumed, data, ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    assert torch.equal(resumed.backbone.whiten.weight, expected.whiten.weight + 1)
