"""Any network of timm, with its activation swapped."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn

from activations import names, replace

from .pretrained import are_wanted, loading
from .shapes import check_positive, image_size

# Names of activations that timm's networks use as gates, which stay as they are.
_GATES = {"identity", "sigmoid", "hardsigmoid", "logsigmoid", "tanh"}
_OWN_WEIGHTS = {"pretrained_cfg", "pretrained_cfg_overlay"}
"""timm's options that name weights."""


def timm_model(
    name: str,
    num_classes: int = 10,
    image_shape: tuple[int, ...] = (3, 224, 224),
    activation: Callable[[], nn.Module] | None = None,
    *,
    pretrained: bool = False,
    **options: Any,
) -> nn.Module:
    """Build a timm network, by default with its own activation, otherwise with `activation` at every site.

    Args:
        name: timm's name of the model, with or without the tag of its weights.
        num_classes: Number of logits K; the head is new if it differs from the pretrained one.
        image_shape: `(C, H, W)`. Networks with position embeddings are built for this H and W.
        activation: Factory of the activation modules, called once for each site; None keeps the network's own.
            Gates (sigmoid, hard sigmoid, tanh) stay.
        pretrained: Load trained weights, from timm's cache or the network; not where those of a checkpoint follow. They
            expect images with the `mean` and `std` of the network's `pretrained_cfg`.
        options: Further keyword arguments of `timm.create_model`.

    Returns:
        The network, from `[N, C, H, W]` to `[N, K]`.

    Raises:
        ValueError: If timm has no such model, cannot build it for these images, has no weights or cannot load them, or
            it has no activation modules.
    """
    import timm  # takes seconds and is needed here only

    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}: see timm.list_models()")
    check_positive("num_classes", num_classes)
    channels, height, width = image_size(image_shape)
    # pretrained_cfg is the registry's entry; `fixed_input_size` marks the networks that are built for one image size.
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        options.setdefault("img_size", (height, width))
    if pretrained and not (timm.is_model_pretrained(name) or options.keys() & _OWN_WEIGHTS):
        raise ValueError(
            f"timm has no trained weights of {name!r}: see timm.list_pretrained(), or use pretrained=False"
        )
    wanted = are_wanted(pretrained)
    options |= {"pretrained": wanted, "num_classes": num_classes, "in_chans": channels}
    try:
        with loading(name) if wanted else nullcontext():
            model = timm.create_model(name, **options)
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"timm cannot build {name!r} for image_shape={tuple(image_shape)}: {reason}") from error
    if activation is None:
        return model
    swapped = set(names()) - _GATES
    # timm has its own GELU, PReLU ..., and memory-efficient ones whose names end with Me.
    kinds = tuple({type(m) for m in model.modules() if type(m).__name__.lower().removesuffix("me") in swapped})
    if not kinds:
        raise ValueError(f"{name!r} has no activation modules to swap: use activation=None to keep its own")
    replace(model, kinds, activation)
    return model


class TimmModel(nn.Module):
    """`timm_model` as a class, for command lines and configuration files, which set the options of classes only.

    Args:
        num_classes: Number of logits K.
        image_shape: `(C, H, W)`.
        activation: Factory of the activation modules; None keeps the network's own.
        name: timm's name of the model.
        pretrained: Load trained weights; see `timm_model`.
        options: Further keyword arguments of `timm.create_model`.

    Shape:
        Input `[N, C, H, W]`, output `[N, K]`.

    Raises:
        ValueError: See `timm_model`.
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_shape: tuple[int, ...] = (3, 224, 224),
        activation: Callable[[], nn.Module] | None = None,
        *,
        name: str = "resnet18",
        pretrained: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = timm_model(name, num_classes, image_shape, activation, pretrained=pretrained, **(options or {}))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.model(images)
