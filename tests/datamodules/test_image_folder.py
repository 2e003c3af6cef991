"""Folders of images: decoding, the cache, errors."""

import json
import os
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import ImageFolderDataModule
from datamodules.files import image_files, messages


def small(folder, monkeypatch):
    """Three classes with 12 + 4 PNG images of 10x8 pixels each."""
    rng = np.random.default_rng(3)
    for part, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog", "owl"):
            files = folder / part / name
            files.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(files / f"{i:02}.png")
                os.utime(files / f"{i:02}.png", (1_600_000_000, 1_600_000_000))
    return {"data_dir": str(folder), "val_size": 6}


@pytest.fixture
def image_folder(tmp_path, monkeypatch):
    small(tmp_path, monkeypatch)
    return tmp_path


def ready(folder, **options):
    data = ImageFolderDataModule(data_dir=str(folder), **{"val_size": 6, "batch_size": 64, **options})
    data.prepare_data()
    data.setup()
    return data


def train_images(data):
    """Return the images of the training set as they are kept."""
    return data._set("train").values.images.clone()


@pytest.fixture
def decoded(monkeypatch):
    """Return the list of files decoded since the test began."""
    paths = []
    decode = image_files.decode

    def spy(path, how):
        paths.append(path)
        return decode(path, how)

    monkeypatch.setattr(image_files, "decode", spy)
    return paths


def test_pixels_and_labels(image_folder):
    data = ready(image_folder)
    assert data.classes == ["cat", "dog", "owl"]
    assert data.image_shape == (3, 8, 10)
    files = sorted((image_folder / "train").glob("*/*.png"))
    expected = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    np.testing.assert_array_equal(train_images(data).numpy(), expected)
    assert data._set("train").labels.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    scaled = expected[data.part_indices("train").numpy()] / 255
    np.testing.assert_allclose(data.mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, scaled.std(axis=(0, 2, 3)), rtol=1e-12)


def test_given_mean_and_std(image_folder):
    plain, given = ready(image_folder), ready(image_folder, mean=[0.4, 0.5, 0.6], std=[0.1, 0.2, 0.3])
    assert (given.mean, given.std) == ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    pixels = []
    for data in (plain, given):
        (images, _), *_ = data.val_dataloader()
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
        pixels.append(images.double() * std + mean)
    torch.testing.assert_close(pixels[0], pixels[1], rtol=0, atol=1e-6)


def test_subfolders_grey_images_and_other_files(image_folder):
    folder = image_folder / "train" / "cat"
    (folder / "more").mkdir()
    Image.new("L", (10, 8), 77).save(folder / "more" / "grey.JPG")
    Image.new("RGBA", (10, 8), (1, 2, 3, 0)).save(folder / "alpha.png")
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("not an image")
    (image_folder / "train" / ".git").mkdir()
    images = train_images(ready(image_folder))
    assert len(images) == 38
    assert (images[13] == 77).all()  # cat/more/grey.JPG is the last cat
    assert images[12, :, 0, 0].tolist() == [255, 255, 255]  # the white background
    images = train_images(ready(image_folder, background="#0a141e"))
    assert images[12, :, 0, 0].tolist() == [10, 20, 30]  # and not those of the cache


def test_image_size_keeps_the_middle_square(image_folder):
    image = np.zeros((8, 24, 3), dtype=np.uint8)
    image[:, 8:16] = 200
    Image.fromarray(image).save(image_folder / "train" / "cat" / "00.png")
    data = ready(image_folder, image_size=8)
    assert data.image_shape == (3, 8, 8)
    assert (train_images(data)[0] == 200).all()
    assert ready(image_folder, image_size=4).image_shape == (3, 4, 4)
    assert ready(image_folder, image_size=20).image_shape == (3, 20, 20)


def test_second_start_reads_the_cache_and_no_image(image_folder, decoded):
    first = ready(image_folder)
    assert len(decoded) == 36 + 12
    decoded.clear()
    second = ready(image_folder, image_size=None)
    assert decoded == []
    assert torch.equal(train_images(first), train_images(second))
    assert (first.mean, first.std) == (second.mean, second.std)
    decoded.clear()
    ready(image_folder, image_size=8)
    assert len(decoded) == 48
    decoded.clear()
    ready(image_folder, image_size=8)
    assert decoded == []


