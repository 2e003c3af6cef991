"""Lightning modules, their backbones, and the callbacks that train them well."""

from . import backbones as backbones
from .classifier import ImageClassifier as ImageClassifier
