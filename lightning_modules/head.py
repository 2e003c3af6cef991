"""The head of a network: its last layer, which a network for other classes does not share."""

from torch import nn


def head_of(network: nn.Module, num_classes: int) -> list[nn.Module]:
    """Return the layers that give the logits.

    They are what timm's `get_classifier()` returns; of other networks the last layer whose weight has `num_classes`
    rows, or the last one with a weight if there is none.

    Args:
        network: The network.
        num_classes: Number of logits.

    Raises:
        ValueError: If the network has no weight.

    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> head_of(network, 3)
    [Linear(in_features=8, out_features=3, bias=True)]
    """
    heads = _named_by(network)
    if heads:
        return heads
    weights = [
        (module, param) for module in network.modules() for param in module.parameters(recurse=False) if param.ndim > 1
    ]
    if not weights:
        raise ValueError(
            f"{type(network).__name__} has no weight, or lazy ones before their first batch: its head is not known"
        )
    for part in network.modules():  # a timm network within another module
        heads = _named_by(part)
        if any(param.ndim > 1 and len(param) == num_classes for one in heads for param in one.parameters()):
            return heads
    rows = [module for module, param in weights if len(param) == num_classes]
    return [(rows or [module for module, _ in weights])[-1]]


def _named_by(network: nn.Module) -> list[nn.Module]:
    """Return the layers that a timm network names as its head, if they have parameters."""
    ask = getattr(network, "get_classifier", None)
    given = ask() if callable(ask) else None
    heads = [one for one in (given if isinstance(given, list | tuple) else [given]) if isinstance(one, nn.Module)]
    return heads if any(True for one in heads for _ in one.parameters()) else []


def head_names(network: nn.Module, num_classes: int) -> set[str]:
    """Return the names of the head's parameters in the network.

    >>> sorted(head_names(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), 3))
    ['1.bias', '1.weight']
    """
    own = {param for module in head_of(network, num_classes) for param in module.parameters()}
    return {name for name, param in network.named_parameters() if param in own}
