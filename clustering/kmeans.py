"""K-means for data of any size, with scikit-learn's interface and Faiss's distances.

For ``N`` rows ``x_i`` with weights ``w_i``, k-means looks for the ``K`` centres with the smallest objective::

    J(c) = sum_i w_i min_j |x_i - c_j|^2            (metric="euclidean")
    J(c) = sum_i w_i min_j (1 - <x_i, c_j> / |x_i|) with |c_j| = 1   (metric="cosine", spherical k-means)

References: Lloyd, "Least squares quantization in PCM" (1982); Arthur, Vassilvitskii, "k-means++" (SODA 2007); Lattanzi,
Sohler, "A better k-means++ algorithm via local search" (ICML 2019); Hamerly, "Making k-means even faster" (SDM 2010);
Dhillon, Modha, "Concept decompositions for large sparse text data using clustering" (2001).
"""

import os
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from . import saving as _saving
from .engine.checks import data, first_batch, options, weights
from .engine.coordinates import Frame
from .engine.data import Batched, Kind, Source, plain
from .engine.fit import fit, progress
from .engine.nearest import Labels, distances, nearest, objective
from .engine.parallel import Exchange, gpus
from .shards import Shards


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """K-means clustering on one machine's CPU or GPUs, or over several processes.

    Seeds, swaps and first iterations use a sample; the best of ``n_init`` starts is refined on all data. Everything but
    the search itself is float64, the data are centred first, and a row that float32 cannot decide is decided in
    float64: data far from the origin, and clusters of any size, come out right. For a given ``random_state`` the result
    is the same, bit for bit, with any number of threads (``OMP_NUM_THREADS`` sets it) and processes.

    Data may be a numpy array (also mapped into memory, of any real type and order) or a torch tensor on any device;
    centres, distances and labels come back as what the data came and where it was. For other sources see
    :meth:`fit_batches` and :meth:`fit_shard`.

    Args:
        n_clusters: ``K``.
        init: ``"k-means++"`` (greedy; then single centres are moved to where they are missing), ``"random"`` rows, or
            an array ``[K, D]``, with which there is one start and no sample.
        n_init: Number of starts.
        max_iter: The largest number of passes over all data. For ``"minibatch"``, of times as many rows as there are.
        tol: The iterations end when they would move the centres, as a root mean square over the rows, by at most
            ``tol`` times the root mean square distance of the rows to their centres.
        metric: ``"euclidean"``, or ``"cosine"``: rows count by their direction, and the centres are unit vectors.
        algorithm: ``"lloyd"``, or ``"minibatch"``: centres follow batches of rows, and one pass labels all.
        device: Where Faiss searches: ``"auto"`` (the first GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:0,1"``.
        random_state: Seed, generator, or None for another result each time.
        verbose: With 1 a progress bar.

    Attributes:
        cluster_centers_: ``[K, D]``, of the data's type (float64 for integers).
        labels_: ``[N]``, int32 (int64 for tensors): the nearest centre; of equally near ones the first.
        inertia_: ``J`` of ``cluster_centers_`` over all data, in float64.
        n_iter_: Passes over all data.
        n_features_in_: ``D``.

    Raises:
        ValueError: From ``fit``, for bad parameters, NaN, infinite values, fewer rows than clusters, for a row of zeros
            with the cosine, and for a GPU that is not there.

    Ctrl-C during ``fit`` keeps the best centres so far: it warns, labels the data once and returns.

    Example:
        >>> import numpy as np
        >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]])
        >>> model = KMeans(2, random_state=0).fit(X)
        >>> bool(model.labels_[0] == model.labels_[1] != model.labels_[2] == model.labels_[3])
        True
        >>> model.inertia_
        1.0
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Literal["k-means++", "random"] | npt.ArrayLike | Tensor = "k-means++",
        n_init: int = 5,
        max_iter: int = 100,
        tol: float = 1e-4,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        algorithm: Literal["lloyd", "minibatch"] = "lloyd",
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.metric = metric
        self.algorithm = algorithm
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: None = None, sample_weight: Any = None) -> "KMeans":
        """Find the centres.

        Args:
            X: ``[N, D]``.
            y: Not used.
            sample_weight: ``[N]`` numbers of at least 0; a row of weight 2 counts as two rows.
        """
        source, kind = data(self, X, reset=True)
        return self._fit(source, kind, weights(sample_weight, source.count), Exchange())

    def fit_batches(self, batches: Iterable[Any]) -> "KMeans":
        """Find the centres of data that comes in batches, such as from a DataLoader, and need not fit into memory.

        Args:
            batches: Arrays or tensors ``[*, D]`` of any lengths, or tuples that begin with one. It is read several
                times, and must give the same rows in the same order each time.

        Raises:
            ValueError: As ``fit``; for a generator, which can be read only once.
        """
        source = Batched(batches)
        _, kind = data(self, first_batch(batches), reset=True)
        source.columns = self.n_features_in_
        return self._fit(source, kind, None, Exchange())

    def fit_shard(self, X: Any, sample_weight: Any = None) -> "KMeans":
        """Find the centres of data of which each process of torch.distributed holds a part.

        Every process calls it with its own rows, cut by :func:`clustering.shards.shard_bounds`. All end with the same
        centres, those that one process would find in all rows; ``labels_`` are those of the process's own rows.

        Args:
            X: ``[N, D]``, this process's rows, which follow those of the process before.
            sample_weight: Of these rows.

        Raises:
            ValueError: As ``fit``; where there is no process group; for ``algorithm="minibatch"``.
        """
        if self.algorithm != "lloyd":
            raise ValueError(f"fit_shard needs algorithm='lloyd', got {self.algorithm!r}")
        source, kind = data(self, X, reset=True)
        return self._fit(source, kind, weights(sample_weight, source.count), Shards(source.count))

    def _fit(self, source: Source, kind: Kind, mass: Any, exchange: Exchange) -> "KMeans":
        chosen = options(self, self.n_features_in_)
        seed = exchange.collect([chosen.seed])[0]
        with progress(bool(self.verbose) and exchange.rank == 0, chosen.limit) as report:
            found = fit(source, mass, kind, chosen._replace(seed=seed), exchange, report)
        self._kind, self._frame = kind, found.frame
        self.cluster_centers_ = kind.give(found.centres)
        self.labels_ = kind.give_labels(found.labels)
        self.inertia_, self.n_iter_ = found.objective, found.passes
        return self

    @property
    def _n_features_out(self) -> int:
        return int(self.cluster_centers_.shape[0])

    def predict(self, X: Any) -> Any:
        """The nearest centre of each row: ``[N]``."""
        check_is_fitted(self)
        source, kind = data(self, X, reset=False)
        return kind.give_labels(self._nearest(source))

    def transform(self, X: Any) -> Any:
        """The distance (``1 - cosine`` for the cosine) of each row to each centre, ``[N, K]``."""
        check_is_fitted(self)
        source, kind = data(self, X, reset=False)
        return kind.give(distances(source, self._inside(), self._frame, kind))

    def score(self, X: Any, y: None = None, sample_weight: Any = None) -> float:
        """Minus the objective of ``X``: more is better."""
        check_is_fitted(self)
        source, _ = data(self, X, reset=False)
        mass = weights(sample_weight, source.count)
        return -objective(source, self._nearest(source), self._inside(), self._frame, mass)

    def _nearest(self, source: Source) -> Labels:
        return nearest(source, self._inside(), self._frame, gpus(self.device))

    def _inside(self) -> npt.NDArray[np.float64]:
        return self._frame.inside(plain(self.cluster_centers_))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and results into one npz file, without pickle."""
        check_is_fitted(self)
        names = ("cluster_centers_", "labels_", "inertia_", "n_iter_", "n_features_in_")
        fitted = {name: getattr(self, name) for name in names}
        fitted |= {"offset": self._frame.offset, "scale": self._frame.scale}
        _saving.write(path, self.get_params(deep=False), fitted, self._kind)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "KMeans":
        """Read what :meth:`save` wrote. What was on a GPU comes to the CPU where there is none.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is another kind of file.
        """
        parameters, fitted, kind = _saving.read(path)
        model = cls(**parameters)
        model._kind = kind.here()
        model._frame = Frame(model.metric, fitted.pop("offset"), fitted.pop("scale"))
        model.cluster_centers_ = model._kind.give(fitted.pop("cluster_centers_"))
        model.labels_ = model._kind.give_labels(fitted.pop("labels_").astype(np.int32))
        for name, value in fitted.items():
            setattr(model, name, value)
        return model
