"""A wrong input of train.py is one line with the key, the value found, what is allowed and the reason."""

import pytest
from jsonargparse import ArgumentError

from _common.errors import one_line
from _train.command_line import TrainCLI

STOPPING = "trainer: {{callbacks: [{{class_path: EarlyStopping, init_args: {{{}}}}}]}}\ndata: DigitsDataModule\n"
WORDS = {
    "--data.flip up": "--data.flip: expected one of 'none', 'random', 'alternating', found up",
    "--data.batch_size 1.5": "--data.batch_size: expected int, found 1.5",
    "--data.val_size nan": "--data.val_size: expected int or float, found nan",
    "--data torch.nn.ReLU": "--data must be a LightningDataModule, found torch.nn.ReLU",
    "--trainer.callbacks EarlyStopping": "--trainer.callbacks EarlyStopping needs monitor: add --trainer.callbacks.mon",
    "--trainer.callbacks EarlyStoppin": "--trainer.callbacks: expected the name or import path of a Callback, found",
    "--trainer.logger CSVLogger": "--trainer.logger CSVLogger needs save_dir",
    "--trainer.logger CSVLoger": "--trainer.logger: expected the name or import path of a Logger, found CSVLoger",
    "--optimizer SGD --lr_scheduler CosineAnnealingLR": "--lr_scheduler CosineAnnealingLR needs T_max: add --lr_sch",
    "--optimizer Adam --optimizer.lr fast": "--optimizer.lr: expected float, found fast",
    "--optimizer Adam --optimizer.learning 1": "--optimizer has no option 'learning': see --help, or --optimizer.help",
    "--model.activation SPOCU --model.activation.c big": "--model.activation.c: expected float, found big",
    "--model.backbone MLP --model.backbone.hidden x": "--model.backbone.hidden: expected Sequence, found x",
    "--monitor_mode best": "--monitor_mode: expected one of 'max', 'min', found best",
    "--trainer.max_epoch 1": "unrecognized arguments: --trainer.max_epoch 1: did you mean --trainer.max_epochs?",
}
FILES = {
    "\n": "must hold options, found None",
    "5": "must hold options, found 5",
    "a:\n\tb: 1\n": ", line 2, column 1: found character that cannot start any token",
    "trainer: [1]": "trainer must hold options, found [1]",
    "trainer: {max_epoch: 1}": "did you mean --trainer.max_epochs?",
    STOPPING.format("patience: many"): "--trainer.callbacks.patience: expected int, found many",
    STOPPING.format(
        "monitr: val/nll"
    ): "--trainer.callbacks has no option 'monitr': see --help, or --trainer.callbacks.hel",
}


@pytest.mark.parametrize("words", WORDS)
def test_words(words):
    with pytest.raises((ArgumentError, ValueError), match=r".") as error:
        TrainCLI(["fit", *words.split()])
    assert one_line(error.value).startswith(WORDS[words])


@pytest.mark.parametrize("text", FILES)
def test_files(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises((ArgumentError, ValueError), match=r".") as error:
        TrainCLI(["fit", "--config", str(path)])
    line = one_line(error.value)
    assert FILES[text] in line
    assert "--trainer" in line or "mine.yaml" in line
    assert "\n" not in line
