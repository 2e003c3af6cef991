"""Which part of a command line an error comes from, for the messages of libraries that do not say it."""

import inspect
import re
from types import FrameType
from typing import Any, NamedTuple

_OPTIONS = {
    "Optimizer": "--optimizer",
    "LRScheduler": "--lr_scheduler",
    "Callback": "--trainer.callbacks",
    "Logger": "--trainer.logger",
    "LightningDataModule": "--data",
    "LightningModule": "--model",
    "Module": "--model.backbone",
    "Trainer": "--trainer",
}
"""The option of an object, by the name of its first base class that is here."""


class Part(NamedTuple):
    """The part of a command line that an error comes from."""

    option: str
    name: str  # of the class
    ours: bool  # whether the class is the project's
    made: bool  # whether the error comes from its constructor
    options: tuple[str, ...]  # names of all its arguments
    given: dict[str, Any]  # its numbers and strings that are not the defaults

    def said_in(self, text: str) -> str:
        """Return a message with the part, and with what the part was given if the message has no value."""
        if self.option in text:
            return text
        if self.option == "--trainer":  # of many options
            said = self._named_in(text)
            return f"--trainer.{said}: {text}" if said else text
        found = ", ".join(f"{name}={value}" for name, value in self.given.items())
        known = not found or "found" in text or any(str(value) in text for value in self.given.values())
        name = "" if self.option == "--model" else f" {self.name}"
        return f"{self.option}{name}: {text}" + ("" if known or not name else f" (found {found})")

    def _named_in(self, text: str) -> str | None:
        """Return the first argument that a message names, or whose value it has."""
        places = {}
        for name in self.options:
            word = rf"\b{name}\b" if "_" in name else rf"`{name}\b|\b{name}="
            if found := re.search(word, text):
                places[found.start()] = name
        values = (name for name, value in self.given.items() if isinstance(value, str) and repr(value) in text)
        return places[min(places)] if places else next(values, None)


def part_of(error: BaseException) -> Part | None:
    """Return the innermost part that an error passed through, or None."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    # What the Trainer makes it makes of its own options.
    trainer = [one for one in frames if type(one.f_locals.get("self")).__name__ == "Trainer" and _makes(one)]
    for frame in trainer or reversed(frames):
        one = frame.f_locals.get("self")
        option = next((_OPTIONS[base.__name__] for base in type(one).__mro__ if base.__name__ in _OPTIONS), None)
        home = type(one).__module__
        if option is None or (option == "--trainer.callbacks" and home.startswith("lightning_modules.")):
            continue  # nobody has typed the project's own callbacks
        if option in ("--model", "--model.backbone") and not _makes(frame):
            continue  # any error of a computation
        if option == "--model.backbone" and "activation" in home:
            option = "--model.activation"
        ours = "site-packages" not in frame.f_code.co_filename
        options = tuple(inspect.signature(type(one)).parameters)
        return Part(option, type(one).__name__, ours, _makes(frame), options, _given(one, frame))
    return None


def _makes(frame: FrameType) -> bool:
    return frame.f_code.co_name == "__init__"


def _given(one: Any, frame: FrameType) -> dict[str, Any]:
    """Return the arguments of an object's constructor that are plain and not the defaults."""
    values = frame.f_locals if _makes(frame) else vars(one)
    return {
        name: values[name]
        for name, parameter in inspect.signature(type(one)).parameters.items()
        if isinstance(values.get(name), int | float | str)
        and values[name] != parameter.default
        and name != "last_epoch"
    }
