"""Cluster generated data, compare methods, cluster a network's features, or cluster your own array.

    python scripts/cluster.py                                   # 1,000,000 generated points: ours, Faiss, scikit-learn
    python scripts/cluster.py compare                           # four methods on six kinds of data
    python scripts/cluster.py features --checkpoint runs/.../checkpoints/best.ckpt
    python scripts/cluster.py fit DATA.npy --k 1000
    torchrun --nproc-per-node 4 scripts/cluster.py fit DATA.npy --k 1000

Commands: generated (the default), compare, features, fit. `cluster.py COMMAND --help` lists the options of one.
"""

import sys
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from _common.cli import at_least, experiment
from _common.console import print_rows, say
from _common.run import Run


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
    """Cluster generated points with our KMeans, faiss.Kmeans and scikit-learn's KMeans.

    Under torchrun every process clusters its shard, and only our KMeans runs.

    Args:
        n: Number of points.
        dim: Number of dimensions.
        k: Number of clusters, both generated and fitted.
        std: Standard deviation of the clusters, whose centres are in [-10, 10].
        seed: Random seed of the data and of the methods.
        n_init: Number of initialisations of our KMeans.
        device: Device of our KMeans: auto, cpu, cuda, cuda:1, or cuda:0,1 (several, by Faiss).
        output: Output folder; by default a new one under runs/.
    """
    from sklearn.datasets import make_blobs

    from _cluster import fitting, methods, scatter
    from clustering import KMeans

    at_least(1, n=n, dim=dim, k=k)
    at_least(0, std=std)
    data, truth = make_blobs(n, dim, centers=k, cluster_std=std, random_state=seed)
    data = data.astype(np.float32)
    model = KMeans(k, n_init=n_init, random_state=seed, device=device)
    if fitting.processes() > 1:
        fitting.fit(data, model, lambda: fitting.write_fit(model, n, Run.at(output).folder / "results.json"))
        return
    clusterings = {
        "ours": methods.ours(data, model),
        "faiss.Kmeans": methods.of_faiss(data, k, seed),
        "scikit-learn": methods.of_sklearn(data, k, seed),
    }
    scores = methods.scores(data, truth, clusterings)
    run = Run.at(output)
    files = {"figure": "clusters.png", "results": "results.json"}
    shown = np.random.default_rng(seed).choice(n, min(n, scatter.SHOWN), replace=False)
    places = scatter.in_the_plane(data[shown])
    labels = {"truth": truth} | {name: one.labels for name, one in clusterings.items()}
    panels = [(name, places, one[shown]) for name, one in labels.items()]
    scatter.scatter_plots([panels], size=4).savefig(run.folder / "clusters.png", dpi=150)
    fitting.print_scores(f"{n:,} points, {dim} dimensions, {k} clusters", scores)
    run.finish({"n": n, "dim": dim, "k": k, "std": std, "seed": seed, "methods": scores, "files": files})


def compare(samples: int = 750, seed: int = 0, output: Path | None = None) -> None:
    """Cluster scikit-learn's generated sets with KMeans, DBSCAN, MeanShift and HDBSCAN.

    Args:
        samples: Number of points of each set.
        seed: Random seed of the sets and the methods.
        output: Output folder; by default a new one under runs/.
    """
    from sklearn.preprocessing import StandardScaler

    from _cluster import methods
    from _cluster.scatter import scatter_plots
    from clustering import adjusted_rand_score, rand_score

    results: dict[str, dict[str, dict[str, float]]] = {}
    panels = []
    for name, (points, truth) in methods.generated_sets(samples, seed).items():
        points = StandardScaler().fit_transform(points)
        row = [(f"{name}: truth", points, truth)]
        results[name] = {}
        for method, estimator in methods.estimators(points, len(np.unique(truth)), seed).items():
            labels = estimator.fit_predict(points)
            adjusted = adjusted_rand_score(truth, labels)
            results[name][method] = {"Rand": rand_score(truth, labels), "adjusted Rand": adjusted}
            row.append((f"{method}, ARI {adjusted:.2f}", points, labels))
        panels.append(row)
    run = Run.at(output)
    scatter_plots(panels).savefig(run.folder / "clusterings.png", dpi=120)
    adjusted_only = {name: {m: score["adjusted Rand"] for m, score in one.items()} for name, one in results.items()}
    print_rows("adjusted Rand index", adjusted_only, "set")
    files = {"figure": "clusterings.png", "results": "results.json"}
    run.finish({"samples": samples, "seed": seed, "sets": results, "files": files})


