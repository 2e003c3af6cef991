"""The last, shorter window of an epoch steps along the mean over its own batches, in either loop."""

import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.optim import LBFGS, SGD, AdamW
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_modules import ImageClassifier
from lightning_modules.training_loop import use_lean_steps
from optim import SAM

SIZE = 14  # of the examples: batches of 4, the last one of 2
X = torch.randn(SIZE, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(SIZE) % 2
OPTIMIZERS = {
    "SGD": partial(SGD, lr=0.5),
    "AdamW": partial(AdamW, lr=0.1),
    "SAM": partial(SAM, base_optimizer=SGD, lr=0.5, rho=0.05),
    "LBFGS": partial(LBFGS, lr=0.1, max_iter=2),
}


class Stream(IterableDataset):
    """Examples without a length."""

    def __iter__(self):
        return iter(zip(X, Y, strict=True))


def by_hand(model, make, every, epochs, clip=None):
    """Train with means of the batches' means."""
    net = copy.deepcopy(model.backbone)
    optimizer, batches = make(net.parameters()), list(zip(X.split(4), Y.split(4), strict=True))
    for window in epochs * [batches[i : i + every] for i in range(0, len(batches), every)]:

        def closure(window=window):
            optimizer.zero_grad()
            loss = torch.stack([torch.nn.functional.cross_entropy(net(x), y) for x, y in window]).mean()
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            return loss

        optimizer.step(closure)
    return list(net.parameters())


def fit(model, every, lean=False, data=None, **options):
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accumulate_grad_batches=every, **options,
    )  # fmt: skip
    if lean:
        use_lean_steps(trainer)
    trainer.fit(model, DataLoader(data or TensorDataset(X, Y), batch_size=4))
    return list(model.backbone.parameters())


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("every", [3, 9])  # windows of 3 and 1 batches, and one of 4
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_short_window_is_a_mean(optimizer, every, lean):
    torch.manual_seed(0)
    model = ImageClassifier("TwoLayerNet", 2, (4,), optimizer=OPTIMIZERS[optimizer])
    twin = by_hand(model, OPTIMIZERS[optimizer], every, 3)
    torch.testing.assert_close(fit(model, every, lean, max_epochs=3), twin, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"data": Stream()},
        {"gradient_clip_val": 0.05},
        {"precision": "bf16-mixed"},
        {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=64.0))]},
    ],
    ids=["no length", "clipped", "bf16", "scaler"],
)
@pytest.mark.parametrize("name", ["SGD", "SAM"])
def test_under_other_options(name, options):
    torch.manual_seed(0)
    model = ImageClassifier("TwoLayerNet", 2, (4,), optimizer=OPTIMIZERS[name])
    if name == "SAM" and "gradient_clip_val" in options:
        pytest.skip("the second gradient alone is clipped, as test_two_pass shows")
    mixed = not {"precision", "plugins"}.isdisjoint(options)
    twin = by_hand(model, OPTIMIZERS[name], 3, 1, options.get("gradient_clip_val"))
    tolerance = {"rtol": 0.05, "atol": 0.02} if mixed else {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(fit(model, 3, max_epochs=1, **options), twin, **tolerance)
