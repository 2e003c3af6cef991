"""The CIFAR-10 speed record of October 2024 as a plain script: nothing of this project but the reading.

    python benchmarks/record_by_hand.py --data FOLDER            # class folders in train/ and test/, on a GPU
    python benchmarks/record_by_hand.py --data FOLDER --runs 10

Written from the figures of airbench94_muon (Keller Jordan; arXiv 2404.00498), as what `recipes/cifar10_fast.yaml` is
compared with. The clock holds whitening, augmentation, training and the test with six views; not reading, moving the
images to the device, building, or compilation, for which there is a run before the first one.
"""

import argparse
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPOCHS, BATCH, BIAS_EPOCHS = 8, 2000, 3
WIDTHS = (64, 256, 256)
BIAS_RATE, HEAD_RATE, MUON_RATE, DECAY = 0.053, 0.67, 0.24, 2e-6
ViewsOf = Callable[[Tensor], Tensor]


@dataclass
class Images:
    """Normalised images of 32 x 32 and their labels, on the device."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


class Record(nn.Module):
    """The network."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad = False
        groups, channels = [], 24
        for width in widths:
            groups.append(group(channels, width))
            channels = width
        self.groups = nn.Sequential(*groups)
        self.head = nn.Linear(channels, 10, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    def forward(self, images: Tensor, trains_bias: bool = False) -> Tensor:
        """Return the logits; the bias of the first layer gets a gradient only if asked for."""
        bias = self.whiten.bias if trains_bias or self.whiten.bias is None else self.whiten.bias.detach()
        features = self.groups(F.gelu(F.conv2d(images, self.whiten.weight, bias)))
        return self.head(F.max_pool2d(features, 3).flatten(1)) / self.head.in_features


def group(channels: int, width: int) -> nn.Module:
    """Return two convolutions, the first of which is followed by pooling."""
    layers: dict[str, nn.Module] = {}
    for name, inputs in (("1", channels), ("2", width)):
        convolution = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        nn.init.dirac_(convolution.weight.data[:inputs])
        layers[f"conv{name}"] = convolution
        if name == "1":
            layers["pool"] = nn.MaxPool2d(2)
        layers[f"norm{name}"] = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
        layers[f"norm{name}"].weight.requires_grad = False  # type: ignore[union-attr]
        layers[f"gelu{name}"] = nn.GELU()
    return nn.Sequential(OrderedDict(layers))


def new_network(device: str, dtype: torch.dtype, widths: tuple[int, ...] = WIDTHS) -> Record:
    """Return a network, its normalisation in float32."""
    network = Record(widths).to(device, dtype, memory_format=torch.channels_last)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.float()
    return network


def whiten(layer: nn.Conv2d, images: Tensor) -> None:
    """Set the first filters."""
    patches = F.unfold(images.float(), 2).transpose(1, 2).reshape(-1, 12)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + 5e-4).sqrt()).T.reshape(-1, 3, 2, 2)
    layer.weight.data.copy_(torch.cat([filters, -filters]))


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix [m, n], m <= n, after three steps of Newton and Schulz."""
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(3):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


class Muon:
    """The step of the filters."""

    def __init__(self, filters: list[Tensor], orthogonal: Callable[[Tensor], Tensor]) -> None:
        self.filters, self.buffers = filters, [torch.zeros_like(one) for one in filters]
        self.orthogonal = orthogonal

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take a step of momentum 0.6."""
        for weight, buffer in zip(self.filters, self.buffers, strict=True):
            gradient = weight.grad
            assert gradient is not None
            buffer.mul_(0.6).add_(gradient)
            update = gradient.add(buffer, alpha=0.6)
            weight.mul_(len(weight) ** 0.5 / weight.norm())
            weight.add_(self.orthogonal(update.reshape(len(weight), -1)).view_as(weight), alpha=-rate)


