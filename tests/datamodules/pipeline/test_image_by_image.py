"""Each image of a batch is what torchvision makes of it alone, whatever batch and process it falls into."""

import pytest
import torch
from torchvision import transforms
from torchvision.transforms import v2

from datamodules.pipeline.augment import Augmentation, draw_plan, jitter_amounts
from datamodules.pipeline.batch import ImageBatch, ImageStore
from datamodules.pipeline.boxes import draw_boxes, draw_crops, resized_crops
from datamodules.pipeline.loader import BatchLoader, Resident, Streamed
from datamodules.pipeline.mixing import draw_mixing
from reference.torchvision_augment import augment_one, normalise_one

MEAN, STD = (0.49, 0.48, 0.44), (0.24, 0.243, 0.26)
EVERYTHING = Augmentation(
    flip="random",
    random_resized_crop=True,
    vertical_flip=0.3,
    color_jitter=[0.4, 0.4, 0.4, 0.2],
    random_erasing=0.5,
    cutout=3,
    augment="TrivialAugment",
    mixup=0.4,
    cutmix=1.0,
)


def images_of(count, shape, seed=0):
    """Return smooth images with flat, saturated and grey places, which are the special cases of hues."""
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=stream)
    images[:, :, :3] = torch.randint(0, 2, (count, shape[0], 3, 1), dtype=torch.uint8, generator=stream) * 255
    images[:, :, :, :2] = images[:, :1, :, :2]
    return images


def batch_and_plan(augmentation, shape=(3, 17, 12), count=24, epoch=1):
    images = images_of(count, shape)
    plan = draw_plan(
        torch.arange(count), shuffle=True, augmentation=augmentation, image_size=shape[1:], seed=3, epoch=epoch
    )
    make = ImageBatch(shape, MEAN[: shape[0]], STD[: shape[0]], augmentation)
    return images, make, ImageStore.of(images, augmentation.crop_padding), plan


@pytest.mark.parametrize("shape", [(3, 17, 12), (1, 8, 8)])
@pytest.mark.parametrize(
    "options",
    [
        {"vertical_flip": 0.5},
        {"color_jitter": 0.6},
        {"color_jitter": [0.0, 2.0, 0.0, 0.0]},
        {"color_jitter": [0.4, 0.4, 3.0, 0.5]},
        {"random_erasing": 0.7},
        {"color_jitter": 0.4, "vertical_flip": 0.5, "flip": "random", "random_erasing": 1.0},
    ],
    ids=str,
)
def test_has_torchvisions_bits(options, shape):
    augmentation = Augmentation(**options)
    images, make, store, plan = batch_and_plan(augmentation, shape)
    actual = make(store, plan)
    for position, example in enumerate(plan.order.tolist()):
        alone = augment_one(images[example], plan, position, augmentation.color_jitter)
        expected = normalise_one(alone, plan, position, MEAN[: shape[0]], STD[: shape[0]])
        assert torch.equal(actual[position], expected), position
    assert not torch.equal(actual, make(store, plan._replace(vertical=None, jitter=None, erase=None)))


@pytest.mark.parametrize("shape", [(3, 17, 12), (1, 8, 8), (3, 40, 40)])
def test_a_resized_crop_is_torchvisions_but_for_rounding(shape):
    images = images_of(40, shape)
    boxes = draw_crops(40, shape[1:], (0.08, 1.0), (0.5, 2.0), torch.Generator().manual_seed(0))
    boxes[0] = torch.tensor([0, 0, *shape[1:]])
    actual = resized_crops(images, boxes)
    plan = draw_plan(torch.arange(40), shuffle=False)._replace(box=boxes)
    difference = torch.stack([augment_one(image, plan, i) for i, image in enumerate(images)]).int() - actual
    assert difference.abs().max() <= 1
    for image, (top, left, height, width), ours in zip(images, boxes.tolist(), actual, strict=True):
        crop = image[None, :, top : top + height, left : left + width].double()
        exact = torch.nn.functional.interpolate(crop, shape[1:], mode="bilinear")[0]
        assert (ours - exact).abs().max() < 0.5 + 1e-4  # only ties are rounded in another way
    assert torch.equal(actual[0], images[0])


