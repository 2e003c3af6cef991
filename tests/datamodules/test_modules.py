"""The suite that every data module passes."""

import os
import pickle
from math import prod

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from datamodules import DigitsDataModule


class Tiny(pl.LightningModule):
    """A linear classifier that remembers the labels it has seen."""

    def __init__(self, features, classes):
        super().__init__()
        self.layer = nn.Linear(features, classes)
        self.seen = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch[1])
        return nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.seen["val"].append((dataloader_idx, batch[1]))

    def test_step(self, batch, batch_idx):
        self.seen["test"].append(batch[1])

    def predict_step(self, batch, batch_idx):
        return batch[1]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(tmp_path, **options):
    return pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 2, "enable_checkpointing": False, "num_sanity_val_steps": 0, **options},
    )


def ready(data):
    data.prepare_data()
    data.setup()
    return data


def batches(loader, epochs=1):
    return [batch for _ in range(epochs) for batch in loader]


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True)
    )


def test_shape_and_classes_are_known_before_setup(build):
    data = build()
    assert data.num_classes == len(data.classes) > 1
    shape = data.image_shape
    ready(data)
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape[1:] == shape
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert len(data.mean) == len(data.std) == shape[0]
    assert all(isinstance(value, float) for value in data.mean + data.std)


def test_parts_are_disjoint_and_stratified(build):
    data = ready(build())
    train, val = data.part_indices("train"), data.part_indices("val")
    assert not set(train.tolist()) & set(val.tolist())
    if data.test_size is not None:
        assert not set(data.part_indices("test").tolist()) & set(train.tolist() + val.tolist())
    for part in ("train", "val", "test"):
        assert set(data.part_labels(part).tolist()) == set(range(data.num_classes))
    total = torch.bincount(torch.cat([data.part_labels("train"), data.part_labels("val")])).float()
    share = torch.bincount(data.part_labels("val")) - total / total.sum() * len(val)
    assert share.abs().max() <= 1.5


def test_split_is_stable(build):
    first, other = ready(build(seed=1)), ready(build(seed=2, train_size=0.5))
    assert torch.equal(first.part_indices("val"), other.part_indices("val"))
    assert not torch.equal(first.part_indices("val"), ready(build(split_seed=1)).part_indices("val"))


