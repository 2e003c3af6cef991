"""Weights from files of many kinds."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_modules import ImageClassifier, load_matching
from lightning_modules.runs.weights import read_weights


def network(classes=3):
    return nn.Sequential(nn.Linear(4, 5), nn.Linear(5, classes))


WRAPPED = {
    "plain": lambda state: state,
    "nested": lambda state: {"model": {"state_dict": state}, "epoch": 3},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": torch.tensor(0.1)}},
    "DDP, compiled": lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
    "a module's": lambda state: {"state_dict": {f"model.backbone.{name}": value for name, value in state.items()}},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_state_dict_is_found_wherever_it_lies(wrap, tmp_path):
    donor, path = network(), tmp_path / "net.pth"
    torch.save(wrap(donor.state_dict()), path)
    model = ImageClassifier(network(), num_classes=3, image_shape=(4,))
    assert load_matching(model, read_weights(path)) == []
    for own, given in zip(model.backbone.state_dict().values(), donor.state_dict().values(), strict=True):
        assert torch.equal(own, given)


def test_a_head_for_other_classes_keeps_its_own_weights(tmp_path):
    donor, path = network(10), tmp_path / "net.safetensors"
    save_file(donor.state_dict(), path)
    model = ImageClassifier(network(), num_classes=3, image_shape=(4,))
    assert load_matching(model, read_weights(path)) == ["backbone.1.weight", "backbone.1.bias"]
    assert torch.equal(model.backbone[0].weight, donor[0].weight)


class Evil:
    def __reduce__(self):
        return open, ("mark", "w")


def test_what_holds_no_weights_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 1}, "none.pt")
    (tmp_path / "bytes.safetensors").write_bytes(b"no tensors")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": Evil()}))
    torch.save(torch.zeros(3), "one.pt")
    for name, reason in {
        "none.pt": r"none\.pt holds no weights .found the keys \['epoch'\]",
        "one.pt": "one.pt holds no weights .found Tensor",
        "bytes.safetensors": "bytes.safetensors: it is no safetensors file",
        "evil.pt": "cannot read the checkpoint evil.pt",
    }.items():
        with pytest.raises(ValueError, match=reason):
            read_weights(name)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at nowhere\.safetensors"):
        read_weights("nowhere.safetensors")
    assert not (tmp_path / "mark").exists()
    with pytest.raises(ValueError, match="no weight fits"):
        load_matching(network(), {"other.weight": torch.zeros(2)})
