"""Slow, readable reference of the batched augmentation: one image at a time."""

import numpy as np
import torch


def augment_one(
    image, *, padding=0, mode="constant", top=0, left=0, flip=False, cut_row=None, cut_column=None, cutout=0, mean, std
):
    """Pad, crop, flip, normalise and cut out: float32 [C, H, W] from uint8 [C, H, W].

    `top` and `left`, from -padding to padding, are the crop's offset in the unpadded image.
    """
    channels, height, width = image.shape
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode=mode)
    crop = padded[:, padding + top : padding + top + height, padding + left : padding + left + width]
    if flip:
        crop = crop[:, :, ::-1]
    result = np.empty(crop.shape, dtype=np.float32)
    for c in range(channels):
        shift = np.float32(255.0 * mean[c])
        scale = np.float32(1.0 / (255.0 * (std[c] if std[c] > 0 else 1.0)))
        result[c] = (crop[c].astype(np.float32) - shift) * scale
    if cutout:
        for y in range(height):
            for x in range(width):
                in_rows = cut_row - cutout // 2 <= y < cut_row - cutout // 2 + cutout
                if in_rows and cut_column - cutout // 2 <= x < cut_column - cutout // 2 + cutout:
                    result[:, y, x] = 0.0
    return result


def augment_batch(images, plan, *, padding=0, mode="constant", cutout=0, mean, std):
    """Return the float32 batch [B, C, H, W] of a plan's positions, from uint8 images [N, C, H, W]."""
    batch = []
    for position, index in enumerate(plan.order.tolist()):
        values = {
            name: getattr(plan, name)[position].item()
            for name in ("top", "left", "flip", "cut_row", "cut_column")
            if getattr(plan, name) is not None
        }
        batch.append(
            augment_one(images[index], padding=padding, mode=mode, cutout=cutout, mean=mean, std=std, **values)
        )
    return torch.from_numpy(np.stack(batch))