@pytest.mark.parametrize("change", ["content", "time", "add", "remove", "rename"])
def test_changed_folder_is_decoded_again(image_folder, decoded, change):
    ready(image_folder, image_size=8)
    path = image_folder / "train" / "dog" / "03.png"
    new = np.full((8, 10, 3), 9, dtype=np.uint8)
    if change == "content":
        Image.fromarray(new).save(path)
    elif change == "time":
        os.utime(path, (1, 1))
    elif change == "add":
        Image.fromarray(new).save(image_folder / "train" / "dog" / "99.png")
    elif change == "remove":
        path.unlink()
    else:
        path.rename(path.with_name("99.png"))
    decoded.clear()
    images = train_images(ready(image_folder, image_size=8))
    assert len(decoded) == len(images) == {"add": 37, "remove": 35}.get(change, 36)  # not the test images
    decoded.clear()
    ready(image_folder, image_size=8)
    assert decoded == []


@pytest.mark.parametrize("array", ["pixels", "sums"])
@pytest.mark.parametrize("damage", ["flip a bit", "truncate", "empty", "remove"])
def test_damaged_cache_is_rebuilt(image_folder, decoded, array, damage):
    first = ready(image_folder, image_size=8)
    path = image_folder / ".decoded" / f"train-8.{array}.npy"
    content = bytearray(path.read_bytes())
    content[-5] ^= 16
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"flip a bit": content, "truncate": content[:-1], "empty": b""}[damage])
    decoded.clear()
    second = ready(image_folder, image_size=8)
    assert len(decoded) == 36
    assert torch.equal(train_images(first), train_images(second))
    assert (first.mean, first.std) == (second.mean, second.std)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"source": 3}', "null"])
def test_damaged_record_is_rebuilt(image_folder, decoded, text):
    ready(image_folder, image_size=8)
    record = image_folder / ".decoded" / "train-8.json"
    record.write_text(text)
    decoded.clear()
    ready(image_folder, image_size=8)
    assert len(decoded) == 36
    assert set(json.loads(record.read_text())) == {"source", "pixels", "sums"}


def test_cache_is_written_atomically(image_folder, monkeypatch):
    ready(image_folder, image_size=8)
    before = {path: path.read_bytes() for path in (image_folder / ".decoded").iterdir()}
    os.utime(image_folder / "train" / "dog" / "03.png", (1, 1))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match=r"cannot be kept in .*\(No space left on device\); every start decodes"):
        ready(image_folder, image_size=8)
    assert {path: path.read_bytes() for path in (image_folder / ".decoded").iterdir()} == before


