"""A network whose forward and backward pass are recorded in CUDA graphs, and replayed by one launch each.

For a small network the launches of a step take the host longer than the kernels take the GPU. The rest of the step
(loss, metrics, clipping, optimizer) runs as usual.
"""

import functools
import inspect
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from .restoring import unchanged

DEVICES = {"cuda"}
"""Device types whose work can be captured."""
_AT_FIRST, _LATER = 2, 10  # equal batches in a row, after which they are captured
# What registers a hook in a module: a replay would not call it.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def captured(
    network: nn.Module, call: Callable[[Tensor], Any], wanted: bool | str, trainer: Trainer
) -> "Captured | None":
    """Return the network of a training whose steps are captured, or None.

    Args:
        network: The network.
        call: What is called in its place, such as its compiled form.
        wanted: True, False, or `auto`: wherever it can be.
        trainer: The Trainer.

    Raises:
        ValueError: If it is wanted and cannot be.
    """
    strategy, reason = trainer.strategy, None
    if strategy.root_device.type not in DEVICES:
        reason = f"found the device {strategy.root_device}"
    elif not isinstance(strategy, SingleDeviceStrategy):
        reason = f"found the strategy {type(strategy).__name__}"
    if wanted is True and reason is not None:
        raise ValueError(f"cuda_graph=True needs one CUDA device, {reason}: set it to auto or false")
    return None if wanted is False or reason is not None else Captured(network, call, required=wanted is True)


class Captured:
    """Replays a network for batches like those that came several times in a row, and calls it as it is for others.

    Called as it is: in evaluation, without gradients, for batches of another shape, while a module has hooks, and again
    before the backward pass of the last call. Of hooks it warns once, as of a network that cannot be captured. After a
    change of the weights' place in memory, of `requires_grad` or of the training mode of a part, the graphs are
    captured again.

    Args:
        network: The network; neither its state nor its methods are changed.
        call: What is called in its place, such as its compiled form.
        required: Raise an error where the network cannot be captured, instead of a warning.

    >>> network = Captured(nn.Linear(2, 1), torch.sin)
    >>> network(torch.zeros(1)), network.captures  # on the CPU
    (tensor([0.]), 0)
    """

    captures = 0
    """Number of captures so far."""

    def __init__(self, network: nn.Module, call: Callable[[Tensor], Any], required: bool = False) -> None:
        self.network, self.call, self.required = network, call, required
        self._parts = _Parts(network)
        self._graphed: Callable[[Tensor], Any] | None = None
        self._kind: Any = None  # of the batches and the network that are captured
        self._last: Any = None
        self._repeats = 0
        self._refused = self._told = False
        self._unfinished: weakref.ref[Any] | None = None  # the forward pass that has had no backward pass
        self._own: dict[Tensor, Tensor] = {}  # gradients that are not in the graphs' memory

    def __call__(self, images: Tensor) -> Any:
        """Return what the network returns."""
        if self._refused or not self._is_training(images):
            return self.call(images)
        state = self._parts.state()
        if state is None:
            self._tell(self._parts.obstacle())
            return self.call(images)
        device = images.device.type
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        kind = images.shape, images.dtype, images.device, autocast, state
        self._repeats = self._repeats + 1 if kind == self._last else 1
        self._last = kind
        if kind != self._kind:
            enough = self._repeats >= (_AT_FIRST if self._graphed is None else _LATER)
            if not (enough and self._capture(images, kind)):
                return self.call(images)
        elif self._unfinished is not None and self._unfinished() is not None:
            return self.call(images)  # the replay would overwrite what that backward pass needs
        assert self._graphed is not None
        return self._followed(self._graphed(images))

    def _is_training(self, images: Tensor) -> bool:
        return (
            images.device.type in DEVICES
            and self.network.training
            and torch.is_grad_enabled()
            and not images.requires_grad
            and not torch.compiler.is_compiling()
            and not (images.is_cuda and torch.cuda.is_current_stream_capturing())
        )

    def _followed(self, output: Any) -> Any:
        """Return a copy of the output, which the next replay overwrites, and wait for its backward pass."""
        if not isinstance(output, Tensor):
            return output
        if output.grad_fn is not None:
            self._unfinished = weakref.ref(output.grad_fn)
            output.register_hook(self._before_backward)
        return output.clone()

    def _before_backward(self, _: Tensor) -> None:
        """Move gradients that are to be added to out of the graphs' memory, which the backward pass overwrites."""
        self._unfinished = None
        self._own = {p: g for p, g in self._own.items() if p.grad is g}
        for p in self.network.parameters():
            if p.grad is not None and p not in self._own:
                p.grad = self._own[p] = p.grad.clone()

    def _tell(self, reason: str, error: Exception | None = None) -> None:
        """Warn once that the network is not captured; raise an error if it must be."""
        reason = f"the network cannot be captured ({reason})"
        if self.required:
            raise ValueError(f"cuda_graph=True: {reason}: set it to auto or false") from error
        if not self._told:
            warnings.warn(f"cuda_graph='auto' has no effect, {reason}", stacklevel=3)
        self._told = True

    def _capture(self, images: Tensor, kind: Any) -> bool:
        self._graphed = self._kind = self._unfinished = None  # frees the memory of the last graphs
        try:
            with unchanged(self.network, images.device):
                self._graphed = _graphed(self.network, self.call, images)
        except Exception as error:  # each of a network's obstacles raises its own error
            self._graphed, self._refused = None, True
            self._tell(str(error).strip().splitlines()[0][:200], error)
            return False
        self._kind, self._own, self.captures = kind, {}, self.captures + 1
        return True


