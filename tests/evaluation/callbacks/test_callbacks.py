"""Calibration and mistakes of a validation, as logged and drawn by the callbacks."""

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.functional import cross_entropy

from evaluation import calibration_error, reliability_diagram
from evaluation.callbacks import CalibrationMonitor, MistakesMonitor
from evaluation.callbacks import mistakes_monitor as callbacks
from evaluation.callbacks.mistakes import MistakeRecord
from evaluation.callbacks.mistakes_monitor import viewable
from evaluation.figures import to_rgb
from workers import evaluation_run
from workers.evaluation_run import CLASSES, Data, FixedAnswers, answers, images_of, trainer

MATRIX, MISTAKES = "val/confusion_matrix", "val/mistakes"
DIAGRAM = "val/reliability"


def events(folder):
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of the figures: a list of (matrix, classes) and one of (images, labels, predictions, ...)."""
    calls = {"matrix": [], "mistakes": []}

    def record(name, kind):
        real = getattr(callbacks, name)
        monkeypatch.setattr(callbacks, name, lambda *args: calls[kind].append(args) or real(*args))

    record("confusion_matrix_figure", "matrix")
    record("mistakes_figure", "mistakes")
    return calls


def worst_of(logits, labels, count):
    """Indices of the mistakes of highest cross-entropy, found by sorting all of them."""
    loss = cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(1) != labels).nonzero().flatten().tolist()
    return sorted(wrong, key=lambda index: -loss[index].item())[:count]


def matrix_of(logits, labels):
    matrix = torch.zeros(logits.shape[1], logits.shape[1], dtype=torch.int64)
    for label, prediction in zip(labels.tolist(), logits.argmax(1).tolist(), strict=True):
        matrix[label, prediction] += 1
    return matrix


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_calibration_of_uneven_batches_equals_the_function(tmp_path, norm):
    logits, labels = answers(45)  # 6 batches of 7 and one of 3
    run = trainer(tmp_path, [CalibrationMonitor(n_bins=10, norm=norm)])
    run.validate(FixedAnswers([logits]), Data([labels]), verbose=False)
    expected = calibration_error(logits, labels, n_bins=10, norm=norm, from_logits=True).item()
    assert run.callback_metrics["val/ece"].item() == pytest.approx(expected, abs=1e-12)
    assert "test/ece" not in run.callback_metrics
    assert events(tmp_path).Scalars("val/ece")[0].value == pytest.approx(expected, rel=1e-6)


def test_a_second_loader_is_the_test_split_and_a_third_is_ignored(tmp_path, drawn):
    tables = [answers(count, seed=count) for count in (20, 33, 10)]
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor()])
    run.validate(FixedAnswers([t[0] for t in tables]), Data([t[1] for t in tables]), verbose=False)
    for name, (logits, labels) in zip(("val/ece", "test/ece"), tables, strict=False):
        expected = calibration_error(logits, labels, from_logits=True).item()
        assert run.callback_metrics[name].item() == pytest.approx(expected, abs=1e-12)
    assert {name for name in run.callback_metrics if "ece" in name} == {"val/ece", "test/ece"}
    assert torch.equal(drawn["matrix"][0][0], matrix_of(*tables[0]))


def test_testing_logs_the_error_of_the_test_split_and_draws_nothing(tmp_path):
    logits, labels = answers(30)
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor()])
    run.test(FixedAnswers([logits]), Data([labels]), verbose=False)
    expected = calibration_error(logits, labels, from_logits=True).item()
    assert run.callback_metrics["test/ece"].item() == pytest.approx(expected, abs=1e-12)
    assert "val/ece" not in run.callback_metrics
    assert events(tmp_path).Tags()["images"] == []


def test_events_of_a_fit(tmp_path):
    logits, labels = answers(40)
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor(images=4)], max_epochs=3)
    run.fit(FixedAnswers([logits]), Data([labels]))  # 2 steps an epoch; a sanity check comes first
    found = events(tmp_path)
    assert set(found.Tags()["images"]) == {MATRIX, MISTAKES, DIAGRAM}
    for tag in (MATRIX, MISTAKES, DIAGRAM):
        assert [event.step for event in found.Images(tag)] == [2, 4, 6]
        for event in found.Images(tag):
            picture = Image.open(io.BytesIO(event.encoded_image_string))
            assert picture.format == "PNG"
            assert picture.size == (event.width, event.height)
            assert np.asarray(picture).std() > 10
    expected = calibration_error(logits, labels, from_logits=True).item()
    assert [event.value for event in found.Scalars("val/ece")] == pytest.approx([expected] * 3, rel=1e-6)


def test_figures_show_the_worst_mistakes(tmp_path, drawn):
    logits, labels = answers(90)
    run = trainer(tmp_path, [MistakesMonitor(images=9)])
    run.validate(FixedAnswers([logits]), Data([labels]), verbose=False)
    (matrix, classes), (images, true, predicted, confidence, _) = drawn["matrix"][0], drawn["mistakes"][0]
    worst = worst_of(logits, labels, 9)
    assert torch.equal(matrix, matrix_of(logits, labels))
    assert classes == CLASSES
    assert (images[:, 0, 0, 0] * 255).round().tolist() == worst  # un-normalised: (i * std + mean), std = 1/255
    assert true.tolist() == labels[worst].tolist()
    assert predicted.tolist() == logits[worst].argmax(1).tolist()
    torch.testing.assert_close(confidence, logits[worst].softmax(1).amax(1))


@pytest.mark.parametrize("wrong", [0, 2])
def test_fewer_mistakes_than_places(tmp_path, drawn, wrong):
    labels = torch.arange(20) % 3
    logits = 5.0 * torch.nn.functional.one_hot(labels, 3)
    logits[:wrong] = logits[:wrong].roll(1, dims=1)
    run = trainer(tmp_path, [MistakesMonitor(images=9)])
    run.validate(FixedAnswers([logits]), Data([labels]), verbose=False)
    assert len(drawn["mistakes"][0][0]) == wrong
    assert events(tmp_path).Images(MISTAKES)


def test_flat_inputs_have_a_confusion_matrix_only(tmp_path):
    logits, labels = answers(20)
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor()])
    run.validate(FixedAnswers([logits]), Data([labels], flat=True), verbose=False)
    assert set(events(tmp_path).Tags()["images"]) == {MATRIX, DIAGRAM}


def test_without_a_data_module_classes_are_numbers_and_images_are_scaled(tmp_path, drawn):
    logits, labels = answers(50)
    run = trainer(tmp_path, [MistakesMonitor(images=50)])
    run.validate(FixedAnswers([logits]), Data([labels]).val_dataloader(), verbose=False)
    assert drawn["matrix"][0][1] == ["0", "1", "2"]
    assert drawn["mistakes"][0][0].amin() == 0
    assert drawn["mistakes"][0][0].amax() == 1


class NoValidation(Data):
    def val_dataloader(self):
        return []


def test_a_fit_without_validation_logs_nothing(tmp_path):
    logits, labels = answers(20)
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor()])
    run.fit(FixedAnswers([logits]), NoValidation([labels]))
    assert "val/ece" not in run.callback_metrics
    assert events(tmp_path).Tags()["images"] == []


def test_an_empty_first_loader_logs_nothing_for_the_validation_split(tmp_path):
    empty, test = (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)), answers(20)
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor()])
    run.validate(FixedAnswers([empty[0], test[0]]), Data([empty[1], test[1]]), verbose=False)
    assert "val/ece" not in run.callback_metrics
    assert "test/ece" in run.callback_metrics
    assert events(tmp_path).Tags()["images"] == ["test/reliability"]


def test_the_sanity_check_leaves_no_trace(tmp_path, drawn):
    logits, labels = answers(20)
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor()], num_sanity_val_steps=2, limit_train_batches=0)
    run.fit(FixedAnswers([logits]), Data([labels]))
    assert drawn["matrix"] == []
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor()], num_sanity_val_steps=2)
    run.fit(FixedAnswers([logits]), Data([labels]))
    assert [int(matrix.sum()) for matrix, _ in drawn["matrix"]] == [20]


@pytest.mark.parametrize("kind", ["csv", "none"])
def test_nothing_is_drawn_without_tensorboard(tmp_path, drawn, kind):
    logits, labels = answers(20)
    logger = CSVLogger(tmp_path) if kind == "csv" else False
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor()], logger=logger)
    run.validate(FixedAnswers([logits]), Data([labels]), verbose=False)
    assert drawn == {"matrix": [], "mistakes": []}
    assert "val/ece" in run.callback_metrics


def test_every_tensorboard_logger_gets_the_figures(tmp_path):
    logits, labels = answers(20)
    loggers = [
        TensorBoardLogger(tmp_path / "a", "", ""),
        CSVLogger(tmp_path),
        TensorBoardLogger(tmp_path / "b", "", ""),
    ]
    run = trainer(tmp_path, [MistakesMonitor()], logger=loggers)
    run.validate(FixedAnswers([logits]), Data([labels]), verbose=False)
    assert all(set(events(tmp_path / name).Tags()["images"]) == {MATRIX, MISTAKES} for name in "ab")


def test_every_n_epochs_and_the_last(tmp_path):
    logits, labels = answers(20)
    callbacks = [MistakesMonitor(every_n_epochs=2), CalibrationMonitor(every_n_epochs=2)]
    run = trainer(tmp_path, callbacks, max_epochs=5)
    run.fit(FixedAnswers([logits]), Data([labels]))
    found = events(tmp_path)
    assert [event.step for event in found.Images(MATRIX)] == [4, 8, 10]
    assert [event.step for event in found.Images(DIAGRAM)] == [4, 8, 10]
    assert [event.step for event in found.Scalars("val/ece")] == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("norm", ["l1", "max"])
def test_the_diagram_equals_that_of_the_function(tmp_path, norm):
    tables = [answers(60), answers(33, seed=1)]
    run = trainer(tmp_path, [CalibrationMonitor(n_bins=8, norm=norm)])
    run.validate(FixedAnswers([t[0] for t in tables]), Data([t[1] for t in tables]), verbose=False)
    found = events(tmp_path)
    assert set(found.Tags()["images"]) == {"val/reliability", "test/reliability"}
    for split, (logits, labels) in zip(("val", "test"), tables, strict=True):
        figure = reliability_diagram(logits, labels, n_bins=8, norm=norm, from_logits=True, title=split)
        assert f"{run.callback_metrics[f'{split}/ece'].item():.4f}" in figure.axes[0].get_title()
        picture = Image.open(io.BytesIO(found.Images(f"{split}/reliability")[0].encoded_image_string))
        assert np.array_equal(np.asarray(picture), to_rgb(figure))


def test_nan_logits_give_nan_and_do_not_stop_the_run(tmp_path):
    logits, labels = answers(20)
    logits[3] = float("nan")
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor()])
    run.validate(FixedAnswers([logits]), Data([labels]), verbose=False)
    assert run.callback_metrics["val/ece"].isnan()
    assert len(events(tmp_path).Images(MISTAKES)) == 1


class Silent(FixedAnswers):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        return {"loss": torch.zeros(())}


@pytest.mark.parametrize("callback", [CalibrationMonitor(), MistakesMonitor()])
def test_steps_without_logits_are_an_error(tmp_path, callback):
    logits, labels = answers(20)
    words = rf"{type(callback).__name__} needs .* found a dictionary of \['loss'\]"
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path, [callback]).validate(Silent([logits]), Data([labels]), verbose=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CalibrationMonitor(n_bins=0), "n_bins must be a positive integer, found 0"),
        (lambda: CalibrationMonitor(norm="mean"), "norm must be one of l1, l2, max, found 'mean'"),
        (lambda: CalibrationMonitor(every_n_epochs=0), "every_n_epochs must be a positive integer, found 0"),
        (lambda: MistakesMonitor(images=0), "images must be a positive integer, found 0"),
        (lambda: MistakesMonitor(every_n_epochs=True), "every_n_epochs must be a positive integer, found True"),
    ],
)
def test_bad_options_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_training_hooks_are_left_alone():
    for callback in (CalibrationMonitor, MistakesMonitor):
        own = {name for name in vars(callback) if name.startswith("on_")}
        assert all("validation" in name or "test" in name for name in own)


def test_record_keeps_few_images():
    record = MistakeRecord(4)
    logits, labels = answers(64)
    images = images_of(64)
    for start in range(0, 64, 10):
        batch = slice(start, start + 10)
        record.update(logits[batch].bfloat16(), labels[batch], images[batch].bfloat16())
        assert record.mistakes["image"].shape[0] <= 4
        assert record.mistakes["image"].untyped_storage().nbytes() <= 4 * 16 * 4
    _, mistakes = record.cpu()
    worst = worst_of(logits.bfloat16().float(), labels, 4)
    assert mistakes["image"][:, 0, 0, 0].tolist() == worst


def test_images_of_different_sizes_are_resized():
    record = MistakeRecord(6)
    logits, labels = torch.tensor([[0.0, 1.0]] * 3), torch.zeros(3, dtype=torch.long)
    record.update(logits, labels, torch.rand(3, 3, 8, 8))
    record.update(logits, labels, torch.rand(3, 3, 12, 10))
    assert record.cpu()[1]["image"].shape == (6, 3, 8, 8)


@pytest.mark.parametrize(
    ("mean", "std"), [([0.2, 0.4, 0.6], [0.1, 0.2, 0.3]), (np.array([0.5]), np.array([0.25])), (0.5, 0.25)]
)
def test_normalisation_is_undone(mean, std):
    images = torch.rand(5, 3, 4, 4)
    shape = (1, -1, 1, 1)
    mean_t, std_t = (torch.as_tensor(value, dtype=torch.float32).reshape(shape) for value in (mean, std))
    torch.testing.assert_close(viewable((images - mean_t) / std_t, mean, std), images)


@pytest.mark.parametrize(("mean", "std"), [(None, None), ([0.1, 0.2], [1.0, 1.0])])
def test_unknown_normalisation_scales_to_the_range(mean, std):
    found = viewable(torch.linspace(-3, 9, 48).view(1, 3, 4, 4), mean, std)
    torch.testing.assert_close(found, torch.linspace(0, 1, 48).view(1, 3, 4, 4))
    assert viewable(torch.full((1, 3, 2, 2), 7.0), mean, std).tolist() == torch.zeros(1, 3, 2, 2).tolist()


def run_two_processes(command):
    """Start both at once, as a cluster would: Lightning's own launcher starts the second after the first's imports."""
    root = Path(__file__).parents[3]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    common["PYTHONPATH"] = os.pathsep.join([str(root), str(root / "tests")])
    started = []
    try:
        for rank in range(2):
            environment = os.environ | common | {"LOCAL_RANK": str(rank)}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            started.append(subprocess.Popen(command, env=environment, **pipes))
        for process in started:
            output, _ = process.communicate(timeout=180)
            assert process.returncode == 0, output
    finally:
        for process in started:
            process.kill()


@pytest.mark.slow
def test_two_processes(tmp_path):
    run_two_processes([sys.executable, evaluation_run.__file__, str(tmp_path)])
    report = json.loads((tmp_path / "report.json").read_text())
    logits, labels = answers(101)
    seen = torch.tensor(report["seen"])  # Lightning's sampler pads to 102: compare with what was seen
    assert seen.shape == (2, 51)
    expected = calibration_error(logits[seen.flatten()], labels[seen.flatten()], from_logits=True).item()
    assert report["ece"] == pytest.approx(expected, abs=1e-12)
    assert report["metric"] == pytest.approx(expected, abs=1e-12)
    found = events(tmp_path)
    assert [event.step for event in found.Images(MATRIX)] == [0]
    assert [event.step for event in found.Images(MISTAKES)] == [0]
    assert [event.step for event in found.Images(DIAGRAM)] == [0]
    alone = tmp_path / "alone"  # the same examples on one process must give the same pictures, to the byte
    index = seen.flatten()
    run = trainer(alone, [CalibrationMonitor(), MistakesMonitor(images=9)])
    data = Data([labels])
    data._loader = lambda _: torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images_of(101)[index], labels[index]), batch_size=7
    )
    run.validate(FixedAnswers([logits]), data, verbose=False)
    for tag in (MATRIX, MISTAKES, DIAGRAM):
        one, two = (events(folder).Images(tag)[0].encoded_image_string for folder in (alone, tmp_path))
        assert one == two


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("deterministic", [False, True])
def test_on_a_gpu(tmp_path, drawn, deterministic):
    logits, labels = answers(90)
    options = {"accelerator": "gpu", "precision": "bf16-mixed", "deterministic": deterministic}
    run = trainer(tmp_path, [CalibrationMonitor(), MistakesMonitor(images=9)], **options)
    run.validate(FixedAnswers([logits.cuda()]), Data([labels]), verbose=False)
    torch.use_deterministic_algorithms(False)
    expected = calibration_error(logits, labels, from_logits=True).item()
    assert run.callback_metrics["val/ece"].item() == pytest.approx(expected, abs=1e-9)
    assert torch.equal(drawn["matrix"][0][0], matrix_of(logits, labels))
    assert (drawn["mistakes"][0][0][:, 0, 0, 0] * 255).round().tolist() == worst_of(logits, labels, 9)
