"""Learning rate schedules written as text: `warmup 5%, constant 10 epochs, cosine to 1%`."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

KINDS = {"warmup": "from", "constant": "at", "linear": "to", "cosine": "to"}
"""The parts of a schedule, each with the word before its level."""
_PART = re.compile(
    r"(?P<kind>[a-z]+)(?:\s+(?P<length>\d+\.?\d*)\s*(?P<unit>%|steps?\b|epochs?\b))?"
    r"(?:\s+(?P<word>from|at|to)\s+(?P<level>\d*\.?\d+(?:e-?\d+)?)\s*(?P<percent>%)?)?"
)
_ALLOWED = (
    "parts are warmup, constant, linear and cosine, separated by commas, each with a length (5%, 500 steps, 10 epochs; "
    "one part may have none) and a level (warmup from 1%, constant at 1%, linear to 1%, cosine to 1%) if need be"
)


class Part(NamedTuple):
    """One part of a schedule."""

    kind: str
    length: float | None  # None: the rest
    unit: str  # %, step, epoch
    level: float | None


class Segment(NamedTuple):
    """A part at its place: steps from `start` to before `end`, levels from `first` to `last`."""

    kind: str
    start: int
    end: int
    first: float
    last: float


def is_schedule(value: Any) -> bool:
    """Return whether a value is the text of a schedule, by its first word."""
    return isinstance(value, str) and bool(value.split()) and value.replace(",", " ").split()[0].lower() in KINDS


def as_factory(value: Any) -> Any:
    """Return the factory of `Schedule` for the text of one, as plain data; anything else as it is.

    >>> as_factory("warmup 5%, cosine")
    {'class_path': 'lightning_modules.Schedule', 'init_args': {'text': 'warmup 5%, cosine'}}
    """
    return {"class_path": "lightning_modules.Schedule", "init_args": {"text": value}} if is_schedule(value) else value


def parse(text: str) -> list[Part]:
    """Return the parts of a schedule.

    Raises:
        ValueError: If the text is none.

    >>> parse("warmup 5%, cosine to 1%")
    [Part(kind='warmup', length=5.0, unit='%', level=None), Part(kind='cosine', length=None, unit='%', level=0.01)]
    """
    parts = [_part(one.strip().lower(), text) for one in str(text).split(",")]
    rests = [part for part in parts if part.length is None]
    if len(rests) > 1:
        raise ValueError(f"schedule: one part may take the rest, found {len(rests)} without a length in {text!r}")
    share = sum(part.length or 0 for part in parts if part.unit == "%")
    if share > 100 + 1e-9:
        raise ValueError(f"schedule: the parts must be at most 100% of the training, found {share:g}% in {text!r}")
    return parts


def _part(part: str, text: str) -> Part:
    found = _PART.fullmatch(part)
    kind = found["kind"] if found else ""
    if found is None or kind not in KINDS or found["word"] not in (None, KINDS[kind]):
        raise ValueError(f"schedule: cannot read {part!r} in {text!r}: {_ALLOWED}")
    level = None if found["level"] is None else float(found["level"]) / (100 if found["percent"] else 1)
    if level is not None and not 0 <= level <= 1:
        raise ValueError(f"schedule: a level must be 0% to 100% of the learning rate, found {level:.6g} in {part!r}")
    length = None if found["length"] is None else float(found["length"])
    if length == 0:
        raise ValueError(f"schedule: a length must be more than 0, found {part!r}")
    return Part(kind, length, (found["unit"] or "%").rstrip("s"), level)


def segments(parts: Sequence[Part], total: int, steps_per_epoch: float | None = None) -> list[Segment]:
    """Return the parts at their places in a training of `total` steps.

    Raises:
        ValueError: If the parts are longer than the training, or epochs have no known length.
    """
    lengths = [_steps(part, total, steps_per_epoch) for part in parts]
    fixed = sum(length for length in lengths if length is not None)
    if round(fixed) > total:
        raise ValueError(f"schedule: its parts take {round(fixed)} steps, the training has {total}: shorten a part")
    placed, reached, level = list[Segment](), 0.0, 1.0
    for part, length in zip(parts, lengths, strict=True):
        start, reached = round(reached), reached + (max(total - fixed, 0.0) if length is None else length)
        first, last = level, part.level or 0.0
        if part.kind == "warmup":
            first, last = part.level or 0.0, 1.0
        elif part.kind == "constant":
            first = last = level if part.level is None else part.level
        placed.append(Segment(part.kind, start, round(reached), first, last))
        level = last
    return placed


def _steps(part: Part, total: int, steps_per_epoch: float | None) -> float | None:
    if part.length is None:
        return None
    if part.unit == "epoch":
        if steps_per_epoch is None:
            raise ValueError("schedule: an epoch has no known number of steps: write lengths in steps or %")
        return part.length * steps_per_epoch
    return part.length * total / 100 if part.unit == "%" else part.length


def level_at(step: int, placed: Sequence[Segment]) -> float:
    """Return the factor of the learning rates at a step, counted from 0; after the last part it stays."""
    for kind, start, end, first, last in placed:
        if step < end:
            if kind == "constant":
                return last
            if kind == "warmup":  # the first step has a rate, the last one the whole rate
                return first + (last - first) * (step - start + 1) / (end - start)
            done = (step - start) / (end - start)
            return first + (last - first) * (done if kind == "linear" else (1 - math.cos(math.pi * done)) / 2)
    return placed[-1].last


def factor(text: str, step: int, total: int, steps_per_epoch: float | None = None) -> float:
    """Return the learning rate at a step relative to its peak, for the schedule that `Schedule` describes.

    >>> [round(factor("warmup 20%, cosine", step, 10), 2) for step in range(11)]
    [0.5, 1.0, 1.0, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04, 0.0]
    """
    return level_at(step, segments(parse(text), total, steps_per_epoch))


class Schedule(LRScheduler):
    r"""A learning rate schedule written as text, a function of the step s and the number of steps of the training.

    Parts are separated by commas and follow one another. Each is a word, its length and its level, in this order:

    - `warmup 5%` (`from 10%`): from nothing (or a level) to the whole rate: of n steps, step i = 0, ..., n - 1
      has the factor :math:`a + (1 - a)(i + 1)/n`;
    - `constant 10 epochs` (`at 10%`): at the level before it (or another one);
    - `linear 500 steps` (`to 1%`), `cosine` (`to 1%`): from the level c before it to 0 (or a level d) by
      :math:`c + (d - c)\, i/n` and :math:`c + (d - c)(1 - \cos(\pi i/n))/2`.

    Lengths are shares of the whole training, steps or epochs. One part may have none: it takes the rest. After the last
    part the level stays. The scheduler keeps nothing but the step: a training that is resumed with another length has,
    from there on, the rates of a training that had this length from its beginning.

    An `ImageClassifier` makes one of `lr_scheduler="warmup 5%, cosine"` and counts the steps by itself.

    Args:
        optimizer: The optimizer; the learning rates of its groups are multiplied by the factor.
        text: The schedule.
        total_steps: Number of steps of the whole training. None: given later, by `bind`.
        steps_per_epoch: Number of steps in an epoch, for lengths in epochs.
        last_epoch: Number of the last step, as in `torch.optim.lr_scheduler`; -1 begins.

    Raises:
        ValueError: If the text is no schedule, the parts are longer than the training, the length of the training is
            not known at the first step, or the optimizer has no learning rate.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
        >>> scheduler = Schedule(optimizer, "warmup 2 steps, linear", total_steps=6)
        >>> rates = []
        >>> for _ in range(6):
        ...     rates.append(round(scheduler.get_last_lr()[0], 3))
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.05, 0.1, 0.1, 0.075, 0.05, 0.025]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        text: str,
        total_steps: int | None = None,
        steps_per_epoch: float | None = None,
        last_epoch: int = -1,
    ) -> None:
        self.text, self._parts, self._placed = text, parse(text), list[Segment]()
        if not all("lr" in group for group in optimizer.param_groups):
            raise ValueError(f"schedule: {type(optimizer).__name__} has no learning rate: leave the schedule out")
        self._lengths: Callable[[], tuple[float, float | None]] | None = None
        if total_steps is not None:
            self.bind(lambda: (total_steps, steps_per_epoch))
        super().__init__(optimizer, last_epoch)

    def bind(self, lengths: Callable[[], tuple[float, float | None]]) -> None:
        """Take the numbers of steps of the training and of an epoch from a function, called when they are needed."""
        self._lengths, self._placed = lengths, []

    def begin(self) -> None:
        """Set the rates of the next step, as soon as the length of the training is known."""
        self._placed = []
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def get_lr(self) -> list[Any]:
        """Return the rates of the groups at the present step."""
        if self._lengths is None:
            if self.last_epoch > 0:
                raise ValueError("schedule: the number of steps of the training is not known: give total_steps")
            return list(self.base_lrs)  # until `bind`
        level = self._level(self._lengths)
        return [rate * level for rate in self.base_lrs]

    def get_last_lr(self) -> list[Any]:
        """Return the present rates of the groups."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the state, which holds neither the text nor the length of the training."""
        own = ("text", "_parts", "_placed", "_lengths")
        return {name: value for name, value in super().state_dict().items() if name not in own}

    def _level(self, lengths: Callable[[], tuple[float, float | None]]) -> float:
        if not self._placed:
            total, steps_per_epoch = lengths()
            if not 0 <= total < math.inf:  # -1 where a loader has no length
                raise ValueError(
                    "schedule: it needs a finite number of training steps: set the Trainer's max_epochs or max_steps"
                )
            self._placed = segments(self._parts, int(total), steps_per_epoch)
        return level_at(self.last_epoch, self._placed)