class _Parts:
    """The modules and tensors of a network, looked at before each replay: in lists, as that takes the host's time."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._find()

    def _find(self) -> None:
        self._modules = [vars(module) for module in self._network.modules()]
        self._is_plain = all("_parameters" in own for own in self._modules)  # TorchScript's are not
        if self._is_plain:
            self._children = self._found()
            lists = [tensors for own in self._modules for tensors in (own["_parameters"], own["_buffers"])]
            self._tensors = [tensors for tensors in lists if tensors]

    def _found(self) -> list[nn.Module]:
        return [child for own in self._modules for child in own["_modules"].values()]

    def obstacle(self) -> str:
        """Return what a replay would leave out, where `state` is None."""
        for name, module in self._network.named_modules():
            kinds = [kind.strip("_") for kind in _HOOKS if vars(module).get(kind)]
            if kinds:
                return f"{type(module).__name__} {name or 'itself'} has {kinds[0].replace('_', ' ')}".rstrip()
        return "it is TorchScript"

    def state(self) -> Any:
        """Return where and how the network's tensors are, and the mode of its modules; None if a module has hooks."""
        if not self._is_plain or any(own.get(name) for own in self._modules for name in _HOOKS):
            return None
        if self._found() != self._children:
            self._find()
        tensors = [tensor for tensors in self._tensors for tensor in tensors.values() if tensor is not None]
        places = [tensor.data_ptr() for tensor in tensors]
        return places, [tensor.requires_grad for tensor in tensors], [own["training"] for own in self._modules]


class _Held(nn.Module):
    """Keeps the network's own `forward`: torch replaces that of the module that it captures."""

    def __init__(self, network: nn.Module, call: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self._calls = network, (call,)  # in a tuple, since it may be the network

    def forward(self, images: Tensor) -> Any:
        """Return what the network returns."""
        return self._calls[0](images)


def _graphed(network: nn.Module, call: Callable[[Tensor], Any], images: Tensor) -> Callable[[Tensor], Any]:
    """Capture the network; its buffers and the state of random numbers change."""
    make: Any = torch.cuda.make_graphed_callables
    options: dict[str, Any] = {"allow_unused_input": True}
    if "capture_error_mode" in inspect.signature(make).parameters:  # since torch 2.12
        options["capture_error_mode"] = "thread_local"  # a loader's thread may pin memory meanwhile
    kind = images.device.type
    # Without autocast's cache, whose casts of the weights would be captured as results of an earlier step.
    with (
        torch.autocast(
            kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
        ),
        nullcontext() if options.get("capture_error_mode") else _of_this_thread(),
    ):
        graphed: Callable[[Tensor], Any] = make(_Held(network, call), (images.clone(),), **options)
    return graphed


@contextmanager
def _of_this_thread() -> Iterator[None]:
    """Give torch's captures the mode `thread_local`, where `make_graphed_callables` cannot: before torch 2.12."""
    own: Any = torch.cuda.graph
    # The one place where that function takes the mode from; until the capture has ended.
    torch.cuda.graph = functools.partial(own, capture_error_mode="thread_local")  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        torch.cuda.graph = own  # type: ignore[misc]  # as it was
