"""K-means for data of any size, with scikit-learn's interface and Faiss's distances.

For `N` rows `x_i` with weights `w_i`, k-means minimises the objective over `K` centres `c_j`::

    J(c) = sum_i w_i min_j |x_i - c_j|^2            (metric="euclidean")
    J(c) = sum_i w_i min_j (1 - <x_i, c_j> / |x_i|) with |c_j| = 1   (metric="cosine", spherical k-means)

References: Lloyd, "Least squares quantization in PCM" (1982); Arthur, Vassilvitskii, "k-means++" (SODA 2007); Lattanzi,
Sohler, "A better k-means++ algorithm via local search" (ICML 2019); Hamerly, "Making k-means even faster" (SDM 2010);
Dhillon, Modha, "Concept decompositions for large sparse text data using clustering" (2001).
"""

import os
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from . import engine, saving
from .shards import Shards


@dataclass(eq=False, repr=False)
class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """K-means clustering on the CPU or GPUs of one machine, or over several processes.

    Each start is seeded, refined by local search and iterated on a sample; the best of `n_init` starts is iterated on
    all data. The data are centred first, only the search uses float32, and ties that float32 cannot resolve are decided
    in float64, so results are accurate far from the origin and for clusters of any size. For a given `random_state`
    they are the same, bit for bit, for any number of threads (set by `OMP_NUM_THREADS`) and processes.

    The data may be a numpy array (memory-mapped too, of any real type and memory order) or a torch tensor on any
    device. Centres, distances and labels have the type and device of the input. For other sources see `fit_batches` and
    `fit_shard`.

    Args:
        n_clusters: Number of clusters `K`.
        init: `"k-means++"` (the greedy variant, then refined by local search), `"random"` rows, or an array `[K, D]`
            of centres, which means one start without a sample.
        n_init: Number of starts; `"auto"`, as in scikit-learn: 10 for `init="random"`, otherwise 1.
        max_iter: Largest number of passes over all data; for `"minibatch"`, largest number of epochs.
        tol: Relative tolerance. The iterations end when they would move the centres, as a root mean square over the
            rows, by at most `tol` times the root mean square distance of the rows to their centres.
        metric: `"euclidean"`, or `"cosine"`: only the direction of a row matters, and the centres are unit vectors.
        algorithm: `"lloyd"`, or `"minibatch"`: the centres are updated batch by batch, and one pass labels all rows.
        device: `"auto"` (the GPU of the data or the current one, if there is one), `"cpu"` (Faiss), `"cuda"` or
            `"cuda:1"` (torch; data that do not fit on the GPU are streamed), or `"cuda:0,1"` (Faiss built for GPUs
            searches on several, the rest is done on the CPU).
        precision: `"exact"`, or `"tf32"`, which concerns `"cuda"` only: labels by products in TF32 (11 bits) are kept
            as they are. It is faster where many rows lie between two centres, and such a row may get the centre that
            is farther by up to some thousandths of `|x|`; centres and objective follow those labels.
        random_state: Seed or generator; None for a different result each time.
        verbose: 1 shows a progress bar, which names the engine and the device.

    Attributes:
        cluster_centers_: `[K, D]`, of the data's type (float64 for integers).
        labels_: `[N]`, int32 (int64 for tensors): the nearest centre, the first of equally near ones.
        inertia_: Objective `J` of `cluster_centers_` over all data, a float64 number.
        n_iter_: Number of passes over all data.
        n_features_in_: Number of columns `D`.

    Raises:
        ValueError: From `fit`, for parameters out of range, NaN, infinite values, fewer rows than clusters, a row of
            zeros with the cosine, and a missing GPU.

    Ctrl-C during `fit` keeps the best centres so far: it warns, labels the data in one more pass and returns.

    Example:
        >>> import numpy as np
        >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]])
        >>> model = KMeans(2, random_state=0).fit(X)
        >>> bool(model.labels_[0] == model.labels_[1] != model.labels_[2] == model.labels_[3])
        True
        >>> model.inertia_
        1.0
    """

    n_clusters: int = 8
    _: KW_ONLY
    init: Literal["k-means++", "random"] | npt.ArrayLike | Tensor = "k-means++"
    n_init: int | Literal["auto"] = 5
    max_iter: int = 100
    tol: float = 1e-4
    metric: Literal["euclidean", "cosine"] = "euclidean"
    algorithm: Literal["lloyd", "minibatch"] = "lloyd"
    device: str = "auto"
    precision: Literal["exact", "tf32"] = "exact"
    random_state: int | np.random.RandomState | None = None
    verbose: int = 0

    def fit(self, X: Any, y: None = None, sample_weight: Any = None) -> "KMeans":
        """Fit the centres to data.

        Args:
            X: `[N, D]`.
            y: Ignored.
            sample_weight: `[N]` numbers of at least 0; a row of weight 2 counts as two rows.
        """
        return self._fit(self._weighted(engine.check_data(self, X, reset=True), sample_weight))

    def fit_batches(self, batches: Iterable[Any]) -> "KMeans":
        """Fit the centres to data that arrive in batches, as from a DataLoader, and need not fit into memory.

        Args:
            batches: Arrays or tensors `[*, D]` of any length, or tuples that begin with one. They are iterated over
                several times, and must yield the same rows in the same order each time.

        Raises:
            ValueError: As in `fit`; for a generator, which can be read only once.
        """
        return self._fit(engine.check_batches(self, batches))

    def fit_shard(self, X: Any, sample_weight: Any = None) -> "KMeans":
        """Fit the centres to data of which each process of torch.distributed holds a part.

        Every process calls it with its own rows, cut by `clustering.shards.shard_bounds`, after
        `torch.cuda.set_device(LOCAL_RANK)` if each has a GPU (tested with gloo on CPUs, not on several GPUs). All get
        the centres that one process would find in all rows; `labels_` are the labels of the process's own rows.

        Args:
            X: `[N, D]`, the rows of this process, which follow those of the previous one.
            sample_weight: `[N]`, the weights of these rows.

        Raises:
            ValueError: As in `fit`; without a process group; for `algorithm="minibatch"`.
        """
        if self.algorithm != "lloyd":
            raise ValueError(f"fit_shard needs algorithm='lloyd', found {self.algorithm!r}")
        problem = self._weighted(engine.check_data(self, X, reset=True), sample_weight)
        return self._fit(replace(problem, exchange=Shards(problem.source.count)))

    def _fit(self, problem: engine.Problem) -> "KMeans":
        result = engine.fit_centres(problem, engine.check_options(self, getattr(problem.source, "data", None)))
        self._output, self._coordinates = problem.output, result.coordinates
        self.cluster_centers_ = problem.output.convert(result.centres)
        self.labels_ = problem.output.convert_labels(result.labels)
        self.inertia_, self.n_iter_ = result.objective, result.passes
        return self

    @property
    def _n_features_out(self) -> int:
        return int(self.cluster_centers_.shape[0])

    def predict(self, X: Any) -> Any:
        """Return the nearest centre of each row: `[N]`."""
        problem = self._problem(X)
        return problem.output.convert_labels(engine.label(problem, self.cluster_centers_))

    def transform(self, X: Any) -> Any:
        """Return the distance (`1 - cosine` for the cosine) of each row to each centre: `[N, K]`."""
        problem = self._problem(X)
        return problem.output.convert(engine.distances(problem, self.cluster_centers_))

    def score(self, X: Any, y: None = None, sample_weight: Any = None) -> float:
        """Return minus the objective of `X`: higher is better."""
        return -engine.objective(self._weighted(self._problem(X), sample_weight), self.cluster_centers_)

    def _problem(self, X: Any) -> engine.Problem:
        check_is_fitted(self)
        problem = replace(engine.check_data(self, X, reset=False), coordinates=self._coordinates)
        return engine.move(problem, engine.find_place(self.device, X))

    @staticmethod
    def _weighted(problem: engine.Problem, sample_weight: Any) -> engine.Problem:
        return replace(problem, weights=engine.check_weights(sample_weight, problem.source.count))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and results to one npz file, without pickle."""
        check_is_fitted(self)
        names = ("cluster_centers_", "labels_", "inertia_", "n_iter_", "n_features_in_")
        fitted = {name: getattr(self, name) for name in names}
        fitted |= {"offset": self._coordinates.offset, "scale": self._coordinates.scale}
        saving.write(path, self.get_params(deep=False), fitted, self._output)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "KMeans":
        """Load a model that `save` wrote. Results on a GPU are moved to the CPU if there is none.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is of another kind.
        """
        parameters, fitted, output = saving.read(path)
        try:
            model = cls(**parameters)
            model._output = output.available()
            model._coordinates = engine.Coordinates(model.metric, fitted["offset"], fitted["scale"])
            model.cluster_centers_ = model._output.convert(fitted["cluster_centers_"])
            model.labels_ = model._output.convert_labels(fitted["labels_"].astype(np.int32))
            for name in ("inertia_", "n_iter_", "n_features_in_"):
                setattr(model, name, fitted[name])
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a file that KMeans.save wrote: {error!r}") from error
        return model
