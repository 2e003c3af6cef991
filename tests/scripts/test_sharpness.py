"""The largest eigenvalue of the Hessian that a run measures, and the runs that do not measure it."""

import json

import pytest
import torch
import torch.nn.functional as F

import train
from _compare.grid import Axis, make_grid
from _compare.tuning import trial_words


def test_it_is_that_of_the_tested_weights_and_noisy_labels(tmp_path):
    words = ["--data", "DigitsDataModule", "--data.train_size", "64", "--data.label_noise", "0.25", "--sharpness", "40"]
    words += ["--model.backbone", "MLP", "--model.backbone.hidden", "[3]", "--trainer.max_epochs", "1"]
    cli = train.main([*words, "--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(tmp_path / "runs")])
    found = json.loads((cli.run.folder / "results.json").read_text())["train/top_eigenvalue"]

    saved = torch.load(cli.run.checkpoint("best"), weights_only=True)["state_dict"]
    names = [name for name, _ in cli.model.named_parameters()]
    shapes = [saved[name].shape for name in names]
    images, labels = next(iter(cli.datamodule.train_dataloader()))
    network = cli.model.double()

    def loss(vector):
        parts = (
            part.view(shape) for part, shape in zip(vector.split([s.numel() for s in shapes]), shapes, strict=True)
        )
        weights = dict(zip(names, parts, strict=True))
        return F.cross_entropy(torch.func.functional_call(network, weights, (images[:40].double(),)), labels[:40])

    whole = torch.autograd.functional.hessian(loss, torch.cat([saved[name].flatten() for name in names]).double())
    assert found == pytest.approx(torch.linalg.eigvalsh(whole)[-1].item(), rel=0.02)


def test_a_negative_number_is_one_line(capsys):
    with pytest.raises(SystemExit):
        train.main(["--sharpness", "-1", "--trainer.max_epochs", "1"])
    assert "--sharpness must be 0 or more examples, found -1" in capsys.readouterr().err


def test_a_trial_does_not_measure_it():
    (one,) = make_grid([Axis("optimizer", ("SGD",))], ["--data", "DigitsDataModule", "--sharpness", "100"])
    words = trial_words(one, {})
    assert words[len(words) - 1 - words[::-1].index("--sharpness") + 1] == "0"