def test_crops_and_erased_areas_have_torchvisions_distribution():
    size, scale, ratio = (20, 30), (0.1, 0.9), (0.5, 2.0)
    image, n = torch.zeros(3, *size), 1000
    torch.manual_seed(0)
    crops = torch.tensor([transforms.RandomResizedCrop.get_params(image, scale, ratio) for _ in range(n)])
    areas = torch.tensor([transforms.RandomErasing.get_params(image, scale, ratio, [0.0])[:4] for _ in range(n)])
    stream = torch.Generator().manual_seed(1)
    erased, fits = draw_boxes(n, size, scale, ratio, stream, tall=True)
    assert (areas[:, 2] == size[0]).float().mean() == pytest.approx((~fits).float().mean().item(), abs=0.04)
    pairs = [(crops, draw_crops(n, size, scale, ratio, stream)), (areas[areas[:, 2] < size[0]], erased[fits])]
    for theirs, ours in pairs:
        for moment in (1, 2):
            a, b = theirs.double() ** moment, ours.double() ** moment
            error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
            assert ((a.mean(0) - b.mean(0)).abs() < 4.5 * error).all()


def test_a_crop_that_never_fits_is_the_largest_in_the_middle():
    boxes = draw_crops(2, (10, 4), (1.0, 1.0), (1.0, 1.0), torch.Generator())
    assert boxes.tolist() == [[3, 0, 4, 4]] * 2
    boxes = draw_crops(1, (4, 10), (1.0, 1.0), (1.0, 1.5), torch.Generator())
    assert boxes.tolist() == [[0, 2, 4, 6]]


def test_an_image_does_not_depend_on_its_batch():
    _, make, store, plan = batch_and_plan(EVERYTHING)
    whole = make(store, plan)
    for size in (1, 5, 16):
        parts = [make(store, plan.slice(start, min(start + size, 24))) for start in range(0, 24, size)]
        assert torch.equal(torch.cat(parts), whole)


def loader(streamed=False, batch_size=8, augmentation=EVERYTHING, **options):
    images, make, store, _ = batch_and_plan(augmentation)
    source = Streamed(images, make, torch.device("cpu")) if streamed else Resident(store, make)
    return BatchLoader(
        source,
        torch.arange(24),
        torch.arange(23),
        batch_size=batch_size,
        shuffle=True,
        augmentation=augmentation,
        image_size=(17, 12),
        num_classes=24,
        **options,
    )


def epoch_of(*loaders, epoch=1):
    """Return the images and labels of an epoch, in order of positions."""
    for one in loaders:
        one.set_epoch(epoch)
    rounds = [batch for step in zip(*loaders, strict=True) for batch in step]
    return [torch.cat(parts) for parts in zip(*rounds, strict=True)]


def test_an_image_depends_neither_on_processes_nor_on_where_a_run_resumes():
    images, labels = epoch_of(loader())
    for others in (
        [loader(batch_size=5)],
        [loader(batch_size=2, rank=rank, world_size=3) for rank in range(3)],
        [loader(streamed=True, batch_size=3, rank=rank, world_size=2) for rank in range(2)],
    ):
        assert all(torch.equal(a, b) for a, b in zip(epoch_of(*others), (images, labels), strict=True))
    rest = loader(batch_size=4)
    rest.load_state_dict({"epoch": 1, "batch": 0, "examples": 9})
    assert torch.equal(torch.cat([batch for batch, _ in rest]), images[9:])
    assert not torch.equal(epoch_of(loader(), epoch=2)[0], images)
    assert not torch.equal(epoch_of(loader(seed=1))[0], images)


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 0.7, "mixup_prob": 0.8}])
def test_a_mixed_image_is_made_of_two_alone(options):
    others = {"color_jitter": 0.4, "flip": "random", "random_erasing": 0.5}
    images, labels = epoch_of(loader(augmentation=Augmentation(**others)))
    one = loader(augmentation=Augmentation(**others, **options))
    actual, shares = epoch_of(one)
    plan = one.plan(one.indices, 1)
    kinds = {"mixed": 0, "cut": 0, "alone": 0}
    for position, share in enumerate(plan.share.tolist()):
        partner = position ^ 1 if position < 22 else 21
        top, left, height, width = plan.inserted[position].tolist()
        expected = images[position].clone()
        if height:
            expected[:, top : top + height, left : left + width] = images[partner][
                :, top : top + height, left : left + width
            ]
            assert share == pytest.approx(1 - height * width / (17 * 12))
        elif share < 1:
            expected = images[partner].mul(1.0 - share).add_(images[position].mul(share))  # as torchvision's MixUp
        kinds["cut" if height else "mixed" if share < 1 else "alone"] += 1
        assert torch.equal(actual[position], expected)
        soft = torch.zeros(24)
        soft[labels[position]] += share
        soft[labels[partner]] += 1 - share
        torch.testing.assert_close(shares[position], soft)
    assert (kinds["mixed"] > 0) == ("mixup" in options)
    assert (kinds["cut"] > 0) == ("cutmix" in options)


