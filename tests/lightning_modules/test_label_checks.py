"""A label without a logit is refused where it still is on the CPU: on a GPU it would be a device assertion."""

import copy
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ImageClassifier, checked_labels, device_labels
from lightning_modules.device_labels import DeviceLabels
from lightning_modules.label_checks import check_labels, check_resident_labels
from lightning_modules.training_loop import use_lean_steps
from reference.counting import Waits


class Batch(NamedTuple):  # which our loop hands to Lightning for its transfer to the device
    images: torch.Tensor
    labels: torch.Tensor


class OnAGpu(ImageClassifier):
    """Trains on the CPU, and says that it is on a GPU."""

    @property
    def device(self):
        return torch.device("cuda", 0)


def batches(count, bad=None):
    labels = torch.arange(8 * count).view(count, 8) % 7
    if bad is not None:
        labels[bad[0], 3] = bad[1]
    data = [Batch(torch.zeros(8, 1, 4, 4), own) for own in labels]
    return DataLoader(data, batch_size=None)


def trainer(lean):
    one = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    if lean:
        use_lean_steps(one)
    return one


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize(
    ("label", "message"),
    [
        (7, r"^labels must be below 7, .* found labels from 0 to 7: set num_classes \(now 7\) to the data's$"),
        (-1, r"^labels must be at least 0, found labels from -1 to 6: number the classes from 0$"),
    ],
)
def test_a_bad_label_of_any_loader_ends_in_one_line(lean, label, message, monkeypatch):
    model = OnAGpu("MLP", 7, (1, 4, 4))
    monkeypatch.setattr(OnAGpu, "training_step", lambda self, batch, batch_idx: {"loss": seen(self, batch)})
    steps = []

    def seen(self, batch):
        steps.append(int(batch.labels.max()))
        return next(self.parameters()).sum()

    one = trainer(lean)
    with pytest.raises(ValueError, match=message):
        one.fit(model, batches(9, (6, label)))
    assert len(steps) == 6  # the bad batch has not been computed with


def test_it_is_refused_in_evaluation_and_left_alone_in_a_prediction():
    model = OnAGpu("MLP", 7, (1, 4, 4))
    with pytest.raises(ValueError, match="labels must be below 7"):
        trainer(False).test(model, batches(3, (2, 9)), verbose=False)
    assert len(trainer(False).predict(model, batches(3, (2, -1)))) == 3


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool], ids=str)
def test_labels_of_any_kind(dtype):
    check_labels(torch.tensor([0, 1]).to(dtype), 2)
    check_labels(torch.zeros(0, dtype=dtype), 2)
    with pytest.raises(ValueError, match="labels must be below 1"):
        check_labels(torch.tensor([0, 1]).to(dtype), 1)


def test_ignored_labels_probabilities_and_others_are_left_to_the_loss():
    check_labels(torch.tensor([-100, 2]), 3)
    check_labels(torch.full((2, 3), 9.0), 3)
    check_labels(["a"], 3)


def test_labels_that_are_on_the_device_are_checked_once():
    labels = torch.tensor([0, 7])
    loader = DataLoader(TensorDataset(torch.zeros(2, 3), labels))
    assert not check_resident_labels(loader, 7)  # on the CPU each batch is checked, and has torch's own error
    loader.dataset.tensors = (torch.zeros(2, 3), OnDevice(labels))
    own = SimpleNamespace(labels=OnDevice(labels), indices=torch.tensor([1, 0]))  # as our data modules' loaders
    for one in (loader, own):
        with pytest.raises(ValueError, match="labels must be below 7"):
            check_resident_labels(one, 7)
        assert check_resident_labels(one, 8)
    assert check_resident_labels(SimpleNamespace(labels=OnDevice(labels), indices=torch.tensor([0])), 7)
    changing = DataLoader(loader.dataset, collate_fn=list)
    assert not check_resident_labels(changing, 7)  # whose batches may have others
    assert not check_resident_labels([], 7)


@pytest.fixture
def on_the_device(monkeypatch):
    """Let the CPU be a device whose labels are watched there."""
    monkeypatch.setattr(checked_labels, "DEVICES", {"cpu"})


