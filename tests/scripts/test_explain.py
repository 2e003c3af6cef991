"""scripts/explain.py image on runs of scripts/train.py."""

import json
import re

import eli5
import numpy as np
import pytest
import torch
from PIL import Image

import evaluation.explanation  # noqa: F401
import explain
import train
from _common import rebuild
from _common.run import Run
from _explain import image as drawing
from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier

ON_CPU = ["--trainer.accelerator", "cpu"]
NUMBERS = ["deletion", "insertion", "random_deletion", "random_insertion"]


def training(root, backbone):
    quick = ["--model.backbone", backbone, "--trainer.max_epochs", "1", "--data.val_size", "0.5"]
    quick += ["--data.watch_test", "false", "--data.batch_size", "64"]
    run = train.main(["fit", *quick, *ON_CPU, "--trainer.default_root_dir", str(root)]).run.folder
    return run / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return training(tmp_path_factory.mktemp("runs"), "SmallConvNet")


@pytest.fixture(scope="module")
def explained(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    words = ["--checkpoint", str(checkpoint), "--index", "[3, 40, 7]", "--output", str(folder), "--accelerator", "cpu"]
    return folder, explain.main(["image", *words])


def test_the_results_agree_with_eli5(checkpoint, explained):
    folder, results = explained
    assert json.loads((folder / "results.json").read_text()) == results
    assert set(results["images"]) == {"3", "7", "40"}
    data = DigitsDataModule(val_size=0.5)
    data.setup("test")
    images, labels = (torch.cat(parts) for parts in zip(*data.test_dataloader(), strict=True))
    model = ImageClassifier.load_from_checkpoint(checkpoint, weights_only=True).eval()
    for number, row in results["images"].items():
        scores = model(images[int(number)][None]).softmax(1)[0]
        assert row["label"] == str(int(labels[int(number)]))
        assert row["explained"] == str(int(scores.argmax()))
        assert row["probability"] == pytest.approx(float(scores.max().detach()), abs=1e-5)
        faithfulness = eli5.explain_prediction(model, images[int(number)]).faithfulness
        assert [row[name] for name in NUMBERS] == pytest.approx(
            [getattr(faithfulness, name) for name in NUMBERS], abs=1e-5
        )
    assert results["mean"]["deletion"] == pytest.approx(np.mean([r["deletion"] for r in results["images"].values()]))


def test_the_figure_shows_the_images(explained):
    folder, _ = explained
    pixels = np.asarray(Image.open(folder / "explanations.png").convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_each_image_of_the_figure_is_beside_its_heatmap():
    class Explained:
        def __init__(self, level):
            self.image = Image.new("RGB", (8, 8), (level, level, level))

    rows = {i: {"label": f"is{i}", "explained": "[kg]", "probability": 0.5} for i in range(6)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "format_as_image", lambda explanation: explanation.image)
        figure = drawing.draw({i: Explained(40 * i) for i in rows}, rows)
    figure.draw_without_rendering()
    assert len(figure.axes) == 12
    for i, (original, heatmap) in enumerate(zip(figure.axes[::2], figure.axes[1::2], strict=True)):
        assert original.get_title() == f"{i}, true: is{i}"
        assert heatmap.get_title() == "[kg]: 50%"
        assert original.images[0].get_array()[0, 0, 0] == heatmap.images[0].get_array()[0, 0, 0] == 40 * i
        left, right = original.get_position(), heatmap.get_position()
        assert left.x1 < right.x0
        assert left.y0 == pytest.approx(right.y0)
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[n + 1 :])


@pytest.mark.browser
def test_the_page_shows_the_pictures_without_a_network(explained, browser):
    folder, _ = explained
    page = browser.new_page()
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    address = (folder / "explanations.html").as_uri()
    page.goto(address, wait_until="load")
    widths = page.eval_on_selector_all("img", "images => images.map(image => [image.naturalWidth, image.clientWidth])")
    headings = page.locator("h2").all_inner_texts()
    page.close()
    assert len(widths) == 4
    assert all(natural > 100 and shown > 50 for natural, shown in widths)
    assert [re.findall(r"\d+", heading)[0] for heading in headings] == ["3", "7", "40"]
    assert messages == []
    assert [url for url in requests if url != address and not url.startswith("data:")] == []


def test_a_target_and_a_layer_can_be_named(checkpoint, tmp_path):
    words = ["--checkpoint", str(checkpoint), "--count", "2", "--target", "4", "--layer", "backbone.features.0"]
    results = explain.main([*words, "--relu", "false", "--output", str(tmp_path), "--seed", "3"])
    assert results["method"] == "Grad-CAM at backbone.features.0"
    assert [row["explained"] for row in results["images"].values()] == ["4", "4"]


def test_an_mlp_is_explained_too(tmp_path):
    checkpoint = training(tmp_path, "TwoLayerNet")
    results = explain.main(
        ["image", "--checkpoint", str(checkpoint), "--count", "1", "--output", str(tmp_path / "out")]
    )
    assert results["method"] == "integrated gradients of the pixels"


def test_without_a_checkpoint_the_digits_are_trained(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    requests = []

    class Trained:
        run = Run(checkpoint.parent.parent)

    monkeypatch.setattr(train, "main", lambda words: requests.append(words) or Trained)
    results = explain.main(["--count", "1"])
    assert requests == [["fit", "--trainer.default_root_dir", "runs"]]
    assert results["checkpoint"] == str(rebuild.train_default("runs"))
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "explanations.html").is_file()
    assert "explanations.png" in capsys.readouterr().out


def test_the_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        explain.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(f"explain.py {command}" in text for command in ("image", "tabular", "text"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--index", "[359]"], "--index must hold numbers from 0 to 358, found 359"),
        (["--count", "0"], "--count must be at least 1, found 0"),
        (["--target", "ten"], "found 'ten'"),
        (["--layer", "backbone.features.9"], "no layer 'backbone.features.9'; similar names are backbone.features"),
        (["--checkpoint", "missing.ckpt"], "missing.ckpt"),
    ],
)
def test_mistakes_are_one_line(checkpoint, tmp_path, capsys, words, message):
    given = words if "--checkpoint" in words else ["--checkpoint", str(checkpoint), *words]
    with pytest.raises(SystemExit) as stopped:
        explain.main(["image", *given, "--output", str(tmp_path / "out")])
    assert stopped.value.code == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
