"""Activations: SPOCU, the asymmetric Hardshrink and others, and every activation of torch and timm by name."""

from . import functional as functional
from .hardshrink import Hardshrink as Hardshrink
from .lisht import LiSHT as LiSHT
from .replace import replace as replace
from .snake import Snake as Snake
from .sparsemax import Sparsemax as Sparsemax
from .spocu import SPOCU as SPOCU
from .zoo import class_path as class_path
from .zoo import class_paths as class_paths
from .zoo import create as create
from .zoo import names as names
