import numpy as np
import pytest
import torch

from clustering.engine.data import BLOCK, ArraySource, BatchSource, OutputType, pieces, to_numpy

ROWS = np.random.default_rng(0).standard_normal((40_000, 3)).astype(np.float32)


def sources():
    cuts = np.cumsum([5, BLOCK, 1, 2 * BLOCK - 100])
    batches = [part if i % 2 else (torch.from_numpy(part), "label") for i, part in enumerate(np.split(ROWS, cuts))]
    return [ArraySource(ROWS), ArraySource(torch.from_numpy(ROWS)), BatchSource(batches, 3)]


@pytest.mark.parametrize("source", sources(), ids=["array", "tensor", "batches"])
def test_blocks_and_rows_of_every_source(source):
    for _ in range(2):
        blocks = list(source.blocks())
        assert [(block.start, block.stop) for block in blocks] == [(0, BLOCK), (BLOCK, 2 * BLOCK), (2 * BLOCK, 40_000)]
        np.testing.assert_array_equal(np.concatenate([block.rows() for block in blocks]), ROWS)
    assert (source.count, source.dim) == (40_000, 3)
    np.testing.assert_array_equal(blocks[1].rows(np.array([3, 77])), ROWS[[BLOCK + 3, BLOCK + 77]])
    numbers = np.array([0, 5, BLOCK - 1, BLOCK, 39_999])
    np.testing.assert_array_equal(source.take(numbers), ROWS[numbers])


def test_a_batch_may_be_overwritten_by_the_next():
    def batches():
        buffer = np.empty((10, 3), dtype=np.float32)
        for start in range(0, 1_000, 10):
            buffer[:] = ROWS[start : start + 10]
            yield buffer

    class Loader:
        def __iter__(self):
            return batches()

    (block,) = BatchSource(Loader(), 3).blocks()
    np.testing.assert_array_equal(block.rows(), ROWS[:1_000])


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((2, 4)), np.array([["a", "b", "c"]])])
def test_a_bad_batch(bad):
    with pytest.raises(ValueError, match="batch must"):
        list(BatchSource([ROWS[:2], bad], 3).blocks())


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_rounding_is_that_of_the_type(dtype):
    values = np.random.default_rng(1).standard_normal((50, 2)) * 1e3
    expected = [[float(torch.tensor(x, dtype=torch.float64).to(getattr(torch, dtype))) for x in row] for row in values]
    np.testing.assert_array_equal(OutputType(dtype).round(values), expected)


def test_results_have_the_type_of_the_input():
    for data in (ROWS, ROWS.astype(np.float16), torch.from_numpy(ROWS).bfloat16()):
        output = OutputType.of(data)
        result = output.convert(np.ones((2, 2)))
        assert type(result) is type(data)
        assert result.dtype == data.dtype
    assert OutputType.of(ROWS.astype(int)) == OutputType("float64")
    assert OutputType("float32", "cpu").convert_labels(np.zeros(2, dtype=np.int32)).dtype == torch.int64
    assert OutputType("float32").convert_labels(np.zeros(2, dtype=np.int32)).dtype == np.int32


def test_a_missing_gpu_becomes_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert OutputType("float32", "cuda:1").available() == OutputType("float32", "cpu")
    assert OutputType("float32").available() == OutputType("float32")


def test_to_numpy():
    values = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    assert to_numpy(values).dtype == np.float32
    np.testing.assert_array_equal(to_numpy([1, 2]), [1, 2])


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (1, 1), (50_000, 2), (1_000, 5_000)])
def test_pieces_cover_every_row_once(rows, columns):
    assert [i for piece in pieces(rows, columns) for i in range(rows)[piece]] == list(range(rows))
