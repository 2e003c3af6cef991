"""Predictions for a folder of images without labels: what the network's checkpoint knows of its training data."""

import csv
import shutil

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

import train
from datamodules import ImageFolderDataModule
from lightning_modules import ImageClassifier
from lightning_modules.callbacks.prediction_csv import PredictionCSV
from lightning_modules.known_data import checked

CLASSES = ["cat, big", "dog\nx", "été\x1b[2J"]
ON_CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
FOLDER = ["predict", "--data", "ImageFolderDataModule"]


def trainer(*callbacks):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(accelerator="cpu", logger=False, callbacks=list(callbacks), **quiet)


def run(root, *words):
    return train.main([*words, *ON_CPU, "--trainer.default_root_dir", str(root)])


def refused(capsys, root, *words):
    """Return the single line of the error; nothing is left under `root`."""
    with pytest.raises(SystemExit):
        run(root, *words)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert not list(root.rglob("*"))
    return line


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def probabilities(rows, names):
    return [[float(row[f"probability_{name}"]) for name in names] for row in rows]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A training folder, a run on it, a copy of its checkpoint elsewhere, and a folder of images of many kinds."""
    root = tmp_path_factory.mktemp("work")
    draw = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 3)):
        for number, name in enumerate(CLASSES):
            folder = root / "data" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = draw.integers(0, 80, (20, 24, 3)) + 80 * number
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    words = ["--data", "ImageFolderDataModule", "--data.data_dir", str(root / "data"), "--data.image_size", "12"]
    words += ["--data.val_size", "3"]
    words += ["--data.background", "black", "--model.backbone", "MLP", "--trainer.max_epochs", "1"]
    folder = run(root / "runs", *words).run.folder
    shutil.copy(folder / "checkpoints" / "last.ckpt", root / "copy.ckpt")
    photos = root / "photos"
    (photos / "sub" / "deep").mkdir(parents=True)
    for name, shape, kind in (
        ("b.jpg", (90, 40, 3), np.uint8),
        ("A16.png", (30, 20), np.uint16),
        ("sub/a.gif", (5, 7), np.uint8),
        ("sub/deep/z, \n1.png", (12, 12, 4), np.uint8),
    ):
        Image.fromarray(draw.integers(0, np.iinfo(kind).max, shape, dtype=kind)).save(photos / name)
    (photos / "notes.txt").write_text("no image")
    return root


def test_the_test_split_as_a_folder_has_its_predictions(work):
    """With the training data gone, and the checkpoint elsewhere."""
    model = ImageClassifier.load_from_checkpoint(work / "copy.ckpt")
    assert model.class_names == sorted(CLASSES)
    own = ImageFolderDataModule(data_dir=str(work / "data"), image_size=12, val_size=3, eval_batch_size=4)
    expected = torch.cat([batch["probabilities"] for batch in trainer().predict(model, own)])
    shutil.copytree(work / "data" / "test", work / "moved")
    os_data = work / "data"
    os_data.rename(work / "gone")
    try:
        data = ImageFolderDataModule(data_dir=str(os_data), predict_dir=str(work / "moved"), eval_batch_size=4)
        table = PredictionCSV(work / "python.csv")
        found = trainer(table).predict(model, data)
        run(
            work / "elsewhere",
            *FOLDER,
            "--data.predict_dir",
            str(work / "moved"),
            "--ckpt_path",
            str(work / "copy.ckpt"),
        )
    finally:
        (work / "gone").rename(os_data)
    assert torch.cat([batch["probabilities"] for batch in found]).equal(expected)
    files = [f"{name}/{index}.png" for name in sorted(CLASSES) for index in range(3)]
    assert [file for batch in found for file in batch["file"]] == files
    (written,) = (work / "elsewhere").rglob("predictions.csv")
    assert written.read_bytes() == (work / "python.csv").read_bytes()
    rows = rows_of(written)
    assert list(rows[0])[:4] == ["index", "file", "prediction", "class_number"]
    assert [row["file"] for row in rows] == files
    assert np.allclose(probabilities(rows, sorted(CLASSES)), expected, atol=1e-6)
    for row, number in zip(rows, expected.argmax(1).tolist(), strict=True):
        assert (row["prediction"], row["class_number"]) == (sorted(CLASSES)[number], str(number))


def test_images_of_any_size_and_kind(work, capsys):
    """Each is scaled until it covers 12 x 12 pixels, and cut in the middle."""
    cli = run(work / "any", *FOLDER, "--data.predict_dir", str(work / "photos"), "--ckpt_path", str(work / "copy.ckpt"))
    assert "photos: 4 images, left out 1: 1 not an image (notes.txt)" in capsys.readouterr().out
    rows = rows_of(cli.run.folder / "predictions.csv")
    assert [row["file"] for row in rows] == ["A16.png", "b.jpg", "sub/a.gif", "sub/deep/z, \n1.png"]
    image = Image.open(work / "photos" / "sub" / "a.gif").convert("RGB")  # 7 x 5: 17 x 12, of which 2 on the left go
    square = image.resize((12, 12), Image.Resampling.BILINEAR, box=(2 * 7 / 17, 0, 14 * 7 / 17, 5))
    mean, std = (torch.tensor(cli.model.data_description[name]).view(3, 1, 1) for name in ("mean", "std"))
    pixels = (torch.tensor(np.array(square)).permute(2, 0, 1) / 255 - mean) / std
    expected = cli.model.cpu()(pixels[None]).softmax(1).detach().numpy()
    assert np.allclose(probabilities(rows[2:3], sorted(CLASSES)), expected, atol=1e-5)


@pytest.fixture
def broken(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    Image.new("RGB", (9, 9)).save(folder / "fine.png")
    whole = (folder / "fine.png").read_bytes()
    (folder / "half.png").write_bytes(whole[:40])
    (folder / "an\x1b[2J.jpg").write_text("no image")
    return folder


def test_unreadable_files_are_an_error_or_listed(work, broken, tmp_path, capsys):
    words = [*FOLDER, "--data.predict_dir", str(broken), "--ckpt_path", str(work / "copy.ckpt")]
    line = refused(capsys, tmp_path / "runs", *words)
    assert r"broken/an\x1b[2J.jpg cannot be read" in line
    assert "--data.skip_unreadable true" in line
    for batch in ("1", "3"):
        cli = run(tmp_path / batch, *words, "--data.skip_unreadable", "true", "--data.eval_batch_size", batch)
        printed = capsys.readouterr().out
        assert "2 of 3 images cannot be read and are left out" in printed
        assert r"an\x1b[2J.jpg" in printed
        assert "half.png" in printed
        assert [row["file"] for row in rows_of(cli.run.folder / "predictions.csv")] == ["fine.png"]
        assert [row["file"] for row in rows_of(cli.run.folder / "unreadable.csv")] == ["an\x1b[2J.jpg", "half.png"]
    (broken / "fine.png").unlink()
    line = refused(capsys, tmp_path / "runs", *words, "--data.skip_unreadable", "true")
    assert "none of the 2 images" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.predict_dir", "nowhere"], "there is no folder nowhere"),
        (["--data.predict_dir", "{empty}"], "has no image"),
        (["--data.predict_dir", "{copy}"], "is not a folder"),
        (["--data", "MNISTDataModule", "--data.predict_dir", "{photos}"], "needs --data ImageFolderDataModule, found"),
        (["--data.predict_dir", "{photos}", "--model.backbone", "MLP"], "--model.backbone has no effect"),
        (["--data.predict_dir", "{photos}", "--data.image_size", "9"], "12 x 12, found 9"),
        (["--data.predict_dir", "{photos}", "--data.mean", "[1,1,1]"], "mean and std belong together"),
        (["--data.predict_dir", "{photos}", "--data.mean", "[1]", "--data.std", "[1]"], "3 channels, found (1.0,)"),
        (["--data.skip_unreadable", "true"], "skip_unreadable needs predict_dir"),
    ],
)
def test_mistakes_are_one_line(work, tmp_path, capsys, words, message):
    places = {"empty": work / "data" / "empty", "copy": work / "copy.ckpt", "photos": work / "photos"}
    places["empty"].mkdir(exist_ok=True)
    words = [word.format(**places) for word in words]
    assert message in refused(capsys, tmp_path / "runs", *FOLDER, "--ckpt_path", str(work / "copy.ckpt"), *words)
    places["empty"].rmdir()


def test_outputs_that_are_not_finite_are_refused(work, tmp_path, capsys):
    model = torch.load(work / "copy.ckpt", weights_only=True)
    last = list(model["state_dict"])[-1]
    model["state_dict"][last][0] = torch.nan
    torch.save(model, tmp_path / "nan.ckpt")
    words = ["--data.predict_dir", str(work / "photos"), "--ckpt_path", str(tmp_path / "nan.ckpt")]
    assert "is NaN or infinite: no predictions are written" in refused(capsys, tmp_path / "runs", *FOLDER, *words)


def test_an_older_checkpoint_has_numbers_for_classes(work, tmp_path, capsys):
    """In the folder of its run the training data tell the names; elsewhere neither names nor mean are known."""
    old = torch.load(work / "copy.ckpt", weights_only=True)
    del old["data_description"]
    torch.save(old, tmp_path / "old.ckpt")
    words = [*FOLDER, "--data.predict_dir", str(work / "photos"), "--ckpt_path"]
    with pytest.raises(SystemExit):
        run(tmp_path / "runs", *words, str(tmp_path / "old.ckpt"))
    assert capsys.readouterr().err.count("no mean and std") == 1
    known = ["--data.mean", "[0.5,0.5,0.5]", "--data.std", "[0.2,0.2,0.2]"]
    cli = run(tmp_path / "runs", *words, str(tmp_path / "old.ckpt"), *known)
    assert capsys.readouterr().out.count("classes     numbers") == 1
    rows = rows_of(cli.run.folder / "predictions.csv")
    assert all(row["prediction"] == row["class_number"] for row in rows)
    assert "probability_2" in rows[0]
    (folder,) = (work / "runs").iterdir()
    torch.save(old, folder / "checkpoints" / "old.ckpt")
    cli = run(tmp_path / "runs", *words, str(folder / "checkpoints" / "old.ckpt"))
    assert {row["prediction"] for row in rows_of(cli.run.folder / "predictions.csv")} <= set(CLASSES)
    assert "numbers" not in capsys.readouterr().out


def test_networks_of_other_data(tmp_path, work):
    """A network for grey images gets such images; one for another shape, an image of that shape; a table is refused."""
    data = ImageFolderDataModule(predict_dir=str(work / "photos"), mean=[0.0], std=[1.0])
    grey = ImageClassifier("MLP", num_classes=2, image_shape=(1, 8, 6))
    data.trainer = trainer()
    data.trainer.strategy.connect(grey)
    images, files = next(iter(data.predict_dataloader()))
    assert images.shape == (4, 1, 8, 6)
    with Image.open(work / "photos" / files[1]) as image:  # 40 x 90: scaled to 6 x 14, of which 3 at the top go
        part = image.convert("RGB").resize((6, 8), Image.Resampling.BILINEAR, box=(0, 3 * 90 / 14, 40, 11 * 90 / 14))
    assert torch.equal((images[1, 0] * 255).round().byte(), torch.tensor(np.array(part.convert("L"))))
    for shape, message in (((4,), "table"), ((4, 8, 8), "found 4")):
        other = ImageClassifier("MLP", num_classes=2, image_shape=shape)
        with pytest.raises(ValueError, match=message):
            trainer().predict(other, data)


@pytest.mark.parametrize(
    "wrong", [[], {"classes": "ab"}, {"classes": [1]}, {"mean": [float("nan")]}, {"std": ["1"]}, {"background": 3}]
)
def test_a_damaged_description_is_refused(wrong):
    with pytest.raises(ValueError, match="damaged"):
        checked(wrong)


def test_a_description_that_predicting_cannot_use_is_refused(work, tmp_path, capsys):
    damaged = torch.load(work / "copy.ckpt", weights_only=True)
    damaged["data_description"] |= {"background": "\x1b[2J"}
    torch.save(damaged, tmp_path / "damaged.ckpt")
    words = ["--data.predict_dir", str(work / "photos"), "--ckpt_path", str(tmp_path / "damaged.ckpt")]
    line = refused(capsys, tmp_path / "runs", *FOLDER, *words)
    assert "background must be a colour" in line
    assert "\x1b" not in line


def test_the_training_set_is_read_when_it_is_asked_for(work):
    data = ImageFolderDataModule(
        data_dir=str(work / "data"), predict_dir=str(work / "photos"), image_size=8, val_size=3
    )
    assert data.num_classes == 3
    data.setup("fit")
    assert len(data.part_indices("train")) == 21
    absent = ImageFolderDataModule(data_dir=str(work / "none"), predict_dir=str(work / "photos"))
    with pytest.raises(FileNotFoundError, match="no folder"):
        absent.setup("fit")
