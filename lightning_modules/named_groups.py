"""Parameter groups by the names of the parameters."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn


def named_groups(module: nn.Module, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the parameter groups of trainable parameters whose names match.

    Args:
        module: The network.
        wanted: The groups: `match`, a regular expression that is found in the names, and the optimizer's options. Of
            several groups the first that matches takes a parameter.

    Returns:
        A dictionary for each group: `params`, and the options.

    Raises:
        ValueError: If a group has no `match` or an invalid one, or nothing is left that matches it.

    >>> groups = named_groups(nn.Linear(2, 1), [{"match": "bias$", "lr": 0.1}])
    >>> [(len(group["params"]), group["lr"]) for group in groups]
    [(1, 0.1)]
    """
    left = {name: param for name, param in module.named_parameters() if param.requires_grad}
    groups = []
    for options in wanted:
        pattern = _pattern(options)
        own = [name for name in left if pattern.search(name)]
        if not own:
            known = ", ".join(list(left)[:8]) + (", ..." if len(left) > 8 else "")
            raise ValueError(
                f"parameter_groups: {pattern.pattern!r} matches none of the parameters that are left: {known or 'none'}"
            )
        rest = {name: value for name, value in options.items() if name != "match"}
        groups.append({"params": [left.pop(name) for name in own], **rest})
    return groups


def _pattern(options: Mapping[str, Any]) -> re.Pattern[str]:
    match = options.get("match")
    if not isinstance(match, str) or "params" in options:
        raise ValueError(
            f"parameter_groups: each needs match, a regular expression of names, and options, found {dict(options)}"
        )
    try:
        return re.compile(match)
    except re.error as error:
        raise ValueError(f"parameter_groups: {match!r} is no regular expression: {error}") from None