class Made:
    """A loader that makes its batches on the device, and has nothing that could be looked at before."""

    def __init__(self, count, bad=None):
        self.labels = [torch.arange(8) % 7 for _ in range(count)]
        if bad is not None:
            self.labels[bad[0]][3] = bad[1]

    def __len__(self):
        return len(self.labels)

    def __iter__(self):
        return iter([(torch.randn(8, 1, 4, 4), own) for own in self.labels])


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize(
    ("label", "found"), [(7, "below 7.* from 0 to 7"), (-1, "at least 0, found labels from -1 to 6")]
)
def test_a_bad_label_that_a_loader_makes_on_the_device(lean, label, found, on_the_device, monkeypatch):
    monkeypatch.setattr(device_labels, "EVERY", 4)
    steps = []
    monkeypatch.setattr(ImageClassifier, "on_train_batch_end", lambda *_: steps.append(1))
    model = ImageClassifier("MLP", 7, (1, 4, 4))
    with pytest.raises(ValueError, match=found) as error:
        trainer(lean).fit(model, Made(20, (5, label)))
    assert "\n" not in str(error.value)
    assert len(steps) == 7  # at the end of the window
    assert all(p.isfinite().all() for p in model.parameters())
    late = ImageClassifier("MLP", 7, (1, 4, 4))
    with pytest.raises(ValueError, match=found):  # at the end of the epoch
        trainer(lean).fit(late, Made(3, (1, label)))


def test_a_bad_label_on_the_device_in_evaluation(on_the_device):
    model = ImageClassifier("MLP", 7, (1, 4, 4))
    with pytest.raises(ValueError, match="below 7"):
        trainer(True).test(model, Made(3, (1, 9)), verbose=False)
    assert len(trainer(True).predict(model, Made(3, (1, -1)))) == 3
    with pytest.raises(ValueError, match="below 7"):
        trainer(True).fit(model, Made(3), Made(3, (2, 7)))


def test_no_checkpoint_is_saved_after_a_bad_label(on_the_device, tmp_path):
    model = ImageClassifier("MLP", 7, (1, 4, 4))
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=3)
    one = pl.Trainer(accelerator="cpu", max_epochs=1, logger=False, callbacks=[saving], enable_progress_bar=False)
    with pytest.raises(ValueError, match="below 7"):
        one.fit(model, Made(9, (2, 7)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("known", [True, False])
def test_labels_that_are_known_are_not_watched(known, on_the_device, monkeypatch):
    watched = []
    monkeypatch.setattr(checked_labels.DeviceLabels, "__call__", lambda _, labels: watched.append(1) or labels)
    monkeypatch.setattr(checked_labels, "check_resident_labels", lambda *_: known)
    trainer(True).fit(ImageClassifier("MLP", 7, (1, 4, 4)), Made(6))
    assert len(watched) == (0 if known else 6)


def test_labels_that_a_hook_changes_on_the_device_are_watched(on_the_device):
    class Data(pl.LightningDataModule):
        def train_dataloader(self):
            return batches(9)

        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch.images, batch.labels + 1

    with pytest.raises(ValueError, match="below 7"):
        trainer(True).fit(OnAGpu("MLP", 7, (1, 4, 4)), Data())


def test_watching_waits_for_nothing_and_reads_what_has_come(monkeypatch):
    watch, ready, streams = DeviceLabels(3), [False], []
    event = SimpleNamespace(query=lambda: ready[0], record=streams.append)
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(device_labels, "DEVICES", {"cpu"})
    monkeypatch.setattr(device_labels, "EVERY", 2)
    make = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory, **options: make(*size, **options))
    with Waits() as waits:
        for label in (0, 5, 1, 1):
            safe = watch(torch.tensor([label, -100]))
            assert safe.equal(torch.tensor([-100 if label == 5 else label, -100]))
    assert streams == ["stream of cpu"]  # sent once, and nothing more until it has come
    assert not waits.counts
    ready[0] = True
    with pytest.raises(ValueError, match=r"below 3, .* found labels from 0 to 5"):
        watch(torch.tensor([0]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_watched_labels_of_any_kind_become_int64(dtype):
    watch = DeviceLabels(2)
    assert watch(torch.tensor([1, 0]).to(dtype)).equal(torch.tensor([1, 0]))
    assert watch(torch.zeros(0, dtype=dtype)).dtype == torch.int64
    watch.report()


def test_a_copy_has_seen_no_labels():
    model = ImageClassifier("MLP", 7, (1, 4, 4))
    model._on_device, model._known = DeviceLabels(7), object()
    twin = copy.deepcopy(model)
    assert twin._on_device is None
    assert twin._known is None


class OnDevice(torch.Tensor):
    """Labels that say that they are not on the CPU."""

    is_cpu = False

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_the_hook_of_a_data_module_stays(recwarn):
    class Data(pl.LightningDataModule):
        def train_dataloader(self):
            return batches(3, (1, 7))

        def on_before_batch_transfer(self, batch, dataloader_idx):
            return [batch.images, batch.labels.clamp(max=6)]

    trainer(False).fit(ImageClassifier("MLP", 7, (1, 4, 4)), Data())
    assert not [one for one in recwarn if "on_before_batch_transfer" in str(one.message)]
