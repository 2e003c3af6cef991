"""The search by the Triton kernels, interpreted on a CPU and compiled for an H100, and the bounds without them."""

import numpy as np
import pytest
import torch

from clustering.engine.coordinates import Coordinates
from clustering.engine.gpu.nearest import Nearest, Screen, exact_products, shortened
from reference.kmeans import squared_distances

CPU = torch.device("cpu")
CHECKS = ["bfloat16", "tf32", "some_rows", "cascade", "fast_precision"]


@pytest.fixture(scope="module")
def errors():
    pytest.importorskip("triton")
    from reference import interpreted

    return interpreted.errors("interpreted_kmeans.py")


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_interpreted(errors, check):
    assert list(errors) == CHECKS
    assert errors[check] == "", errors[check]


@pytest.mark.parametrize(("bits", "dim"), [(16, 128), (13, 100), (16, 300)])
def test_an_h100_multiplies_by_its_tensor_cores(bits, dim):
    pytest.importorskip("triton")
    from clustering.engine.gpu import kernels
    from reference.hopper import recorded

    dtype = torch.bfloat16 if bits == 16 else torch.float32
    centres, norms = torch.zeros(128, kernels.width(dim), dtype=dtype), torch.zeros(128)
    with recorded(kernels, "prepare", "two_smallest") as seen:
        kernels.launch(torch.zeros(9, dim), torch.arange(3), torch.zeros(dim), centres, norms, bits)
    assert [name for name, _ in seen] == ["prepare", "two_smallest"]
    assert "wgmma.mma_async" in seen[1][1]
    assert ".local" not in seen[1][1]


@pytest.mark.parametrize("fits", [2, 0])
def test_tiles_that_do_not_fit_are_loaded_less_far_ahead_or_searched_in_float32(fits, monkeypatch):
    triton = pytest.importorskip("triton")
    from clustering.engine.gpu import kernels

    class Kernel:
        def __init__(self):
            self.tried = []

        def __getitem__(self, grid):
            return self.launch

        def launch(self, *args, num_stages=None, **constants):
            if num_stages is not None:
                self.tried.append(num_stages)
                if num_stages > fits:
                    raise triton.OutOfResources(262_144, 232_448, "shared memory")

    kernel = Kernel()
    monkeypatch.setattr(kernels, "_fitting", {})
    monkeypatch.setattr(kernels, "prepare", kernel)
    monkeypatch.setattr(kernels, "two_smallest", kernel)
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((90, 300)).astype("float32"))
    nearest = Nearest(rows[:7].double().numpy(), Coordinates(), CPU)
    screen = Screen(nearest, 13)
    found = [screen(rows, None) for _ in range(2)]
    assert kernel.tried == ([3, 2, 2] if fits else [3, 2, 1])  # the second time it is known
    if not fits:
        np.testing.assert_array_equal(found[1].labels, squared_distances(rows.numpy(), rows[:7].numpy()).argmin(axis=1))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_float32_is_within_its_bound(scale):
    rng = np.random.default_rng(0)
    rows, centres = rng.standard_normal((500, 40)) * scale + 9, rng.standard_normal((30, 40)) * scale + 9
    coordinates = Coordinates.around(rows, "euclidean")
    wide, inside = coordinates.float64(rows), coordinates.float64(centres)
    found = Nearest(inside, coordinates, CPU).by_float32(torch.from_numpy(rows), None)
    exact = np.sort(squared_distances(wide, inside), axis=1)[:, :2] - (wide**2).sum(axis=1)[:, None]
    for values, score in zip((found.first, found.second), exact.T, strict=True):
        assert (np.abs(values.double().numpy() - score) <= found.doubt.double().numpy() / 2).all()


def test_ties_are_decided_in_float64():
    rows = torch.tensor([[0.5, 0.0], [0.5, 7.0], [0.0, 0.0]], dtype=torch.float64)
    centres = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0 - 1e-14, 0.0]])
    labels, margins = Nearest(centres, Coordinates(), CPU).search(rows)
    assert labels.tolist() == [3, 3, 1]
    assert (margins <= 0).all()


def test_rounding_to_fewer_bits():
    values = torch.tensor([1.0, -1.00390625, 3.14159, -2.71828e-20, 0.0])
    assert torch.equal(shortened(values, 16), values.bfloat16().float())
    assert ((shortened(values, 13) - values).abs() <= values.abs() * 2.0**-11).all()


@pytest.mark.parametrize("by_attribute", [False, True])
def test_products_are_exact_whatever_the_process_has_chosen(by_attribute):
    if by_attribute:  # after which torch.get_float32_matmul_precision() raises
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    else:
        torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            with exact_products(CPU):
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")
