"""Backbones against the papers' counts, independent re-implementations and finite differences."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.backbones import (
    MLP,
    ResNet,
    SmallConvNet,
    TwoLayerNet,
    resnet8,
    resnet20,
    timm_model,
)
from lightning_modules.backbones.named import named, own_backbones


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class Site(nn.PReLU):
    """An activation that no backbone has by itself."""


ALL = {
    **own_backbones(),
    "MLP with norm": functools.partial(MLP, hidden=(8, 8, 8), dropout=0.1, norm="batch"),
    "SmallConvNet with dropout": functools.partial(SmallConvNet, width=4, dropout=0.5),
    "ResNet of two stages": functools.partial(ResNet, blocks=(2, 1), width=3),
    "timm": functools.partial(timm_model, "resnet18"),
}
IMAGE_SHAPES = [(1, 8, 8), (1, 28, 28), (3, 9, 13)]


@pytest.mark.parametrize("name", ALL)
def test_every_site_has_its_own_activation(name):
    model = ALL[name](num_classes=3, image_shape=(1, 8, 8), activation=Site)
    sites = [module for module in model.modules() if isinstance(module, Site)]
    assert len({id(site) for site in sites}) == len(sites) > 0
    assert len({site.weight.data_ptr() for site in sites}) == len(sites)
    assert not any(type(module) in (nn.ReLU, nn.ReLU6) for module in model.modules())


SITES = {
    "fast_net": 7,
    "FastNet": 7,
    "TwoLayerNet": 1,
    "MLP": 2,
    "MLP with norm": 3,
    "SmallConvNet": 2,
    "SmallConvNet with dropout": 2,
    "ResNet": 19,
    "resnet20": 19,
    "resnet8": 7,
    "ResNet of two stages": 7,
    "timm": 17,
    "TimmModel": 17,
}


@pytest.mark.parametrize(("name", "count"), SITES.items())
def test_number_of_sites(name, count):
    model = ALL[name](num_classes=3, image_shape=(1, 8, 8), activation=Site)
    assert sum(isinstance(module, Site) for module in model.modules()) == count


@pytest.mark.parametrize("name", ALL)
def test_shapes_and_gradients(name):
    torch.manual_seed(0)
    for shape in IMAGE_SHAPES:
        model = ALL[name](num_classes=3, image_shape=shape, activation=Site)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(2):  # residual branches that start from zero get no gradient in the first step
            optimizer.zero_grad()
            logits = model(torch.randn(4, *shape))
            assert logits.shape == (4, 3)
            logits.square().sum().backward()
            optimizer.step()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained)


@pytest.mark.parametrize("name", ALL)
def test_gradient_by_finite_differences(name):
    torch.manual_seed(0)
    model = ALL[name](num_classes=2, image_shape=(1, 4, 4), activation=nn.Tanh).double().eval()
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = next(model.parameters()).detach().clone().requires_grad_()
    first = next(iter(dict(model.named_parameters())))

    def call(images: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(model, {first: weight}, (images,))

    assert torch.autograd.gradcheck(call, (images, weight), fast_mode=True)


def test_defaults():
    for make in (TwoLayerNet, MLP, SmallConvNet, ResNet, resnet8, resnet20):
        model = make()
        assert any(isinstance(module, nn.ReLU) for module in model.modules())


def test_two_layer_net_is_the_books():
    torch.manual_seed(0)
    model = TwoLayerNet(activation=nn.Sigmoid)
    assert parameters(model) == 784 * 50 + 50 + 50 * 10 + 10
    assert model.affine1.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert model.affine1.weight.mean().item() == pytest.approx(0, abs=3e-4)
    assert model.affine2.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not model.affine1.bias.any()
    assert not model.affine2.bias.any()
    x = torch.randn(3, 784)
    (w1, b1), (w2, b2) = ((layer.weight, layer.bias) for layer in (model.affine1, model.affine2))
    torch.testing.assert_close(model(x.view(3, 1, 28, 28)), torch.sigmoid(x @ w1.T + b1) @ w2.T + b2)
    assert TwoLayerNet(hidden=20, weight_std=0.0).affine1.weight.shape == (20, 784)


def reference_resnet(images: Tensor, state: dict[str, Tensor], blocks: tuple[int, ...], width: int) -> Tensor:
    """He et al. 2016, section 4.2, as plain functions of the weights; zero padding of the new channels."""

    def conv_bn(x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        x = F.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=1)
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        scale, shift = state[f"{bn}.weight"].view(1, -1, 1, 1), state[f"{bn}.bias"].view(1, -1, 1, 1)
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = torch.relu(conv_bn(images, "conv", "bn"))
    block = 0
    for stage, count in enumerate(blocks):
        for position in range(count):
            stride = 2 if stage > 0 and position == 0 else 1
            at = f"blocks.{block}"
            y = torch.relu(conv_bn(x, f"{at}.conv1", f"{at}.bn1", stride))
            y = conv_bn(y, f"{at}.conv2", f"{at}.bn2")
            if stride == 2:
                old = x[:, :, 0::2, 0::2]
                x = torch.zeros_like(y)
                x[:, (y.shape[1] - old.shape[1]) // 2 :][:, : old.shape[1]] = old
            x = torch.relu(x + y)
            block += 1
    return F.linear(x.flatten(2).mean(2), state["head.weight"], state["head.bias"])


@pytest.mark.parametrize(
    ("make", "blocks", "width", "shape"),
    [
        (resnet20, (3, 3, 3), 16, (3, 32, 32)),
        (resnet20, (3, 3, 3), 16, (1, 28, 28)),
        (resnet8, (1, 1, 1), 16, (1, 8, 8)),
        (functools.partial(ResNet, blocks=(1, 2), width=5), (1, 2), 5, (3, 7, 5)),
    ],
)
def test_resnet_equals_a_plain_function(make, blocks, width, shape):
    torch.manual_seed(0)
    model = make(num_classes=7, image_shape=shape).double()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
    images = torch.randn(3, *shape, dtype=torch.float64)
    expected = reference_resnet(images, dict(model.named_parameters()), blocks, width)
    torch.testing.assert_close(model(images), expected, rtol=1e-9, atol=1e-9)


def test_resnet20_has_the_papers_size():
    # The paper: 0.27M. 269,722 is the count with parameter-free shortcuts and the biases and scales of batch norms.
    expected = 3 * 16 * 9 + 6 * 16 * 16 * 9 + (16 * 32 + 5 * 32 * 32) * 9 + (32 * 64 + 5 * 64 * 64) * 9
    expected += 2 * (7 * 16 + 6 * 32 + 6 * 64) + 64 * 10 + 10
    assert expected == 269_722
    assert parameters(resnet20()) == expected


def test_resnet_starts_from_he_normal():
    torch.manual_seed(0)
    weight = resnet20().blocks[-1].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_channels_last_gives_the_same():
    torch.manual_seed(0)
    model, images = resnet8(), torch.randn(4, 1, 8, 8)
    expected = model(images)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images.contiguous(memory_format=torch.channels_last)), expected)


def test_timm_swap_leaves_gates_alone():
    own = timm_model("seresnet18", 5, (3, 64, 64))
    swapped = timm_model("seresnet18", 5, (3, 64, 64), nn.GELU)

    def count(model: nn.Module, name: str) -> int:
        return sum(type(module).__name__ == name for module in model.modules())

    assert count(swapped, "Sigmoid") == count(own, "Sigmoid") > 0
    assert count(swapped, "GELU") == count(own, "ReLU") > 0
    assert count(swapped, "ReLU") == 0


def test_timm_with_its_own_activation_is_timms():
    import timm

    torch.manual_seed(0)
    ours = timm_model("resnet18", 4, (3, 32, 32), nn.ReLU)
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", num_classes=4, in_chans=3)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(images), theirs(images))


def test_timm_transformer_takes_the_image_size():
    model = timm_model("vit_tiny_patch16_224", 3, (1, 32, 48), nn.SiLU)
    assert model(torch.randn(2, 1, 32, 48)).shape == (2, 3)
    assert sum(isinstance(module, nn.SiLU) for module in model.modules()) == 12


def test_timm_keeps_its_own_activation_unless_another_is_given():
    own = timm_model("vit_tiny_patch16_224", 3, (3, 32, 32), depth=2)
    assert sum(isinstance(module, nn.GELU) for module in own.modules()) == 2
    assert not any(isinstance(module, nn.ReLU) for module in own.modules())


def test_timm_swaps_functional_calls_too():
    from timm.models import register_model

    class Calling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.first(x) - 1.0)

    @register_model
    def calling_test_model(pretrained: bool = False, **options: object) -> nn.Module:
        return Calling()

    model = timm_model("calling_test_model", 2, (1, 4, 4), Site)
    assert sum(isinstance(module, Site) for module in model.modules()) == 2


def test_timm_without_activation_modules():
    from timm.models import register_model

    @register_model
    def siteless_test_model(pretrained: bool = False, **options: object) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(2))

    with pytest.raises(ValueError, match=r"no activation modules.*activation=None"):
        timm_model("siteless_test_model", 2, (1, 4, 4), nn.ReLU)
    assert timm_model("siteless_test_model", 2, (1, 4, 4))(torch.zeros(3, 1, 4, 4)).shape == (3, 2)


def test_names():
    assert named("resnet20") is resnet20
    assert named("TwoLayerNet") is TwoLayerNet
    assert type(named("vit_tiny_patch16_224.augreg_in21k")(10, (3, 32, 32))).__name__ == "VisionTransformer"
    with pytest.raises(ValueError, match=r"unknown backbone 'resnet21'.*\bresnet20\b") as error:
        named("resnet21")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="TwoLayerNet"):
        named("twolayernet")
    with pytest.raises(ValueError, match="resnet8"):
        named("qqqqqqqqqqqq")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (TwoLayerNet, {"hidden": 0}, "hidden.*0"),
        (TwoLayerNet, {"weight_std": -1.0}, "weight_std.*-1"),
        (TwoLayerNet, {"image_shape": (1, 0, 8)}, "image_shape.*0"),
        (TwoLayerNet, {"image_shape": ()}, "image_shape"),
        (TwoLayerNet, {"num_classes": 0}, "num_classes.*0"),
        (MLP, {"hidden": (4, 0)}, "hidden.*0"),
        (MLP, {"dropout": 1.0}, "dropout.*1"),
        (MLP, {"norm": "group"}, "norm.*group"),
        (SmallConvNet, {"image_shape": (784,)}, r"image_shape.*\(784,\)"),
        (SmallConvNet, {"dropout": -0.1}, "dropout"),
        (SmallConvNet, {"width": 0}, "width"),
        (ResNet, {"blocks": ()}, "blocks"),
        (ResNet, {"blocks": (1, 0)}, "blocks"),
        (ResNet, {"width": 0}, "width"),
        (ResNet, {"image_shape": (3, 32)}, "image_shape"),
        (timm_model, {"name": "no_such_model"}, "no_such_model"),
        (timm_model, {"name": "resnet18", "image_shape": (784,)}, "image_shape"),
        (timm_model, {"name": "resnet18", "no_such_option": 1}, "resnet18.*no_such_option"),
    ],
)
def test_bad_values(make, options, message):
    with pytest.raises(ValueError, match=message) as error:
        make(**options)
    assert "\n" not in str(error.value)
