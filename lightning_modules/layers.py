"""The layers of a network in the order of their depth."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from torch import nn

from .head import head_names

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def layers_of(network: nn.Module, num_classes: int) -> list[list[str]]:
    """Return the names of the parameters of each layer, the first layer first and the head last.

    A timm network is divided as timm does it (`group_matcher`). In any other one modules follow one another as they are
    registered. The items of a list (`nn.Sequential`, `nn.ModuleList`, `nn.ModuleDict`) are a layer each, and so is any
    other module, unless it holds a list of blocks, modules of one class, or all of the network but the head: it is
    divided in turn. What has no tensor of two dimensions (norms, activations), and the parameters of a divided module
    itself (embeddings), belong to the layer before them.

    Args:
        network: The network.
        num_classes: Number of logits, by which the head is found.

    >>> network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Linear(8, 3))
    >>> layers_of(network, 3)
    [['0.weight', '0.bias', '1.weight', '1.bias'], ['2.weight', '2.bias'], ['3.weight', '3.bias']]
    """
    head, known = head_names(network, num_classes), dict(network.named_parameters())
    layers, first = list[list[str]](), list[str]()
    for names, joins in _units(network, "", head, _block_classes(network)):
        names = [name for name in names if name in known]  # a tensor that is shared has the first of its names
        if joins and layers:
            layers[-1] += names
        elif joins:
            first += names
        elif names:
            layers.append(first + names)
            first = []
    if not (layers and head & set(layers[-1])):  # timm's last layer may hold a norm too
        layers.append([*first, *(name for name in known if name in head)])
    return layers


def _units(
    module: nn.Module, prefix: str, head: Collection[str], blocks: Collection[type]
) -> Iterator[tuple[list[str], bool]]:
    """Yield the names of the parts of a module, without the head, and whether they belong to the layer before them."""
    if _is_of_timm(module):
        yield from (([prefix + name for name in layer], False) for layer in _layers_of_timm(module))
        return
    yield [prefix + name for name, _ in module.named_parameters(recurse=False) if prefix + name not in head], True
    children = [(f"{prefix}{name}.", child) for name, child in module.named_children()]
    trunk = [child for at, child in children if any(at + name not in head for name, _ in child.named_parameters())]
    for at, child in children:
        params = dict(child.named_parameters())
        is_all = trunk == [child] and any(True for _ in child.children())
        if type(child) not in blocks and (is_all or _has_parts(child, blocks)):
            yield from _units(child, at, head, blocks)
        else:
            names = [at + name for name in params if at + name not in head]
            yield names, all(param.ndim < 2 for param in params.values())


def _has_parts(module: nn.Module, blocks: Collection[type]) -> bool:
    return type(module) in _LISTS or any(type(one) in blocks or _is_of_timm(one) for one in module.modules())


def _block_classes(network: nn.Module) -> set[type]:
    """Return the classes of composed modules of which a list in the network holds several."""
    found: set[type] = set()
    for one in network.modules():
        if type(one) in _LISTS:
            composed = [type(item) for item in one.children() if any(True for _ in item.children())]
            found |= {kind for kind, count in Counter(composed).items() if count > 1 and kind not in _LISTS}
    return found


def _is_of_timm(module: nn.Module) -> bool:
    return callable(getattr(module, "group_matcher", None))


def _layers_of_timm(module: Any) -> list[list[str]]:
    from timm.models import group_parameters  # it takes seconds, and is loaded already where there is such a network

    groups: dict[int, list[str]] = group_parameters(module, module.group_matcher(coarse=False))
    return [groups[number] for number in sorted(groups)]
