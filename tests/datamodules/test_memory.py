"""The set is in memory once, as bytes; measured in a separate process."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import gc, sys
import numpy as np, torch
import pytorch_lightning
from datamodules import CIFAR10DataModule

def anonymous():
    gc.collect()
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024

class Fake:
    # Like torchvision's class after reading, with data [N, H, W, C].
    def __init__(self, root, train):
        count = 50_000 if train else 10_000
        generator = np.random.default_rng(0)
        self.data = generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8).transpose(0, 2, 3, 1)
        self.targets = [i % 10 for i in range(count)]

CIFAR10DataModule.dataset = Fake

def use(data):
    data.setup("fit")
    loader = data.train_dataloader()
    for _ in range(2):
        for _, batch in zip(range(20), loader):
            pass
    for batch in data.val_dataloader():
        pass
    return loader

small = CIFAR10DataModule(crop_padding=4, flip="random", cutout=8)
torch.set_num_threads(1)
warm = torch.zeros(4_000_000).add(1).float()  # the allocator's and the thread pool's own memory
del warm
base = anonymous()
keep = use(small)
print((anonymous() - base) / (50_000 * 3 * 32 * 32))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_at_most_1_6_times_the_raw_bytes():
    output = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert 1.0 <= float(output) <= 1.6
