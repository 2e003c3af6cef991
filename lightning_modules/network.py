"""From a backbone's name or factory to the network, and its compilation."""

import importlib.util
import sys
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .backbones.named import named
from .factories import BackboneFactory, Plain, factory, plain


def plain_backbone(backbone: BackboneFactory | str | dict[str, Any]) -> Plain:
    """Write a backbone as its name or as plain data; see `factories.plain`.

    Raises:
        ValueError: If it is unknown, or has one of the arguments bound that the classifier gives it.
    """
    if isinstance(backbone, str) and not _is_path(backbone):
        named(backbone)
        return backbone
    spec = plain(backbone, "backbone", nn.Module)
    bound = {} if isinstance(spec, str) else spec.get("init_args", {})
    for name in ("num_classes", "image_shape", "activation"):
        if name in bound:
            raise ValueError(f"backbone: {name} is bound to {bound[name]!r}: give {name} to the classifier instead")
    return spec


def build_backbone(spec: Plain, num_classes: int, image_shape: tuple[int, ...], activation: Plain | None) -> nn.Module:
    """Build the network that `plain_backbone` wrote down.

    Returns:
        The network, whose state is the only state of the classifier.
    """
    make = named(spec) if isinstance(spec, str) and not _is_path(spec) else factory(spec, "backbone", nn.Module)
    options: dict[str, Any] = {"num_classes": num_classes, "image_shape": image_shape}
    if activation is not None:
        options["activation"] = factory(activation, "activation", nn.Module)
    return make(**options)


def compile_in_place(module: nn.Module, device: torch.device) -> None:
    """Compile a module in place, so that the names in its state stay the same, if a compiler works for the device."""
    try:
        torch.compile(_probe)(torch.ones(2, device=device))
    except Exception as error:  # each missing part of the tool chain raises its own
        reason = str(error).strip().splitlines()[0]
        warnings.warn(f"compile=True has no effect, torch.compile does not work on {device} ({reason})", stacklevel=2)
    else:
        module.compile()


def _probe(values: Tensor) -> Tensor:
    return values * 2 + 1


def _is_path(name: str) -> bool:
    # timm's names may have a tag after a dot, but what stands before it is no module.
    # find_spec refuses some modules that are there, such as a script's __main__.
    module = name.split(".")[0]
    return "." in name and (module in sys.modules or importlib.util.find_spec(module) is not None)
