"""scripts/gradient_check.py --module: modules and functions of the user's, right and wrong."""

import json
import random
import sys
import types

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import gradient_check
from _common.described import gather, repeated
from _gradient_check import figure
from _gradient_check.inputs import read_input
from _gradient_check.repeatable import seeded


class Product(torch.autograd.Function):
    """Scaled product."""

    @staticmethod
    def forward(ctx, x, y, scale):
        ctx.save_for_backward(x, y)
        ctx.scale = scale
        return x * y * scale

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * y * ctx.scale, grad * x * ctx.scale, None


class WrongProduct(Product):
    """Its gradient is wrong in one coordinate of y."""

    @staticmethod
    def backward(ctx, grad):
        of_x, of_y, _ = Product.backward(ctx, grad)
        of_y[1, 2] *= 1.001
        return of_x, of_y, None


class Power(torch.autograd.Function):
    """Of the newer kind, whose forward has no context."""

    @staticmethod
    def forward(x, exponent=2):
        return x**exponent

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.exponent = inputs[1] if len(inputs) > 1 else 2

    @staticmethod
    def backward(ctx, grad):
        return (grad * ctx.exponent * ctx.saved_tensors[0] ** (ctx.exponent - 1), None)[: len(ctx.needs_input_grad)]


class BadShape(torch.autograd.Function):
    """Returns a gradient of another shape."""

    @staticmethod
    def forward(ctx, x):
        return x.sum(1)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Everything(nn.Module):
    """Buffers, both modes, dropout, three kinds of random numbers, integers, in-place changes, nested outputs."""

    def __init__(self, width: int = 4, p: float = 0.5):
        super().__init__()
        self.embedding, self.norm, self.drop = nn.Embedding(7, width), nn.BatchNorm1d(width), nn.Dropout(p)
        self.affine, self.relu = nn.Linear(width, 3), nn.ReLU(inplace=True)
        self.transposed = nn.Parameter(torch.randn(3, width).t())
        self.phase = nn.Parameter(torch.randn(3, dtype=torch.complex64))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, indices, x):
        self.calls += 1
        x.mul_(2)
        h = self.drop(self.norm(self.embedding(indices) + x)) * random.uniform(1, 2) * float(np.random.rand() + 1)
        last = h @ self.transposed
        return {"a": [self.relu(self.affine(h)) * self.calls, "text", None], "b": (last * self.phase, torch.arange(3))}


class Forgets(nn.Module):
    """Detaches a parameter in evaluation mode only."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * (self.weight if self.training else self.weight.detach())


class Narrow(nn.Module):
    """Computes in float32."""

    def __init__(self, back: bool = False):
        super().__init__()
        self.back = back

    def forward(self, x):
        y = x.float().sin()
        return y.double() if self.back else y


class OwnGenerator(nn.Module):
    """Draws numbers that nobody can seed."""

    def forward(self, x):
        return x * torch.rand(x.shape, generator=GENERATOR, dtype=x.dtype)


class Overwrites(nn.Module):
    """Changes what its backward pass needs."""

    def forward(self, x):
        y = x.exp()
        z = y * y
        y.add_(1)
        return z


class Refuses(nn.Module):
    """Cannot be made."""

    def __init__(self):
        raise RuntimeError("no\nluck")


GENERATOR = torch.Generator()
CONTENT: dict[str, object] = {
    "Product": Product, "WrongProduct": WrongProduct, "Power": Power, "BadShape": BadShape, "Everything": Everything,
    "Forgets": Forgets, "Narrow": Narrow, "OwnGenerator": OwnGenerator, "Overwrites": Overwrites, "Refuses": Refuses,
    "INSTANCE": nn.Linear(3, 2), "make": lambda width=3: nn.Sequential(nn.Linear(width, 2), nn.Tanh()),
    "scaled": lambda x, alpha=1.0: torch.sigmoid(alpha * x), "number": lambda: 3, "ArgMax": lambda x: x.argmax(1),
    "Clipped": lambda: nn.Embedding(5, 4, max_norm=1.0),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """The module `own_blocks`, as a file of the user's."""
    module = types.ModuleType("own_blocks")
    vars(module).update(CONTENT)
    monkeypatch.setitem(sys.modules, "own_blocks", module)
    monkeypatch.setattr(gradient_check, "draw_rows", lambda results: Figure())


def check(words, folder):
    return gradient_check.main(["--module", *words.split(), "--output", str(folder)])


