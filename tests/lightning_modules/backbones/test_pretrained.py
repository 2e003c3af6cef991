"""timm's trained weights: taken once, told of in one line where they cannot be had, never loaded under a checkpoint."""

import socket

import pytest
import pytorch_lightning as pl
import timm
import torch
from timm.models import register_model

import train
from _common.cli import Option
from _train.words import with_timm
from lightning_modules import ImageClassifier
from lightning_modules.backbones import TimmModel, timm_model
from lightning_modules.head import head_names


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Let timm take weights from a file in place of the network; return those by name, and whether each was wanted."""
    weights, loads, create = {}, [], timm.create_model

    def local(name, pretrained=False, **options):
        loads.append(pretrained)
        if not pretrained:
            return create(name, **options)
        weights[name] = create(name, num_classes=1000).state_dict()
        torch.save(weights[name], tmp_path / "weights.pth")
        overlay = {"file": str(tmp_path / "weights.pth")}
        return create(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)

    monkeypatch.setattr(timm, "create_model", local)
    return weights, loads


def test_the_head_is_new_for_other_classes_and_the_first_layer_fits_other_channels(stored):
    network = timm_model("test_vit", 7, (3, 160, 160), pretrained=True)
    weights = stored[0]["test_vit"]
    same = {name for name, value in network.state_dict().items() if torch.equal(value, weights[name])}
    assert set(weights) - same == {"head.weight", "head.bias"}
    grey, weights = timm_model("test_vit", 7, (1, 160, 160), pretrained=True), stored[0]["test_vit"]
    summed = weights["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(grey.patch_embed.proj.weight, summed)
    whole = TimmModel(1000, (3, 160, 160), name="test_vit", pretrained=True)
    assert torch.equal(whole.model.head.weight, stored[0]["test_vit"]["head.weight"])


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_brings_its_own_weights(stored, tmp_path):
    backbone = {"class_path": "lightning_modules.backbones.TimmModel"}
    backbone["init_args"] = {"name": "test_vit", "pretrained": True}
    model = ImageClassifier(backbone, 3, (3, 160, 160), freeze=True, layer_decay=0.5)
    assert set(dict(model.named_parameters())) - set(model._freezing.names) == {
        "backbone.model.head.weight",
        "backbone.model.head.bias",
    }
    trainer = pl.Trainer(logger=False, max_steps=0, accelerator="cpu", enable_checkpointing=False)
    trainer.fit(model, torch.utils.data.DataLoader([(torch.zeros(3, 160, 160), 0)]))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    loads = stored[1]
    assert loads == [True]
    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "one.ckpt")
    assert loads == [True, False]
    assert loaded.hparams.backbone["init_args"]["pretrained"] is True
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Let every look-up of a host fail at once."""

    def create(*_, **__):
        raise OSError("[Errno -2] Name or service not known:\nretry later")

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(socket, "getaddrinfo", create)


def test_without_a_network_it_is_one_line(offline, caplog):
    message = r"weights of 'resnet18' cannot be loaded \(OSError: .*HF_HOME.*--init_from FILE"
    with pytest.raises(ValueError, match=message) as refused:
        timm_model("resnet18", 3, (3, 32, 32), pretrained=True)
    assert "\n" not in str(refused.value)
    assert not caplog.records

    @register_model
    def without_weights_test_model(pretrained=False, **options):
        raise AssertionError

    with pytest.raises(ValueError, match="timm has no trained weights of 'without_weights_test_model'"):
        timm_model("without_weights_test_model", 3, (3, 32, 32), pretrained=True)


@pytest.mark.parametrize(
    ("typed", "name"), [("test_vit.r160_in1k", ("test_vit.r160_in1k",)), ("timm_model", ()), ("resnet20", None)]
)
def test_a_backbone_with_options_is_timms_unless_it_is_ours(typed, name):
    options = [Option("model.backbone", (typed,)), Option("model.backbone.pretrained", ("true",))]
    named = [Option("model.backbone.name", name)] if name else []
    made = [Option("model.backbone", ("TimmModel",)), *named, options[1]]
    assert with_timm(options) == (options if name is None else made)
    assert with_timm(options[:1]) == options[:1]


@pytest.mark.slow
def test_the_command_line_tunes_pretrained_weights(stored, tmp_path, capsys):
    backbone = ["--model.backbone", "test_resnet", "--model.backbone.pretrained", "true", "--trainer.logger", "false"]
    tune = ["--model.freeze", "true", "--model.unfreeze", "1", "--model.layer_decay", "0.5", "--model.head_lr", "0.01"]
    small = ["--trainer.limit_train_batches", "1", "--trainer.limit_test_batches", "1", "--trainer.max_epochs", "2"]
    small += ["--data", "DigitsDataModule", "--data.batch_size", "4", "--trainer.limit_val_batches", "1"]
    small += ["--trainer.accelerator", "cpu", "--figures_every", "9", "--trainer.default_root_dir", str(tmp_path)]
    loads = stored[1]
    cli = train.main([*small, *backbone, *tune])
    said = capsys.readouterr().out
    assert "trained until epoch 1)" in said
    assert "pretrained  images were normalised with mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5; the data's are " in said
    assert "AdamW, learning rate 0.005, times 0.5 for each layer below the head, head 0.01" in said
    assert loads == [True]
    last = cli.run.checkpoint("last")
    train.main(["--ckpt_path", str(last), "--trainer.max_epochs", "3"])
    train.main(["test", "--ckpt_path", str(last), "--trainer.limit_test_batches", "1"])
    assert loads == [True, False, False]


def test_the_head_of_a_wrapped_network_is_timms():
    wrapped = TimmModel(5, (3, 224, 224), name="deit_tiny_distilled_patch16_224")
    assert head_names(wrapped, 5) == {
        f"model.{name}.{kind}" for name in ("head", "head_dist") for kind in ("weight", "bias")
    }
    below = torch.nn.Sequential(timm.create_model("test_vit", num_classes=0), torch.nn.Linear(64, 5))
    assert head_names(below, 5) == {"1.weight", "1.bias"}
