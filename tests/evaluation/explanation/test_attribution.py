"""Integrated gradients and Grad-CAM against captum; the network is left unchanged."""

import copy
import itertools

import eli5
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import evaluation.explanation  # noqa: F401 (teaches eli5)
from evaluation.explanation.grad_cam import NoFeatureMaps, grad_cam
from evaluation.explanation.integrated_gradients import integrated_gradients
from evaluation.explanation.layers import to_maps


class InPlace(nn.Module):
    """A residual block whose shortcut and activation (one for both sites) overwrite what came before."""

    def __init__(self, inplace=True):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.act, self.inplace = nn.ReLU(inplace), inplace
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(8, 4)

    def forward(self, images):
        x = self.act(self.bn1(self.conv1(images)))
        y = self.bn2(self.conv2(x))
        if self.inplace:
            y += x
        else:
            y = y + x
        return self.head(self.drop(self.act(y).mean((2, 3))))


class Tokens(nn.Module):
    """A small vision transformer with a class token."""

    def __init__(self, pool="token"):
        super().__init__()
        self.pool = pool
        self.embed = nn.Conv2d(1, 12, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, 12))
        self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(12, 2, 24, batch_first=True) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, images):
        x = self.embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0] if self.pool == "token" else x[:, 1:].mean(1))


def mlp(*widths, seed=0):
    torch.manual_seed(seed)
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@pytest.fixture
def images():
    return torch.randn(3, 3, 9, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    net = InPlace()
    net(torch.randn(16, 3, 9, 12))  # running statistics that are not 0 and 1
    return net


# ---------------------------------------------------------------------------------------------- integrated gradients


@pytest.mark.parametrize("given_baseline", [0.0, 0.5, "row"])
def test_integrated_gradients_are_captums(given_baseline):
    captum = pytest.importorskip("captum.attr")
    net, rows = mlp(6, 16, 16, 3).double(), torch.randn(4, 6, dtype=torch.float64)
    baseline = torch.randn(6, dtype=torch.float64) if given_baseline == "row" else given_baseline
    ours = integrated_gradients(net, rows, [0, 1, 2, 0], baseline=baseline, tolerance=1e-7, max_steps=65536)
    start = baseline.expand(4, -1).clone() if given_baseline == "row" else baseline
    theirs = captum.IntegratedGradients(net).attribute(rows, start, torch.tensor([0, 1, 2, 0]), n_steps=200)
    torch.testing.assert_close(ours.values, theirs, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([nn.ReLU, nn.GELU, nn.Tanh]))
@settings(deadline=None, max_examples=25)
def test_contributions_sum_to_the_score(seed, size, activation):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(size, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 2)).double()
    row = torch.randn(1, size, dtype=torch.float64)
    found = integrated_gradients(net, row, max_steps=1 << 17, batch_size=4096)
    with torch.no_grad():
        gap = net(row).max() - net(torch.zeros_like(row))[0, net(row).argmax()]
    assert found.complete().all()
    assert abs(found.values.sum() - gap) <= 1e-3 * abs(gap) + 1e-5
    torch.testing.assert_close(found.difference, found.values.sum()[None] - gap)


def test_a_linear_network_needs_no_refinement():
    net = nn.Linear(5, 3).double()
    rows = torch.randn(2, 5, dtype=torch.float64)
    found = integrated_gradients(net, rows, 1, steps=1)
    torch.testing.assert_close(found.values, net.weight.detach()[1] * rows)
    assert found.steps.tolist() == [1, 1]


def test_steps_are_doubled_until_complete():
    net = mlp(4, 64, 64, 1) + nn.Sequential(nn.ReLU())
    net[0].weight.data.mul_(20)
    row = 3 * torch.ones(1, 4)
    rough = integrated_gradients(net, row, steps=2, max_steps=2)
    fine = integrated_gradients(net, row, steps=2, max_steps=4096)
    assert not rough.complete().all()
    assert fine.complete().all()
    assert int(fine.steps) > 2
    assert int(fine.steps) & (int(fine.steps) - 1) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a positive integer, found 0"),
        ({"steps": 64, "max_steps": 8}, "steps must be at most max_steps, 8, found 64"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"target": 3}, "target must be in 0..2, found 3"),
        ({"target": [0, 1, 2]}, "one for each of the 2 examples"),
        ({"baseline": torch.zeros(5)}, r"baseline must be a number or of shape \[4\]"),
        ({"inputs": torch.zeros(4)}, r"inputs must be examples \[N, ...\]"),
        ({"inputs": torch.full((1, 4), torch.nan)}, "the input must be finite"),
        ({"model": nn.LSTM(4, 3)}, "must return a tensor of scores .* found tuple"),
        ({"model": nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)))}, r"must return scores \[N, K\]"),
        ({"model": nn.Sequential(nn.Linear(4, 3), nn.Threshold(torch.inf, torch.inf))}, "scores must be finite"),
    ],
)
def test_integrated_gradients_refuse(options, message):
    arguments = {"model": nn.Linear(4, 3), "inputs": torch.zeros(2, 4)} | options
    with pytest.raises(ValueError, match=message):
        integrated_gradients(**arguments)


