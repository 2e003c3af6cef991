"""Starting from another training's weights."""

from torch import Tensor, nn


def load_matching(module: nn.Module, state_dict: dict[str, Tensor]) -> list[str]:
    """Copy the tensors of ``state_dict`` that ``module`` has under the same name and with the same shape.

    So a network with another number of classes takes all but the last layer.

    Args:
        module: The network, changed in place.
        state_dict: Weights by name.

    Returns:
        The names in ``module`` that got nothing.

    Raises:
        ValueError: If nothing fits.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 10))
        >>> load_matching(net, nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5)).state_dict())
        ['1.weight', '1.bias']
    """
    own = module.state_dict()
    fitting = {name: value for name, value in state_dict.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ValueError(
            f"no weight fits: the network has {', '.join(list(own)[:3])}..., "
            f"the checkpoint {', '.join(list(state_dict)[:3])}...; "
            "give the backbone that the checkpoint was trained with"
        )
    module.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]
