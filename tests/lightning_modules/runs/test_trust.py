"""A file names only what is on the list: hostile checkpoints run no code, and end in one line."""

import collections
import io
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules import ImageClassifier
from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO, read_checkpoint
from lightning_modules.runs.trust import check, needed

SHAPE = (1, 4, 4)


class OwnNet(nn.Module):
    """Defined in a module that is not installed and imported already."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def own_net(num_classes):
    return OwnNet(num_classes)


def returns_nothing(path: str) -> None:
    Path(path).touch()


ALLOWED = [
    "torch.nn.GELU",
    "torch.optim.SGD",
    "torch.optim.lr_scheduler.StepLR",
    "torchvision.models.resnet18",
    "torchvision.models.ResNet",
    "timm.models.resnet18",
    "timm.optim.Lion",
    "optim.LAMB",
    "activations.SPOCU",
    "activations.create",
    "datamodules.DigitsDataModule",
    "lightning_modules.backbones.resnet20",
    "pytorch_lightning.callbacks.EarlyStopping",
    f"{__name__}.OwnNet",
    f"{__name__}.own_net",
    "GELU",
    "resnet18.a1_in1k",
    "os.csv",
]
REFUSED = [
    "os.system",
    "subprocess.run",
    "builtins.eval",
    "runpy.run_path",
    "torch.load",
    "torch.hub.load",
    "torch.fx.graph_module.reduce_graph_module",
    "torch.nn.modules.module.warnings.warn",
    "torch.nn.functional.relu",
    "torchvision.models.get_model",
    "timm.create_model",
    "lightning_modules.paths.load",
    "lightning_modules.factories.factory",
    "lightning_modules.networks.build",
    "lightning_modules.runs.trust.load",
    "pytorch_lightning.Trainer",
    "pytorch_lightning.callbacks.model_checkpoint.os.system",
    "numpy.load",
    "sklearn.linear_model.LogisticRegression",
    "activations.zoo.importlib.import_module",
    f"{__name__}.os.system",
    f"{__name__}.returns_nothing",
    f"{__name__}.subprocess.run",
]


@pytest.mark.parametrize("path", ALLOWED)
def test_allowed(path):
    check({"data": path, "nested": [{"init_args": {"a": path}}]}, "net.ckpt")
    if path != "os.csv":
        check({"backbone": path}, "net.ckpt")


@pytest.mark.parametrize("path", REFUSED)
def test_refused_wherever_it_stands(path):
    for data in ({"backbone": path}, [{"class_path": path}], {"a": {"init_args": {"b": [path]}}}):
        with pytest.raises(ValueError, match=r"net.ckpt names '.*--trust") as error:
            check(data, "net.ckpt")
        assert path in str(error.value)
        assert "\n" not in str(error.value)


def test_trust_is_for_a_package_and_not_for_what_it_imports(tmp_path, monkeypatch):
    (tmp_path / "trusted_package.py").write_text("import os\nfrom torch import nn\nclass Net(nn.Module): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="--trust trusted_package "):
        check({"backbone": "trusted_package.Net"}, "net.ckpt")
    assert "trusted_package" not in sys.modules  # looked at, not imported
    assert needed({"backbone": "trusted_package.Net", "activation": "torch.nn.ELU"}) == ["trusted_package"]
    check({"backbone": "trusted_package.Net"}, "net.ckpt", ["trusted_package"])
    for path in ("trusted_package.os.system", "trusted_package_2.Net"):
        with pytest.raises(ValueError, match="names"):
            check({"class_path": path}, "net.ckpt", ["trusted_package"])


@pytest.mark.parametrize("name", ["json", "pt", "csv"])
def test_a_module_whose_function_is_named_like_a_file_is_refused_where_it_is_imported(name, tmp_path, monkeypatch):
    (tmp_path / "file_like.py").write_text(code(tmp_path / "mark"))
    monkeypatch.syspath_prepend(tmp_path)
    for key in ("backbone", "activation", "optimizer", "lr_scheduler"):
        torch.save(whole(**{key: f"file_like.{name}"}), tmp_path / "evil.ckpt")
        with pytest.raises(ValueError, match="--trust file_like"):
            ImageClassifier.load_from_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "mark").exists()


def test_folders_are_no_modules(tmp_path, monkeypatch):
    for name in ("resnet18", "dataset"):
        (tmp_path / name).mkdir()
    (tmp_path / "dataset" / "code.py").write_text("class Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):  # looking has imported the folders
        check({"backbone": "resnet18.a1_in1k", "data": {"root": "dataset.v2"}}, "net.ckpt")
        with pytest.raises(ValueError, match=r"--trust dataset\.code"):
            check({"backbone": "dataset.code.Net"}, "net.ckpt")
    assert ImageClassifier("resnet18.a1_in1k", 3, (3, 32, 32)).hparams.backbone == "resnet18.a1_in1k"


def test_a_trusted_package_may_hold_its_class_elsewhere_and_an_import_that_fails_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "front.py").write_text("from _behind_it import Net\n")
    (tmp_path / "_behind_it.py").write_text("from torch import nn\nclass Net(nn.Module): pass\n")
    (tmp_path / "fails.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    check({"backbone": "front.Net"}, "net.ckpt", ["front"])
    with pytest.raises(ValueError, match=r"net.ckpt names 'fails.Net' .*ZeroDivisionError"):
        check({"backbone": "fails.Net"}, "net.ckpt", ["fails"])


def test_a_class_of_a_module_without_a_file_is_ones_own(monkeypatch):
    cell = types.ModuleType("cell_of_a_notebook")
    exec("from torch import nn\nclass Net(nn.Module): pass\ndef bad() -> 'no type here': pass", cell.__dict__)
    monkeypatch.setitem(sys.modules, cell.__name__, cell)
    check({"backbone": "cell_of_a_notebook.Net"}, "net.ckpt")
    check({"backbone": "cell_of_a_notebook.bad"}, "net.ckpt")


def test_an_own_class_needs_no_trust_in_the_program_that_has_it(tmp_path):
    model = ImageClassifier(OwnNet, 3, SHAPE)
    torch.save(whole(model), tmp_path / "net.ckpt")
    assert isinstance(ImageClassifier.load_from_checkpoint(tmp_path / "net.ckpt").backbone, OwnNet)
    assert needed(dict(model.hparams)) == [__name__]


# Hostile files: each builder writes one; MARK is what its code would make.


class RunsCode:
    """A pickle that calls a function."""

    def __init__(self, mark: Path, function: Callable[..., Any] = os.mkdir) -> None:
        self.call = function, (str(mark),)

    def __reduce__(self) -> Any:
        return self.call


def whole(model: ImageClassifier | None = None, **changed: Any) -> dict[str, Any]:
    model = model or ImageClassifier("MLP", 3, SHAPE)
    return {
        "state_dict": model.state_dict(),
        "pytorch-lightning_version": "2.6.6",
        "epoch": 0,
        "global_step": 0,
        "hyper_parameters": {**model.hparams, **changed},
    }


def code(mark: Path) -> str:
    return f"open({str(mark)!r}, 'w').close()\n"


def fx(mark: Path) -> dict[str, Any]:
    path = "torch.fx.graph_module.reduce_graph_module"
    return {"class_path": path, "init_args": {"body": {"_code": "forward=0"}, "import_block": code(mark)}}


class Hidden(collections.OrderedDict):
    """A dictionary whose `items` is another function, for whoever asks it."""

    def __reduce__(self) -> Any:
        items = iter(list(dict.items(self)))
        return collections.OrderedDict, (), {"items": collections.OrderedDict}, None, items


def nested(depth: int) -> Any:
    data: Any = 0
    for _ in range(depth):
        data = [data]
    return data


def doubled(times: int) -> Any:
    data: Any = [0, 0]
    for _ in range(times):
        data = [data, data]
    return data


def rewrite(path: Path, change: Callable[[zipfile.ZipFile], None], mode: int = zipfile.ZIP_STORED) -> None:
    """Write a good checkpoint's archive again, and something more."""
    buffer = io.BytesIO()
    torch.save(whole(), buffer)
    with zipfile.ZipFile(buffer) as good, zipfile.ZipFile(path, "w", mode) as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name))
        change(bad)