def features(
    checkpoint: Path | None = None,
    split: Literal["train", "val", "test"] = "test",
    k: str | None = None,
    balanced: bool = False,
    tolerance: float = 0.0,
    neighbours: int = 20,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    picture: Literal["pca", "tsne"] = "pca",
    seed: int = 0,
    output: Path | None = None,
    trust: str = "",
) -> None:
    """Measure and cluster the penultimate features of a trained network.

    The first rows are the accuracies of the nearest training features and of a linear classifier on them.

        python scripts/cluster.py features --checkpoint runs/.../checkpoints/best.ckpt --k 2..20
        python scripts/cluster.py features --checkpoint runs/.../checkpoints/best.ckpt --balanced

    Args:
        checkpoint: Checkpoint of a run of train.py; by default a network is trained on the digits first.
        split: Split of the checkpoint's data.
        k: Number of clusters, or a range such as 2..20, of which the silhouette chooses; by default the number of
            classes.
        balanced: Whether all clusters have the same size.
        tolerance: How far, as a share of that size, the sizes of balanced clusters may differ from it.
        neighbours: Number of nearest training features.
        metric: Distance between features.
        picture: Projection to two dimensions for the picture.
        seed: Random seed of the clustering and the picture.
        output: Output folder; by default a new one under runs/.
        trust: Packages, separated by commas, that the checkpoint and its run may name.
    """
    from sklearn.metrics import normalized_mutual_info_score

    from _cluster.choosing import read_k, silhouettes
    from _cluster.features import extract, figure, write_projector
    from _cluster.fitting import print_scores
    from _cluster.probes import knn_accuracy, linear_accuracy
    from _common.rebuild import train_default
    from clustering import KMeans, adjusted_rand_score, rand_score
    from clustering.balanced import balanced_kmeans

    at_least(1, neighbours=neighbours)
    at_least(0, tolerance=tolerance)
    if tolerance and not balanced:
        raise ValueError(f"--tolerance {tolerance:g} has no effect without --balanced: add it, or leave both out")
    if balanced and metric != "euclidean":
        raise ValueError(f"--balanced needs --metric euclidean, found {metric}")
    checkpoint = checkpoint or train_default()
    taken = extract(checkpoint, split, trust)
    values, targets = taken.values.numpy(), taken.labels.numpy()
    counts = read_k(k, len(taken.classes), len(values))
    scores: dict[str, float] = {}
    if split != "train":
        known = extract(checkpoint, "train", trust)
        given = known.values.numpy(), known.labels.numpy(), values, targets
        scores["k-NN accuracy"] = knn_accuracy(*given, neighbours)
        scores["linear probe accuracy"] = linear_accuracy(*given)
    found = silhouettes(values, counts, metric, seed) if len(counts) > 1 else {}
    clusters = max(found, key=lambda count: found[count]) if found else counts[0]
    if balanced:
        labels = torch.from_numpy(balanced_kmeans(values, clusters, tolerance, seed).labels)
    else:
        labels = KMeans(clusters, metric=metric, random_state=seed).fit(taken.values).labels_
    sizes = np.bincount(labels.numpy(), minlength=clusters)
    scores |= {
        "adjusted Rand": float(adjusted_rand_score(taken.labels, labels)),
        "Rand": float(rand_score(taken.labels, labels)),
        "NMI": float(normalized_mutual_info_score(targets, labels.numpy())),
        "smallest cluster": int(sizes.min()),
        "largest cluster": int(sizes.max()),
    }
    run = Run.at(output)
    examples, width = taken.values.shape
    about = {"checkpoint": str(checkpoint), "split": split, "examples": examples, "features": width}
    figure(taken, labels, picture, seed).savefig(run.folder / "features.png", dpi=150)
    write_projector(taken, labels, run.folder / "tensorboard")
    if found:
        best = {count: " (chosen)" * (count == clusters) for count in found}
        rows = {f"{count}{best[count]}": {"silhouette": value} for count, value in found.items()}
        print_rows("mean silhouette", rows, "clusters")
        about["silhouette"] = {str(count): value for count, value in found.items()}
    name = f"{'balanced ' * balanced}KMeans, {clusters}"
    print_scores(f"{examples:,} {split} examples, {width} features", {name: scores})
    about |= {"clusters": clusters, "metric": metric, "balanced": balanced, "neighbours": neighbours}
    run.finish(about | scores | {"files": {"figure": "features.png", "results": "results.json"}})
    run.watch(tab="Projector")


def fit(
    data: Path,
    k: int = 8,
    output: Path | None = None,
    out: Path | None = None,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    algorithm: Literal["lloyd", "minibatch"] = "lloyd",
    n_init: int = 5,
    max_iter: int = 100,
    tol: float = 1e-4,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Cluster your own array, which is read from the disk as needed.

    Under torchrun every process reads its shard.

    Args:
        data: A .npy file of one array [N, D].
        k: Number of clusters.
        output: Output folder, which gets centres.npz (the array cluster_centers_; KMeans.load reads it) and
            results.json; by default a new one under runs/.
        out: Instead of a folder, the file of the centres; the results get its name with the ending .json.
        metric: Distance between rows.
        algorithm: lloyd (Lloyd's algorithm) or minibatch (mini-batch k-means).
        n_init: Number of initialisations.
        max_iter: Maximum number of passes.
        tol: Relative tolerance at which the fit stops; see clustering.KMeans.
        seed: Random seed of the initialisations.
        device: auto, cpu, cuda, cuda:1, or cuda:0,1 (several, by Faiss).
    """
    from _cluster import fitting
    from clustering import KMeans

    if out is not None and output is not None:
        raise ValueError(f"--output names a folder and --out a file: give one of them, found {output} and {out}")
    if out is not None and not out.parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.parent}")
    try:
        rows = np.load(data, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):  # as what it would be a pickle
        rows = None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise ValueError(f"data must be a .npy file of one array [N, D] of numbers, found {data}")
    model = KMeans(
        k, metric=metric, algorithm=algorithm, n_init=n_init, max_iter=max_iter, tol=tol, random_state=seed,
        device=device, verbose=int(sys.stderr.isatty()),
    )  # fmt: skip

    def write() -> None:
        centres = out or Run.at(output).folder / "centres.npz"
        model.save(centres)
        fitting.write_fit(model, len(rows), out.with_suffix(".json") if out else centres.with_name("results.json"))
        say(f"centres     {centres}")

    fitting.fit(rows, model, write)


main = experiment({"generated": generated, "compare": compare, "features": features, "fit": fit}, "generated", __doc__)

if __name__ == "__main__":
    main()
