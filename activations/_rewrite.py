"""Replace the functional calls in one module's forward by submodules."""

import importlib
import inspect
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

Make = Callable[[bool, bool], nn.Module]


class _OwnCalls(fx.Tracer):
    """Traces the operations of one forward only: every submodule stays a call."""

    def __init__(self) -> None:
        super().__init__()
        self.context = _context()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if _context() != self.context:
            raise ValueError("it computes under no_grad or autocast, which a traced graph would forget")
        return super().create_node(*args, **kwargs)


def rewrite_forward(module: nn.Module, functions: set[Callable[..., Any]], methods: set[str], make: Make) -> None:
    """Give `module` a class whose forward calls new submodules instead of `functions` and tensor `methods`.

    `make` is called with an in-place flag and the training mode for each submodule.
    """
    if type(module).__module__.startswith("torch.nn."):
        return
    sites: dict[bool, list[fx.Node]] = {}
    try:
        graphs = {mode: _trace(module, mode) for mode in (True, False)}
        sites = {mode: [n for n in graph.nodes if _is_site(n, functions, methods)] for mode, graph in graphs.items()}
        if any(sites.values()) and any(
            _source(_trace(module, mode)) != _source(graph) for mode, graph in graphs.items()
        ):
            raise ValueError("it computes something different each time")
    except Exception as error:  # a forward may do anything with the proxies
        _warn_untraceable(module, methods, any(sites.values()), error)
        return
    if not any(sites.values()):
        return
    longest = max(sites.values(), key=len)
    names = _free_names(module, len(longest))
    for name, node in zip(names, longest, strict=True):
        module.add_module(name, make(_in_place(node), module.training))
    for mode, graph in graphs.items():
        for name, node in zip(names, sites[mode], strict=False):
            _swap(graph, node, name)
    _change_class(module, graphs)


def _trace(module: nn.Module, training: bool) -> fx.Graph:
    """Return the graph of the forward in training or in evaluation, traced on a copy that shares the submodules.

    Raises:
        Exception: If the graph would not compute the same as the forward.
    """
    copy = type(module).__new__(type(module))
    copies = {name: value.copy() for name, value in vars(module).items() if isinstance(value, (dict, list, set))}
    vars(copy).update({**vars(module), **copies, "training": training})
    before = _contents(copy)
    with torch.random.fork_rng(devices=[]):
        graph = _OwnCalls().trace(copy)
    changed = {name for name, *_ in before ^ _contents(copy)}
    if changed:
        # A tensor made during tracing becomes an attribute, with fixed values on one device.
        names = sorted(name for name in changed if not name.startswith("_tensor_constant"))
        raise ValueError(f"it changes {', '.join(names)}" if names else "it makes tensors")
    graph.lint()
    return graph


def _contents(module: nn.Module) -> set[tuple[Any, ...]]:
    """Return (name, key, identity) of every attribute, every item of a container and every buffer."""
    held: set[tuple[Any, ...]] = {(name, None, id(value)) for name, value in vars(module).items()}
    for name, value in vars(module).items():
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, set)) else ()
        held |= {(key if name == "_buffers" else name, key, id(item)) for key, item in items}
    return held


def _context() -> tuple[bool, ...]:
    devices = ("cpu", "cuda")
    return (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *map(torch.is_autocast_enabled, devices))


def _warn_untraceable(module: nn.Module, methods: set[str], certain: bool, error: Exception) -> None:
    """Warn that functional calls remain, if the forward may contain any."""
    kinds = [kind for kind in type(module).__mro__ if not kind.__module__.startswith("torch.nn.")]
    codes = [getattr(member, "__code__", None) for kind in kinds for member in vars(kind).values()]
    mentioned = {name for code in codes if code is not None for name in code.co_names}
    suspects = methods & mentioned - module._modules.keys()
    if certain or suspects:
        calls = f" ({', '.join(sorted(suspects))})" if suspects else ""
        reason = str(error).partition("\n")[0] or type(error).__name__
        warnings.warn(
            f"{type(module).__qualname__} keeps its calls{calls}: torch.fx cannot trace its forward ({reason})",
            RuntimeWarning,
            stacklevel=4,
        )


def _is_site(node: fx.Node, functions: set[Callable[..., Any]], methods: set[str]) -> bool:
    if node.op == "call_function":
        return node.target in functions
    return node.op == "call_method" and node.target in methods


def _in_place(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.endswith("_") or node.kwargs.get("inplace") is True or (name == "relu" and True in node.args[1:])


def _free_names(module: nn.Module, count: int) -> list[str]:
    candidates = (f"activation_{i}" for i in range(count + len(module._modules) + len(vars(module))))
    return [name for name in candidates if not hasattr(module, name)][:count]


def _swap(graph: fx.Graph, node: fx.Node, name: str) -> None:
    """Call the submodule `name` instead of `node`."""
    source = node.args[0] if node.args else node.kwargs["input"]
    with graph.inserting_before(node):
        call = graph.call_module(name, (source,))
    node.replace_all_uses_with(call)
    if _in_place(node) and isinstance(source, fx.Node):
        # Later readers of the source see the activation, which must hold even if the new module is not in place.
        source.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call and call < user)
    graph.erase_node(node)


def _change_class(module: nn.Module, graphs: dict[bool, fx.Graph]) -> None:
    scope: dict[str, tuple[str, Any]] = {}
    for graph in graphs.values():
        graph.lint()
        # A Python module cannot be pickled: store its name.
        names = graph.python_code("self").globals
        scope |= {k: ("import", v.__name__) if inspect.ismodule(v) else ("", v) for k, v in names.items()}
    sources = {mode: _source(graph) for mode, graph in graphs.items()}
    module.__class__ = _subclass(type(module), _merge(sources[True], sources[False]), scope)


def _source(graph: fx.Graph) -> str:
    return graph.python_code("self").src


def _merge(training: str, evaluation: str) -> str:
    """Merge the two bodies into one forward that branches on `self.training`."""
    if training == evaluation:
        return training
    head, _, first = training.partition("def forward(")
    signature, _, first = first.partition("\n")
    second = evaluation.partition("def forward(")[2].partition("\n")[2]
    branches = (textwrap.indent(body, "    ") for body in (first, second))
    return f"{head}def forward({signature}\n    if self.training:\n{next(branches)}\n    else:\n{next(branches)}\n"


def _subclass(base: type[nn.Module], source: str, scope: dict[str, tuple[str, Any]]) -> type[nn.Module]:
    """Return a subclass of `base` with the generated forward, which can be pickled although no module defines it."""
    namespace = {k: importlib.import_module(v) if how else v for k, (how, v) in scope.items()}
    exec(source, namespace)

    def reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        return _restore, (base, source, scope), self.__dict__

    members = {"forward": namespace["forward"], "__reduce_ex__": reduce, "__module__": base.__module__}
    return type(base.__name__, (base,), members)


def _restore(base: type[nn.Module], source: str, scope: dict[str, tuple[str, Any]]) -> nn.Module:
    kind = _subclass(base, source, scope)
    return kind.__new__(kind)
