"""Predict a folder of image files with a checkpoint, which knows the class names and the normalisation.

    python examples/predict_folder.py

Trains on scikit-learn's digits, saves a checkpoint, writes 20 test images as files of another size into nested folders,
and prints how many of them are classified as their folder says. The last part needs nothing but the checkpoint.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image
from sklearn.datasets import load_digits

from datamodules import DigitsDataModule, ImageFolderDataModule
from lightning_modules import ImageClassifier

OPTIONS: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}


def main() -> None:
    """Train, write files, and predict them."""
    pl.seed_everything(0)
    data = DigitsDataModule(batch_size=32)
    trainer = pl.Trainer(max_epochs=5, enable_checkpointing=False, **OPTIONS)
    trainer.fit(ImageClassifier("MLP", image_shape=(1, 8, 8)), data)
    trainer.save_checkpoint("digits.ckpt")

    digits = load_digits()
    for index in data.part_indices("test").tolist()[:20]:
        folder = Path("photos", str(digits.target[index]))
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (digits.images[index] * 255 / 16).round().astype("uint8")
        Image.fromarray(pixels).resize((80, 80), Image.Resampling.BOX).save(folder / f"{index}.png")

    model = ImageClassifier.load_from_checkpoint("digits.ckpt")
    batches: Any = pl.Trainer(**OPTIONS).predict(model, ImageFolderDataModule(predict_dir="photos"))
    names = model.class_names or []
    found = {
        file: names[number]
        for batch in batches
        for file, number in zip(batch["file"], batch["prediction"].tolist(), strict=True)
    }
    right = sum(file.split("/")[0] == name for file, name in found.items())
    print(f"{right} of {len(found)} files are classified as their folder says")


if __name__ == "__main__":
    main()
