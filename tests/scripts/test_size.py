"""The size of a network in results.json, counted by hand."""

import pytest
import torch
from torch import Tensor, nn

from _train.size import size
from lightning_modules import ImageClassifier


class Attends(nn.Module):
    """Refuses one example."""

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of two examples and more."""
        if len(images) == 1:
            raise RuntimeError("one example has no neighbours")
        return torch.zeros(len(images), 3)


@pytest.mark.parametrize("is_training", [False, True])
def test_two_layers(is_training: bool) -> None:
    """Two matrix products, whose sums and products both count; the mode stays."""
    model = ImageClassifier("TwoLayerNet", num_classes=3, image_shape=(1, 4, 4)).train(is_training)
    hidden = next(model.parameters()).shape[0]
    assert size(model) == {"parameters": hidden * 17 + 3 * (hidden + 1), "flops": 2 * hidden * (16 + 3)}
    assert model.training is is_training


def test_a_convolution() -> None:
    """A filter of 3 x 3 at each of the positions that padding leaves."""
    layers = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 4, 3))
    model = ImageClassifier(layers, num_classes=3, image_shape=(2, 6, 6))
    assert size(model)["flops"] == 2 * (5 * 16 * 2 * 9 + 80 * 3)


def test_a_network_that_refuses_one_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The run ends all the same."""
    model = ImageClassifier(Attends(), num_classes=3, image_shape=(1, 4, 4))
    assert size(model) == {"parameters": 0}
    assert "warning: the network's operations are not counted: RuntimeError: one example" in capsys.readouterr().err
