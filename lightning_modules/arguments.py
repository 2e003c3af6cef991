"""The range of each argument of the classifier."""

from typing import Any


def check_arguments(model: Any, cuda_graph: Any) -> None:
    """Refuse arguments of an `ImageClassifier` that are out of range.

    Args:
        model: The classifier, whose attributes they are.
        cuda_graph: Its argument of this name.

    Raises:
        ValueError: With the first argument that is.
    """
    rules = {
        f"num_classes must be at least 2, found {model.num_classes}": model.num_classes >= 2,
        f"image_shape must be (C, H, W) or (D,) with positive sizes, found {model.image_shape}": (
            len(model.image_shape) in (1, 3) and all(size >= 1 for size in model.image_shape)
        ),
        f"lr_interval must be epoch, step or None, found {model.lr_interval!r}": (
            model.lr_interval in ("epoch", "step", None)
        ),
        f"label_smoothing must be in [0, 1), found {model.label_smoothing}": 0 <= model.label_smoothing < 1,
        f"loss_reduction must be mean or sum, found {model.loss_reduction!r}": model.loss_reduction in ("mean", "sum"),
        f"test_time_augmentation needs images of at least 2 x 2, found image_shape {model.image_shape}": (
            not model.test_time_augmentation or (len(model.image_shape) == 3 and min(model.image_shape[1:]) >= 2)
        ),
        f"l1 must be finite and not negative, found {model.l1}": 0 <= model.l1 < float("inf"),
        f"l2 must be finite and not negative, found {model.l2}": 0 <= model.l2 < float("inf"),
        f"cuda_graph must be True, False or 'auto', found {cuda_graph!r}": cuda_graph in (True, False, "auto"),
        f"ema_decay must be in (0, 1), found {model.ema_decay}": model.ema_decay is None or 0 < model.ema_decay < 1,
    }
    for message, holds in rules.items():
        if not holds:
            raise ValueError(message)
