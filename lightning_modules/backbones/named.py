"""Backbones by name."""

import difflib
import functools
from collections.abc import Callable

from torch import nn

from .mlp import MLP
from .resnet import ResNet, resnet8, resnet20
from .small_conv_net import SmallConvNet
from .timm_model import timm_model
from .two_layer_net import TwoLayerNet

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "MLP": MLP,
    "ResNet": ResNet,
    "SmallConvNet": SmallConvNet,
    "TwoLayerNet": TwoLayerNet,
    "resnet8": resnet8,
    "resnet20": resnet20,
}


def named(name: str) -> Callable[..., nn.Module]:
    """Find a backbone's factory by name: ours, else timm's.

    Args:
        name: A key of `BACKBONES`, or the name of any timm model.

    Returns:
        A factory that takes the keywords `num_classes`, `image_shape` and `activation`.

    Raises:
        ValueError: If there is no such backbone; the message lists the nearest names.

    >>> named("resnet20").__name__
    'resnet20'
    """
    if name in BACKBONES:
        return BACKBONES[name]
    import timm  # takes seconds and is needed here only

    if timm.is_model(name):
        return functools.partial(timm_model, name)
    by_lower_case = {known.lower(): known for known in [*timm.list_models(), *BACKBONES]}
    near = [by_lower_case[close] for close in difflib.get_close_matches(name.lower(), by_lower_case, n=5)]
    nearest = ", ".join(near) if near else ", ".join(BACKBONES)
    raise ValueError(f"unknown backbone {name!r}; the nearest names of ours and timm's: {nearest}")
