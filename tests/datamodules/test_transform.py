"""One's own transform of training batches, and what its random numbers depend on."""

import itertools
import random
import re

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser
from pytorch_lightning import LightningDataModule
from torchvision.transforms import v2

from _common.parser_errors import shorten
from datamodules import DigitsDataModule


def noise(images):
    """Return images with numbers of all three global generators."""
    return images * (1 + random.random()) + np.random.rand() + torch.randn_like(images)


def loader(transform=noise, **options):
    data = DigitsDataModule(train_size=40, val_size=30, batch_size=16, seed=3, transform=transform, **options)
    data.setup()
    return data.train_dataloader()


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for (x, _), (y, _) in zip(a, b, strict=True))


def test_a_resumed_epoch_draws_what_an_uninterrupted_one_draws():
    one = loader()
    epochs = [list(one), list(one)]
    assert not same(epochs[0], epochs[1])
    assert not same(epochs[0], [*loader(lambda images: images)])
    for epoch, batch in itertools.product(range(2), range(3)):
        torch.manual_seed(epoch)
        new = loader()
        new.load_state_dict({"epoch": epoch, "batch": batch})
        assert same(list(new), epochs[epoch][batch:])


def test_nothing_else_draws_other_numbers():
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    list(loader())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])


def test_it_follows_our_augmentation_and_is_for_training_only():
    options = {"flip": "random", "mixup": 0.2}
    data = DigitsDataModule(train_size=40, val_size=30, transform=lambda images: 2 * images, **options)
    data.setup()
    plain = DigitsDataModule(train_size=40, val_size=30, **options)
    plain.setup()
    (images, labels), (expected, same_labels) = (next(iter(one.train_dataloader())) for one in (data, plain))
    assert torch.equal(images, 2 * expected)
    assert torch.equal(labels, same_labels)
    assert same(list(data.val_dataloader()), list(plain.val_dataloader()))
    assert "transform" not in data.hparams


def test_a_module_of_torchvision_from_the_command_line():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    arguments = ["--data=datamodules.DigitsDataModule", "--data.transform=torchvision.transforms.v2.GaussianBlur"]
    data = parser.instantiate(parser.parse_args([*arguments, "--data.transform.kernel_size=3"])).data
    assert isinstance(data.transform, v2.GaussianBlur)
    data.setup()
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape == (128, 1, 8, 8)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("my_blocks.nothing", "found my_blocks.nothing: No module named 'my_blocks'"),
        ("3", "found 3"),
        ("[1,2]", r"found \[1, 2\]"),
    ],
)
def test_what_is_no_function_on_the_command_line(value, message):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    with pytest.raises(ArgumentError) as error:
        parser.parse_args(["--data=datamodules.DigitsDataModule", f"--data.transform={value}"])
    line = shorten(str(error.value))
    assert re.match(f"--data.transform: expected the import path of a function or a class, {message}", line), line


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (lambda images: images[:3], r"torch.float32 \[3, 1, 8, 8\]"),
        (lambda images: images.byte(), r"torch.uint8 \[16, 1, 8, 8\]"),
        (lambda images: [*images], "list"),
        (lambda images: None, "NoneType"),
    ],
)
def test_a_bad_result(result, found):
    with pytest.raises(ValueError, match=f"transform must return a float tensor of 16 images, found {found}"):
        next(iter(loader(result)))


def test_a_bad_transform():
    with pytest.raises(ValueError, match="transform must be a function of a batch, found 3"):
        DigitsDataModule(transform=3)
