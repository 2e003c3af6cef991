"""Every batch equals that of a slow per-image reference, bit for bit."""

import warnings

import numpy as np
import pytest
import torch
import torch._inductor.config

from datamodules.pipeline import batch as batch_module
from datamodules.pipeline.augment import Augmentation, draw_plan
from datamodules.pipeline.batch import ImageBatch, ImageStore
from datamodules.pipeline.changes import flip_where
from datamodules.pipeline.scaling import mean_and_std, sums_of
from reference.augment import augment_batch

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def random_store(count, shape, margin, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    store = ImageStore(count, shape, margin)
    store.images.copy_(torch.from_numpy(images))
    return images, store


def check(shape, augmentation, compile_for=None, epoch=0):
    count, size = 24, 8
    images, store = random_store(count, shape, augmentation.crop_padding)
    mean, std = MEAN[: shape[0]], STD[: shape[0]]
    make = ImageBatch(shape, mean, std, augmentation, compile_for)
    plan = draw_plan(
        torch.arange(count), shuffle=True, augmentation=augmentation, image_size=shape[1:], seed=5, epoch=epoch
    )
    for start in range(0, count, size):
        part = plan.slice(start, start + size)
        actual = make(store, part)
        expected = augment_batch(
            images,
            part,
            padding=augmentation.crop_padding,
            mode="reflect" if augmentation.padding_mode == "reflect" else "constant",
            cutout=augmentation.cutout,
            mean=mean,
            std=std,
        )
        assert actual.dtype == torch.float32
        assert actual.is_contiguous()
        # As integers, so that 0.0 and -0.0 differ.
        torch.testing.assert_close(actual.view(torch.int32), expected.view(torch.int32), rtol=0, atol=0)


@pytest.mark.parametrize("cutout", [0, 1, 4, 5])
@pytest.mark.parametrize("flip", ["none", "random", "alternating"])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 5)])
def test_equals_reference(shape, padding, flip, cutout):
    check(shape, Augmentation(padding, flip, cutout), epoch=1)


def test_equals_reference_when_padding_exceeds_the_image():
    check((2, 4, 3), Augmentation(crop_padding=6))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 5)])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_equals_reference_when_the_border_is_mirrored(shape, padding):
    check(shape, Augmentation(padding, "random", 3, "reflect"), epoch=1)
    check(shape, Augmentation(padding, padding_mode="reflect"), compile_for=8)


def test_an_image_cannot_be_mirrored_beyond_its_size():
    with pytest.raises(ValueError, match=r"less than the height and width .* found 5 for images of 7 x 5"):
        ImageBatch((1, 7, 5), [0.5], [0.5], Augmentation(5, padding_mode="reflect"))


def test_other_types_and_memory_formats_are_roundings_of_float32():
    _, store = random_store(8, (3, 6, 6), 2)
    augmentation = Augmentation(2, "random", 3)
    plan = draw_plan(torch.arange(8), shuffle=True, augmentation=augmentation, image_size=(6, 6))
    expected = ImageBatch((3, 6, 6), MEAN, STD, augmentation)(store, plan)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        actual = ImageBatch((3, 6, 6), MEAN, STD, augmentation, dtype=dtype, channels_last=True)(store, plan)
        assert actual.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(actual, expected.to(dtype))


def test_equals_reference_without_table(monkeypatch):
    monkeypatch.setattr(batch_module, "TABLE_BYTES", 0)
    check((3, 8, 8), Augmentation(3, "random", 3))


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(), Augmentation(2, "random"), Augmentation(4, "alternating", 5), Augmentation(cutout=2)],
)
def test_compiled_equals_reference(augmentation):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="compile=True has no effect")
        check((3, 8, 8), augmentation, compile_for=8)