def replaced_pickle(path: Path, content: bytes) -> None:
    buffer = io.BytesIO()
    torch.save(whole(), buffer)
    with zipfile.ZipFile(buffer) as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            bad.writestr(name, content if name.endswith("data.pkl") else good.read(name))


HOSTILE: dict[str, Callable[[Path, Path], object]] = {
    "reduce in the state": lambda path, mark: torch.save(whole() | {"state_dict": RunsCode(mark)}, path),
    "reduce in the callbacks": lambda path, mark: torch.save(whole() | {"callbacks": {"a": RunsCode(mark)}}, path),
    "a bare pickle": lambda path, mark: path.write_bytes(pickle.dumps(RunsCode(mark))),
    "an old format": lambda path, mark: torch.save(
        whole() | {"a": RunsCode(mark)}, path, _use_new_zipfile_serialization=False
    ),
    "eval in the pickle": lambda path, mark: replaced_pickle(
        path, b"cbuiltins\neval\n(V__import__('os').mkdir(" + repr(str(mark)).encode() + b")\ntR."
    ),
    "a function as the activation": lambda path, mark: torch.save(whole(activation=fx(mark)), path),
    "a function as the backbone": lambda path, mark: torch.save(whole(backbone=fx(mark)), path),
    "a function as the optimizer": lambda path, mark: torch.save(
        whole(optimizer={"class_path": "os.mkdir", "init_args": {"path": str(mark)}}), path
    ),
    "a function as the scheduler": lambda path, mark: torch.save(whole(lr_scheduler="os.abort"), path),
    "a function in an argument": lambda path, mark: torch.save(
        whole(backbone={"class_path": "lightning_modules.backbones.MLP", "init_args": {"activation": fx(mark)}}), path
    ),
    "a function deep in arguments": lambda path, mark: torch.save(
        whole(backbone={"class_path": "lightning_modules.backbones.MLP", "init_args": {"a": [{"b": fx(mark)}]}}), path
    ),
    "a classifier in a classifier": lambda path, mark: torch.save(
        whole(backbone={"class_path": "lightning_modules.ImageClassifier", "init_args": {"backbone": "antigravity.x"}}),
        path,
    ),
    "a function reached through torch.nn": lambda path, mark: torch.save(
        whole(backbone={"class_path": "torch.nn.modules.module.warnings.warn", "init_args": {"message": ""}}), path
    ),
    "weights that timm opens": lambda path, mark: torch.save(
        whole(
            backbone={
                "class_path": "lightning_modules.backbones.timm_model",
                "init_args": {"name": "resnet18", "checkpoint_path": "evil.pth"},
            }
        ),
        path,
    ),
    "a class that is not one of the kinds": lambda path, mark: torch.save(
        whole(activation={"class_path": "subprocess.Popen", "init_args": {"args": ["mkdir", str(mark)]}}), path
    ),
    "deep nesting": lambda path, mark: torch.save(whole() | {"callbacks": nested(200)}, path),
    "deep nesting in the arguments": lambda path, mark: torch.save(whole(l1=nested(200)), path),
    "a list of lists of lists": lambda path, mark: torch.save(whole(l1=doubled(40)), path),
    "a zip bomb": lambda path, mark: rewrite(
        path, lambda bad: bad.writestr("archive/data/99", bytes(2**26)), zipfile.ZIP_DEFLATED
    ),
    "a name with ..": lambda path, mark: rewrite(path, lambda bad: bad.writestr("archive/../../mark", b"0")),
    "an absolute name": lambda path, mark: rewrite(path, lambda bad: bad.writestr(str(mark), b"0")),
    "a huge bytearray": lambda path, mark: replaced_pickle(
        path, b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
    ),
    "a huge bytearray in the old format": lambda path, mark: path.write_bytes(
        b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
    ),
    "arguments under Lightning's old key": lambda path, mark: torch.save(
        {key: value for key, value in whole().items() if key != "hyper_parameters"}
        | {"hparams": dict(whole(backbone=fx(mark))["hyper_parameters"])},
        path,
    ),
    "arguments that hide": lambda path, mark: torch.save(
        whole() | {"hyper_parameters": Hidden(whole(backbone=fx(mark))["hyper_parameters"])}, path
    ),
    "arguments that hide in arguments": lambda path, mark: torch.save(
        whole(backbone=Hidden(class_path="lightning_modules.backbones.MLP", init_args=Hidden(activation=fx(mark)))),
        path,
    ),
    "weights that timm opens, in a dictionary": lambda path, mark: torch.save(
        whole(backbone={"class_path": "timm.models.resnet18", "init_args": {"pretrained_cfg": {"file": "evil.pth"}}}),
        path,
    ),
    "a number as a huge tensor": lambda path, mark: torch.save(
        whole() | {"optimizer_states": [torch.zeros(1).expand(10**6, 10**6)]}, path
    ),
    "a huge network": lambda path, mark: torch.save(whole(num_classes=10**15), path),
    "arguments that are a list": lambda path, mark: torch.save(whole() | {"hyper_parameters": [1]}, path),
    "weights that are a number": lambda path, mark: torch.save(whole() | {"state_dict": 1}, path),
    "a version that is a number": lambda path, mark: torch.save(whole() | {"pytorch-lightning_version": 2}, path),
    "an unknown argument": lambda path, mark: torch.save(
        whole(backbone={"class_path": "torch.nn.ReLU", "init_args": {"a": 1}}), path
    ),
    "an empty pickle": lambda path, mark: replaced_pickle(path, b""),
    "a stack that is empty": lambda path, mark: replaced_pickle(path, b"\x80\x02RRRR."),
    "no checkpoint": lambda path, mark: torch.save(collections.OrderedDict(a=1), path),
}


