"""The depth order of networks: timm's where it is known, the registered order elsewhere."""

import pytest
import timm
import torch
import torchvision
from timm.models import group_parameters
from torch import nn

from lightning_modules.backbones import MLP, TimmModel, TwoLayerNet, fast_net, resnet20
from lightning_modules.layers import layers_of


class Encoder(nn.Module):
    """Blocks, and an embedding of its own."""

    def __init__(self, block):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(2, 2))
        self.embed = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.ModuleDict({"norm": nn.LayerNorm(4), "mlp": block()}) for _ in range(2))
        self.more = nn.ModuleList(Block() for _ in range(3))
        self.norm = nn.LayerNorm(4)


class Block(nn.Module):
    """Two layers that belong together."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))


class HeadFirst(nn.Module):
    """Registers its head before its trunk."""

    def __init__(self, trunk):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.trunk = trunk


def firsts(network, num_classes=3):
    layers = layers_of(network, num_classes)
    assert sorted(name for layer in layers for name in layer) == sorted(name for name, _ in network.named_parameters())
    return [layer[0] for layer in layers]


@pytest.mark.parametrize(("make", "count"), [(resnet20, 11), (MLP, 3), (TwoLayerNet, 2), (fast_net, 8)])
def test_ours_have_a_layer_a_block(make, count):
    assert len(firsts(make(), 10)) == count


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "efficientnet_b0"])
def test_a_timm_network_is_divided_as_timm_does_it(name):
    network = timm.create_model(name, num_classes=3)
    numbers = group_parameters(network, network.group_matcher(), reverse=True)
    layers = layers_of(network, 3)
    assert {name: place for place, layer in enumerate(layers) for name in layer} == numbers
    wrapped = TimmModel(3, (3, 224, 224), name=name)
    assert layers_of(wrapped, 3) == [[f"model.{name}" for name in layer] for layer in layers]
    below = nn.Sequential(timm.create_model(name, num_classes=0), nn.Linear(8, 3))
    assert [len(layer) for layer in layers_of(below, 3)] == [len(layer) for layer in layers]


@pytest.mark.parametrize(("name", "count"), [("resnet18", 10), ("vit_b_32", 14), ("mobilenet_v2", 20), ("vgg11", 11)])
def test_torchvisions_have_a_layer_a_block(name, count):
    with torch.device("meta"):
        assert len(firsts(torchvision.models.get_model(name, num_classes=3))) == count


def test_blocks_are_found_within_modules_and_the_head_wherever_it_is():
    assert firsts(HeadFirst(Encoder(Block))) == [
        "trunk.position",
        "trunk.blocks.0.mlp.inner.0.weight",
        "trunk.blocks.1.mlp.inner.0.weight",
        *(f"trunk.more.{place}.inner.0.weight" for place in range(3)),
        "head.weight",
    ]


def test_a_tensor_that_is_shared_is_in_one_layer():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    network[1].weight = network[0].weight
    assert layers_of(network, 3) == [["0.weight", "0.bias"], ["1.bias"], ["2.weight", "2.bias"]]
