import itertools
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs

from clustering import KMeans
from clustering.engine import device as places
from clustering.shards import shard_bounds

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows():
    return make_blobs(40_000, 3, centers=7, cluster_std=2.0, random_state=0)[0].astype(np.float32)


def fitted(data, **options):
    return KMeans(7, random_state=0, **options).fit(data)


def same(one, other):
    np.testing.assert_array_equal(np.asarray(one.cluster_centers_), np.asarray(other.cluster_centers_))
    np.testing.assert_array_equal(np.asarray(one.labels_), np.asarray(other.labels_))
    assert one.inertia_ == other.inertia_


@pytest.mark.slow
def test_every_layout_and_container_gives_the_same(rows, tmp_path):
    expected = fitted(rows)
    np.save(tmp_path / "rows.npy", rows)
    wide = np.zeros((len(rows), 6), dtype=np.float32)
    wide[:, ::2] = rows
    for data in (np.asfortranarray(rows), wide[:, ::2], np.load(tmp_path / "rows.npy", mmap_mode="r")):
        same(fitted(data), expected)
    same(fitted(torch.from_numpy(rows)), expected)
    for size in (1_000, 16_384, 39_999):
        batches = [(part, "labels") for part in torch.from_numpy(rows).split(size)]
        same(KMeans(7, random_state=0).fit_batches(batches), expected)
    loader = torch.utils.data.DataLoader(torch.from_numpy(rows), batch_size=7_777)
    same(KMeans(7, random_state=0).fit_batches(loader), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_results_have_the_type_of_the_tensor(rows, dtype):
    data = torch.from_numpy(rows).to(dtype)
    model = fitted(data)
    assert model.cluster_centers_.dtype == model.transform(data[:5]).dtype == dtype
    assert model.labels_.dtype == model.predict(data).dtype == torch.int64
    assert torch.equal(model.predict(data), model.labels_)
    exact = ((data.double()[:, None] - model.cluster_centers_.double()) ** 2).sum(2).min(1)
    assert model.inertia_ == pytest.approx(exact.values.sum().item(), rel=1e-10)


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint16", "int64", "bool"])
def test_other_numbers(rows, dtype):
    data = np.abs(rows).astype(dtype)
    model = KMeans(2, random_state=0).fit(data)
    assert model.cluster_centers_.dtype == ("float16" if dtype == "float16" else "float64")
    same(model, KMeans(2, random_state=0).fit(data.astype(model.cluster_centers_.dtype)))


def test_bad_batches(rows):
    with pytest.raises(ValueError, match="can be read once only"):
        KMeans(7).fit_batches(part for part in [rows])
    with pytest.raises(ValueError, match="must not be empty, found no batch"):
        KMeans(7).fit_batches([])
    with pytest.raises(ValueError, match="every batch must have 3 columns like the first, found 2"):
        KMeans(7).fit_batches([rows, rows[:, :2]])
    with pytest.raises(ValueError, match="NaN"):
        KMeans(7).fit_batches([rows, rows[:10] * np.nan])
    with pytest.raises(ValueError, match="X has 2 features, but KMeans is expecting 3"):
        fitted(rows).predict(rows[:, :2])
    with pytest.raises(ValueError, match="X has 2 features, but KMeans is expecting 3"):
        fitted(rows).predict(torch.from_numpy(rows[:, :2]))
    with pytest.raises(ValueError, match="row of zeros"):
        KMeans(2, metric="cosine").fit(np.eye(4, 3))


class Changing:
    """Batches that differ the second time."""

    def __init__(self, rows):
        self.rows, self.times = rows, 0

    def __iter__(self):
        self.times += 1
        yield self.rows[: -self.times]


def test_batches_that_change_are_noticed(rows):
    with pytest.raises(ValueError, match="rows at first, found"):
        KMeans(7).fit_batches(Changing(rows))


@pytest.mark.parametrize("kind", ["numpy", "bfloat16"])
def test_save_and_load(rows, tmp_path, kind):
    data = rows if kind == "numpy" else torch.from_numpy(rows).bfloat16()
    model = fitted(data, init=data[:7], tol=1e-3)
    model.save(tmp_path / "model.npz")
    assert not any(name.endswith(".pkl") for name in zipfile.ZipFile(tmp_path / "model.npz").namelist())
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
    loaded = KMeans.load(tmp_path / "model.npz")
    if kind == "numpy":
        same(loaded, model)
    assert loaded.tol == 1e-3
    assert loaded.n_iter_ == model.n_iter_
    assert type(loaded.cluster_centers_) is type(model.cluster_centers_)
    assert (loaded.predict(data) == model.labels_).all()
    assert (loaded.transform(data) == model.transform(data)).all()
    clone(loaded).fit(data)


def test_files_of_another_kind(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", about=np.array({"pickled": 1}, dtype=object))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(ValueError, match=r"is not a file that KMeans\.save wrote"):
            KMeans.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        KMeans.load(tmp_path / "missing.npz")


@pytest.mark.parametrize("change", ["bomb", "missing", "type", "parameter"])
def test_hostile_files_end_in_one_line(rows, tmp_path, change):
    fitted(rows).save(tmp_path / "model.npz")
    arrays = dict(np.load(tmp_path / "model.npz"))
    about = json.loads(str(arrays["about"]))
    if change == "bomb":
        np.savez_compressed(tmp_path / "model.npz", **arrays, zeros=np.zeros(10**6))
    else:
        if change == "missing":
            del arrays["labels_"]
        about["kind"]["dtype"] = "U100000000" if change == "type" else about["kind"]["dtype"]
        about["parameters"] |= {"a": 1} if change == "parameter" else {}
        np.savez(tmp_path / "model.npz", **(arrays | {"about": np.array(json.dumps(about))}))
    with pytest.raises(ValueError, match=r"is not a file that KMeans\.save wrote") as error:
        KMeans.load(tmp_path / "model.npz")
    assert "\n" not in str(error.value)


LARGE = """
import resource, sys, numpy as np
from clustering import KMeans
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024
rows = np.load(sys.argv[1], mmap_mode="r")
KMeans(2).fit(rows[:1000])
base = anonymous()
_, hard = resource.getrlimit(resource.RLIMIT_DATA)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + (1 << 30), hard))
model = KMeans(3, n_init=1, max_iter=2, random_state=0).fit(rows)
print(anonymous() - base, model.inertia_, sorted(np.bincount(model.labels_).tolist()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA")
def test_a_mapped_file_of_two_gigabytes_needs_little_memory(tmp_path):
    shape = (1 << 20, 512)
    data = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float32, shape)  # zeros take no space
    data[:1_000, 0], data[500_000:500_500, 1] = 90, 70
    data.flush()
    del data
    command = [sys.executable, "-c", LARGE, str(tmp_path / "rows.npy")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=os.environ | {"PYTHONPATH": "."}, cwd=ROOT
    )
    (tmp_path / "rows.npy").unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    held, inertia, counts = done.stdout.split(maxsplit=2)
    assert float(held) < 1024
    assert float(inertia) == pytest.approx(0, abs=1e-3)
    assert json.loads(counts) == [500, 1_000, (1 << 20) - 1_500]


INTERRUPTED = """
import os, signal, sys, threading, warnings, numpy as np
from clustering import KMeans
from clustering.engine.fit import _Fit
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process of a shell ignores it
rows = np.random.default_rng(0).standard_normal((300_000, 8), dtype=np.float32)
before = _Fit._after_pass
def passed(self, objective):
    before(self, objective)
    if self.passes == 3:
        os.kill(os.getpid(), signal.SIGINT)
_Fit._after_pass = passed
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = KMeans(50, random_state=0, tol=0, init=rows[:50]).fit(rows)
(warning,) = caught
print(str(warning.message))
print(model.inertia_, -model.score(rows), model.n_iter_, (model.predict(rows) == model.labels_).all())
"""


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_centres():
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    message, numbers = done.stdout.splitlines()
    assert "interrupted after 3 passes: the best centres so far are kept" in message
    inertia, score, passes, labelled = numbers.split()
    assert float(inertia) == pytest.approx(float(score), rel=1e-9)
    assert (passes, labelled) == ("3", "True")
    assert signal.SIGINT


def test_shards_begin_on_block_borders():
    for rows in (5, 16_384, 100_000):
        bounds = [shard_bounds(rows, rank, 3) for rank in range(3)]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == rows
        assert all(one[1] == other[0] for one, other in itertools.pairwise(bounds))
        assert all(start % 16_384 == 0 or start == rows for start, _ in bounds)


def test_no_process_group(rows):
    with pytest.raises(ValueError, match="there is no process group"):
        KMeans(7).fit_shard(rows)
    with pytest.raises(ValueError, match="fit_shard needs algorithm='lloyd'"):
        KMeans(7, algorithm="minibatch").fit_shard(rows)


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [[0, 49_152, 70_000], [0, 16_384, 65_536, 70_000]])
def test_processes_with_uneven_shards_find_the_bits_of_one(tmp_path, cuts, monkeypatch):
    data = make_blobs(70_000, 3, centers=7, cluster_std=3.0, random_state=1)[0].astype(np.float32) + 1000
    weights = np.random.default_rng(0).exponential(size=len(data))
    init = data[:7].copy()
    init[6] = 1e5  # an empty cluster at first; the farthest row, which only one process has, moves to it
    for name, value in (("rows", data), ("weights", weights), ("init", init)):
        np.save(tmp_path / f"{name}.npy", value)
    size = len(cuts) - 1
    program = ROOT / "tests" / "workers" / "cluster_ranks.py"
    words = [str(size), str(tmp_path), ",".join(map(str, cuts))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([sys.executable, str(program), str(rank), *words], env=environment, stderr=subprocess.PIPE)
        for rank in range(size)
    ]
    for process in ranks:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error.decode()[-2000:]
    plain = KMeans(7, random_state=3, max_iter=12).fit(data)
    offset = KMeans(7, random_state=3, max_iter=12, init=init).fit(data, sample_weight=weights)
    monkeypatch.setattr(places, "_found", lambda: 1)
    monkeypatch.setattr(places, "torch", SimpleNamespace(device=lambda *_: torch.device("cpu"), cuda=torch.cuda))
    gpu = KMeans(7, random_state=3, max_iter=3, device="cuda:0", init=init).fit(data, sample_weight=weights)
    for name, one in (("plain", plain), ("offset", offset), ("gpu", gpu)):
        parts = [np.load(tmp_path / f"{name}-{size}-{rank}.npz") for rank in range(size)]
        for part in parts:
            assert part["centres"].tobytes() == one.cluster_centers_.tobytes()
            assert float(part["inertia"]) == one.inertia_
        np.testing.assert_array_equal(np.concatenate([part["labels"] for part in parts]), one.labels_)
