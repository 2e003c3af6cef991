"""Checkpoints are whole or not there."""

import errno
import os
import random
import resource
import warnings

import pytest
import torch

from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO, read_checkpoint
from lightning_modules.runs.reading import check_resumable

CHECKPOINT = {"state_dict": {"w": torch.arange(1000.0)}, "pytorch-lightning_version": "2.6.6"}


def test_round_trip_and_no_litter(tmp_path):
    path = tmp_path / "deep" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["w"], torch.arange(1000.0))
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_previous_checkpoint_and_warns(tmp_path, monkeypatch, call):
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint(CHECKPOINT, path)
    before = path.read_bytes()

    def refuse(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.warns(
            UserWarning, match=r"last\.ckpt was not saved: No space left on device; the previous .* kept"
        ):
            io.save_checkpoint(CHECKPOINT | {"state_dict": {}}, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert io.failed == {path: "No space left on device"}
    io.save_checkpoint(CHECKPOINT, path)
    assert io.failed == {}


def test_a_file_that_may_grow_no_further(tmp_path):
    """The operating system itself refuses, in the middle of the write."""
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint(CHECKPOINT, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # Python ignores the signal that comes with it
    try:
        with pytest.warns(UserWarning, match="the previous checkpoint there is kept"):
            io.save_checkpoint(CHECKPOINT | {"state_dict": {"w": torch.zeros(1_000_000)}}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert io.failed
    assert torch.equal(torch.load(path)["state_dict"]["w"], CHECKPOINT["state_dict"]["w"])
    assert list(tmp_path.iterdir()) == [path]


def test_first_save_that_fails_reports_no_earlier_checkpoint(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.warns(UserWarning, match="there is no earlier one"):
        AtomicCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_unreadable_checkpoints_are_named(tmp_path):
    path = tmp_path / "last.ckpt"
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*last\.ckpt"):
        read_checkpoint(path)
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    whole = path.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cannot read the checkpoint .*last\.ckpt: it is truncated"):
            read_checkpoint(path)
    path.write_text("not a checkpoint at all")
    with pytest.raises(ValueError, match="truncated or not a checkpoint"):
        read_checkpoint(path)
    for foreign, found in [({"model": 1}, r"keys \['model'\]"), ([1, 2], "list"), (torch.zeros(3), "Tensor")]:
        torch.save(foreign, path)
        with pytest.raises(ValueError, match=f"not a Lightning checkpoint .found {found}"):
            read_checkpoint(path)


def test_flipped_bits_are_found(tmp_path):
    """Each is refused, or is in a byte that holds nothing."""
    path, draw = tmp_path / "last.ckpt", random.Random(0)
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    whole, refused = path.read_bytes(), 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            read = read_checkpoint(path)
        except ValueError as error:
            assert "cannot read the checkpoint" in str(error)  # noqa: PT017
            refused += 1
        else:
            assert torch.equal(read.pop("state_dict")["w"], CHECKPOINT["state_dict"]["w"])
            assert read == {"pytorch-lightning_version": "2.6.6"}
    assert refused > 150
    path.write_bytes(whole[:3000] + bytes([whole[3000] ^ 4]) + whole[3001:])
    with pytest.raises(ValueError, match=r"it is damaged .*/data/0 does not match its checksum"):
        read_checkpoint(path)


def test_the_error_names_the_newest_good_checkpoint_beside(tmp_path):
    for age, name in enumerate(("last", "worse", "best", "old")):
        AtomicCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / f"{name}.ckpt")
        os.utime(tmp_path / f"{name}.ckpt", (1e9 - age, 1e9 - age))
    for name in ("last", "worse"):
        (tmp_path / f"{name}.ckpt").write_bytes((tmp_path / f"{name}.ckpt").read_bytes()[:-100])
    (tmp_path / ".last.ckpt.1.partial").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=r"last\.ckpt: it is truncated .* good one beside it is .*best\.ckpt, or start"
    ):
        read_checkpoint(tmp_path / "last.ckpt")


def test_weights_alone_are_not_resumed(tmp_path):
    with pytest.raises(ValueError, match=r"holds weights only .no loops, .* --init_from best\.ckpt"):
        check_resumable(CHECKPOINT, "best.ckpt")
    whole = {"loops": {"fit_loop": {}}, "optimizer_states": [], "lr_schedulers": [], "callbacks": {}, "global_step": 1}
    check_resumable(whole, "best.ckpt")
    with pytest.raises(ValueError, match=r"best\.ckpt is damaged: its callbacks must be a dict, found list"):
        check_resumable(whole | {"callbacks": []}, "best.ckpt")
    with pytest.raises(ValueError, match=r"best\.ckpt is damaged: its loops must have a fit_loop, found \[\]"):
        check_resumable(whole | {"loops": {}}, "best.ckpt")


def test_a_full_disk_keeps_a_best_checkpoint_of_lightnings(tmp_path, monkeypatch):
    """ModelCheckpoint removes the file that it takes a refused one for a better one than."""
    io, names, fsync = AtomicCheckpointIO(), [tmp_path / f"{epoch}.ckpt" for epoch in range(5)], os.fsync

    def save(epoch):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            io.save_checkpoint(CHECKPOINT | {"epoch": epoch}, names[epoch])
            io.remove_checkpoint(names[epoch - 1])

    def refuse(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    io.save_checkpoint(CHECKPOINT | {"epoch": 0}, names[0])
    monkeypatch.setattr(os, "fsync", refuse)
    for epoch in (1, 2):
        save(epoch)
        assert read_checkpoint(names[epoch])["epoch"] == 0
        assert names[epoch].resolve() == names[0].resolve()
    monkeypatch.setattr(os, "fsync", fsync)
    save(3)
    save(4)
    assert [file.name for file in tmp_path.iterdir()] == ["4.ckpt"]
    assert io.failed == {}


class Sneaky:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_checkpoint_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(CHECKPOINT | {"x": Sneaky()}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="truncated or not a checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "pwned").exists()


def test_storage_options_are_refused(tmp_path):
    with warnings.catch_warnings(), pytest.raises(TypeError, match="storage_options"):
        AtomicCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "a.ckpt", storage_options={"x": 1})


def test_weights_alone_that_are_not_finite_are_not_saved(tmp_path):
    """A ModelCheckpoint with `save_weights_only`, at whose saves no callback looks."""
    io, path = AtomicCheckpointIO(), tmp_path / "best.ckpt"
    weights = {"weight": torch.ones(2), "mask": torch.tensor([0.0, -torch.inf])}
    io.save_checkpoint({"state_dict": weights, "pytorch-lightning_version": "2.6.6"}, path)
    weights["weight"][1] = torch.nan
    with pytest.warns(UserWarning, match=r"best\.ckpt was not saved: the weights are NaN or infinite \(weight\)"):
        io.save_checkpoint({"state_dict": weights, "pytorch-lightning_version": "2.6.6"}, path)
    assert torch.equal(read_checkpoint(path)["state_dict"]["weight"], torch.ones(2))
    assert path in io.failed
