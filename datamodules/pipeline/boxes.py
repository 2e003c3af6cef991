"""Random rectangles, one for each image: crops that are scaled to the whole image, and areas that are erased."""

import torch
import torch.nn.functional as F
from torch import Tensor

_ATTEMPTS = 10  # as torchvision


def draw_boxes(
    count: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    stream: torch.Generator,
    *,
    tall: bool,
) -> tuple[Tensor, Tensor]:
    """Draw rectangles as torchvision's `RandomResizedCrop` and `RandomErasing` do.

    The area is uniform, the aspect ratio log-uniform, the place uniform. A rectangle that does not fit is drawn again.

    Args:
        count: Number of rectangles n.
        size: Height and width of the image.
        scale: Smallest and largest share of the image's area.
        ratio: Smallest and largest aspect ratio.
        stream: Source of the random numbers.
        tall: Whether a ratio above 1 is a tall rectangle, smaller than the image on both sides (as in `RandomErasing`),
            and not a wide one of at most its size.

    Returns:
        int64 `[n, 4]`: top, left, height, width; and bool `[n]`, whether one of ten rectangles fitted.

    >>> boxes, fits = draw_boxes(2, (8, 8), (0.25, 0.25), (1.0, 1.0), torch.Generator().manual_seed(0), tall=False)
    >>> boxes[:, 2:].tolist(), fits.tolist()
    ([[4, 4], [4, 4]], [True, True])
    """
    boxes, fits = torch.zeros(count, 4, dtype=torch.long), torch.zeros(count, dtype=torch.bool)
    whole = torch.tensor(size)
    low, high = torch.tensor(ratio, dtype=torch.float64).log().tolist()
    for _ in range(_ATTEMPTS):
        uniform = torch.rand(4, count, dtype=torch.float64, generator=stream)
        area = (scale[0] + (scale[1] - scale[0]) * uniform[0]) * (size[0] * size[1])
        aspect = (low + (high - low) * uniform[1]).exp()
        long, short = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        sides = torch.stack([long, short] if tall else [short, long], 1).long()
        corner = (uniform[2:].T * (whole - sides + 1)).floor().long()
        good = (sides < whole if tall else (sides > 0) & (sides <= whole)).all(1) & ~fits
        boxes[good] = torch.cat([corner, sides], 1)[good]
        fits |= good
        if fits.all():
            break
    return boxes, fits


def draw_crops(
    count: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    stream: torch.Generator,
) -> Tensor:
    """Draw the boxes `[n, 4]` of `RandomResizedCrop`; where none fits, the largest in the middle with such a ratio."""
    boxes, fits = draw_boxes(count, size, scale, ratio, stream, tall=False)
    height, width = size
    rows = min(height, round(width / ratio[0]))
    columns = min(width, round(height * ratio[1]))
    boxes[~fits] = torch.tensor([(height - rows) // 2, (width - columns) // 2, rows, columns])
    return boxes


def draw_erased(
    probability: float,
    count: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    stream: torch.Generator,
) -> Tensor:
    """Draw the boxes `[n, 4]` of `RandomErasing`; one of height 0 erases nothing."""
    chosen = torch.rand(count, dtype=torch.float64, generator=stream) < probability
    boxes, fits = draw_boxes(count, size, scale, ratio, stream, tall=True)
    boxes[~(fits & chosen)] = 0
    return boxes


def rectangles(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return masks of the boxes `[B, 4]`: bool `[B, 1, H, W]`.

    >>> rectangles(torch.tensor([[0, 1, 1, 1]]), 2, 2).tolist()
    [[[[False, True], [False, False]]]]
    """
    top, left, rows, columns = boxes[:, :, None].unbind(1)
    y = torch.arange(height, device=boxes.device) - top
    x = torch.arange(width, device=boxes.device) - left
    return ((y >= 0) & (y < rows))[:, None, :, None] & ((x >= 0) & (x < columns))[:, None, None, :]


def erased(images: Tensor, boxes: Tensor) -> Tensor:
    """Set the boxes `[B, 4]` of normalised images to 0, the mean, in place."""
    return images.masked_fill_(rectangles(boxes, *images.shape[-2:]), 0.0)


def resized_crops(images: Tensor, boxes: Tensor) -> Tensor:
    """Scale the boxes `[B, 4]` of uint8 images to the size of the images, bilinearly.

    Crops are never larger than the image, so that nothing is to be averaged against aliases.
    """
    height, width = images.shape[-2:]
    y = _places(boxes[:, 0], boxes[:, 2], height)
    x = _places(boxes[:, 1], boxes[:, 3], width)
    grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], -1)
    sampled = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return sampled.round_().to(torch.uint8)


def _places(first: Tensor, length: Tensor, size: int) -> Tensor:
    """Return where the pixels of a side come from, `[B, size]`, from -1 to 1 between the image's edges."""
    first, last = first[:, None].double(), (length - 1)[:, None].double()
    places = (torch.arange(size, device=length.device, dtype=torch.float64) + 0.5) * (last + 1) / size - 0.5
    return ((2 * (places.clamp(min=0).minimum(last) + first) + 1) / size - 1).float()
