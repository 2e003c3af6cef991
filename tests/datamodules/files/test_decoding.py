"""Image files of every kind as RGB pixels."""

import struct

import numpy as np
import pytest
from PIL import Image

from datamodules.files.decoding import Decoding, decode

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


def pixels(path, **how):
    return decode(path, Decoding(**how)).pixels


@pytest.mark.parametrize("name", ["ramp.png", "ramp.tif", "ramp.pgm", "big_endian.tif", "signed.tif", "float.tif"])
def test_deep_grey_images_keep_their_levels(tmp_path, name):
    path = tmp_path / name
    ramp = (RAMP * 65535).astype(np.uint16)
    if name == "float.tif":
        Image.fromarray(RAMP.astype(np.float32)).save(path)
    elif name == "big_endian.tif":
        entries = [(256, 3, 64), (257, 3, 64), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 110), (278, 3, 64)]
        entries += [(279, 4, 8192)]
        tags = b"".join(
            struct.pack(">HHI", tag, kind, 1)
            + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
            for tag, kind, value in entries
        )
        head = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + tags + struct.pack(">I", 0)
        path.write_bytes(head + ramp.astype(">u2").tobytes())
    else:
        Image.fromarray(ramp // 2 if name == "signed.tif" else ramp).save(path)
    found = pixels(path)
    assert found.shape == (3, 64, 64)
    expected = (ramp // 2 if name == "signed.tif" else ramp) / 257
    assert np.abs(found - expected).max() <= 0.51


def test_a_range_of_values(tmp_path):
    path = tmp_path / "scan.tif"
    Image.fromarray((RAMP * 4095).astype(np.uint16)).save(path)
    assert len(np.unique(pixels(path))) == 17
    assert len(np.unique(pixels(path, value_range=(0, 4095)))) == 256
    Image.fromarray((RAMP * 3000 - 1000).astype(np.float32)).save(path)
    with pytest.raises(
        ValueError, match=r"scan.tif has values beyond the 0 to 1 of a float image, found -1000 to 2000"
    ):
        pixels(path)
    assert np.abs(pixels(path, value_range=(-1000, 2000)) - 255 * RAMP).max() <= 0.51
    Image.fromarray((RAMP * 100).astype(np.int32)).save(path)
    with pytest.raises(
        ValueError, match=r"has whole numbers of 32 bits, found 0 to 100; .* --data.value_range \[0,100\]"
    ):
        pixels(path)
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(path)
    with pytest.raises(ValueError, match="not finite"):
        pixels(path)


def drawing(mode):
    """Return a red square on a transparent ground."""
    image = Image.new("RGBA", (8, 8), (0, 0, 255, 0))
    image.paste((255, 0, 0, 255), (2, 2, 6, 6))
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.putpalette([0, 0, 255, 255, 0, 0])
        image.paste(1, (2, 2, 6, 6))
    if mode == "LA":
        image = image.convert("LA")
    return image


@pytest.mark.parametrize(
    ("mode", "name"), [("RGBA", "a.png"), ("RGBA", "a.webp"), ("LA", "a.png"), ("P", "a.gif"), ("P", "a.png")]
)
def test_transparency_over_the_background(tmp_path, mode, name):
    options = {"transparency": 0} if mode == "P" else {"lossless": True} if name == "a.webp" else {}
    drawing(mode).save(tmp_path / name, **options)
    found = pixels(tmp_path / name, background="lime")
    assert found[:, 0, 0].tolist() == [0, 255, 0]
    assert found[:, 4, 4].tolist() == ([76, 76, 76] if mode == "LA" else [255, 0, 0])
    assert pixels(tmp_path / name)[:, 0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_are_as_a_viewer_shows_them(tmp_path, mode):
    image = Image.fromarray((RAMP[:8, :8] * 255).astype(np.uint8)).convert("RGB").convert(mode)
    image.save(tmp_path / "a.tif")
    assert np.array_equal(pixels(tmp_path / "a.tif"), np.asarray(image.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "grey.tif", "deep.tif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation(tmp_path, name, turn):
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    stored = [
        upright,
        upright[:, ::-1],
        upright[::-1, ::-1],
        upright[::-1],
        upright.T,
        np.rot90(upright),
        np.rot90(upright).T[::-1].T,
        np.rot90(upright, -1),
    ][turn - 1]
    if turn == 7:
        stored = upright[::-1, ::-1].T
    if name == "deep.tif":
        stored = stored.astype(np.uint16) * 257
    image, exif = Image.fromarray(np.ascontiguousarray(stored)), Image.Exif()
    exif[0x112] = turn
    options = {"lossless": True} if name == "a.webp" else {}
    (image if name[0] != "a" else image.convert("RGB")).save(tmp_path / name, exif=exif, **options)
    assert np.array_equal(pixels(tmp_path / name)[0], upright)


def test_a_thin_image_is_cropped_before_it_is_scaled(tmp_path, monkeypatch):
    image = Image.new("L", (1, 100_000), 7)
    image.paste(200, (0, 49_990, 1, 50_010))
    image.save(tmp_path / "thin.png")
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *a, **b: sizes.append(size) or resize(self, size, *a, **b)
    )
    assert (pixels(tmp_path / "thin.png", image_size=64) == 200).all()
    assert sizes == [(64, 64)]


@pytest.mark.parametrize(
    ("name", "is_series"), [("a.gif", True), ("a.tif", True), ("a.webp", True), ("a.png", True), ("a.mpo", False)]
)
def test_the_first_of_several_frames(tmp_path, name, is_series):
    frames = [Image.new("RGB", (8, 8), (value, value, value)) for value in (10, 200, 90)]
    frames[0].save(
        tmp_path / name, save_all=True, append_images=frames[1:], **({"lossless": True} if name == "a.webp" else {})
    )
    found = decode(tmp_path / name, Decoding())
    assert found.is_first == is_series
    assert (found.pixels == 10).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.tif", "a.webp", "a.bmp"])
def test_a_broken_file_is_one_line_that_names_it(tmp_path, name):
    path = tmp_path / name
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for kept in (content[:0], content[:9], content[: len(content) // 3], bytes(rng.permutation(list(content)))):
        path.write_bytes(kept)
        with pytest.raises(OSError, match=rf"^image {path} cannot be read \([^\n]*$"):
            pixels(path)


def test_a_decompression_bomb_is_one_line(tmp_path, monkeypatch):
    Image.new("1", (400, 400)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(OSError, match=r"image .*bomb.png cannot be read \(Image size .* exceeds limit"):
        pixels(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("size", "decoded"), [((800, 640), (200, 160)), ((639, 640), (320, 320)), ((300, 310), (300, 310))]
)
def test_a_reduced_image_keeps_twice_the_side_and_differs_little(tmp_path, monkeypatch, size, decoded):
    y, x = np.mgrid[: size[1], : size[0]]
    waves = 127 + 60 * np.sin(x / 17) + 50 * np.cos(y / 23 + x / 41)
    picture = np.stack([waves, 255 - waves, waves / 2], 2) + np.random.default_rng(0).normal(0, 4, (*y.shape, 3))
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(tmp_path / "a.jpg", quality=90)
    whole = pixels(tmp_path / "a.jpg", image_size=80).astype(int)
    seen = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, *a, **k: seen.append(self.size) or resize(self, *a, **k))
    reduced = pixels(tmp_path / "a.jpg", image_size=80, reduced=True)
    assert seen == [decoded]
    assert reduced.shape == (3, 80, 80)
    assert np.abs(reduced - whole).mean() < 1.5
    assert np.array_equal(reduced, whole) == (size == decoded)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a.png")
    same = [pixels(tmp_path / "a.png", image_size=80, reduced=reduced) for reduced in (False, True)]
    assert np.array_equal(*same)  # only JPEG can be decoded so