RIGHT = {
    "own_blocks.Product --module.scale 2 --shape 3,4 --shape 3,4": {"input 1": 12, "input 2": 12},
    "own_blocks.Power --shape 5": {"input": 5},
    "own_blocks.Power --module.exponent 3 --shape 5": {"input": 5},
    "own_blocks.Everything --module.p 0.3 --shape 6:int --shape x=6,4": {
        "transposed": 12, "phase": 6, "embedding.weight": 28, "norm.weight": 4, "norm.bias": 4, "affine.weight": 12,
        "affine.bias": 3, "x": 24,
    },
    "own_blocks.INSTANCE --shape 4,3": {"weight": 6, "bias": 2, "input": 12},
    "own_blocks.make --module.width 4 --shape 2,4": {"0.weight": 8, "0.bias": 2, "input": 8},
    "own_blocks.scaled --module.alpha 2.5 --shape 4,3": {"input": 12},
    "torch.log --shape 4,3:0.1..2": {"input": 12},
    "torch.nn.LazyLinear --module.out_features 2 --shape 4,5": {"weight": 10, "bias": 2, "input": 20},
    "CrossEntropyLoss --shape 4,5 --shape 4:int:0..4": {"input 1": 20},
    "Hardshrink --shape 9": {"input": 9},
    "MLP --module.num_classes 2 --module.image_shape [1,2,2] --module.hidden [3] --module.activation torch.nn.Tanh "
    "--shape 2,1,2,2": {"hidden.0.weight": 12, "hidden.0.bias": 3, "head.weight": 6, "head.bias": 2, "input": 8},
    "torch.nn.TransformerEncoderLayer --module.d_model 2 --module.nhead 1 --module.dim_feedforward 1 --mode eval "
    "--shape 2,1,2": None,
    "torch.nn.GRU --module.input_size 2 --module.hidden_size 2 --shape 2,1,2:complex --mode eval": "fails for inputs",
}  # fmt: skip


@pytest.mark.parametrize("words", RIGHT)
def test_a_right_gradient_is_found_right_in_every_coordinate(words, tmp_path, capsys):
    expected = RIGHT[words]
    if isinstance(expected, str):
        with pytest.raises(SystemExit):
            check(words, tmp_path)
        assert expected in capsys.readouterr().err
        return
    results = check(words, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["wrong"] == []
    for rows in results["gradients"].values():
        assert expected is None or {name: row["coordinates"] for name, row in rows.items()} == expected
        assert all(row["kinks"] == 0 and row["largest"] < 1e-7 for row in rows.values())


def test_the_worst_coordinate_of_a_wrong_gradient_is_named_with_both_values(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gradient_check, "draw_rows", figure.draw_rows)
    words = "own_blocks.WrongProduct --module.scale 2 --shape 3,4 --shape 3,4"
    with pytest.raises(SystemExit) as ended:
        check(words, tmp_path)
    assert ended.value.code == 1
    first = json.loads((tmp_path / "results.json").read_text())
    row = first["gradients"]["function"]["input 2"]
    assert first["wrong"] == ["input 2 (function)"]
    assert row["at"] == [1, 2]
    assert row["analytic"] == pytest.approx(1.001 * row["numeric"], rel=1e-6)
    error = f"input 2 at [1, 2]: analytic {row['analytic']:.6g}, numeric {row['numeric']:.6g}"
    assert f"error: 1 of the gradients is wrong: {error}" in capsys.readouterr().err
    assert np.asarray(Image.open(tmp_path / "gradient_check.png")).shape[1] == 900
    with pytest.raises(SystemExit):
        check(words, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "results.json").read_text()) == first


def test_a_gradient_may_be_wrong_in_one_mode_only(tmp_path, capsys):
    with pytest.raises(SystemExit):
        check("own_blocks.Forgets --shape 4,3", tmp_path)
    assert "1 of the gradients is wrong: weight in eval mode at [" in capsys.readouterr().err
    assert check("own_blocks.Forgets --shape 4,3 --mode train", tmp_path)["wrong"] == []


