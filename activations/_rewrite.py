"""Put modules in the place of functional calls in one module's forward."""

import importlib
import inspect
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

from torch import fx, nn

Make = Callable[[bool, bool], nn.Module]


class _OwnCalls(fx.Tracer):
    """Traces what a forward does itself: every submodule stays a call."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def rewrite_forward(module: nn.Module, functions: set[Callable[..., Any]], methods: set[str], make: Make) -> None:
    """Give ``module`` a class whose forward calls new submodules instead of ``functions`` and tensor ``methods``.

    Args:
        module: The module, changed in place where it holds such calls.
        functions: The functions to swap.
        methods: The names of the tensor methods to swap.
        make: Makes a module from an in-place flag and the training mode.
    """
    if type(module).__module__.startswith("torch.nn."):
        return
    graphs = _trace(module, methods)
    found = {mode: [n for n in graph.nodes if _is_site(n, functions, methods)] for mode, graph in graphs.items()}
    if not any(found.values()):
        return
    longest = max(found.values(), key=len)
    names = _free_names(module, len(longest))
    for name, node in zip(names, longest, strict=True):
        module.add_module(name, make(_in_place(node), module.training))
    for mode, graph in graphs.items():
        for name, node in zip(names, found[mode], strict=False):
            _swap(graph, node, name)
    _change_class(module, graphs)


def _trace(module: nn.Module, methods: set[str]) -> dict[bool, fx.Graph]:
    """The graphs of the forward in training and in evaluation; none where it cannot be traced."""
    training = module.training
    try:
        graphs = {}
        for mode in (True, False):
            module.training = mode  # this module's own flag: the submodules are not run
            graphs[mode] = _OwnCalls().trace(module)
        return graphs
    except Exception as error:  # a forward may do anything with the proxies it is run on
        code = getattr(type(module).forward, "__code__", None)
        suspects = methods.intersection(code.co_names if code else ()) - module._modules.keys()
        if suspects:
            reason = str(error).partition("\n")[0] or type(error).__name__
            warnings.warn(
                f"{type(module).__qualname__} keeps its calls ({', '.join(sorted(suspects))}): torch.fx cannot "
                f"trace its forward ({reason})",
                RuntimeWarning,
                stacklevel=4,
            )
        return {}
    finally:
        module.training = training


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
    """Call the submodule ``name`` instead of ``node``."""
    source = node.args[0] if node.args else node.kwargs["input"]
    with graph.inserting_before(node):
        call = graph.call_module(name, (source,))
    node.replace_all_uses_with(call)
    if _in_place(node) and isinstance(source, fx.Node):
        # What reads the source afterwards sees the activation: keep it so if the new module is not in place.
        source.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call and call < user)
    graph.erase_node(node)


def _change_class(module: nn.Module, graphs: dict[bool, fx.Graph]) -> None:
    scope: dict[str, tuple[str, Any]] = {}
    for graph in graphs.values():
        graph.lint()
        # A python module cannot be pickled: its name stands for it.
        names = graph.python_code("self").globals
        scope |= {k: ("import", v.__name__) if inspect.ismodule(v) else ("", v) for k, v in names.items()}
    sources = {mode: graph.python_code("self").src for mode, graph in graphs.items()}
    module.__class__ = _subclass(type(module), _merge(sources[True], sources[False]), scope)


def _merge(training: str, evaluation: str) -> str:
    """One forward that does the one or the other, with the same arguments."""
    if training == evaluation:
        return training
    head, _, first = training.partition("def forward(")
    signature, _, first = first.partition("\n")
    second = evaluation.partition("def forward(")[2].partition("\n")[2]
    branches = (textwrap.indent(body, "    ") for body in (first, second))
    return f"{head}def forward({signature}\n    if self.training:\n{next(branches)}\n    else:\n{next(branches)}\n"


def _subclass(base: type[nn.Module], source: str, scope: dict[str, tuple[str, Any]]) -> type[nn.Module]:
    """``base`` with the generated forward; it can be pickled although no python module holds it."""
    namespace = {k: importlib.import_module(v) if how else v for k, (how, v) in scope.items()}
    exec(source, namespace)

    def reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        return _restore, (base, source, scope), self.__dict__

    members = {"forward": namespace["forward"], "__reduce_ex__": reduce, "__module__": base.__module__}
    return type(base.__name__, (base,), members)


def _restore(base: type[nn.Module], source: str, scope: dict[str, tuple[str, Any]]) -> nn.Module:
    kind = _subclass(base, source, scope)
    return kind.__new__(kind)
