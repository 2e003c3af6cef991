"""SAM over two processes against the twin, and every optimizer under FSDP2 against one process."""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from lightning_modules import ImageClassifier
from optim.reference import SlowSAM, perturbation
from workers import two_pass_ranks as ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict[str, Any]]:
    """What both processes ended with."""
    folder, root = tmp_path_factory.mktemp("ranks"), Path(__file__).parents[2]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(root), str(root / "tests")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(root / "tests" / "workers" / "two_pass_ranks.py")]
    processes = [
        subprocess.Popen([*command, str(rank), str(port), str(folder)], env=environment, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=180)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def twin(sync: bool, broken: bool = False, every: int = 1) -> list[Tensor]:
    """Two epochs of the slow twin, whose processes climb together or each by itself, in every `every`-th step."""
    model = ranks.network(ranks.CLASSES, ranks.SHAPE, None).double()
    names = [name for name, _ in model.named_parameters()]

    def loss(weights: Any, window: Any) -> Tensor:
        state = dict(zip(names, weights, strict=True))
        return sum(F.cross_entropy(functional_call(model, state, x), y) for x, y in window) / len(window)

    slow = SlowSAM(list(model.parameters()), lambda w: torch.zeros(()), lr=0.2, rho=0.3)
    parts = [[batches[i : i + 2] for i in (0, 2, 4)] for batches in (list(ranks.Batches(rank)) for rank in (0, 1))]
    for step, windows in enumerate(2 * list(zip(*parts, strict=True))):
        if broken and windows[0] is parts[0][1]:
            continue
        grads = []
        for window in windows:
            slow.loss = functools.partial(lambda w, window: loss(w, window), window=window)
            grads.append(slow.gradient(slow.weights)[1])
        if sync:
            grads = 2 * [[(a + b) / 2 for a, b in zip(*grads, strict=True)]]
        descents = []
        for window, grad in zip(windows, grads, strict=True):
            epsilon = perturbation(slow.weights, grad, slow.rho if step % every == 0 else 0.0, None)
            slow.loss = functools.partial(lambda w, window: loss(w, window), window=window)
            descents.append(slow.gradient([w + e for w, e in zip(slow.weights, epsilon, strict=True)])[1])
        slow.descend([(a + b) / 2 for a, b in zip(*descents, strict=True)])
    return slow.weights


@pytest.mark.slow
@pytest.mark.parametrize("sync", [False, True])
def test_ddp_climbs_apart_or_together(results: list[dict[str, Any]], sync: bool) -> None:
    first, second = (result[f"ddp {sync}"] for result in results)
    assert all(map(torch.equal, first, second))
    torch.testing.assert_close(first, twin(sync), rtol=1e-9, atol=1e-12)
    for result in results:
        torch.testing.assert_close(result[f"own {sync}"], first, rtol=0, atol=0)


@pytest.mark.slow
def test_ddp_averages_the_gradient_of_a_step_that_is_not_perturbed(results: list[dict[str, Any]]) -> None:
    assert all(map(torch.equal, results[0]["every"], results[1]["every"]))
    torch.testing.assert_close(results[0]["every"], twin(False, every=2), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_all_processes_skip_a_step_that_one_cannot_take(results: list[dict[str, Any]]) -> None:
    first, second = (result["broken"] for result in results)
    assert all(map(torch.equal, first, second))
    assert [result["skipped"] for result in results] == [2, 2]
    torch.testing.assert_close(first, twin(False, broken=True), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LAMB", "COCOB", "SAM", "ASAM"])
def test_fsdp2_ends_where_one_process_does(results: list[dict[str, Any]], name: str) -> None:
    whole, _ = ranks.train(ImageClassifier, ranks.factory(name), "auto", ranks.Batches(None))
    for result in results:
        torch.testing.assert_close(result[f"fsdp2 {name}"], whole, rtol=1e-9, atol=1e-12)
