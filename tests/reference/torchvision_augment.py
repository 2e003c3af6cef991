"""Slow reference of what is drawn for an image, by torchvision's functions, one image at a time."""

import torch
import torchvision.transforms.functional as F

JITTER = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


def augment_one(image, plan, position, jitters=(1, 1, 1, 1)):
    """Return an image, uint8 `[C, H, W]`, with the crop, flips and colours of a position of the plan."""
    size = list(image.shape[1:])

    def drawn(name):
        field = getattr(plan, name)
        return None if field is None else field[position].tolist()

    if drawn("box") is not None:
        image = F.resized_crop(image, *drawn("box"), size=size, antialias=True)
    if drawn("flip"):
        image = F.hflip(image)
    if drawn("vertical"):
        image = F.vflip(image)
    for which in drawn("jitter_order") or ():
        if jitters[which]:
            image = JITTER[which](image, drawn("jitter")[which])
    return image


def normalise_one(image, plan, position, mean, std):
    """Return an image normalised, with the rectangle of the position erased."""
    shift = (255 * torch.tensor(mean, dtype=torch.float64)).float()[:, None, None]
    scale = (1 / (255 * torch.tensor(std, dtype=torch.float64))).float()[:, None, None]
    result = (image.float() - shift) * scale
    return result if plan.erase is None else F.erase(result, *plan.erase[position].tolist(), v=torch.tensor(0.0))
