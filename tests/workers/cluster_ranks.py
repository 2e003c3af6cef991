"""One of several processes that cluster shards of the same rows. Arguments: rank, size, folder, cuts."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clustering import KMeans
from clustering.engine import device as places


def main() -> None:
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    cuts = [int(cut) for cut in sys.argv[4].split(",")]
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store{size}", rank=rank, world_size=size)
    rows, weights = np.load(folder / "rows.npy", mmap_mode="r"), np.load(folder / "weights.npy")
    part = slice(cuts[rank], cuts[rank + 1])
    # The CPU takes the place of a GPU.
    places._found = lambda: 1
    places.torch = SimpleNamespace(device=lambda *_: torch.device("cpu"), cuda=torch.cuda)
    init = np.load(folder / "init.npy")
    on_a_gpu = {"init": init, "device": "cuda:0", "max_iter": 3}
    for name, options in (("plain", {}), ("offset", {"init": init}), ("gpu", on_a_gpu)):
        own_weights = None if name == "plain" else weights[part]
        model = KMeans(7, random_state=3, **{"max_iter": 12, **options})
        model.fit_shard(rows[part], sample_weight=own_weights)
        fitted = {"centres": model.cluster_centers_, "labels": model.labels_, "inertia": model.inertia_}
        np.savez(folder / f"{name}-{size}-{rank}.npz", **fitted)
    for bad, message in ((np.full((16_384, 3), np.nan), "NaN"), (rows[: 100 + rank], "multiple of 16,384")):
        with pytest.raises(ValueError, match=message):  # on every process, including those whose rows are right
            KMeans(2).fit_shard(bad if rank == 0 or message != "NaN" else rows[:16_384])
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
