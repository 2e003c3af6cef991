"""TrivialAugment and RandAugment: each operation has torchvision's bits, and is drawn from torchvision's space."""

import pytest
import torch
from torchvision import transforms

from datamodules.pipeline.augment import Augmentation, draw_plan
from datamodules.pipeline.auto_augment import BINS, augmented, strengths
from datamodules.pipeline.batch import ImageBatch
from datamodules.pipeline.operations import OPERATIONS
from reference.torchvision_augment import OPERATIONS as REFERENCE
from reference.torchvision_augment import augment_one

NAMES = [*OPERATIONS]
MOVES = ("ShearX", "ShearY", "Rotate")


def pictures(count, shape):
    """Return smooth pictures, flat ones, and ones with few values."""
    stream = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, shape[0], 4, 5, generator=stream)
    images = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear") * 255
    images += 20 * torch.rand(images.shape, generator=stream)
    images[1], images[2, 0], images[3] = 77, 0, (images[3] > 120) * 255
    return images.clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("policy", ["TrivialAugment", "RandAugment"])
@pytest.mark.parametrize("shape", [(3, 40, 33), (1, 9, 8), (3, 2, 2)])
def test_operations_are_torchvisions(policy, shape):
    table, signed = strengths(policy, shape[1:])
    images = pictures(2 * BINS, shape)
    for number, name in enumerate(NAMES):
        strength = torch.cat([table[number], -table[number] if signed[number] else table[number]])
        which = torch.full((len(images), 1), number)
        actual = augmented(images.clone(), which, strength[:, None])
        expected = torch.stack([REFERENCE[name](image, s) for image, s in zip(images, strength.tolist(), strict=True)])
        if name in MOVES:  # a place half-way between two pixels is rounded to either
            assert (actual != expected).float().mean() < 0.005, name
        else:
            assert torch.equal(actual, expected), name
        assert name == "Identity" or shape[1] < 40 or not torch.equal(actual, images), name


def test_strengths_are_torchvisions():
    theirs = {
        "TrivialAugment": transforms.TrivialAugmentWide()._augmentation_space(BINS),
        "RandAugment": transforms.RandAugment()._augmentation_space(BINS, (40, 30)),
    }
    for policy, space in theirs.items():
        table, signed = strengths(policy, (40, 30))
        assert [*space] == NAMES
        for row, sign, (magnitudes, is_signed) in zip(table, signed, space.values(), strict=True):
            assert torch.equal(row, magnitudes.double().expand(BINS))
            assert sign == is_signed


def drawn(**options):
    augmentation = Augmentation(**options)
    return draw_plan(
        torch.arange(28_000), shuffle=True, augmentation=augmentation, image_size=(32, 32), seed=1, epoch=2
    )


def test_draws_are_uniform():
    table, _ = strengths("TrivialAugment", (32, 32))
    plan = drawn(augment="TrivialAugment")
    assert plan.operations.shape == plan.strengths.shape == (28_000, 1)
    counts = torch.bincount(plan.operations[:, 0], minlength=14)
    assert ((counts - 2000.0) ** 2 / 2000).sum() < 13 + 5 * 26**0.5
    rotated = plan.strengths[plan.operations == NAMES.index("Rotate")]
    assert (rotated < 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert {*rotated.abs().tolist()} == {*table[NAMES.index("Rotate")].tolist()}
    plan = drawn(augment="RandAugment", augment_ops=3, augment_magnitude=12)
    assert plan.operations.shape == (28_000, 3)
    table, _ = strengths("RandAugment", (32, 32))
    assert torch.equal(plan.strengths.abs(), table[plan.operations, 12])
    assert (torch.bincount(plan.operations.flatten()) - 6000).abs().max() < 400


def test_a_batch_is_its_images_alone():
    augmentation = Augmentation(augment="RandAugment", augment_ops=3, color_jitter=0.3, flip="random")
    images = pictures(40, (3, 12, 12))
    plan = draw_plan(torch.arange(40), shuffle=True, augmentation=augmentation, image_size=(12, 12), seed=1)
    make = ImageBatch((3, 12, 12), [0.0] * 3, [1.0] * 3, augmentation)
    store = make.collate(images)
    whole = make(store, plan)
    alone = torch.stack([augment_one(images[i], plan, n) for n, i in enumerate(plan.order.tolist())])
    assert ((whole * 255).round() != alone).float().mean() < 0.005
    assert torch.equal(torch.cat([make(store, plan.slice(n, n + 1)) for n in range(40)]), whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": "AutoAugment"}, "augment must be one of none, TrivialAugment, RandAugment, found 'AutoAugment'"),
        ({"augment": "RandAugment", "augment_magnitude": 31}, "augment_magnitude must be at most 30, found 31"),
        ({"augment": "RandAugment", "augment_ops": 0}, "augment_ops must be an integer of at least 1, found 0"),
        ({"augment": "TrivialAugment", "augment_magnitude": 5}, "augment_magnitude=5 has no effect without augment=Ra"),
        ({"augment_ops": 3}, "augment_ops=3 has no effect without augment=RandAugment; leave it out"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_images_need_one_channel_or_three():
    with pytest.raises(ValueError, match="augment needs images with 1 or 3 channels, found 4"):
        ImageBatch((4, 4, 4), [0.5] * 4, [0.5] * 4, Augmentation(augment="TrivialAugment"))
