"""A label without a logit is refused where it still is on the CPU: on a GPU it would be a device assertion."""

from typing import NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ImageClassifier
from lightning_modules.label_checks import check_labels, check_resident_labels
from lightning_modules.training_loop import use_lean_steps


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


def test_labels_that_are_on_the_device_are_checked_once(monkeypatch):
    labels = torch.tensor([0, 7])
    loader = DataLoader(TensorDataset(torch.zeros(2, 3), labels))
    check_resident_labels(loader, 7)  # on the CPU each batch is checked, and has torch's own error
    loader.dataset.tensors = (torch.zeros(2, 3), OnDevice(labels))
    with pytest.raises(ValueError, match="labels must be below 7"):
        check_resident_labels(loader, 7)
    check_resident_labels(loader, 8)
    check_resident_labels([], 7)


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
