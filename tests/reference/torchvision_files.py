"""Small sets in the layouts of the files that torchvision downloads."""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np


def write_mnist(folder: Path, name: str = "MNIST") -> dict[str, Any]:
    """Write 120 + 40 images in MNIST's format, and return the options of a data module that read them."""
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for stem, count in (("train", 120), ("t10k", 40)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 28, 28) + images.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels.tobytes())
    return {"data_dir": str(folder), "val_size": 20}


class Python2Pickler(pickle._Pickler):
    """Writes strings and bytes as Python 2 did, which wrote CIFAR's files."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_binstring(self, content: Any) -> None:
        data = content if isinstance(content, bytes) else content.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(content)

    dispatch[str] = dispatch[bytes] = save_binstring


def write_cifar(
    folder: Path, monkeypatch: Any, dataset: Any, counts: dict[str, int], key: str, names: tuple[str, ...]
) -> dict[str, Any]:
    """Write batches of so many images in CIFAR's pickle layout, the last for testing, with their checksums."""
    files = folder / dataset.base_folder
    files.mkdir()
    rng = np.random.default_rng(2)

    def write(name: str, content: Any) -> str:
        with open(files / name, "wb") as file:
            Python2Pickler(file, protocol=2).dump(content)
        return hashlib.md5((files / name).read_bytes()).hexdigest()

    def batch(name: str, count: int) -> list[str]:
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = (np.arange(count) % len(names)).tolist()
        images = [f"{i}.png" for i in range(count)]
        return [name, write(name, {"data": data, key: labels, "batch_label": name, "filenames": images})]

    batches = [batch(name, count) for name, count in counts.items()]
    monkeypatch.setattr(dataset, "train_list", batches[:-1])
    monkeypatch.setattr(dataset, "test_list", batches[-1:])
    meta = write(dataset.meta["filename"], {dataset.meta["key"]: list(names), "num_vis": 3072})
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": meta})
    return {"data_dir": str(folder), "val_size": max(20, len(names))}