def test_training_data_are_normalised(build):
    data = ready(build())
    assert data.augmentation is None or data.augmentation.crop_padding == 0
    images = torch.cat([images for images, _ in data.train_dataloader()])
    flat = images.flatten(2).transpose(1, 2).flatten(0, 1) if images.ndim == 4 else images
    if type(data).mean is not None:
        return  # a constant of the real set
    torch.testing.assert_close(flat.mean(0), torch.zeros(flat.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.std(0, unbiased=False), torch.ones(flat.shape[1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_streaming_equals_resident(build, num_workers):
    augmentation = (
        {}
        if "flip" not in build().hparams
        else {
            "flip": "random",
            "cutout": 3,
            "random_resized_crop": True,
            "vertical_flip": 0.5,
            "color_jitter": 0.4,
            "random_erasing": 0.5,
        }
    )
    resident = ready(build(batch_size=16, **augmentation))
    streamed = ready(build(batch_size=16, resident=False, num_workers=num_workers, **augmentation))
    assert same(batches(resident.train_dataloader(), 2), batches(streamed.train_dataloader(), 2))
    assert same(batches(resident.val_dataloader()), batches(streamed.val_dataloader()))
    assert same(batches(resident.test_dataloader()), batches(streamed.test_dataloader()))


def test_worker_processes_make_the_same_batches():
    options = {"batch_size": 256, "crop_padding": 2, "flip": "random", "cutout": 3}
    resident = ready(DigitsDataModule(**options))
    streamed = ready(DigitsDataModule(**options, resident=False, num_workers=2))
    assert same(batches(resident.train_dataloader(), 2), batches(streamed.train_dataloader(), 2))


def test_seed(build, monkeypatch):
    one, two = ready(build(seed=3)), ready(build(seed=4))
    assert not same(batches(one.train_dataloader()), batches(two.train_dataloader()))
    assert same(batches(one.val_dataloader()), batches(two.val_dataloader()))
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    assert same(batches(one.train_dataloader()), batches(ready(build()).train_dataloader()))


def test_compile_gives_the_same_batches(build):
    if "compile" not in build().hparams:
        pytest.skip("tables have nothing to compile")
    options = {"crop_padding": 1, "flip": "random", "cutout": 2, "batch_size": 30}
    plain, compiled = ready(build(**options)), ready(build(**options, compile=True))
    assert same(batches(plain.train_dataloader()), batches(compiled.train_dataloader()))


def test_watch_test(build):
    data = ready(build(watch_test=True))
    val, test = data.val_dataloader()
    assert same(batches(test), batches(data.test_dataloader()))
    assert torch.equal(torch.cat([labels for _, labels in val]), data.part_labels("val"))
    data = ready(build(watch_test=True, val_size=0))
    empty, watched = data.val_dataloader()
    assert len(empty) == 0
    assert len(watched) == len(data.test_dataloader())


def test_fit_test_predict(build, tmp_path):
    data = build(batch_size=16, watch_test=True)
    model = Tiny(features=int(torch.tensor(data.image_shape).prod()), classes=data.num_classes)
    run = trainer(tmp_path)
    run.fit(model, data)
    per_epoch = len(data.part_indices("train"))
    seen = torch.cat(model.seen["train"])
    assert torch.equal(seen[:per_epoch].sort().values, data.part_labels("train").sort().values)
    assert torch.equal(seen[per_epoch:].sort().values, data.part_labels("train").sort().values)
    assert not torch.equal(seen[:per_epoch], seen[per_epoch:])
    watched = torch.cat([labels for which, labels in model.seen["val"] if which == 1])
    assert torch.equal(watched, data.part_labels("test").repeat(2))
    run.test(model, data)
    assert torch.equal(torch.cat(model.seen["test"]), data.part_labels("test"))
    assert torch.equal(torch.cat(run.predict(model, data)), data.part_labels("test"))


def test_test_alone(build, tmp_path):
    data = build()
    model = Tiny(features=int(torch.tensor(data.image_shape).prod()), classes=data.num_classes)
    trainer(tmp_path).test(model, data)
    assert torch.equal(torch.cat(model.seen["test"]), data.part_labels("test"))


def test_fit_without_validation(build, tmp_path):
    data = build(val_size=0)
    model = Tiny(features=int(torch.tensor(data.image_shape).prod()), classes=data.num_classes)
    trainer(tmp_path, max_epochs=1).fit(model, data)
    assert model.seen["val"] == []
    assert len(torch.cat(model.seen["train"])) == len(data.part_indices("train"))


def test_resume_in_mid_epoch(build, tmp_path):
    def run(**options):
        pl.seed_everything(1)
        data = build(batch_size=16)
        model = Tiny(features=int(torch.tensor(data.image_shape).prod()), classes=data.num_classes)
        return data, model, options

    data, model, _ = run()
    trainer(tmp_path).fit(model, data)
    steps = len(model.seen["train"])
    for stop in (1, steps // 2, steps // 2 + 1, steps - 1):
        data, first, _ = run()
        saving = pl.callbacks.ModelCheckpoint(
            tmp_path / str(stop), every_n_train_steps=stop, save_last=True, save_top_k=0
        )
        trainer(tmp_path, max_steps=stop, enable_checkpointing=True, callbacks=[saving]).fit(first, data)
        data, second, _ = run()
        trainer(tmp_path).fit(second, data, ckpt_path=tmp_path / str(stop) / "last.ckpt", weights_only=True)
        together = first.seen["train"] + second.seen["train"]
        assert len(together) == steps
        assert all(torch.equal(a, b) for a, b in zip(together, model.seen["train"], strict=True)), stop
        assert torch.equal(second.layer.weight, model.layer.weight)


def test_two_trainers_with_one_module(build, tmp_path):
    data = build(batch_size=16, seed=0)
    seen = []
    for _ in range(2):
        model = Tiny(features=int(torch.tensor(data.image_shape).prod()), classes=data.num_classes)
        trainer(tmp_path).fit(model, data)
        seen.append(torch.cat(model.seen["train"]))
    assert torch.equal(*seen)


def test_overfit_batches_repeats_the_same_batches(build, tmp_path):
    data = build(batch_size=16)
    model = Tiny(features=int(torch.tensor(data.image_shape).prod()), classes=data.num_classes)
    trainer(tmp_path, overfit_batches=2).fit(model, data)
    first, second, third, fourth = model.seen["train"]
    assert torch.equal(first, third)
    assert torch.equal(second, fourth)


def test_hyperparameters_are_plain_data(build, tmp_path):
    data = build(batch_size=7)
    assert data.hparams["batch_size"] == 7
    torch.save(dict(data.hparams), tmp_path / "hparams.pt")
    assert torch.load(tmp_path / "hparams.pt", weights_only=True) == dict(data.hparams)
    same_again = type(data)(**data.hparams)
    assert same_again.batch_size == 7
    assert torch.equal(ready(same_again).part_indices("val"), ready(data).part_indices("val"))


def test_after_a_fit_module_and_loader_can_be_pickled_and_printed(build, tmp_path):
    data = build(batch_size=16, **({"compile": True} if "compile" in build().hparams else {}))
    assert str(data).startswith(f"{type(data).__name__}(batch_size=16): not set up; {data.num_classes} classes")
    fitted = trainer(tmp_path, max_epochs=1)
    fitted.fit(Tiny(prod(data.image_shape), data.num_classes), data)
    loader = fitted.train_dataloader
    counts = [f"{len(data.part_indices(part))} {part}" for part in ("train", "val")]
    assert ", ".join(counts) in str(data)
    assert "\n" not in str(data)
    for again in (pickle.loads(pickle.dumps(data)).train_dataloader(), pickle.loads(pickle.dumps(loader))):
        again.set_epoch(3)
        loader.set_epoch(3)
        assert same(list(again), list(loader))
    assert len(loader.dataset) == len(loader.sampler) == len(data.part_indices("train"))


def test_module_can_be_pickled(build):
    data = ready(build())
    again = pickle.loads(pickle.dumps(data))
    assert same(batches(again.train_dataloader()), batches(data.train_dataloader()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, found 0"),
        ({"batch_size": 1.5}, "batch_size must be an integer of at least 1, found 1.5"),
        ({"eval_batch_size": -1}, "eval_batch_size must be an integer of at least 1, found -1"),
        ({"val_size": -0.1}, "val_size must be a count of examples or a fraction between 0 and 1, found -0.1"),
        ({"val_size": 1.5}, "val_size must be between 0 and 1 as a fraction, found 1.5"),
        ({"train_size": float("nan")}, "train_size must be a count of examples or a fraction between 0 and 1"),
        ({"split_seed": -1}, "split_seed must be an integer of at least 0, found -1"),
        ({"seed": -1}, "seed must be an integer of at least 0, found -1"),
        ({"num_workers": -1}, "num_workers must be an integer of at least 0, found -1"),
        ({"num_workers": 2}, "num_workers=2 has no effect with resident=True"),
        ({"device": "warp"}, 'device must be "auto" or a device such as "cpu" or "cuda:0", found \'warp\''),
        ({"device": "cuda:99"}, "device is 'cuda:99', found"),
    ],
)
def test_bad_options(build, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_size": 10**6}, "val_size needs 1000000 examples"),
        ({"train_size": 10**6}, "train_size needs 1000000 examples"),
        ({"val_size": 0.9, "train_size": 0.9}, "the parts need"),
        ({"val_size": 1}, "val_size=1 is less than the number of classes"),
    ],
)
def test_sizes_that_the_set_cannot_provide(build, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        ready(build(**options))
    assert "\n" not in str(caught.value)


def test_empty_part_has_no_loader(build):
    with pytest.raises(ValueError, match="drop_last=True leaves no batch"):
        ready(build(batch_size=10_000, drop_last=True)).train_dataloader()
    data = ready(build(val_size=0))
    assert data.val_dataloader() == []


def test_data_dir_comes_from_the_environment(build, monkeypatch):
    data = build()
    monkeypatch.setenv("DATA_DIR", data.data_dir)
    options = dict(data.hparams)
    options["data_dir"] = None
    assert type(data)(**options).data_dir == data.data_dir
    assert os.environ["DATA_DIR"] == data.data_dir


@pytest.mark.parametrize("resident", [True, False])
def test_label_noise_is_in_the_training_part_only(build, resident):
    clean, noisy = (ready(build(label_noise=share, resident=resident, split_seed=3)) for share in (0.0, 0.4))

    def labels(loader):
        dataset = loader.dataset
        return torch.stack([torch.as_tensor(dataset[i][1]) for i in range(len(dataset))])

    before, after = labels(clean.train_dataloader()), labels(noisy.train_dataloader())
    assert int((before != after).sum()) == round(0.4 * len(before))
    assert after.min() >= 0
    assert after.max() < noisy.num_classes
    for part in ("val", "test"):
        one, other = (getattr(data, f"{part}_dataloader")() for data in (clean, noisy))
        assert one == other == [] or torch.equal(labels(one), labels(other))
    assert torch.equal(clean.part_labels("train"), noisy.part_labels("train"))
    again = ready(build(label_noise=0.4, resident=resident, split_seed=3, seed=5, batch_size=7))
    assert torch.equal(labels(again.train_dataloader()), after)
    assert again.hparams["label_noise"] == 0.4


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), True])
def test_a_wrong_label_noise_is_refused(value):
    with pytest.raises(ValueError, match=r"label_noise must be a share from 0 to 1, found [^\n]+$"):
        DigitsDataModule(label_noise=value)