def test_a_detached_graph_is_refused():
    class Cut(nn.Module):
        def forward(self, rows):
            return rows.detach() * 2.0

    with pytest.raises(ValueError, match="does not depend differentiably on its input"):
        integrated_gradients(Cut(), torch.ones(1, 3))


# ---------------------------------------------------------------------------------------------------------- Grad-CAM


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("layer", ["conv1", "bn1", "conv2", "bn2", "act"])
def test_grad_cam_is_captums(network, images, layer, relu):
    captum = pytest.importorskip("captum.attr")
    plain = InPlace(inplace=False).eval()
    plain.load_state_dict(network.state_dict())
    theirs = captum.LayerGradCam(plain, getattr(plain, layer))
    if layer == "act":  # called twice: the last call counts
        reference = _expected(plain, images, 2)
    else:
        reference = theirs.attribute(images, 2, relu_attributions=False)[:, 0].detach()
    found = grad_cam(network, images, 2, layer=layer, relu=relu)
    reference = reference.clamp(min=0) if relu else reference
    torch.testing.assert_close(found.values, reference.double(), rtol=1e-4, atol=1e-6)
    assert found.values.shape == (3, 9, 12)


def _expected(net, images, target):
    x = F.relu(net.bn1(net.conv1(images)))
    maps = F.relu(net.bn2(net.conv2(x)) + x).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(net.head(maps.mean((2, 3)))[:, target].sum(), maps)
    return (slopes.mean((2, 3), keepdim=True) * maps).sum(1).detach()


def test_a_batch_equals_its_images_one_by_one(network, images):
    whole = grad_cam(network, images)
    for i in range(3):
        alone = grad_cam(network, images[i : i + 1])
        assert alone.target[0] == whole.target[i]
        torch.testing.assert_close(alone.values[0], whole.values[i], rtol=1e-5, atol=1e-6)


def test_each_image_has_a_target_of_its_own(network, images):
    mixed = grad_cam(network, images, [0, 3, 1])
    for i, target in enumerate([0, 3, 1]):
        single = grad_cam(network, images, target)
        torch.testing.assert_close(mixed.values[i], single.values[i])


def test_the_chosen_layer_follows_the_last_convolution(network, images):
    assert grad_cam(network, images).layer == "act"
    small = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.Flatten())
    small.append(nn.LazyLinear(2))
    small(torch.zeros(1, 1, 8, 8))  # 6 x 6 after the first, 1 x 1 after the second
    assert grad_cam(small, torch.randn(1, 1, 8, 8)).layer == "1"


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_a_transformer_is_mapped_on_its_grid(pool):
    torch.manual_seed(0)
    net, images = Tokens(pool), torch.randn(2, 1, 16, 24)
    found = grad_cam(net, images, 1, relu=False)
    assert found.tokens
    assert found.values.shape == (2, 4, 6)
    assert found.values.std() > 0
    # The formula, at the layer that it names.
    net.eval()
    kept = {}
    layer = net.get_submodule(found.layer)
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.update(out=output))
    score = net(images)[:, 1].sum()
    (slopes,) = torch.autograd.grad(score, kept["out"])
    handle.remove()
    alpha = slopes[:, 1:].mean(1, keepdim=True)
    expected = (alpha * kept["out"][:, 1:]).sum(2).view(2, 4, 6).double().detach()
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-7)


def test_timm_vit():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(
        "vit_tiny_patch16_224", num_classes=5, img_size=(32, 48), embed_dim=24, depth=2, num_heads=2, patch_size=8
    )
    found = grad_cam(net, torch.randn(1, 3, 32, 48))
    assert (found.layer, found.tokens, found.values.shape) == ("blocks.1.norm1", True, (1, 4, 6))


def of_the_formula(net, images, layer):
    """The map of score 3 at a channels-last layer, by a hook of one's own."""
    kept = {}
    handle = net.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.update(out=output))
    score = net.eval()(images)[:, 3].sum()
    handle.remove()
    slope = torch.autograd.grad(score, kept["out"])[0]
    return (slope.mean((1, 2), keepdim=True) * kept["out"]).sum(3).double().detach()


