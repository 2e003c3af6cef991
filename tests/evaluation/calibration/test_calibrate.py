"""`calibrate(model, datamodule)` fits on one split and reports on another."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from evaluation import IsotonicCalibration, TemperatureScaling, calibrate, calibration_error, negative_log_likelihood
from evaluation.calibration.calibrate import split_predictions

TEMPERATURE = {"train": 0.5, "val": 3.0, "test": 3.0}


def answers(split, n=900):
    generator = torch.Generator().manual_seed(len(split))
    logits = 2 * torch.randn(n, 3, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return TEMPERATURE[split] * logits, labels


class Data(pl.LightningDataModule):
    def __init__(self, watch=False, held_out=True):
        super().__init__()
        self.watch, self.held_out, self.stages = watch, held_out, []

    def setup(self, stage):
        self.stages.append(stage)

    def loader(self, split):
        return DataLoader(TensorDataset(*answers(split)), batch_size=128)

    def train_dataloader(self):
        return self.loader("train")

    def val_dataloader(self):
        own = self.loader("val") if self.held_out else []
        return [own, self.loader("test")] if self.watch else own

    def test_dataloader(self):
        return self.loader("test")


@pytest.mark.parametrize("watch", [False, True])
def test_it_fits_on_validation_and_reports_on_test(watch):
    data = Data(watch)
    report = calibrate(torch.nn.Identity(), data)
    before, (result,) = report.uncalibrated.metrics, report.calibrated
    expected = TemperatureScaling().fit(*answers("val"))
    assert result.scaler.temperature_ == expected.temperature_
    assert report.fitted_on == "val"
    assert data.stages == ["validate", "test"]
    logits, labels = answers("test")
    assert before["nll"] == negative_log_likelihood(logits, labels, from_logits=True)
    assert before["ece"] == calibration_error(logits, labels, from_logits=True)
    p = expected.predict_proba(logits)
    assert result.metrics["nll"] == pytest.approx(float(negative_log_likelihood(p, labels)))
    assert result.metrics["ece"] == pytest.approx(float(calibration_error(p, labels)))
    assert result.metrics["accuracy"] == before["accuracy"] == (logits.argmax(1) == labels).double().mean()
    assert result.metrics["nll"] < before["nll"]


def test_training_data_are_used_only_on_request():
    report = calibrate(torch.nn.Identity(), Data(), on_training_data=True)
    assert report.fitted_on == "train"
    assert report.calibrated[0].scaler.temperature_.item() == pytest.approx(0.5, rel=0.2)


@pytest.mark.parametrize("watch", [False, True])
def test_a_missing_validation_split_is_an_error(watch):
    with pytest.raises(ValueError, match="there is no val split to calibrate on: train with one"):
        calibrate(torch.nn.Identity(), Data(watch, held_out=False))


def test_any_scaler_bins_and_norm():
    report = calibrate(torch.nn.Identity(), Data(), IsotonicCalibration(), n_bins=5, norm="max")
    logits, labels = answers("test")
    error = calibration_error(logits, labels, n_bins=5, norm="max", from_logits=True)
    assert report.uncalibrated.metrics["ece"] == error
    assert isinstance(report.calibrated[0].scaler, IsotonicCalibration)
    with pytest.raises(ValueError, match="norm"):
        calibrate(torch.nn.Identity(), Data(), norm="l3")


def test_the_network_is_evaluated_in_evaluation_mode_and_left_as_it_was():
    network = torch.nn.Sequential(torch.nn.Dropout(0.9), torch.nn.BatchNorm1d(3).eval(), torch.nn.Linear(3, 3))
    test = split_predictions(network, Data(), "test")
    assert [module.training for module in network] == [True, False, True]
    torch.testing.assert_close(test.scores, split_predictions(network, Data(), "test").scores, rtol=0, atol=0)
    assert not test.scores.requires_grad
    assert torch.equal(test.labels, answers("test")[1])