def test_without_compiler_warns_and_gives_the_same_batch():
    images, store = random_store(8, (1, 6, 6), 0, seed=9)
    plan = draw_plan(torch.arange(8), shuffle=False)
    make = ImageBatch((1, 6, 6), (0.5,), (0.25,), compile_for=8)
    torch._dynamo.reset()
    no_compiler = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False})
    with no_compiler, pytest.warns(UserWarning, match="compile=True has no effect.*no-such-compiler"):
        actual = make(store, plan)
    assert torch.equal(actual, augment_batch(images, plan, mean=(0.5,), std=(0.25,)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(make(store, plan), actual)


@pytest.mark.parametrize("compile_for", [None, 8])
def test_batches_are_not_overwritten(compile_for):
    _, store = random_store(16, (3, 8, 8), 2)
    augmentation = Augmentation(2, "random", 3)
    make = ImageBatch((3, 8, 8), MEAN, STD, augmentation, compile_for=compile_for)
    plan = draw_plan(torch.arange(16), shuffle=True, augmentation=augmentation, image_size=(8, 8))
    first = make(store, plan.slice(0, 8))
    kept = first.clone()
    before = store.flat.clone()
    make(store, plan.slice(8, 16))
    assert torch.equal(first, kept)
    assert torch.equal(store.flat, before)


def test_every_image_has_its_own_crop_flip_and_cutout():
    # 64 copies of one image: they differ by their augmentation only.
    image = np.arange(3 * 16 * 16, dtype=np.uint64).astype(np.uint8).reshape(1, 3, 16, 16)
    augmentation = Augmentation(4, "random", 6)
    store = ImageStore(64, (3, 16, 16), 4)
    store.images.copy_(torch.from_numpy(image))
    plan = draw_plan(torch.arange(64), shuffle=True, augmentation=augmentation, image_size=(16, 16))
    batch = ImageBatch((3, 16, 16), MEAN, STD, augmentation)(store, plan)
    assert len({row.numpy().tobytes() for row in batch}) > 60


def test_draws_are_uniform_and_independent():
    n, augmentation = 20_000, Augmentation(2, "random", 3)
    plan = draw_plan(torch.arange(n), shuffle=True, augmentation=augmentation, image_size=(6, 7), seed=1)
    pairs = (plan.top + 2) * 5 + plan.left + 2
    for draws, kinds in [(pairs, 25), (plan.flip.long(), 2), (plan.cut_row * 7 + plan.cut_column, 42)]:
        counts = torch.bincount(draws, minlength=kinds)
        assert len(counts) == kinds
        expected = n / kinds
        # Chi-squared: mean k - 1 and variance 2 (k - 1); five standard deviations.
        assert ((counts - expected) ** 2 / expected).sum() < kinds - 1 + 5 * (2 * kinds) ** 0.5
    assert sorted(plan.order.tolist()) == list(range(n))


def test_plan_is_a_function_of_seed_and_epoch():
    def plan(**key):
        return draw_plan(torch.arange(50), shuffle=True, augmentation=Augmentation(2), image_size=(6, 6), **key)

    torch.manual_seed(0)
    a = plan(seed=1, epoch=2)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    b = plan(seed=1, epoch=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a.order, b.order)
    assert torch.equal(a.top, b.top)
    for other in (plan(seed=1, epoch=3), plan(seed=2, epoch=2), plan(seed=2, epoch=1)):
        assert not torch.equal(a.order, other.order)
        assert not torch.equal(a.top, other.top)


def test_alternating_flip_alternates_per_example():
    indices = torch.arange(100, 300)

    def flips(epoch):
        plan = draw_plan(
            indices, shuffle=True, augmentation=Augmentation(flip="alternating"), image_size=(4, 4), epoch=epoch
        )
        return {index: bool(flip) for index, flip in zip(plan.order.tolist(), plan.flip, strict=True)}

    epochs = [flips(epoch) for epoch in range(4)]
    assert all(epochs[0][i] != epochs[1][i] for i in indices.tolist())
    assert epochs[0] == epochs[2]
    assert epochs[1] == epochs[3]
    assert 60 < sum(epochs[0].values()) < 140


def test_flip_where_equals_torch_where():
    images = torch.randint(0, 256, (9, 3, 5, 6), dtype=torch.uint8)
    flip = torch.arange(9) % 2 == 0
    assert torch.equal(flip_where(images, flip), torch.where(flip[:, None, None, None], images.flip(-1), images))


def test_mean_and_std_are_exact():
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 9, 7), dtype=np.uint8)
    images[:, 2] = 200
    mean, std = mean_and_std(np.stack([sums_of(image) for image in images]), pixels=63)
    expected = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, expected.mean(axis=(0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(std[:2], expected.std(axis=(0, 2, 3))[:2], rtol=1e-12)
    assert std[2] == 0  # exactly, as nothing cancels
    _, store = random_store(4, (3, 9, 7), 0)
    assert torch.isfinite(ImageBatch((3, 9, 7), mean, std)(store, draw_plan(torch.arange(4), shuffle=False))).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding_mode": "edge"}, "padding_mode must be one of zeros, reflect, found 'edge'"),
        ({"crop_padding": -1}, "crop_padding must be an integer of at least 0, found -1"),
        ({"cutout": -3}, "cutout must be an integer of at least 0, found -3"),
        ({"cutout": 2.5}, "cutout must be an integer of at least 0, found 2.5"),
        ({"flip": "sometimes"}, "flip must be one of none, random, alternating, found 'sometimes'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)
