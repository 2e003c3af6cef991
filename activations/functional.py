"""The activations of this package as pure functions."""

from .hardshrink import hardshrink as hardshrink
from .lisht import lisht as lisht
from .snake import snake as snake
from .sparsemax import sparsemax as sparsemax
from .spocu import spocu as spocu
