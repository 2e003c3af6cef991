import numpy as np
import pytest
import torch

from clustering.engine.data import ArraySource, BatchSource
from clustering.engine.gpu import chunks as module
from clustering.engine.gpu.chunks import chunks, place

CPU = torch.device("cpu")
ROWS = np.random.default_rng(0).standard_normal((40_000, 3))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "uint16", "int64", "bool", ">f4"])
def test_arrays_of_any_kind(dtype, monkeypatch):
    monkeypatch.setattr(module, "STREAMED", 3 * 999)
    rows = (ROWS[:5_000] * 9).astype("int16").astype(dtype)[::-1]
    seen = list(chunks(ArraySource(rows), CPU))
    assert [chunk.start for chunk in seen] == [*range(0, 5_000, 999)]
    np.testing.assert_array_equal(torch.cat([chunk.rows for chunk in seen]).double(), rows.astype(float))


def test_batches_are_grouped(monkeypatch):
    monkeypatch.setattr(module, "STREAMED", 3 * 40_000)
    seen = list(chunks(BatchSource(np.array_split(ROWS, 7), 3), CPU))
    assert [(chunk.start, chunk.stop) for chunk in seen] == [(0, 32_768), (32_768, 40_000)]
    np.testing.assert_array_equal(torch.cat([chunk.rows for chunk in seen]), ROWS)


def test_tensors_are_not_copied():
    rows = torch.from_numpy(ROWS)
    (chunk,) = chunks(ArraySource(rows), CPU)
    assert chunk.rows.data_ptr() == rows.data_ptr()


def test_rows_that_fit_are_moved_once(make_problem, monkeypatch):
    problem = make_problem(ROWS.astype("float32"), device=CPU)
    moved = place(problem).source.data
    np.testing.assert_array_equal(moved, ROWS.astype("float32"))
    assert place(make_problem(ROWS)).source.data is ROWS  # no device
    monkeypatch.setattr(module, "free_memory", lambda device: ROWS.nbytes * 0.9)
    assert place(problem).source is problem.source  # half of it at most


def test_an_error_of_the_reader_reaches_the_caller():
    with pytest.raises(ValueError, match="3 columns"):
        list(chunks(BatchSource([ROWS, ROWS[:, :2]], 3), CPU))
