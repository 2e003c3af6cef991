"""Which files of a folder are used, which are left out, and why."""

import os

import pytest
from PIL import Image

from datamodules.files.image_listing import class_names, list_images, similar_names


@pytest.fixture
def root(tmp_path):
    for name in ("cat/a.png", "cat/more/deep/b.JPG", "dog/c.gif", "dog/d.tiff"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    return tmp_path


def listed(root):
    return list_images(root, class_names(root)).files


FILES = ["cat/a.png", "cat/more/deep/b.JPG", "dog/c.gif", "dog/d.tiff"]


def test_hidden_files_and_folders_at_every_depth(root, capsys):
    for name in ("cat/.a.png", "cat/.ipynb_checkpoints/a.png", "dog/more/.thumbnails/c.png", "dog/@eaDir/x.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    (root / "__MACOSX").mkdir()
    assert listed(root) == FILES
    assert "used 4 images of 2 classes, left out 5: 5 hidden (" in capsys.readouterr().out


def test_every_file_that_is_not_used_is_counted_with_the_reason(root, capsys):
    (root / "cat" / "notes.txt").write_text("")
    (root / "cat" / "drawing.eps").write_text("")  # Pillow would start another program
    (root / "loose.png").write_bytes(b"")
    (root / "dog" / "broken.png").symlink_to("nowhere.png")
    os.mkfifo(root / "dog" / "pipe.png")
    assert listed(root) == FILES
    reasons = "1 a broken link (broken.png), 1 in no class folder (loose.png), 1 not a regular file (pipe.png), "
    assert f"left out 5: {reasons}2 not an image (drawing.eps)" in capsys.readouterr().out


def test_symlinks_are_followed_once_and_loops_end(root, tmp_path_factory, capsys):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    Image.new("L", (4, 4)).save(elsewhere / "e.png")
    (elsewhere / "back").symlink_to(root / "cat")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "itself").symlink_to("itself")
    (root / "cat" / "again").symlink_to(root / "cat" / "more")
    (root / "cat" / "new").symlink_to(elsewhere)
    (root / "loop").symlink_to(root)
    assert listed(root) == ["cat/a.png", "cat/more/deep/b.JPG", "cat/new/e.png", "dog/c.gif", "dog/d.tiff"]
    out = capsys.readouterr().out
    assert "3 a link to a folder that is read already" in out
    assert "1 a link to a folder above it (loop)" in out


def test_classes_without_images_are_named_in_one_line(root):
    for name in ("emu", "fox"):
        (root / name).mkdir()
    (root / "fox" / "x.txt").write_text("")
    with pytest.raises(ValueError, match=r"class folders emu, fox have no image in .*1 not an image \(x.txt\)"):
        listed(root)


def test_names_that_move_no_terminal(root, capsys):
    name = "c\x1b[2Jat\n"
    (root / "cat" / f"{name}.txt").write_text("")
    listed(root)
    assert r"c\x1b[2Jat\n.txt" in capsys.readouterr().out


def test_similar_names():
    assert similar_names(["Cat", "STRASSE", "cat", "straße", "dog"]) == ["Cat", "STRASSE", "cat", "straße"]