def test_shares_and_boxes_have_the_papers_distribution():
    n, size = 20_000, (16, 24)
    share, boxes = draw_mixing(n, size, 0.4, 0.0, 1.0, (1, 2, 6))
    assert share.double().mean() == pytest.approx(0.5, abs=0.015)
    assert share.double().var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.005)
    assert not boxes.any()
    share, boxes = draw_mixing(n, size, 0.4, 1.0, 0.6, (1, 2, 6))
    is_cut = boxes[:, 2] > 0
    assert is_cut.double().mean() == pytest.approx(0.6 * 0.5, abs=0.025)  # a box may be empty
    assert (share == 1).double().mean() == pytest.approx(0.4, abs=0.03)
    torch.manual_seed(0)
    theirs = torch.stack([torch.tensor(cutmix_box(*size)) for _ in range(600)]).double()
    assert (boxes[is_cut].double().mean(0) - theirs[theirs[:, 2] * theirs[:, 3] > 0].mean(0)).abs().max() < 1.2


def cutmix_box(height, width):
    """Return a box that torchvision's `CutMix` draws: top, left, height, width."""
    left, top, right, bottom = v2.CutMix(num_classes=2).make_params([torch.zeros(2, 3, height, width)])["box"]
    return top, left, bottom - top, right - left


def test_an_option_does_not_change_what_another_draws():
    *_, everything = batch_and_plan(EVERYTHING)
    *_, alone = batch_and_plan(Augmentation(vertical_flip=0.3, flip="random"))
    assert torch.equal(everything.order, alone.order)
    assert torch.equal(everything.flip, alone.flip)
    assert torch.equal(everything.vertical, alone.vertical)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": -1}, "mixup must be a finite number of at least 0, found -1"),
        ({"cutmix": float("inf")}, "cutmix must be a finite number of at least 0, found inf"),
        ({"cutmix": True}, "cutmix must be a finite number of at least 0, found True"),
        ({"mixup_prob": 0.5}, "mixup_prob=0.5 has no effect without mixup or cutmix"),
        ({"mixup": 1, "mixup_prob": 2}, "mixup_prob must be a share from 0 to 1, found 2"),
        ({"vertical_flip": 1.5}, r"vertical_flip must be a share from 0 to 1, found 1.5"),
        ({"random_erasing": True}, r"random_erasing must be a share from 0 to 1, found True"),
        ({"color_jitter": -0.1}, r"color_jitter must be a number of at least 0, or three .* found -0.1"),
        ({"color_jitter": [0.1, 0.1]}, r"color_jitter must be .* found \[0.1, 0.1\]"),
        ({"color_jitter": float("nan")}, r"color_jitter must be .* found nan"),
        ({"color_jitter": [0, 0, 0, 0.6]}, "the hue, must be at most 0.5, found 0.6"),
        ({"random_resized_crop": True, "crop_padding": 4}, "two ways to crop; leave one out"),
        ({"crop_scale": (0.2, 1.0)}, "crop_scale has no effect without random_resized_crop"),
        (
            {"random_resized_crop": True, "crop_scale": (0.5, 1.2)},
            r"crop_scale must be .* of at most 1, .*1.2\)",
        ),
        ({"random_resized_crop": True, "crop_scale": (0.5, 0.2)}, "crop_scale must be two positive numbers"),
        ({"random_resized_crop": True, "crop_ratio": [0, 1]}, r"crop_ratio must be two positive .*, found \[0, 1\]"),
        ({"random_resized_crop": True, "crop_ratio": [1, float("inf")]}, "crop_ratio must be two positive numbers"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_colours_need_one_channel_or_three():
    with pytest.raises(ValueError, match="color_jitter needs images with 1 or 3 channels, found 2"):
        ImageBatch((2, 4, 4), [0.5] * 2, [0.5] * 2, Augmentation(color_jitter=0.1))
    assert jitter_amounts(0) == (0.0, 0.0, 0.0, 0.0)
    assert not Augmentation(color_jitter=[0, 0, 0]).jitters
