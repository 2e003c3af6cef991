"""Any network of timm, with its activation swapped."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .shapes import check_positive, image_size

# What timm uses between layers. Sigmoid, hard sigmoid, tanh and softmax are left out: there they are gates.
_TORCH_NAMES = "ReLU ReLU6 LeakyReLU RReLU PReLU ELU CELU SELU GELU SiLU Mish Hardswish Hardtanh Softplus Softsign"
_TIMM_NAMES = "Swish Mish HardSwish HardMish PReLU GELU GELUTanh QuickGELU SwishMe MishMe HardSwishMe HardMishMe"

Replace = Callable[[nn.Module, tuple[type[nn.Module], ...], Callable[[], nn.Module]], nn.Module]


def replace_modules(model: nn.Module, old: tuple[type[nn.Module], ...], new: Callable[[], nn.Module]) -> nn.Module:
    """Replace every module of the given classes, in place, each by an instance of its own.

    Args:
        model: The network.
        old: Exact classes to replace.
        new: Factory of the replacements.

    Returns:
        The same network.

    >>> replace_modules(nn.Sequential(nn.Linear(1, 1), nn.ReLU()), (nn.ReLU,), nn.GELU)[1]
    GELU(approximate='none')
    """
    for parent in list(model.modules()):
        # _modules and not named_children(), which shows a module registered at two sites once only.
        for name, child in list(parent._modules.items()):
            if type(child) in old:
                setattr(parent, name, new())
    return model


def timm_model(
    name: str,
    num_classes: int = 10,
    image_shape: tuple[int, ...] = (3, 224, 224),
    activation: Callable[[], nn.Module] | None = None,
    *,
    replace: Replace | None = None,
    pretrained: bool = False,
    **options: Any,
) -> nn.Module:
    """Build a timm network with another activation at every site.

    Args:
        name: timm's name of the model, with or without the tag of its weights.
        num_classes: Number of logits K; the head is new if it differs from the pretrained one.
        image_shape: `(C, H, W)`. Networks with position embeddings are built for this H and W.
        activation: Factory of the activation modules, each site gets its own; None keeps timm's.
        replace: `replace(model, old_classes, activation)` does the swap; by default `replace_modules`.
        pretrained: Whether to download trained weights.
        options: Further keywords for `timm.create_model`.

    Returns:
        The network, from `[N, C, H, W]` to `[N, K]`.

    Raises:
        ValueError: If timm has no such model, cannot build it for these images, or calls its activation as a function
            so that it cannot be swapped.
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
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, in_chans=channels, **options)
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"timm cannot build {name!r} for image_shape={tuple(image_shape)}: {reason}") from error
    if activation is None:
        return model
    known = _activation_classes()
    found = tuple({type(module): None for module in model.modules() if type(module) in known})
    if not found:
        raise ValueError(f"{name!r} has no activation modules to swap: use activation=None to keep its own")
    return (replace or replace_modules)(model, found, activation)


class TimmModel(nn.Module):
    """`timm_model` as a class, for command lines and configuration files, which set the options of classes only.

    Args:
        num_classes: Number of logits K.
        image_shape: `(C, H, W)`.
        activation: Factory of the activation modules; None keeps timm's.
        name: timm's name of the model.
        pretrained: Whether to download trained weights.
        options: Further keywords for `timm.create_model`.

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


def _activation_classes() -> set[type[nn.Module]]:
    from timm.layers import activations, activations_me

    classes = {getattr(nn, name) for name in _TORCH_NAMES.split()}
    for module in (activations, activations_me):
        classes |= {getattr(module, name) for name in _TIMM_NAMES.split() if hasattr(module, name)}
    return classes
