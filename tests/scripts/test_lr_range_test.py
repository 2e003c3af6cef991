"""train.py --lr_range_test draws a curve and trains nothing."""

import pytest

import train

TINY = ["--model.backbone", "TwoLayerNet", "--trainer.accelerator", "cpu"]


def run(root, *words):
    return train.main(["--lr_range_test", *words, *TINY, "--trainer.default_root_dir", str(root)])


@pytest.mark.parametrize(
    "optimizer", [[], ["--optimizer", "SAM", "--optimizer.base_optimizer", "SGD"]], ids=["AdamW", "SAM"]
)
def test_the_weights_are_those_before_it(tmp_path, capsys, optimizer):
    cli = run(tmp_path, *optimizer)
    assert sorted(path.name for path in cli.run.folder.iterdir()) == ["config.yaml", "lr_range_test.png"]
    printed = capsys.readouterr().out
    assert "nothing was trained" in printed
    assert "suggestion  " in printed
    assert "it is not applied" in printed
    fresh = train.main(["--trainer.max_epochs", "0", *TINY, "--trainer.default_root_dir", str(tmp_path / "fresh")])
    expected = fresh.model.state_dict()
    assert all(value.equal(expected[name]) for name, value in cli.model.state_dict().items())


def test_an_optimizer_without_a_rate_and_a_checkpoint_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, "--optimizer", "COCOB")
    assert "--lr_range_test: COCOB has no learning rate to test" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
