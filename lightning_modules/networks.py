"""Building the classifier's network from whatever the user gives: a name, a factory or a finished module."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from . import factories
from .backbones.named import in_library, named
from .backbones.timm_model import timm_model
from .paths import importable

Backbone = factories.BackboneFactory | str | dict[str, Any]
_SWAP = "swap its activations by activations.replace, and give activation=None"


def plain_backbone(backbone: Backbone) -> factories.Plain:
    """Return a backbone's name, or its factory as plain data; see `factories.plain`.

    Raises:
        ValueError: If it is unknown or makes no module.
    """
    # timm's names may have a tag after a dot, but the part before it is no module.
    if isinstance(backbone, str) and not importable(backbone):
        named(backbone)
        return backbone
    return factories.plain(backbone, "backbone", nn.Module)


def backbone_factory(backbone: Backbone, spec: factories.Plain) -> Callable[..., nn.Module] | nn.Module:
    """Return what `build` takes for `plain_backbone(backbone)`: the factory, or the module that was given."""
    if isinstance(spec, str) and not importable(spec):
        return named(spec)
    make = factories.callable_of(backbone, spec, "backbone")
    if isinstance(make, factories.Given):
        return make.value
    target, bound = _unbound(make)
    return functools.partial(timm_model, target.__name__, **bound) if in_library("timm", target) else make


def requires_activation(make: Callable[..., nn.Module] | nn.Module) -> bool:
    """Return whether the factory has an argument `activation` without a default."""
    parameter = None if isinstance(make, nn.Module) else _parameters(make).get("activation")
    return parameter is not None and parameter.default is parameter.empty


def build(
    make: Callable[..., nn.Module] | nn.Module,
    num_classes: int,
    image_shape: tuple[int, ...],
    activation: Callable[[], nn.Module] | None,
) -> nn.Module:
    """Build the network, with those of the three keywords that the factory names.

    `**kwargs` of the factory do not count: what they accept is not known. Model functions of torchvision hand
    `num_classes` on in this way, and get it.

    Args:
        make: A factory, or the network itself.
        num_classes: Number of logits.
        image_shape: Shape of one example.
        activation: Factory of the activation modules; None keeps the network's own.

    Raises:
        ValueError: If the factory binds another value, takes no activation although one is given, needs further
            arguments, or returns no module.
    """
    if isinstance(make, nn.Module):
        if activation is not None:
            raise ValueError(f"activation: the backbone is a finished network: {_SWAP}")
        return make
    target, bound = _unbound(make)
    offered: dict[str, Any] = {"num_classes": num_classes, "image_shape": image_shape, "activation": activation}
    for name, value in offered.items():
        if name in bound and value not in (None, bound[name]):
            raise ValueError(
                f"backbone: {name} is bound to {bound[name]!r}, but the classifier's is {value!r}: give it once"
            )
    accepted = set(_parameters(make)) | ({"num_classes"} if in_library("torchvision", target) else set())
    if activation is not None and "activation" not in accepted:
        raise ValueError(f"activation: the backbone {_name(make)} has no argument `activation`: {_SWAP}")
    given = {name: value for name, value in offered.items() if name in accepted - set(bound) and value is not None}
    _refuse_missing(make, given)
    network = make(**given)
    if not isinstance(network, nn.Module):
        raise ValueError(f"backbone: {_name(make)} must return a torch.nn.Module, found {type(network).__name__}")
    return network


def check_images(images: Tensor, image_shape: tuple[int, ...]) -> None:
    """Raise a ValueError if the images of a batch do not have this shape."""
    if images.shape[1:] != image_shape:
        raise ValueError(
            f"images must have shape [N, {', '.join(map(str, image_shape))}], found {list(images.shape)}: "
            "give the data's shape as image_shape"
        )


def checked_logits(logits: Any, num_classes: int) -> Tensor:
    """Return what a network has returned; raise a ValueError if it is anything but logits `[N, num_classes]`."""
    if not isinstance(logits, Tensor) or logits.shape[1:] != (num_classes,):
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the network must return logits [N, {num_classes}], found {found}: build it with "
            f"num_classes={num_classes}, or give the classifier the number that it has"
        )
    return logits


def _parameters(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that may be given by keyword; none for what has no signature."""
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: one for name, one in parameters.items() if one.kind in kinds}


def _refuse_missing(make: Callable[..., Any], given: dict[str, Any]) -> None:
    missing = [name for name, one in _parameters(make).items() if one.default is one.empty and name not in given]
    if missing:
        raise ValueError(
            f"backbone: {_name(make)} needs {', '.join(missing)}, which the classifier does not know: "
            "bind it by functools.partial, or on the command line by --model.backbone.NAME"
        )


def _unbound(make: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    return (make.func, make.keywords) if isinstance(make, functools.partial) else (make, {})


def _name(make: Callable[..., Any]) -> str:
    target, _ = _unbound(make)
    return getattr(target, "__qualname__", type(target).__name__)
