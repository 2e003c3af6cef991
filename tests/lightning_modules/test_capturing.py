"""Captured steps are the same steps: on a CPU, with a stand-in for torch's capture that has its static memory."""

import copy
import functools
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_modules import ImageClassifier, capturing
from lightning_modules.capturing import Captured
from lightning_modules.training_loop import use_lean_steps
from optim import SAM, Muon
from reference import graphs


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Capture on the CPU; the list of the batch sizes that have been captured."""
    sizes: list[int] = []

    def make(module: nn.Module, sample_args: tuple[Tensor, ...], allow_unused_input: bool) -> nn.Module:
        sizes.append(len(sample_args[0]))
        return graphs.make_graphed_callables(module, sample_args, allow_unused_input=allow_unused_input)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    monkeypatch.setattr(capturing, "DEVICES", {"cpu"})
    return sizes


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    )


class Keeping(pl.Callback):
    """Keeps each step's loss and logits, and the norm of the gradients, as users do."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []

    def on_after_backward(self, trainer: Any, module: pl.LightningModule) -> None:
        self.norms.append(torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]))

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"])


def trained(cuda_graph: Any, options: dict[str, Any], of_trainer: dict[str, Any], lean: bool = True) -> Any:
    pl.seed_everything(0)
    model = ImageClassifier(small_network(), 3, (1, 8, 8), cuda_graph=cuda_graph, **options)
    generator = torch.Generator().manual_seed(1)
    data = [(torch.randn(1, 8, 8, generator=generator), i % 3) for i in range(7 * 4 + 2)]
    keeping = Keeping()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[keeping], **of_trainer,
    )  # fmt: skip
    if lean:
        use_lean_steps(trainer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, DataLoader(data, 4), DataLoader(data, 4))
    values = dict(trainer.callback_metrics)
    return model.state_dict(), values, torch.stack(keeping.losses), keeping.norms


SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "SGD": ({"optimizer": SGD}, {}),
    "the default, a schedule": ({}, {}),
    "gradients set to zero": ({"optimizer": lambda params: ZeroGrad(params, lr=0.05)}, {}),
    "SAM": ({"optimizer": functools.partial(SAM, base_optimizer=SGD)}, {}),
    "SAM, accumulated": ({"optimizer": functools.partial(SAM, base_optimizer=SGD)}, {"accumulate_grad_batches": 3}),
    "LBFGS": ({"optimizer": functools.partial(torch.optim.LBFGS, max_iter=3)}, {}),
    "Muon, averaged": ({"optimizer": Muon, "ema_decay": 0.5}, {}),
    "accumulated": ({"optimizer": SGD}, {"accumulate_grad_batches": 3}),
    "clipped, penalties": ({"optimizer": SGD, "l1": 1e-3, "l2": 1e-3}, {"gradient_clip_val": 0.1}),
    "bf16-mixed": ({"optimizer": SGD}, {"precision": "bf16-mixed"}),
    "bf16-true": ({"optimizer": SGD}, {"precision": "bf16-true"}),
}


