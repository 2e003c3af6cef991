"""A TensorBoard server shows what the callbacks write."""

import io

import numpy as np
import pytest
from PIL import Image

from evaluation import calibration_error
from evaluation.callbacks import CalibrationMonitor, MistakesMonitor
from workers.evaluation_run import Data, FixedAnswers, answers, trainer
from workers.tensorboard_server import tensorboard_server

TAGS = ("val/ece", "val/confusion_matrix", "val/mistakes", "val/reliability")


def test_the_real_server_serves_what_the_callbacks_write(tmp_path):
    logits, labels = answers(40)
    run = trainer(tmp_path / "run", [CalibrationMonitor(), MistakesMonitor(images=4)], max_epochs=2)
    run.fit(FixedAnswers([logits]), Data([labels]))
    run.logger.experiment.close()
    expected = calibration_error(logits, labels, from_logits=True).item()

    with tensorboard_server(tmp_path, TAGS) as get:
        assert "val/ece" in get("/data/plugin/scalars/tags")["run"]
        scalars = get("/data/plugin/scalars/scalars", run="run", tag="val/ece")
        assert [value for _, _, value in scalars] == pytest.approx([expected] * 2, rel=1e-6)
        assert set(get("/data/plugin/images/tags")["run"]) == set(TAGS[1:])
        for tag in TAGS[1:]:
            images = get("/data/plugin/images/images", run="run", tag=tag, sample="0")
            assert [image["step"] for image in images] == [2, 4]
            body = get(f"/data/plugin/images/individualImage?{images[-1]['query']}")
            picture = Image.open(io.BytesIO(body))
            assert picture.format == "PNG"
            assert min(picture.size) > 200
            assert np.asarray(picture).std() > 10
    with pytest.raises(OSError, match="refused"):
        get("/data/environment")  # the server is gone


def test_a_server_that_is_never_ready_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="did not get ready"), tensorboard_server(tmp_path, ["absent"], tries=2):
        pass
