"""The shell commands of README, docs and the scripts' docstrings: their scripts parse them all, and short ones run."""

import ast
import re
import shlex
from functools import wraps
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.ja.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
MEASURED = re.compile(r"<!-- results: .*?<!-- end of results -->", re.DOTALL)
"""What results/tables.py has written: how something was measured, with folders of the machine that did."""
IN_TEXT = re.compile(r"`((?:\w+=\S+ )?(?:python|torchrun) [^`]*)`")
OWN_CLASSES = """
from datamodules import DigitsDataModule as Data
from lightning_modules import ImageClassifier as Classifier
from lightning_modules.backbones import MLP as Net
from pytorch_lightning import Callback as Say
"""
TINY = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.enable_progress_bar", "false"]


def lines_of(path: Path) -> list[str]:
    """Return the command lines that a page prints, or a script's docstring."""
    text = MEASURED.sub("", path.read_text(encoding="utf-8"))
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
        return re.findall(r"^    ((?:python|torchrun) .*)", text.replace("\\\n", " "), re.MULTILINE)
    return "".join(BLOCK.findall(text)).replace("\\\n", " ").splitlines() + IN_TEXT.findall(text)


def commands_of(path: Path) -> list[tuple[str, ...]]:
    """Return those commands as words, without variables of the environment before them."""
    joined = [shlex.split(line, comments=True) for line in lines_of(path)]
    parts = [part.split("\n") for words in joined for part in "\n".join(words).split("\n&&\n")]
    return [tuple(word for word in part if not re.match(r"[A-Z_]+=", word)) for part in parts if part != [""]]


COMMANDS = list(dict.fromkeys(command for path in (*PAGES, *SCRIPTS) for command in commands_of(path)))


def script_of(command: tuple[str, ...]) -> int | None:
    """Return the place of the script in a command, which torchrun starts too."""
    return next((i for i, word in enumerate(command) if re.fullmatch(r"scripts/\w+\.py", word)), None)


OURS = [command for command in COMMANDS if script_of(command) is not None]


def test_commands_are_found():
    assert ("python", "scripts/train.py") in OURS
    assert ("python", "scripts/train.py", "--ckpt_path", "last") in OURS
    assert any("SAM(base_optimizer=Adam)" in command for command in OURS)
    assert {command[script_of(command)] for command in OURS} == {f"scripts/{path.name}" for path in SCRIPTS}


@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in OURS], ids=shlex.join)
def test_other_programs_and_files_exist(command):
    assert command[0] in ("pip", "pytest", "python", "tensorboard", "torchrun")
    files = [word for word in command if re.fullmatch(r"[\w/]+\.(py|txt)", word)]
    assert [file for file in files if not (ROOT / file).exists()] == []
    for extra in re.findall(r"\.\[(\w+)\]", " ".join(command)):
        assert f'"{extra}":' in (ROOT / "setup.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with what the commands name: data, modules of one's own, and a run."""
    place = tmp_path_factory.mktemp("commands")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(place)
        for name in ("scripts", "results"):
            Path(name).symlink_to(ROOT / name)
        Path("my_blocks.py").write_text(OWN_CLASSES)
        np.save("DATA.npy", np.random.default_rng(0).random((1200, 2), np.float32))
        yield import_module("train").main(TINY).run.folder


def words_of(command: tuple[str, ...], run: Path) -> tuple[str, list[str]]:
    """Return the name of a command's script and its arguments, `run` in place of what stands for one."""
    place = script_of(command)
    words = (re.sub(r"^CKPT$", "RUN/checkpoints/best.ckpt", word) for word in command)
    named = [re.sub(r"^(RUN|runs/\.\.\.)/", f"{run}/", word) for word in words]
    return Path(named[place]).stem, named[place + 1 :]


@pytest.mark.parametrize("command", OURS, ids=shlex.join)
def test_a_command_is_parsed(command, folder, monkeypatch):
    name, words = words_of(command, folder)
    script = import_module(name)
    if name == "compare":  # which has train.py parse every combination
        parse = wraps(script.compare)(lambda axes, options, *_, **__: script.make_grid(axes, options))
        monkeypatch.setattr(script, "compare", parse)
        assert script.main(words)
        return
    lists_options = any(word.endswith(".help") for word in words)
    with pytest.raises(SystemExit) as ended:
        script.main([*words, *([] if lists_options else ["--print_config"])])
    assert ended.value.code == 0


SHORT = {
    "python scripts/train.py --ckpt_path last": ["--trainer.max_epochs", "2"],
    "python scripts/train.py test --ckpt_path runs/.../checkpoints/best.ckpt": [],
    "python scripts/train.py predict --ckpt_path last": [],
    "python scripts/cluster.py": ["--n", "2000"],
    "python scripts/cluster.py fit DATA.npy --k 1000": [],
    "python scripts/cluster.py features --checkpoint runs/.../checkpoints/best.ckpt": [],
    "python scripts/linear_svm.py": [],
}
"""Commands that take a few seconds, by what is added; `folder` runs `train.py`."""


@pytest.mark.parametrize("line", SHORT)
def test_a_short_command_runs(line, folder):
    command = tuple(shlex.split(line))
    assert command in OURS
    name, words = words_of(command, folder)
    import_module(name).main([*words, *SHORT[line]])