def test_channels_last_blocks_of_timm_swin():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=4, img_size=(64, 96), window_size=4, embed_dim=16, depths=(2, 2),
        num_heads=(2, 2),
    )  # fmt: skip
    images = torch.randn(2, 3, 64, 96)
    for layer, grid in (("layers.0", (16, 24)), ("layers.1.blocks.0.norm1", (8, 12)), ("norm", (8, 12))):
        found = grad_cam(net, images, 3, layer=layer, relu=False).values
        assert found.shape[1:] == grid
        torch.testing.assert_close(found, of_the_formula(net, images, layer), rtol=1e-3, atol=1e-7)
    assert grad_cam(net, images, 3).layer == "norm"  # the stream, not the residual branch that ends before it


def test_padded_grids_are_channels_last_too():
    images = torch.zeros(1, 3, 224, 200)
    assert to_maps("norm", torch.zeros(1, 7, 7, 96), [], images).shape == (1, 96, 7, 7)
    assert to_maps("norm", torch.zeros(1, 96, 7, 6), [], images).shape == (1, 96, 7, 6)


class AfterPooling(nn.Module):
    """A convolution and a pooling, then a channels-last block: the maps of the block are the last ones."""

    def __init__(self, pool):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 8, 3, padding=1), pool
        self.fc, self.norm, self.head = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, images):
        x = self.pool(self.conv(images)).permute(0, 2, 3, 1)
        x = self.norm(x + self.fc(x).tanh())
        return self.head(x.mean((1, 2)))


@pytest.mark.parametrize(("pool", "size"), [(nn.MaxPool2d(2), 6), (nn.Identity(), 12)])
def test_channels_last_blocks_after_the_last_convolution(pool, size):
    """As in NesT and Sequencer of timm."""
    torch.manual_seed(0)
    found = grad_cam(AfterPooling(pool), torch.randn(2, 3, 12, 12), 1)
    assert found.layer == "norm"
    assert found.values.shape == (2, size, size)


def test_a_convolution_inside_the_last_attention_of_timm_coat():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(
        "coat_lite_tiny", num_classes=4, img_size=64, embed_dims=(16, 16, 16, 16), serial_depths=(1, 1, 1, 1),
        num_heads=8, mlp_ratios=(1, 1, 1, 1),
    )  # fmt: skip
    found = grad_cam(net, torch.randn(1, 3, 64, 64), 3, relu=False)
    assert found.layer == "serial_blocks4.0.norm1"  # the last one whose patches reach the class token
    assert found.values.std() > 0


class Several(nn.Module):
    """A network of an image, a row, the index of a word, and a number."""

    def __init__(self):
        super().__init__()
        self.conv, self.words, self.head = nn.Conv2d(1, 3, 3), nn.Embedding(5, 4), nn.Bilinear(3, 4, 2)

    def forward(self, images, rows, words=None, scale=1.0):
        rows = rows if words is None else rows * self.words(words)
        return self.head(self.conv(images).tanh().mean((2, 3)), rows) * scale


def test_several_inputs_are_attributed_together_as_by_captum():
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    net, words = Several().double(), torch.tensor([1, 4, 0])
    inputs, starts = (torch.randn(3, 1, 5, 5).double(), torch.randn(3, 4).double()), (0.5, torch.zeros(4).double())
    found = integrated_gradients(net, inputs, 1, baseline=starts, fixed=(words, 2.0), tolerance=1e-6)
    wanted = captum.IntegratedGradients(net).attribute(
        inputs, (0.5, torch.zeros(3, 4).double()), 1, additional_forward_args=(words, 2.0), n_steps=200
    )
    assert isinstance(found.values, tuple)
    for one, other in zip(found.values, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert bool(found.complete(1e-6).all())
    alone = integrated_gradients(net, inputs[0], 1, fixed=(inputs[1],), tolerance=1e-6)
    assert alone.values.shape == inputs[0].shape
    assert float((alone.values.sum((1, 2, 3)) - alone.score + alone.baseline_score).abs().max()) < 1e-5


def test_grad_cam_with_fixed_inputs_is_that_of_a_wrapper():
    torch.manual_seed(0)
    net, images, rows = Several(), torch.randn(2, 1, 8, 8), torch.randn(2, 4)

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            return self.net(images, rows)

    assert torch.equal(grad_cam(net, images, 0, fixed=(rows,)).values, grad_cam(Fixed(), images, 0).values)


def test_a_network_of_more_inputs_than_are_given_is_refused():
    net = nn.Bilinear(3, 4, 2)
    for explain in (integrated_gradients, grad_cam, eli5.explain_prediction):
        with pytest.raises(ValueError, match=r"of 1 input, found Bilinear.forward\(input1, input2\): explain all"):
            explain(net, torch.ones(1, 3))
    with pytest.raises(ValueError, match="of 1 input, found Bilinear"):
        eli5.explain_prediction(net, (torch.ones(1, 3), torch.ones(1, 4)))
    with pytest.raises(ValueError, match="of 1 input, found Bilinear"):
        eli5.explain_weights(net, data=((torch.ones(5, 3), torch.ones(5, 4)), torch.zeros(5).long()))
    with pytest.raises(ValueError, match=r"the same N, found \[5, 3\], \[4, 4\]"):
        integrated_gradients(net, (torch.ones(5, 3), torch.ones(4, 4)))
    with pytest.raises(ValueError, match="one of each of 2 inputs, found 1"):
        integrated_gradients(net, (torch.ones(5, 3), torch.ones(5, 4)), baseline=(0.0,))


def test_a_network_without_feature_maps_is_refused():
    with pytest.raises(NoFeatureMaps, match="Sequential has no convolution"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), torch.randn(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "conv3"}, "no layer 'conv3'; similar names are conv"),
        ({"layer": nn.ReLU()}, "layer must be a part of the network, found ReLU"),
        ({"layer": "head"}, r"layer 'head' must return feature maps \[N, C, h, w\] .* found \[3, 4\]"),
        ({"target": 4}, "target must be in 0..3, found 4"),
        ({"images": torch.zeros(3, 9, 12)}, r"images must be \[N, C, H, W\]"),
    ],
)
def test_grad_cam_refuses(network, images, options, message):
    with pytest.raises(ValueError, match=message):
        grad_cam(network, **({"images": images} | options))


