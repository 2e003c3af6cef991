"""Networks from images to logits, with any activation."""

from .fast_net import FastNet as FastNet
from .fast_net import fast_net as fast_net
from .mlp import MLP as MLP
from .resnet import ResNet as ResNet
from .resnet import resnet8 as resnet8
from .resnet import resnet20 as resnet20
from .small_conv_net import SmallConvNet as SmallConvNet
from .timm_model import TimmModel as TimmModel
from .timm_model import timm_model as timm_model
from .two_layer_net import TwoLayerNet as TwoLayerNet
