"""Weights to begin with, from files of many kinds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .reading import read_file, refuse_huge

NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs save the weights."""
PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.")
"""Prefixes that wrappers (DDP, a LightningModule, torch.compile) put before the names."""


def read_weights(path: Any) -> dict[str, Tensor]:
    """Return the weights by name in a Lightning checkpoint, a state dict that torch has saved, or a safetensors file.

    No code of the file is run. A state dict may lie under `state_dict`, `model_state_dict` or `model`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or holds no tensors by name.
    """
    content = _safetensors(path) if str(path).endswith(".safetensors") else read_file(path)
    refuse_huge(content, path)
    while isinstance(content, Mapping):
        inner = [content[key] for key in NESTED if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    weights = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not weights:
        found = f"the keys {sorted(map(str, content))[:5]}" if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{path} holds no weights (found {found}): give a checkpoint, a state dict or safetensors")
    return weights


def load_matching(module: nn.Module, state_dict: Mapping[str, Tensor]) -> list[str]:
    """Copy the tensors of `state_dict` whose name and shape match those in `module`.

    Names are compared without what wrappers put before them (`PREFIXES`). A network with another number of classes thus
    takes all layers but the last.

    Args:
        module: The network, changed in place.
        state_dict: Weights by name.

    Returns:
        The names in `module` that were not loaded.

    Raises:
        ValueError: If no tensor matches.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 10))
    >>> other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5)).state_dict()
    >>> load_matching(net, {f"module.{name}": value for name, value in other.items()})
    ['1.weight', '1.bias']
    """
    own, fitting = module.state_dict(), dict[str, Tensor]()
    bare: dict[str, list[str]] = {}
    for name in own:
        bare.setdefault(_bare(name), []).append(name)
    for name, value in state_dict.items():
        same = [name] if name in own else bare.get(_bare(name), [])
        if len(same) == 1 and own[same[0]].shape == value.shape:
            fitting[same[0]] = value
    if not fitting:
        raise ValueError(
            f"no weight fits: the network has {', '.join(list(own)[:3])}..., "
            f"the checkpoint {', '.join(list(state_dict)[:3])}...; "
            "give the backbone that the checkpoint was trained with"
        )
    module.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _bare(name: str) -> str:
    while prefix := next((one for one in PREFIXES if name.startswith(one)), ""):
        name = name.removeprefix(prefix)
    return name


def _safetensors(path: Any) -> dict[str, Tensor]:
    from safetensors.torch import load_file  # only for its files

    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: check the path")
    try:
        return dict(load_file(path))
    except Exception as error:  # damaged bytes fail in any way
        raise ValueError(f"cannot read {path}: it is no safetensors file ({str(error)[:120]})") from error