# --------------------------------------------------------------------------------------------- the network afterwards


def explain_all(net, images):
    grad_cam(net, images)
    integrated_gradients(net, images, max_steps=16)


def test_the_network_is_left_as_it_was(network, images):
    network.train()
    network.bn1.eval()
    network.conv1.weight.requires_grad_(False)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 7.0) if parameter.requires_grad else None
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    random_state = torch.get_rng_state()
    explain_all(network, images)
    with pytest.raises(ValueError, match="no layer"):
        grad_cam(network, images, layer="nowhere")
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    for parameter in network.parameters():
        assert parameter.grad is None if not parameter.requires_grad else bool((parameter.grad == 7).all())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_first_layer_may_work_in_place():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.ReLU(inplace=True), nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 2)
    )
    images = torch.randn(2, 1, 6, 6)
    before = images.clone()
    explain_all(net, images)
    assert torch.equal(images, before)
    found = integrated_gradients(net, images, max_steps=1024)
    assert found.complete(1e-2).all()
    assert not found.values[images < 0].any()


def test_hooks_are_removed_after_an_error(network):
    with pytest.raises(RuntimeError):
        grad_cam(network, torch.randn(1, 5, 9, 12))  # five channels
    assert not any(module._forward_hooks for module in network.modules())
    assert network.training


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_in_any_gradient_mode(network, images, mode):
    expected = grad_cam(network, images).values
    gradients = integrated_gradients(network, images, max_steps=16).values
    with mode():
        inside = images.clone()
        torch.testing.assert_close(grad_cam(network, inside).values, expected)
        torch.testing.assert_close(integrated_gradients(network, inside, max_steps=16).values, gradients)


def test_a_network_made_under_inference_mode(images):
    with torch.inference_mode():
        torch.manual_seed(0)
        net = InPlace()
    explain_all(net, images)
    torch.manual_seed(0)
    torch.testing.assert_close(grad_cam(net, images).values, grad_cam(InPlace(), images).values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_evaluated_in_float32(network, images, dtype):
    half = copy.deepcopy(network).to(dtype)
    rounded = copy.deepcopy(half).float()
    found = grad_cam(half, images.to(dtype), 0)
    torch.testing.assert_close(found.values, grad_cam(rounded, images.to(dtype).float(), 0).values)
    explain_all(half, images)
    assert all(parameter.dtype == dtype for parameter in half.parameters())


def test_autocast_has_no_effect(network, images):
    expected = grad_cam(network, images).values
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(grad_cam(network, images).values, expected)


def test_a_compiled_network_is_run_eagerly(network, images):
    expected = grad_cam(network, images).values
    wrapped = torch.compile(network, backend="eager")
    wrapped.eval()(images)
    torch.testing.assert_close(grad_cam(wrapped, images, layer="act").values, expected)
    network.compile(backend="eager")
    network(images)
    torch.testing.assert_close(grad_cam(network, images).values, expected)


@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_a_traced_network_is_refused(network, images):
    traced = torch.jit.trace(network.eval(), images)
    with pytest.raises(ValueError, match="hooks do not work on scripted or traced modules"):
        grad_cam(traced, images)


def test_the_network_of_a_wrapper_is_explained(network, images):
    torch.testing.assert_close(grad_cam(nn.DataParallel(network), images).values, grad_cam(network, images).values)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu(network, images, dtype):
    expected = grad_cam(copy.deepcopy(network).to(dtype), images).values
    there = network.to("cuda", dtype)
    torch.testing.assert_close(grad_cam(there, images).values, expected, rtol=1e-2, atol=1e-4)
    assert integrated_gradients(there, images, max_steps=64).values.device.type == "cpu"
