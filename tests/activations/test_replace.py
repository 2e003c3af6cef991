"""Swapping activations: modules and functional calls, in models of torchvision, of timm and of our own."""

import copy
import functools
import io
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from activations import SPOCU, Hardshrink, replace


class Functional(nn.Module):
    """All ways to call a ReLU without a module, and a dropout that depends on the mode."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.activation = F.relu

    def forward(self, x, scale=2.0):
        x = F.relu(self.first(x))
        x = torch.relu(self.second(x)).sub(0.1)
        x = self.activation(x.relu() - 0.2)
        x = F.dropout(x, 0.5, self.training)
        return scale * F.relu(x, inplace=True)


class Twice(nn.Module):
    """In-place calls whose results are not used."""

    def forward(self, x):
        x = x * 1.0
        y = x + 1.0
        x.relu_()
        z = x * 3.0
        F.relu_(z)
        return x + y + z


class Untraceable(nn.Module):
    def forward(self, x):
        return F.relu(x) if x.sum() > 0 else x


class Noisy(nn.Module):
    def forward(self, x):
        return F.relu(x + torch.rand(4))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x):
        self.count += 1
        return F.relu(x) * self.count


class Averaging(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return F.relu(x) + self.mean


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return F.relu(x)


class Switching(nn.Module):
    def forward(self, x):
        with torch.no_grad():
            shift = x.mean(0)
        return F.relu(x) - shift


def test_each_module_and_function_becomes_a_separate_instance():
    model = Functional().eval()
    x = torch.randn(8, 4)

    def expected(x):
        s = Hardshrink()
        x = s(model.first(x))
        x = s(model.second(x)).sub(0.1)
        x = s(s(x) - 0.2)
        return 2.0 * s(x)

    assert replace(model, nn.ReLU, Hardshrink) == 5
    swapped = [m for m in model.modules() if isinstance(m, Hardshrink)]
    assert len(swapped) == len(set(map(id, swapped))) == 5
    assert isinstance(model, Functional)
    torch.testing.assert_close(model(x), expected(x))
    torch.testing.assert_close(model(x, scale=4.0), 2 * expected(x))
    with pytest.raises(ValueError, match="no ReLU to swap"):
        replace(model, nn.ReLU, Hardshrink)


def test_training_branches_are_kept():
    model = Functional()
    replace(model, nn.ReLU, functools.partial(SPOCU, c=1.0))
    x = torch.randn(8, 4)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("copied", ["deepcopy", "pickle", "symbolic_trace"])
def test_rewritten_model_survives(copied):
    model = Functional().eval()
    replace(model, nn.ReLU, functools.partial(SPOCU, trainable=True))
    x = torch.randn(8, 4)
    if copied == "deepcopy":
        other = copy.deepcopy(model)
    elif copied == "pickle":
        stream = io.BytesIO()
        torch.save(model, stream)
        stream.seek(0)
        other = torch.load(stream, weights_only=False)
    else:
        other = torch.fx.symbolic_trace(model)
    assert torch.equal(model(x), other(x))
    before = model(x)
    with torch.no_grad():
        next(m for m in other.modules() if isinstance(m, SPOCU) or hasattr(m, "alpha")).alpha.mul_(2)
    assert torch.equal(model(x), before) or copied == "symbolic_trace"


def test_unused_results_of_in_place_calls():
    model = Twice()
    assert replace(model, nn.ReLU, Hardshrink) == 2
    x = torch.randn(50)
    s = Hardshrink()
    torch.testing.assert_close(model(x), s(x) + (x + 1) + s(3 * s(x)))


def test_in_place_flag_is_passed_to_modules_that_take_it():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.ReLU())
    assert replace(model, nn.ReLU, nn.SiLU) == 2
    assert [m.inplace for m in model] == [True, False]
    assert replace(model, nn.SiLU, SPOCU) == 2


def test_shared_module_becomes_two():
    act = nn.ReLU()
    model = nn.Sequential(act, nn.Linear(2, 2), act, nn.Sequential(act))
    assert replace(model, nn.ReLU, functools.partial(SPOCU, trainable=True)) == 3
    assert len({id(m) for m in model.modules() if isinstance(m, SPOCU)}) == 3


def test_hooks_are_kept_and_their_handles_work():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    seen = []
    handle = model[1].register_forward_hook(lambda m, a, out: seen.append(type(m).__name__))
    model[1].register_forward_pre_hook(lambda m, a, k: seen.append("pre"), with_kwargs=True)
    model[1].register_full_backward_hook(lambda m, gi, go: seen.append("back"))
    replace(model, nn.ReLU, Hardshrink)
    model(torch.randn(2, 3)).sum().backward()
    assert seen == ["pre", "Hardshrink", "back"]
    handle.remove()
    model(torch.randn(2, 3))
    assert seen == ["pre", "Hardshrink", "back", "pre"]


def test_hooks_of_a_rewritten_module_are_kept():
    model = nn.Sequential(Twice())
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    replace(model, nn.ReLU, Hardshrink)
    model(torch.randn(3))
    assert seen == [1]


def test_parameters_follow_the_model():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).double().eval()
    replace(model, nn.ReLU, functools.partial(SPOCU, trainable=True))
    assert model[1].alpha.dtype == torch.float64
    assert not model[1].training


def test_refusals():
    with pytest.raises(ValueError, match="cannot be swapped in place"):
        replace(nn.ReLU(), nn.ReLU, SPOCU)
    with pytest.raises(ValueError, match="Sequential has no ReLU or GELU to swap"):
        replace(nn.Sequential(nn.Linear(2, 2)), (nn.ReLU, nn.GELU), SPOCU)
    same = SPOCU()
    with pytest.raises(ValueError, match="new module each time"):
        replace(nn.Sequential(nn.ReLU(), nn.ReLU()), nn.ReLU, lambda: same)
    with pytest.raises(ValueError, match=r"must make a torch\.nn\.Module, found Tensor"):
        replace(nn.Sequential(nn.ReLU()), nn.ReLU, lambda: torch.ones(1))


def test_untraceable_forward_warns_and_the_rest_is_swapped():
    model = nn.Sequential(Untraceable(), nn.ReLU())
    with pytest.warns(RuntimeWarning, match="Untraceable keeps its calls"):
        assert replace(model, nn.ReLU, SPOCU) == 1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Noisy, "it makes tensors"),
        (Counting, "it changes count"),
        (Averaging, "it changes mean"),
        (Remembering, "it changes seen"),
        (Switching, "it computes under no_grad"),
    ],
)
def test_a_forward_that_a_graph_cannot_reproduce_is_left_alone(kind, reason):
    model, untouched = kind(), kind()
    state = torch.get_rng_state()
    with (
        pytest.warns(RuntimeWarning, match=rf"keeps its calls \(relu.*{reason}"),
        pytest.raises(ValueError, match="no ReLU"),
    ):
        replace(model, nn.ReLU, Hardshrink)
    assert torch.equal(torch.get_rng_state(), state)
    assert vars(model).keys() == vars(untouched).keys()
    x = torch.randn(5, 4)
    for _ in range(2):
        torch.manual_seed(2)
        wanted = untouched(x)
        torch.manual_seed(2)
        torch.testing.assert_close(model(x), wanted)


def test_subclasses_count_once():
    class Own(nn.ReLU):
        pass

    model = nn.Sequential(Own(), nn.Sequential(Own()))
    assert replace(model, nn.ReLU, Hardshrink) == 2
    assert isinstance(model[1][0], Hardshrink)


@pytest.mark.parametrize(
    "old", [None, "relu", nn.ReLU(), (), (nn.ReLU, F.relu)], ids=["None", "name", "instance", "nothing", "function"]
)
def test_old_must_be_a_module_class(old):
    with pytest.raises(ValueError, match="old must be a module class or a tuple of them"):
        replace(nn.Sequential(nn.ReLU()), old, SPOCU)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted_models_are_refused():
    with pytest.raises(ValueError, match=r"torch\.jit has compiled"):
        replace(nn.Sequential(torch.jit.script(nn.Sequential(nn.ReLU()))), nn.ReLU, SPOCU)


def test_a_compiled_model_computes_the_new_activation():
    model = Functional().eval()
    compiled = torch.compile(model, backend="eager")
    x = torch.randn(8, 4)
    before = compiled(x)
    assert replace(compiled, nn.ReLU, Hardshrink) == 5
    torch.testing.assert_close(compiled(x), model(x))
    assert not torch.allclose(compiled(x), before)


@pytest.mark.parametrize("activation", [F.relu, "gelu", nn.ReLU()])
def test_transformer_layers_do_not_fall_back_to_the_old_one_in_evaluation(activation):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation=activation, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert replace(model, (nn.ReLU, nn.GELU), functools.partial(Hardshrink, -1.0, 1.0)) == 2
    x = torch.randn(2, 3, 8)
    trained = model.train()(x)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(x), trained)


def test_torchvision_and_timm_models():
    timm = pytest.importorskip("timm")
    torchvision = pytest.importorskip("torchvision")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resnet = torchvision.models.resnet18(num_classes=3)
        assert replace(resnet, nn.ReLU, SPOCU) == 9
        densenet = torchvision.models.DenseNet(4, (2, 2), 8, num_classes=3)
        # Two in each layer, one in the transition, one after the first convolution; one functional at the end.
        assert replace(densenet, nn.ReLU, functools.partial(SPOCU, c=1.0)) == 4 * 2 + 1 + 1 + 1
        vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=3)
        assert replace(vit, nn.GELU, SPOCU) == 2
    assert not any(isinstance(m, nn.ReLU) for net in (resnet, densenet) for m in net.modules())
    assert densenet.eval()(torch.randn(1, 3, 32, 32)).isfinite().all()
    assert resnet.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 3)
