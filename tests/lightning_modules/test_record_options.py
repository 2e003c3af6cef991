"""The options of the speed record's recipe: a summed loss, named groups, a linear decay, six views."""

import functools

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier
from lightning_modules.linear_decay import LinearDecay
from lightning_modules.named_groups import named_groups
from lightning_modules.optimization import build_optimizer
from lightning_modules.six_views import six_views

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False,
}  # fmt: skip


def test_six_views_are_those_of_the_paper():
    torch.manual_seed(0)
    images, network = torch.randn(3, 2, 6, 5), nn.Sequential(nn.Flatten(), nn.Linear(60, 4), nn.Tanh())
    rows, columns = [1, *range(6), 4], [1, *range(5), 3]  # a border of one pixel, by reflection
    padded = images[:, :, rows][:, :, :, columns]

    def mirrored(view):
        return 0.5 * network(view) + 0.5 * network(torch.flip(view, [3]))

    shifted = [mirrored(padded[:, :, 0:6, 0:5]), mirrored(padded[:, :, 2:8, 2:7])]
    expected = 0.5 * mirrored(images) + 0.5 * (shifted[0] + shifted[1]) / 2
    torch.testing.assert_close(six_views(network, images, network(images)), expected)


def test_a_summed_loss_six_views_and_rates_in_a_training():
    data = DigitsDataModule(batch_size=16, train_size=64, val_size=0, seed=0)
    rates = []

    class Recorder(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            self.gradient = pl_module.backbone.head.weight.grad.clone()

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.start = {name: value.clone() for name, value in pl_module.backbone.state_dict().items()}
            self.batch = batch

    recorder = Recorder()
    model = ImageClassifier(
        "MLP", image_shape=(1, 8, 8), loss_reduction="sum", label_smoothing=0.2, test_time_augmentation=True,
        optimizer=functools.partial(torch.optim.SGD, lr=0.001), lr_scheduler=LinearDecay,
        parameter_groups=[{"match": "head", "lr": 0.01, "decay_share": 0.5}],
    )  # fmt: skip
    trainer = pl.Trainer(max_epochs=1, callbacks=[recorder], **QUIET)
    trainer.fit(model, data)
    torch.testing.assert_close(
        torch.tensor(rates), torch.tensor([[0.00075, 0.005], [0.0005, 0.0], [0.00025, 0.0], [0.0, 0.0]])
    )
    images, labels = recorder.batch
    network = ImageClassifier("MLP", image_shape=(1, 8, 8)).backbone
    network.load_state_dict(recorder.start)
    log_probabilities = network(images).log_softmax(1)
    expected = -(0.8 * log_probabilities[torch.arange(16), labels] + 0.2 * log_probabilities.mean(1)).sum()
    expected.backward()
    torch.testing.assert_close(recorder.gradient, network.head.weight.grad)
    assert 1.5 < trainer.callback_metrics["train/loss"] < 3.5  # of an example
    model.eval()
    (metrics,) = trainer.test(model, data, verbose=False)
    images, labels = next(iter(data.test_dataloader()))
    with torch.no_grad():
        logits = six_views(model, images, model(images))
    assert len(labels) == len(data.part_indices("test"))
    assert metrics["test/accuracy_tta"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert metrics["test/nll_tta"] == pytest.approx(F.cross_entropy(logits, labels).item())
    assert metrics["test/nll"] == pytest.approx(F.cross_entropy(model(images), labels).item())


def test_named_groups_come_after_the_rest():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    wanted = [{"match": "^1", "lr": 0.5}, {"match": "bias", "momentum": 0.9}]
    optimizer = build_optimizer(functools.partial(torch.optim.SGD, lr=0.1), network, False, 0.2, wanted)
    groups = [([tuple(p.shape) for p in group["params"]], group["lr"]) for group in optimizer.param_groups]
    assert groups == [([(3, 2)], 0.2), ([(2, 3), (2,)], 0.5), ([(3,)], 0.2)]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([{"match": "hea", "lr": 1.0}], "'hea' matches none of the parameters that are left: weight, bias"),
        ([{"match": ""}, {"match": "bias"}], "'bias' matches none of the parameters that are left: none"),
        ([{"lr": 1.0}], "each needs match, a regular expression of names, and options, found {'lr': 1.0}"),
        ([{"match": "("}], "is no regular expression: missing"),
    ],
)
def test_bad_groups(wanted, message):
    with pytest.raises(ValueError, match=f"^parameter_groups: .*{message}"):
        named_groups(nn.Linear(2, 1), wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_reduction": "none"}, "loss_reduction must be mean or sum, found 'none'"),
        (
            {"test_time_augmentation": True, "image_shape": (4,), "backbone": "MLP"},
            "test_time_augmentation needs images",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        ImageClassifier(**options)


def test_linear_decay_refuses():
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "decay_share": 1.5}], lr=0.1)
    with pytest.raises(ValueError, match=r"decay_share must be in .*found 1\.5"):
        LinearDecay(optimizer, total=3)
    with pytest.raises(ValueError, match="needs the number of steps"):
        LinearDecay(optimizer)
