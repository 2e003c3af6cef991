"""Labels that are shares of the classes, as mixup and CutMix make them, in the loss, the metrics and SAM."""

import pytest
import pytorch_lightning as pl
import torch

from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier
from lightning_modules.loss import classification_loss
from lightning_modules.training_loop import use_lean_steps
from optim import SAM


class Recording(ImageClassifier):
    """Keeps the batches that it is trained with."""

    def training_step(self, batch, batch_idx):
        self.note([part.clone() for part in batch])
        return super().training_step(batch, batch_idx)


def digits(**options):
    return DigitsDataModule(train_size=64, val_size=50, batch_size=16, seed=0, **options)


def fitted(tmp_path, data, optimizer, lean=False, **options):
    seen = []
    torch.manual_seed(0)
    model = Recording("TwoLayerNet", image_shape=(1, 8, 8), optimizer=optimizer, **options)
    model.note = seen.append  # a list of the module's own would be restored after a replay
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if lean:
        use_lean_steps(trainer)
    trainer.fit(model, data)
    return model, trainer.callback_metrics, seen


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.02)


def sam(parameters):
    return SAM(parameters, torch.optim.SGD, lr=0.02)


@pytest.mark.parametrize(("lean", "reduction"), [(False, "mean"), (True, "mean"), (True, "sum")])
def test_training_is_that_of_a_hand_written_loop(tmp_path, lean, reduction):
    options = {"label_smoothing": 0.1, "loss_reduction": reduction}
    model, logged, _ = fitted(tmp_path, digits(mixup=0.4, cutmix=1.0), sgd, lean, **options)
    torch.manual_seed(0)
    network = ImageClassifier("TwoLayerNet", image_shape=(1, 8, 8), optimizer=sgd).backbone
    data = digits(mixup=0.4, cutmix=1.0)
    data.setup()
    loader, losses, hits, nll = data.train_dataloader(), 0.0, 0, 0.0
    for epoch in range(2):
        for images, shares in loader:
            assert shares.shape == (16, 10)
            assert (shares.max(1).values < 1).sum() > 4
            logs = network(images).log_softmax(1)
            smoothed = 0.9 * shares + 0.1 / 10
            loss = -(smoothed * logs).sum(1)
            network.zero_grad()
            (loss.mean() if reduction == "mean" else loss.sum()).backward()
            with torch.no_grad():
                for p in network.parameters():
                    p -= 0.02 * p.grad
            if epoch == 1:
                losses += loss.sum().item()
                hits += (logs.argmax(1) == shares.argmax(1)).sum().item()
                nll -= logs.gather(1, shares.argmax(1)[:, None]).sum().item()
    for ours, by_hand in zip(model.backbone.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=1e-4, atol=1e-6)
    expected = {"train/loss": losses / 64, "train/accuracy": hits / 64, "train/nll": nll / 64}
    for name, value in expected.items():
        assert logged[name].item() == pytest.approx(value, rel=1e-4), name
    assert all(labels.dtype == torch.int64 for _, labels in data.val_dataloader())


def test_sam_evaluates_the_same_mixed_batch_twice(tmp_path):
    *_, seen = fitted(tmp_path, digits(cutmix=1.0), sam)
    assert len(seen) == 16
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert first[1].shape == (16, 10)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_shares_of_one_class_are_labels():
    logits, labels = torch.randn(8, 5), torch.arange(8) % 5
    for options in ((0.0, "mean"), (0.2, "sum")):
        soft = classification_loss(logits, torch.nn.functional.one_hot(labels, 5).float(), *options)
        torch.testing.assert_close(soft, classification_loss(logits, labels, *options))


def test_evaluation_takes_the_largest_share():
    model = ImageClassifier("TwoLayerNet", image_shape=(1, 8, 8))
    shares = torch.rand(4, 10).softmax(1)
    outputs = model.validation_step((torch.zeros(4, 1, 8, 8), shares), 0)
    assert torch.equal(outputs["labels"], shares.argmax(1))


def test_shares_of_another_number_of_classes():
    with pytest.raises(ValueError, match=r"labels \[2, 3\] .* the logits, \[2, 5\]: set num_classes \(now 5\)"):
        classification_loss(torch.zeros(2, 5), torch.zeros(2, 3), 0.0, "mean")
