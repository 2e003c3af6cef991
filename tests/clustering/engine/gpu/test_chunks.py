import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from clustering.engine import fit, starts
from clustering.engine.data import ArraySource, BatchSource, OutputType
from clustering.engine.gpu import chunks as module
from clustering.engine.gpu.assignment import GpuAssignment
from clustering.engine.gpu.chunks import chunks, place
from clustering.engine.gpu.nearest import Found, Nearest
from clustering.engine.problem import Options, Problem
from reference.counting import Live, Waits

CPU = torch.device("cpu")
ROWS = np.random.default_rng(0).standard_normal((40_000, 3))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "uint16", "int64", "bool", ">f4"])
def test_arrays_of_any_kind(dtype, monkeypatch):
    monkeypatch.setattr(module, "STREAMED", (3 + module.OVERHEAD) * 999)
    rows = (ROWS[:5_000] * 9).astype("int16").astype(dtype)[::-1]
    seen = list(chunks(ArraySource(rows), CPU))
    assert [chunk.start for chunk in seen] == [*range(0, 5_000, 999)]
    np.testing.assert_array_equal(torch.cat([chunk.rows for chunk in seen]).double(), rows.astype(float))


class Reused:
    """Batches in the memory of the batch before."""

    def __init__(self, cuts, make):
        self.cuts, self.make, self.iterations = cuts, make, 0

    def __iter__(self):
        self.iterations += 1
        memory = self.make(ROWS).copy() if self.make is np.asarray else self.make(ROWS).clone()
        for start, stop in itertools.pairwise(self.cuts):
            memory[: stop - start] = self.make(ROWS[start:stop])
            yield memory[: stop - start]


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["from the host", "on the device"])
def test_batches_are_grouped(make, monkeypatch):
    monkeypatch.setattr(module, "STREAMED", (3 + module.OVERHEAD) * 15_000)
    batches = Reused([0, 5_000, 10_000, 16_000, 16_000, 39_000, 40_000], make)
    seen = list(chunks(BatchSource(batches, 3), CPU))
    assert [(chunk.start, chunk.stop) for chunk in seen] == [(0, 16_000), (16_000, 31_000), (31_000, 40_000)]
    np.testing.assert_array_equal(torch.cat([chunk.rows for chunk in seen]), ROWS)
    assert batches.iterations == 1


def test_rows_that_are_on_a_gpu_are_not_copied_by_another_thread(monkeypatch):
    copied = []
    monkeypatch.setattr(module._Upload, "copy", lambda *_: copied.append(1))
    monkeypatch.setattr(module, "STREAMED", 3 * 5_000)
    rows = torch.from_numpy(ROWS)
    batches = BatchSource(rows.split(3_000), 3)
    for source in (ArraySource(rows), batches):
        with Waits() as waits:
            assert sum(len(chunk.rows) for chunk in chunks(source, CPU)) == len(ROWS)
        assert not waits.counts
    with Waits() as waits:
        batches.take(np.arange(0, 40_000, 1_000))
    assert waits.largest < 10  # the rows asked for, and not the batches


@pytest.mark.parametrize(("dim", "clusters"), [(2, 8), (16, 64), (128, 256), (300, 8)])
def test_the_memory_of_a_pass(dim, clusters, make_problem, monkeypatch):
    pytest.importorskip("triton")
    from clustering.engine.gpu import kernels

    class Kernel:
        """Finds nothing, so that every row is searched at every level."""

        def __init__(self, outputs):
            self.outputs = outputs

        def __getitem__(self, grid):
            return self.launch

        def launch(self, *arguments, **constants):
            for number, value in self.outputs.items():
                arguments[number].fill_(value)

    def found(self, rows, which):
        return Found(torch.zeros(len(which)), *torch.full((4, len(which)), torch.nan).unbind())

    monkeypatch.setattr(kernels, "prepare", Kernel({4: 1.0, 5: 0.0}))
    monkeypatch.setattr(kernels, "two_smallest", Kernel({3: 0, 4: torch.nan, 5: torch.nan}))
    monkeypatch.setattr(Nearest, "_bits", lambda self: (16, 13))
    monkeypatch.setattr(Nearest, "by_float32", found)  # it computes in pieces, as float64 does
    monkeypatch.setattr(Nearest, "by_float64", lambda self, rows, which: torch.zeros(len(which), dtype=torch.int64))
    share = 64  # of the real sizes
    monkeypatch.setattr(module, "RESIDENT", module.RESIDENT // share)
    monkeypatch.setattr(module, "PIECE", module.PIECE // share)
    rows = torch.zeros(3 * module.RESIDENT // (dim + module.OVERHEAD), dim)
    problem = replace(make_problem(np.ones((9, dim), dtype="float32"), device=CPU), source=ArraySource(rows))
    centres = np.random.default_rng(0).standard_normal((clusters, dim))
    with Live() as live:
        state = GpuAssignment(problem, clusters, CPU)
        kept = live.now
        state.assign(centres)
        state.assign(centres + 1e-3)
    assert kept < 8.2 * len(rows)  # a label and a margin
    assert share * (live.peak - kept) < 1.2 * 2**30


def test_the_memory_of_a_whole_fit(monkeypatch):
    share = 64  # of the real sizes; the passes' products in low precision are above
    monkeypatch.setattr(module, "RESIDENT", module.RESIDENT // share)
    monkeypatch.setattr(module, "PIECE", module.PIECE // share)
    monkeypatch.setattr(fit, "SAMPLE", starts.SAMPLE // share)
    for name in ("SAMPLE", "_SMALL", "_LEAST"):
        monkeypatch.setattr(starts, name, getattr(starts, name) // share)
    rows = torch.randn(16_000, 64, generator=torch.Generator().manual_seed(0))
    with Live() as live:
        options = Options(16, device=CPU, max_iter=2)
        result = fit.fit_centres(Problem(ArraySource(rows), OutputType.of(rows)), options)
    assert len(result.labels) == len(rows)
    assert share * live.peak < 2**30  # seeding, local search and the larger sample beside the data


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
