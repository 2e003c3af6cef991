"""Cluster generated data, compare methods, look at a network's features, or cluster an array of one's own.

    python scripts/cluster.py                                   # 1,000,000 generated points: ours, Faiss, scikit-learn
    python scripts/cluster.py compare                           # four methods on six kinds of data
    python scripts/cluster.py features --checkpoint runs/.../checkpoints/best.ckpt
    python scripts/cluster.py fit DATA.npy --k 1000 --out centres.npz
    torchrun --nproc-per-node 4 scripts/cluster.py fit DATA.npy --k 1000

Without a subcommand it means ``generated``.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from sklearn import datasets
from sklearn.cluster import DBSCAN, HDBSCAN, MeanShift, estimate_bandwidth
from sklearn.manifold import TSNE
from sklearn.metrics import normalized_mutual_info_score
from sklearn.preprocessing import StandardScaler

from _cluster.clusterings import SHOWN, Clustering, flat, grid, inertia, of_faiss, of_sklearn, ours, timed
from _cluster.features import Features, extract
from _common.command_line import run_command_line
from _common.console import print_rows, say
from _common.rebuild import train_default
from _common.runs import new_run, shell, write_json
from clustering import KMeans, adjusted_rand_score, rand_score
from clustering.shards import shard_bounds

ROOT = "runs"
TRUTH = "truth"


def generated(
    n: int = 1_000_000,
    dim: int = 2,
    k: int = 10,
    std: float = 1.0,
    seed: int = 0,
    n_init: int = 5,
    device: str = "auto",
    output: Path | None = None,
) -> None:
    """Generated points: ours, faiss.Kmeans and scikit-learn's KMeans side by side.

    Under torchrun every process clusters its shard, and only ours runs.

    Args:
        n: Number of points.
        dim: Number of dimensions.
        k: Number of clusters, generated and looked for.
        std: Standard deviation of the clusters, whose centres lie in [-10, 10].
        seed: Of the data and of the methods.
        n_init: Our number of starts.
        device: Where ours searches: auto, cpu, cuda, cuda:0,1.
        output: Folder for what is written; by default a new one under runs/.
    """
    for name, value in (("n", n), ("dim", dim), ("k", k)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, found {value}")
    points, truth = datasets.make_blobs(n, dim, centers=k, cluster_std=std, random_state=seed)
    data = points.astype(np.float32)
    del points
    if _processes() > 1:
        _fit_shard(data, KMeans(k, n_init=n_init, random_state=seed, device=device), output or new_run(ROOT))
        return
    methods = {
        "ours": lambda: ours(data, k, n_init=n_init, random_state=seed, device=device),
        "faiss.Kmeans": lambda: of_faiss(data, k, seed),
        "scikit-learn": lambda: of_sklearn(data, k, seed),
    }
    found = {name: timed(method) for name, method in methods.items()}
    scores = _scores(data, truth, found)
    run = output or new_run(ROOT)
    write_json(run / "results.json", {"n": n, "dim": dim, "k": k, "std": std, "seed": seed, "methods": scores})
    shown = np.random.default_rng(seed).choice(n, min(n, SHOWN), replace=False)
    places = flat(data[shown])
    panels = [(TRUTH, places, truth[shown])] + [(name, places, one.labels[shown]) for name, one in found.items()]
    grid([panels], size=4).savefig(run / "clusters.png", dpi=150)
    _print(f"{n:,} points, {dim} dimensions, {k} clusters", scores)
    say(f"run         {run}")


def _scores(data: Any, truth: Any, found: dict[str, Clustering]) -> dict[str, dict[str, float]]:
    """For each method its time, its objective, and how it agrees with the truth and with each other method."""
    scores: dict[str, dict[str, float]] = {}
    for name, one in found.items():
        scores[name] = {"seconds": one.seconds, "inertia": inertia(data, one)}
        others = {TRUTH: truth} | {other: found[other].labels for other in found if other != name}
        for other, labels in others.items():
            scores[name][f"Rand, {other}"] = rand_score(labels, one.labels)
            scores[name][f"adjusted Rand, {other}"] = adjusted_rand_score(labels, one.labels)
    return scores


def compare(samples: int = 750, seed: int = 0, output: Path | None = None) -> None:
    """KMeans, DBSCAN, MeanShift and HDBSCAN on scikit-learn's generated sets.

    Args:
        samples: Points of each set.
        seed: Of the sets and the methods.
        output: Folder for what is written; by default a new one under runs/.
    """
    results: dict[str, dict[str, dict[str, float]]] = {}
    panels = []
    for name, (points, truth) in _sets(samples, seed).items():
        points = StandardScaler().fit_transform(points)
        clusters = len(np.unique(truth))
        methods = {
            "KMeans": KMeans(clusters, random_state=seed),
            "DBSCAN": DBSCAN(eps=0.2),
            "MeanShift": MeanShift(bandwidth=estimate_bandwidth(points, quantile=0.2, random_state=seed)),
            "HDBSCAN": HDBSCAN(min_cluster_size=15, copy=True),
        }
        row = [(f"{name}: {TRUTH}", points, truth)]
        results[name] = {}
        for method, estimator in methods.items():
            labels = estimator.fit_predict(points)
            adjusted = adjusted_rand_score(truth, labels)
            results[name][method] = {"Rand": rand_score(truth, labels), "adjusted Rand": adjusted}
            row.append((f"{method}, ARI {adjusted:.2f}", points, labels))
        panels.append(row)
    run = output or new_run(ROOT)
    write_json(run / "results.json", {"samples": samples, "seed": seed, "sets": results})
    grid(panels).savefig(run / "clusterings.png", dpi=120)
    adjusted_only = {name: {m: score["adjusted Rand"] for m, score in one.items()} for name, one in results.items()}
    print_rows("adjusted Rand index", adjusted_only, "set")
    say(f"run         {run}")


def _sets(samples: int, seed: int) -> dict[str, tuple[Any, Any]]:
    blobs, truth = datasets.make_blobs(samples, random_state=seed)
    rng = np.random.default_rng(seed)
    return {
        "circles": datasets.make_circles(samples, factor=0.5, noise=0.05, random_state=seed),
        "moons": datasets.make_moons(samples, noise=0.05, random_state=seed),
        "blobs": (blobs, truth),
        "stretched": (blobs @ np.array([[0.6, -0.6], [-0.4, 0.8]]), truth),
        "varied": datasets.make_blobs(samples, cluster_std=[1.0, 2.5, 0.5], random_state=seed + 170),
        "none": (rng.random((samples, 2)), np.zeros(samples, dtype=int)),
    }


def features(
    checkpoint: str | None = None,
    split: Literal["train", "val", "test"] = "test",
    k: int | None = None,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    picture: Literal["pca", "tsne"] = "pca",
    seed: int = 0,
    output: Path | None = None,
) -> None:
    """Cluster the penultimate features of a trained network.

    Args:
        checkpoint: A checkpoint of scripts/train.py; without one the digits default is trained first.
        split: Which of its data.
        k: Number of clusters; as many as classes by default.
        metric: Distance.
        picture: How the picture gets its two dimensions.
        seed: Of the clustering and the picture.
        output: Folder for what is written; by default a new one under runs/.
    """
    if checkpoint is None:
        checkpoint = str(train_default(ROOT))
    found = extract(Path(checkpoint), split)
    values = found.values
    model = KMeans(k or len(found.classes), metric=metric, random_state=seed).fit(values)
    scores = {
        "adjusted Rand": float(adjusted_rand_score(found.labels, model.labels_)),
        "Rand": float(rand_score(found.labels, model.labels_)),
        "NMI": float(normalized_mutual_info_score(found.labels, model.labels_)),
    }
    run = output or new_run(ROOT)
    about = {"checkpoint": str(checkpoint), "split": split, "examples": len(values), "features": values.shape[1]}
    write_json(run / "results.json", about | {"clusters": model.n_clusters, "metric": metric} | scores)
    _picture(found, model.labels_, picture, seed).savefig(run / "features.png", dpi=150)
    _projector(found, model.labels_, run / "tensorboard")
    _print(f"{len(values):,} {split} examples, {values.shape[1]} features", {f"KMeans, {model.n_clusters}": scores})
    say(f"run         {run}")
    say(f"watch       {shell('tensorboard', '--logdir', run)}   (Projector)")


def _picture(found: Features, clusters: torch.Tensor, how: str, seed: int) -> Any:
    shown = np.random.default_rng(seed).permutation(len(found.values))[:SHOWN]
    values = found.values.numpy()[shown]
    if how == "tsne":
        places = TSNE(random_state=seed, perplexity=min(30, (len(values) - 1) / 3)).fit_transform(values)
    else:
        places = flat(values)
    labels, groups = found.labels.numpy()[shown], clusters.numpy()[shown]
    return grid([[("classes", places, labels), ("clusters", places, groups)]], size=5)


def _projector(found: Features, clusters: torch.Tensor, folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    metadata = [[found.classes[int(label)], int(group)] for label, group in zip(found.labels, clusters, strict=True)]
    low, high = found.images.amin(), found.images.amax()
    images = ((found.images - low) / (high - low).clamp(min=1e-12)) if found.images.ndim == 4 else None
    # One sprite holds all images, and browsers hold sprites up to 8192 pixels wide.
    if images is not None and len(images) ** 0.5 * images.shape[-1] > 8192:
        images = None
    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(found.values, metadata, images, tag="features", metadata_header=["class", "cluster"])


def fit(
    data: str,
    k: int = 8,
    out: str = "centres.npz",
    metric: Literal["euclidean", "cosine"] = "euclidean",
    algorithm: Literal["lloyd", "minibatch"] = "lloyd",
    n_init: int = 5,
    max_iter: int = 100,
    tol: float = 1e-4,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Cluster an array of one's own, which stays on the disk.

    Under torchrun every process reads its shard.

    Args:
        data: A .npy file ``[N, D]``.
        k: Number of clusters.
        out: The npz file to write; ``KMeans.load`` reads it, and its ``cluster_centers_`` are the centres.
        metric: Distance.
        algorithm: Lloyd's, or mini-batch.
        n_init: Number of starts.
        max_iter: The largest number of passes.
        tol: Tolerance, see clustering.KMeans.
        seed: Of the starts.
        device: Where Faiss searches: auto, cpu, cuda, cuda:0,1.
    """
    if not Path(data).is_file():
        raise FileNotFoundError(f"there is no file {data}: give a .npy file of one array [N, D]")
    rows = np.load(data, mmap_mode="r", allow_pickle=False)
    if not isinstance(rows, np.ndarray) or rows.ndim != 2:
        raise ValueError(f"{data} must be a .npy file of one array [N, D]")
    target = Path(out)
    if not target.parent.is_dir():
        raise ValueError(f"--out: there is no folder {target.parent}")
    model = KMeans(
        k, metric=metric, algorithm=algorithm, n_init=n_init, max_iter=max_iter, tol=tol, random_state=seed,
        device=device, verbose=int(sys.stderr.isatty()),
    )  # fmt: skip
    if _processes() > 1:
        _fit_shard(rows, model, target.with_suffix(""), target)
        return
    model.fit(rows)
    model.save(target)
    _report(model, len(rows), target.with_suffix(".json"))
    say(f"centres     {target}")


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def _group() -> Iterator[None]:
    """The process group of torchrun."""
    dist.init_process_group("cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def _fit_shard(rows: Any, model: KMeans, folder: Path, out: Path | None = None) -> None:
    """Fit this process's share of the rows; the first process writes the results."""
    with _group():
        rank, size = dist.get_rank(), dist.get_world_size()
        start, stop = shard_bounds(len(rows), rank, size)
        model.fit_shard(rows[start:stop])
        if rank == 0:
            if out is not None:
                model.save(out)
            _report(model, len(rows), out.with_suffix(".json") if out else folder / "results.json")
        dist.barrier()


def _report(model: KMeans, rows: int, path: Path) -> None:
    results = {"n": rows, "k": model.n_clusters, "inertia": model.inertia_, "passes": model.n_iter_}
    write_json(path, results | {"processes": _processes()})
    _print(f"{rows:,} rows", {"KMeans": {"inertia": model.inertia_, "passes": float(model.n_iter_)}})
    say(f"results     {path}")


def _print(title: str, scores: dict[str, dict[str, float]]) -> None:
    """A row a number, a column a method."""
    names = dict.fromkeys(name for one in scores.values() for name in one)
    print_rows(title, {name: {method: one[name] for method, one in scores.items() if name in one} for name in names})


def main(args: list[str] | None = None) -> None:
    """Run the command line ``args`` (the process's own by default)."""
    run_command_line(
        {"generated": generated, "compare": compare, "features": features, "fit": fit}, args, default="generated"
    )


if __name__ == "__main__":
    main()