def windows(images: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Return of each image [C, H, W] the window that begins at its row `top` and column `left`, channels-last.

    One gather, whose indices are the sums of an image's offset and the places in a window; nothing waits.
    """
    places = torch.arange(size, device=images.device)
    image = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    rows, columns = (top.view(-1, 1) + places)[:, :, None], (left.view(-1, 1) + places)[:, None, :]
    return images.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2)


class Epochs:
    """Augments all images of an epoch: a shift of up to two pixels, and a mirror image in every other epoch."""

    def __init__(self, images: Tensor) -> None:
        flip = torch.rand(len(images), device=images.device) < 0.5
        self.padded = F.pad(torch.where(flip.view(-1, 1, 1, 1), images.flip(-1), images), (2, 2, 2, 2), "reflect")
        self.epoch = 0

    def next(self) -> Tensor:
        """Return the images of the next epoch."""
        top, left = torch.randint(5, (2, len(self.padded)), device=self.padded.device)
        result = windows(self.padded, top, left, 32)
        self.epoch += 1
        return result if self.epoch % 2 else result.flip(-1)


def six_views(network: ViewsOf, images: Tensor) -> Tensor:
    """Return the mean of the logits over six views."""

    def mirrored(view: Tensor) -> Tensor:
        return 0.5 * network(view) + 0.5 * network(view.flip(-1))

    padded = F.pad(images, (1, 1, 1, 1), "reflect")
    shifted = mirrored(padded[..., 0:32, 0:32]) + mirrored(padded[..., 2:34, 2:34])
    return 0.5 * mirrored(images) + 0.25 * shifted


class Program:
    """Trains and tests, again and again, with one network that is compiled once."""

    def __init__(
        self, images: Images, device: str, compile: bool, batch: int = BATCH, widths: tuple[int, ...] = WIDTHS
    ) -> None:
        self.images, self.device, self.batch, self.widths = images, device, batch, widths
        self.dtype = torch.float32 if device == "cpu" else torch.float16
        self.network = new_network(device, self.dtype, widths)
        self.call: Any = torch.compile(self.network, mode="max-autotune") if compile else self.network
        self.orthogonal: Any = torch.compile(orthogonal) if compile else orthogonal
        half = {"dtype": self.dtype, "memory_format": torch.channels_last}
        self.train, self.test = images.train.to(**half), images.test.to(**half)

    def run(self, seed: int) -> dict[str, float]:
        """Return the accuracy, with and without test-time augmentation, and the seconds of a run."""
        torch.manual_seed(seed)
        self.network.load_state_dict(new_network(self.device, self.dtype, self.widths).state_dict())
        for parameter in self.network.parameters():
            parameter.grad = None
        synchronize(self.device)
        began = time.perf_counter()
        whiten(self.network.whiten, self.train[:5000])
        self.fit()
        self.network.eval()
        with torch.no_grad():
            pairs = zip(self.test.split(self.batch), self.images.test_labels.split(self.batch), strict=True)
            right = [(six_views(self.call, x).argmax(1) == y).sum() for x, y in pairs]
        tta = float(torch.stack(right).sum()) / len(self.test)
        synchronize(self.device)
        seconds = time.perf_counter() - began
        with torch.no_grad():
            logits = torch.cat([self.call(x).clone() for x in self.test.split(self.batch)])
        plain = float((logits.argmax(1) == self.images.test_labels).double().mean())
        return {"accuracy": plain, "accuracy_tta": tta, "seconds": seconds}

    def fit(self) -> None:
        """Train."""
        network = self.network.train()
        named = [(name, one) for name, one in network.named_parameters() if one.requires_grad]
        norms = [one for name, one in named if "norm" in name]
        bias, head = network.whiten.bias, network.head.weight
        parts = [([bias], BIAS_RATE), (norms, BIAS_RATE), ([head], HEAD_RATE)]
        groups = [{"params": own, "lr": rate, "weight_decay": DECAY * self.batch / rate} for own, rate in parts]
        sgd = torch.optim.SGD(groups, momentum=0.85, nesterov=True, fused=self.device != "cpu")
        muon = Muon([one for name, one in named if "conv" in name], self.orthogonal)
        per_epoch = len(self.train) // self.batch
        total, bias_steps = EPOCHS * per_epoch, BIAS_EPOCHS * per_epoch
        epochs, step = Epochs(self.train), 0
        for _ in range(EPOCHS):
            images, order = epochs.next(), torch.randperm(len(self.train), device=self.device)
            for own in order[: per_epoch * self.batch].split(self.batch):
                trains_bias = step < bias_steps
                logits = self.call(images[own], trains_bias)
                labels = self.images.train_labels[own]
                F.cross_entropy(logits, labels, label_smoothing=0.2, reduction="sum").backward()
                if not trains_bias and bias is not None:
                    bias.grad = None
                shares = (1 - step / bias_steps if trains_bias else 0.0, 1 - step / total, 1 - step / total)
                for options, share, (_, rate) in zip(sgd.param_groups, shares, parts, strict=True):
                    options["lr"] = rate * share
                sgd.step()
                muon.step(MUON_RATE * (1 - step / total))
                network.zero_grad(set_to_none=True)
                step += 1


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        torch.cuda.synchronize()


def read(data: Any) -> Images:
    """Return the images of a data module of this project, which is set up for its device."""
    parts = [data.train_dataloader(), data.test_dataloader()]
    values = [one for part in parts for one in (part.first_images(10**9).float(), part.labels[part.indices])]
    return Images(*values)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Folder of images.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    words = parser.parse_args()
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # in place of this folder, with files of the packages' names
    from datamodules import ImageFolderDataModule

    data = ImageFolderDataModule(data_dir=words.data, image_size=32, val_size=0, device=words.device)
    data.setup()
    torch.backends.cudnn.benchmark = True
    program = Program(read(data), words.device, compile=words.device != "cpu")
    program.run(seed=0)
    for seed in range(1, words.runs + 1):
        print(seed, {name: round(value, 4) for name, value in program.run(seed).items()}, flush=True)


if __name__ == "__main__":
    main()
