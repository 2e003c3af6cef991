"""The confusion matrix and the worst mistakes of a validation epoch, accumulated on the device."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Mistakes = dict[str, Tensor]
"""`loss`, `label`, `prediction`, `confidence` `[M]` and `image` `[M, C, H, W]`, by decreasing loss."""


def worst(candidates: Mistakes, count: int) -> Mistakes:
    """Return the `count` candidates of highest loss, or all if there are fewer."""
    order = candidates["loss"].topk(min(count, len(candidates["loss"]))).indices
    return {name: values[order] for name, values in candidates.items()}


def merge(parts: list[Mistakes], count: int) -> Mistakes:
    """Return the `count` of highest loss in several sets; images are resized to the size of the first set."""
    parts = [part for part in parts if len(part["loss"])] or parts[:1]
    size = parts[0]["image"].shape[2:]
    same = [p | {"image": p["image"] if p["image"].shape[2:] == size else interpolate(p["image"], size)} for p in parts]
    return worst({name: torch.cat([part[name] for part in same]) for name in same[0]}, count)


class MistakeRecord:
    """The confusion matrix and the `count` mistakes of highest loss of all batches so far.

    Nothing synchronises with the device before `cpu`, and only `count` images are kept.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.matrix: Tensor | None = None  # int64 [K, K]; row = true class, column = predicted
        self.mistakes: Mistakes | None = None  # correct predictions have the loss -inf

    def update(self, logits: Tensor, labels: Tensor, images: Tensor | None) -> None:
        """Add a batch: `logits` `[N, K]`, `labels` `[N]`, `images` `[N, C, H, W]` (None: keep none)."""
        if len(logits) == 0:
            return
        classes = logits.shape[1]
        scores = logits.detach().float().log_softmax(dim=1)
        score, prediction = scores.max(dim=1)
        if self.matrix is None:
            self.matrix = torch.zeros(classes, classes, dtype=torch.int64, device=logits.device)
        self.matrix.view(-1).scatter_add_(0, labels * classes + prediction, torch.ones_like(labels))
        if images is None:
            return
        loss = -scores.gather(1, labels[:, None]).squeeze(1)
        loss = torch.where(prediction == labels, torch.full_like(loss, -float("inf")), loss)
        batch = {"loss": loss, "label": labels, "prediction": prediction, "confidence": score.exp(), "image": images}
        batch = worst(batch, self.count)
        batch["image"] = batch["image"].detach().float()
        self.mistakes = batch if self.mistakes is None else merge([self.mistakes, batch], self.count)

    def cpu(self) -> tuple[Tensor | None, Mistakes | None]:
        """Return the matrix and the mistakes, without correct predictions, on the CPU."""
        matrix = None if self.matrix is None else self.matrix.cpu()
        if self.mistakes is None:
            return matrix, None
        wrong = self.mistakes["loss"] != -float("inf")
        return matrix, {name: values[wrong].cpu() for name, values in self.mistakes.items()}