def test_folder_that_cannot_be_written(image_folder, tmp_path, decoded):
    (image_folder / ".decoded").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match=r"every start decodes them again, unless --data.cache_dir is set"):
        ready(image_folder)
    with pytest.raises(OSError, match=r"name another folder with --data.cache_dir"):
        ready(image_folder, cache_dir=str(image_folder / ".decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ready(image_folder, cache_dir=str(tmp_path / "cache"))
        decoded.clear()
        ready(image_folder, cache_dir=str(tmp_path / "cache"))
    assert decoded == []


def test_streaming_decodes_only_what_it_yields(image_folder, decoded):
    first = ready(image_folder, resident=False, image_size=8)
    assert sorted(path.name for path in (image_folder / ".decoded").iterdir()) == ["train-8.json", "train-8.sums.npy"]
    decoded.clear()
    data = ready(image_folder, resident=False, image_size=8, batch_size=4)
    assert decoded == []
    assert (data.mean, data.std) == (first.mean, first.std) == (ready(image_folder, image_size=8).mean, first.std)
    decoded.clear()
    next(iter(data.train_dataloader()))
    assert len(decoded) == 4


def test_missing_folder(tmp_path, image_folder):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere/train; images are expected in"):
        ImageFolderDataModule(data_dir=str(tmp_path / "nowhere"))
    (image_folder / "test").rename(image_folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*test; images are expected in"):
        ready(image_folder)
    (image_folder / "test").write_text("")
    with pytest.raises(FileNotFoundError, match=r"test is not a folder"):
        ready(image_folder)
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has no class folder"):
        ImageFolderDataModule(data_dir=str(tmp_path / "empty"))


def test_class_without_image(image_folder):
    (image_folder / "train" / "emu").mkdir()
    with pytest.raises(ValueError, match=r"class folder .*train/emu has no image .*; add some or remove the folder"):
        ready(image_folder)


def test_class_missing_from_the_training_set(image_folder):
    (image_folder / "test" / "cat").rename(image_folder / "test" / "yak")
    with pytest.raises(ValueError, match=r"class 'yak' of .*test is not among the classes of the training set"):
        ready(image_folder)


@pytest.mark.parametrize("content", [b"", b"not an image", "truncated"])
@pytest.mark.parametrize("resident", [True, False])
def test_unreadable_image_is_named(image_folder, content, resident):
    path = image_folder / "train" / "dog" / "05.png"
    path.write_bytes(path.read_bytes()[:150] if content == "truncated" else content)
    with pytest.raises(OSError, match=r"image .*train/dog/05.png cannot be read \(.*\); replace it") as caught:
        ready(image_folder, resident=resident)
    assert "\n" not in str(caught.value)
    assert not (image_folder / ".decoded" / "train-original.json").exists()


def test_images_of_different_sizes(image_folder):
    Image.new("RGB", (5, 6)).save(image_folder / "test" / "owl" / "01.png")
    with pytest.raises(ValueError, match=r"owl/01.png has 5x6 pixels, another has 10x8; .*--data.image_size"):
        ready(image_folder)


def test_class_too_small_to_split(image_folder):
    for path in sorted((image_folder / "train" / "dog").iterdir())[1:]:
        path.unlink()
    with pytest.raises(ValueError, match=r"class 'dog' has 1 example"):
        ready(image_folder)


def test_bad_image_size(image_folder):
    with pytest.raises(ValueError, match=r"image_size must be an integer of at least 1, found 0"):
        ImageFolderDataModule(data_dir=str(image_folder), image_size=0)


def test_bad_background_and_value_range(image_folder):
    with pytest.raises(ValueError, match=r"background must be a colour such as white or #ff8000, found 'no colour'"):
        ImageFolderDataModule(data_dir=str(image_folder), background="no colour")
    with pytest.raises(ValueError, match=r"value_range must hold two finite numbers, black < white, found \[1, 0\]"):
        ImageFolderDataModule(data_dir=str(image_folder), value_range=(1, 0))


def test_home_folder(image_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(image_folder.parent))
    data = ready(f"~/{image_folder.name}", cache_dir=f"~/{image_folder.name}/cache")
    assert data.data_dir == str(image_folder)
    assert (image_folder / "cache").is_dir()


@pytest.mark.parametrize("has_test", [True, False])
@pytest.mark.parametrize("resident", [True, False])
def test_imagenet_layout(image_folder, has_test, resident, capsys):
    (image_folder / "test").rename(image_folder / "val")
    if has_test:
        shutil.copytree(image_folder / "val", image_folder / "test")
    data = ready(image_folder, val_size=0.1, resident=resident)
    assert [len(data.part_indices(part)) for part in ("train", "val", "test")] == [36, 12, 12]
    files = sorted((image_folder / "val").glob("*/*.png"))
    expected = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files]) / 255
    for loader in (data.val_dataloader(), data.test_dataloader()):
        images = torch.cat([batch for batch, _ in loader]).double()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
        np.testing.assert_allclose((images * std + mean).numpy(), expected, atol=1e-6)
    trained = sorted((image_folder / "train").glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(file)) for file in trained]) / 255
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)  # not those of val/
    assert ("has no test/: the test part is val/" in capsys.readouterr().out) != has_test
    assert len(ready(image_folder, val_size=0, train_size=12).part_indices("train")) == 12
    with pytest.raises(ValueError, match=r"val_size=6 has no effect, as .*val is the validation part"):
        ready(image_folder)


def test_progress_only_in_a_terminal_and_for_long_work(image_folder, monkeypatch, capsys):
    ready(image_folder)
    assert "decoding" not in capsys.readouterr().err
    monkeypatch.setattr(messages, "PATIENCE", -1.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    ready(image_folder, image_size=8)
    assert "decoding" in capsys.readouterr().err


@pytest.mark.parametrize("resident", [True, False])
def test_a_large_image_is_used_without_a_warning(image_folder, resident, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # they have 80, and up to twice the limit is taken
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = ready(image_folder, resident=resident)
        assert sum(len(labels) for _, labels in data.test_dataloader()) == 12


def test_reduced_decoding_needs_a_size(image_folder):
    with pytest.raises(ValueError, match="reduced_decoding needs image_size, the side that images are scaled to"):
        ImageFolderDataModule(data_dir=str(image_folder), reduced_decoding=True)