@pytest.mark.parametrize("build", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_run_nothing_and_end_in_one_line(build, tmp_path):
    path, mark = tmp_path / "evil.ckpt", tmp_path / "mark"
    build(path, mark)
    with pytest.raises(ValueError, match=r"evil\.ckpt") as error:
        ImageClassifier.load_from_checkpoint(path)
    assert "\n" not in str(error.value)
    assert not mark.exists()


def test_a_hostile_pickle_would_run_if_it_were_let(tmp_path):
    HOSTILE["reduce in the state"](tmp_path / "evil.ckpt", tmp_path / "mark")
    torch.load(tmp_path / "evil.ckpt", weights_only=False)
    assert (tmp_path / "mark").is_dir()


def test_the_writer_reads_with_the_same_care(tmp_path):
    HOSTILE["reduce in the state"](tmp_path / "evil.ckpt", tmp_path / "mark")
    for read in (AtomicCheckpointIO().load_checkpoint, read_checkpoint):
        with pytest.raises(ValueError, match=r"evil\.ckpt"):
            read(tmp_path / "evil.ckpt")
    assert not (tmp_path / "mark").exists()


def test_a_good_file_is_read(tmp_path):
    torch.save(whole(), tmp_path / "good.ckpt")
    assert ImageClassifier.load_from_checkpoint(tmp_path / "good.ckpt").num_classes == 3
    with pytest.raises(ValueError, match="hparams_file"):
        ImageClassifier.load_from_checkpoint(tmp_path / "good.ckpt", hparams_file="hparams.yaml")


def test_no_package_of_the_user_is_imported(tmp_path, monkeypatch):
    (tmp_path / "unknown_package.py").write_text(code(tmp_path / "mark"))
    torch.save(whole(backbone="unknown_package.Net"), tmp_path / "evil.ckpt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="--trust unknown_package"):
        ImageClassifier.load_from_checkpoint("evil.ckpt")
    assert "unknown_package" not in sys.modules
    assert not (tmp_path / "mark").exists()
