"""A network is compiled once for training and once for evaluation, and never in the middle of a run."""

import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from lightning_modules.compiling import Compiled


def test_only_the_first_kind_of_batch_is_compiled_for(monkeypatch):
    counter, compiler = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **options: compiler(network, backend=counter, **options))
    network = nn.Linear(3, 2)
    compiled = Compiled(network)
    for size in (4, 4, 3, 4, 1):
        assert compiled(torch.ones(size, 3)).equal(network(torch.ones(size, 3)))
    assert counter.frame_count == 1
    network.eval()
    with torch.no_grad():
        for size in (8, 8, 5):
            assert compiled(torch.ones(size, 3)).shape == (size, 2)
    with torch.inference_mode():
        compiled(torch.ones(8, 3))
    network.train()
    compiled(torch.ones(4, 3))
    assert counter.frame_count == 2