class ZeroGrad(torch.optim.SGD):
    """Keeps the tensors of the gradients."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none=False)


@pytest.mark.parametrize(("options", "of_trainer"), CASES.values(), ids=CASES)
def test_the_steps_are_those_of_an_eager_training(made, options: dict[str, Any], of_trainer: dict[str, Any]) -> None:
    expected = trained(False, options, of_trainer)
    assert made == []
    found = trained("auto", options, of_trainer)
    assert made == [4]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_lightnings_own_loop_is_captured_too(made) -> None:
    found, expected = (trained(graph, {"optimizer": SGD}, {}, lean=False) for graph in (True, False))
    assert made == [4]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_compiled_network_is_captured(made, monkeypatch) -> None:
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **options: compiler(network, backend="eager", **options))
    expected = trained(False, {"optimizer": SGD, "compile": True}, {})
    torch.testing.assert_close(trained("auto", {"optimizer": SGD, "compile": True}, {}), expected, rtol=0, atol=0)
    assert made == [4]


def test_on_a_cpu_nothing_is_captured_and_true_is_refused() -> None:
    _, _, losses, _ = trained("auto", {"optimizer": SGD}, {})
    assert torch.isfinite(losses).all()
    with pytest.raises(ValueError, match=r"cuda_graph=True needs one CUDA device, found the device cpu") as caught:
        trained(True, {"optimizer": SGD}, {})
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cuda_graph must be True, False or 'auto', found 'yes'"):
        ImageClassifier("MLP", cuda_graph="yes")  # type: ignore[arg-type]


def test_of_a_training_without_one_device_it_is_refused(made) -> None:
    with pytest.raises(ValueError, match="cuda_graph=True needs one CUDA device, found the strategy DDPStrategy"):
        capturing.captured(small_network(), torch.sin, True, pl.Trainer(accelerator="cpu", strategy="ddp", devices=1))


def step(network: Captured, images: Tensor) -> Tensor:
    output: Tensor = network(images)
    network.network.zero_grad()
    output.square().sum().backward()
    return output.detach()


def test_what_is_called_as_it_is(made) -> None:
    small = small_network()
    network = Captured(small, small)
    images = torch.randn(4, 1, 8, 8)
    replays: list[int] = []
    step(network, images)
    assert made == []
    step(network, images)
    assert made == [4]
    assert network._graphed is not None
    graphed = network._graphed

    def counted(images: Tensor) -> Any:
        replays.append(len(images))
        return graphed(images)

    network._graphed = counted
    calls: list[tuple[Callable[[Tensor], Any], bool]] = [
        (lambda batch: step(network, batch), True),
        (lambda batch: step(network, batch[:2]), False),
        (lambda batch: step(network, batch.contiguous(memory_format=torch.channels_last)), True),
        (torch.no_grad()(network), False),
        (lambda batch: network(batch.clone().requires_grad_()), False),
        (lambda batch: step(network, batch.double().float()), True),
        (lambda batch: (small.eval(), network(batch), small.train()), False),
    ]
    for call, replayed in calls:
        replays.clear()
        call(images)
        assert bool(replays) is replayed
    handle = small[2].register_forward_hook(lambda *_: None)
    network._unfinished = None
    replays.clear()
    with pytest.warns(UserWarning, match=r"has no effect, .* captured \(ReLU 2 has forward hooks\)$"):
        network(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(images)  # it has been told
    handle.remove()
    assert not replays
    network(images)
    assert replays
    assert made == [4]


def test_hooks_are_refused_if_it_must_be_captured(made) -> None:
    small = small_network()
    network = Captured(small, small, required=True)
    step(network, torch.randn(4, 1, 8, 8))
    small[0].register_forward_pre_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"=True: .*Conv2d 0 has forward pre hooks\): set it to auto") as error:
        step(network, torch.randn(4, 1, 8, 8))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("since_2_12", [True, False])
def test_a_capture_lets_other_threads_use_the_device(since_2_12: bool, monkeypatch) -> None:
    modes: list[Any] = []

    def graph(pool: Any = None, capture_error_mode: str = "global") -> str:
        return capture_error_mode

    def make(module: nn.Module, samples: Any, allow_unused_input: bool) -> nn.Module:
        modes.append(torch.cuda.graph())  # type: ignore[call-arg]
        return graphs.make_graphed_callables(module, samples, allow_unused_input=allow_unused_input)

    def make_since(module: nn.Module, samples: Any, allow_unused_input: bool, capture_error_mode: str) -> nn.Module:
        modes.append(capture_error_mode)
        return graphs.make_graphed_callables(module, samples, allow_unused_input=allow_unused_input)

    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make_since if since_2_12 else make)
    monkeypatch.setattr(capturing, "DEVICES", {"cpu"})
    network = small_network()
    recorded = Captured(network, network)
    for _ in range(2):
        recorded(torch.randn(4, 1, 8, 8))
    assert modes == ["thread_local"]
    assert torch.cuda.graph is graph


def test_two_calls_before_a_backward_pass_have_their_own_gradients(made) -> None:
    eager, other = small_network(), small_network()
    eager[1], other[1] = nn.Identity(), nn.Identity()  # whose statistics no stand-in can change meanwhile
    network = Captured(other, other)
    first, second = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)
    for _ in range(4):
        for module, call in ((eager, eager), (other, network)):
            module.zero_grad()
            (call(first) * call(second)).sum().backward()
    assert made == [4]
    for p, q in zip(eager.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_an_output_that_is_kept_keeps_its_values(made) -> None:
    other = small_network()
    network = Captured(other, other)
    images = [torch.randn(4, 1, 8, 8) for _ in range(5)]
    kept = [step(network, batch) for batch in images]
    expected = [small_network()(batch) for batch in images]
    torch.testing.assert_close(kept, [output.detach() for output in expected])
    kept[-1].mul_(2)  # it is the caller's


def test_parts_that_are_unfrozen_or_moved_are_captured_again(made) -> None:
    other = small_network()
    other[0].requires_grad_(False)
    network = Captured(other, other)
    images = torch.randn(4, 1, 8, 8)
    for _ in range(3):
        step(network, images)
    assert made == [4]
    other[0].requires_grad_(True)
    for _ in range(12):
        step(network, images)
        assert other[0].weight.grad is not None
    assert made == [4, 4]
    other[1].eval()
    before = other[1].running_mean.clone()
    step(network, images)
    assert torch.equal(other[1].running_mean, before)
    other.to(torch.float64).to(torch.float32)
    assert network(images).equal(other(images))
    with torch.no_grad():
        other[4].weight.data = torch.zeros_like(other[4].weight)
    assert network(images).equal(other[4].bias.expand(4, 3))
    other[2] = nn.Tanh()
    other[4].reset_parameters()
    step(network, images)
    assert network(images).equal(other(images))


def test_short_batches_that_come_twice_do_not_push_the_graphs_out(made) -> None:
    other = small_network()
    network = Captured(other, other)
    for size in [4, 4, 4, 2, 2, 4, 4, 2, 2, 4, 4]:
        step(network, torch.randn(size, 1, 8, 8))
    assert made == [4]


def test_a_copy_of_a_classifier_is_not_captured(made) -> None:
    model = ImageClassifier(small_network(), 3, (1, 8, 8))
    model._captured = Captured(model.backbone, model.backbone)
    assert copy.deepcopy(model)._captured is None


class Obstacle(nn.Module):
    """A network that changes something in Python."""

    capturing = False

    def __init__(self, change: Callable[["Obstacle"], Any]) -> None:
        super().__init__()
        self.layer, self.change = nn.Linear(2, 2), change
        self.calls, self.seen, self.last = 0, [0], None

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        self.change(self)
        self.last_input = images.shape  # not watched: no number
        return self.layer(images)


def add(network: Obstacle) -> None:
    network.calls += 1


OBSTACLES: dict[str, tuple[Callable[[Obstacle], Any], str]] = {
    "a counter": (add, "changes calls"),
    "a list": (lambda network: network.seen.append(1), "changes seen"),
    "features": (lambda network: setattr(network, "last", torch.ones(2)), "changes last"),
    "Python's random numbers": (lambda _: random.random(), "changes random numbers on the CPU"),
    "random numbers on the CPU": (lambda _: torch.rand(1), "changes random numbers on the CPU"),
    "what CUDA refuses": (lambda _: _raises_while_capturing(), "operation not permitted"),
}


def _raises_while_capturing() -> None:
    if Obstacle.capturing:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more lines")


@pytest.mark.parametrize(("change", "reason"), OBSTACLES.values(), ids=OBSTACLES)
def test_what_a_replay_would_not_repeat_is_refused(made, monkeypatch, change: Any, reason: str) -> None:
    make = torch.cuda.make_graphed_callables

    def as_on_cuda(*args: Any, allow_unused_input: bool) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(Obstacle, "capturing", True)
            return make(*args, allow_unused_input=allow_unused_input)

    def states() -> Any:
        return random.getstate(), torch.get_rng_state().tolist()

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", as_on_cuda)
    torch.manual_seed(0)
    random.seed(0)
    plain, images = Obstacle(change), torch.ones(4, 2)
    for _ in range(4):
        plain(images)
    expected = plain.calls, plain.seen, states()
    torch.manual_seed(0)
    random.seed(0)
    tried = Obstacle(change)
    network = Captured(tried, tried)
    step(network, images)
    with pytest.warns(UserWarning, match=rf"cuda_graph='auto' has no effect, the network cannot .*{reason}") as caught:
        step(network, images)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    step(network, images)
    step(network, images)
    assert (tried.calls, tried.seen, states()) == expected  # the attempt has left no trace
    tried = Obstacle(change)
    strict = Captured(tried, tried, required=True)
    step(strict, images)
    with pytest.raises(ValueError, match=rf"cuda_graph=True: .*{reason}.* set it to auto or false") as error:
        step(strict, images)
    assert "\n" not in str(error.value)
