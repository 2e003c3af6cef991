"""Trained weights of timm's networks, which are downloaded once, into a cache."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_FOLLOW = ContextVar("weights_follow", default=False)
_LOGGERS = ("huggingface_hub", "timm")


@contextmanager
def weights_follow(follow: bool = True) -> Iterator[None]:
    """Build networks without their trained weights in the `with` block, if those of a checkpoint `follow`."""
    token = _FOLLOW.set(follow)
    try:
        yield
    finally:
        _FOLLOW.reset(token)


def are_wanted(pretrained: bool) -> bool:
    """Return whether trained weights are to be loaded, which they are not where those of a checkpoint follow.

    >>> with weights_follow():
    ...     are_wanted(True)
    False
    """
    return pretrained and not _FOLLOW.get()


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Report in one line that weights could not be loaded in the `with` block, without lines about each attempt.

    Raises:
        ValueError: If they could not; not for errors that a network raises while it is built.
    """
    levels = {one: logging.getLogger(one).level for one in _LOGGERS}
    for one in _LOGGERS:
        logging.getLogger(one).setLevel(logging.CRITICAL)
    try:
        yield
    except (AssertionError, RuntimeError, TypeError):
        raise
    except Exception as error:  # each library on the way raises its own
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(
            f"the trained weights of {name!r} cannot be loaded ({type(error).__name__}: {reason}): connect once, so "
            "that they are kept in the cache (HF_HOME), or give a file by --init_from FILE without pretrained"
        ) from error
    finally:
        for one, level in levels.items():
            logging.getLogger(one).setLevel(level)