MISTAKES = {
    "own_blocks.Narrow --shape 4,3": "returns float32 for float64 inputs and parameters",
    "own_blocks.Narrow --module.back true --shape 4,3": "as if it were rounded (a cast to float32?)",
    "own_blocks.OwnGenerator --shape 4,3": "two calls with the same inputs and seeds return different numbers",
    "own_blocks.Overwrites --shape 4": "its backward fails: RuntimeError: one of the variables needed for gradient",
    "own_blocks.BadShape --shape 3,4": "its backward fails: RuntimeError: Function BadShapeBackward returned an inv",
    "own_blocks.Refuses --shape 4": "--module own_blocks.Refuses cannot be made: RuntimeError: no luck",
    "own_blocks.Clipped --shape 4:int": "in train mode changes its parameter weight in place",
    "own_blocks.ArgMax --shape 4,3": "returns no floating point tensor",
    "own_blocks.number --shape 3": "must return an nn.Module, found int",
    "own_blocks.Power --module.q 3 --shape 5": "--module.q is no argument of forward, which has x, exponent",
    "own_blocks.Nothing --shape 3": "nothing can be imported as 'own_blocks.Nothing'",
    "nowhere.Nothing --shape 3": "nothing can be imported as 'nowhere.Nothing'",
    "Lineer --shape 3": "nothing is named 'Lineer' (the nearest are Linear",
    "torch.float32 --shape 4": "must be an nn.Module, an autograd function or a factory, found dtype",
    "torch.log --shape 4,3": "returns NaN or infinity: give inputs in its domain",
    "ReLU": "--module torch.nn.ReLU needs the sizes of its inputs: add --shape 4,3",
    "ReLU --shape 4,a": "--shape must be SIZES[:DTYPE][:LOW..HIGH], such as 4,3,8,8 or 4,7:int:0..9, found '4,a'",
    "ReLU --shape 4:flot": "the type must be one of float, double",
    "ReLU --shape 4:int:3..1": "the range must be LOW..HIGH with LOW at most HIGH, found 3..1",
    "ReLU --shape 4:int": "there is no gradient to check",
    "Linear --module.in_features 3 --shape 3": "--module Linear needs out_features: add --module.out_features VALUE",
    "Linear --module.in_feature 3 --shape 3": "did you mean --module.in_features",
    "Linear --module.in_features x --shape 3": "--module.in_features: expected int, found x",
    "Linear --module.in_features 3 --module.out_features 2 --shape 5,4": "fails for inputs of [5, 4]: RuntimeError",
    "BatchNorm1d --module.num_features 3 --shape 1,3": "in train mode fails for inputs of [1, 3]: ValueError: Expected",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_what_cannot_be_checked_is_one_line(words, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        check(words, tmp_path)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert MISTAKES[words] in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shape", "3"], "--shape and --mode describe a module: add --module my.Layer"),
        (["--module.width", "3"], "--module.width belongs to a class that is not chosen: add --module NAME before it"),
    ],
)
def test_options_without_a_module(words, message, capsys):
    with pytest.raises(SystemExit):
        gradient_check.main(words)
    assert message in capsys.readouterr().err


def test_a_file_of_the_current_folder_is_importable(tmp_path, monkeypatch):
    (tmp_path / "my_own_layer.py").write_text("import torch\ndef twice(x):\n    return 2 * x\n")
    monkeypatch.chdir(tmp_path)
    assert check("my_own_layer.twice --shape 2", tmp_path / "out")["wrong"] == []
    monkeypatch.delitem(sys.modules, "my_own_layer")


def test_a_configuration_file_may_hold_the_module(tmp_path):
    (tmp_path / "check.yaml").write_text(
        "module: {class_path: Linear, init_args: {in_features: 2, out_features: 1}}\nshape: ['3,2']\n"
    )
    words = ["--config", str(tmp_path / "check.yaml"), "--output", str(tmp_path / "out")]
    assert set(gradient_check.main(words)["gradients"]["eval"]) == {"weight", "bias", "input"}


def test_the_options_of_a_module_are_listed(capsys):
    with pytest.raises(SystemExit) as ended:
        gradient_check.main(["--module", "Linear", "--module.help"])
    assert ended.value.code == 0
    assert "--module.in_features" in capsys.readouterr().out


def test_words_are_gathered():
    words = ["--a=1", "--module", "x.Y", "--module.p", "-1", "--module.q=[1, 2]", "--shape=3", "--shape", "4", "5"]
    gathered = repeated(gather(words, "module"), "shape")
    described = json.dumps({"class_path": "x.Y", "init_args": {"p": "-1", "q": "[1, 2]"}})
    assert gathered == ["--a", "1", "--module", described, "--shape", '["3", "4", "5"]']


def test_inputs():
    generator = torch.Generator().manual_seed(0)
    draw = lambda text: read_input(text).draw(generator, nn.Embedding(3, 1))  # noqa: E731
    assert set(draw("200:int").tolist()) == {0, 1, 2}
    assert set(draw("200:int:4..6").tolist()) == {4, 5, 6}
    assert set(draw("200:bool").tolist()) == {False, True}
    assert draw("[3, 4]:complex").dtype == torch.complex128
    assert draw("3x4:uint8").dtype == torch.uint8
    assert draw("()").shape == ()
    uniform = draw("1000:-0.5..2")
    assert -0.5 <= uniform.min() < -0.4
    assert 1.9 < uniform.max() <= 2


def test_the_states_of_random_numbers_are_restored():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    with seeded(3):
        first = torch.rand(2), random.random(), np.random.rand()
    with seeded(3):
        assert torch.equal(torch.rand(2), first[0])
        assert (random.random(), np.random.rand()) == first[1:]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
