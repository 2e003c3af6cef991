"""Slow reference of what is drawn for an image, by torchvision's functions, one image at a time."""

import math

import torch
import torchvision.transforms.functional as F

JITTER = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


def _affine(image, *, angle=0.0, translate=(0, 0), shear=(0.0, 0.0), center=None):
    return F.affine(image, angle=angle, translate=[*translate], scale=1.0, shear=[*shear], center=center)


def _shear(strength):
    return math.degrees(math.atan(strength))


OPERATIONS = {  # as torchvision's RandAugment applies them
    "Identity": lambda image, s: image,
    "ShearX": lambda image, s: _affine(image, shear=(_shear(s), 0.0), center=[0, 0]),
    "ShearY": lambda image, s: _affine(image, shear=(0.0, _shear(s)), center=[0, 0]),
    "TranslateX": lambda image, s: _affine(image, translate=(int(s), 0)),
    "TranslateY": lambda image, s: _affine(image, translate=(0, int(s))),
    "Rotate": F.rotate,
    "Brightness": lambda image, s: F.adjust_brightness(image, 1.0 + s),
    "Color": lambda image, s: F.adjust_saturation(image, 1.0 + s),
    "Contrast": lambda image, s: F.adjust_contrast(image, 1.0 + s),
    "Sharpness": lambda image, s: F.adjust_sharpness(image, 1.0 + s),
    "Posterize": lambda image, s: F.posterize(image, int(s)),
    "Solarize": F.solarize,
    "AutoContrast": lambda image, s: F.autocontrast(image),
    "Equalize": lambda image, s: F.equalize(image),
}


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
    for number, strength in zip(drawn("operations") or (), drawn("strengths") or (), strict=True):
        image = [*OPERATIONS.values()][number](image, strength)
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
