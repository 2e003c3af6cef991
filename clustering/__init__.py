"""Clustering: k-means for data of any size, and the Rand index as functions and as metrics."""

from .kmeans import KMeans as KMeans
from .rand.metrics import AdjustedRandScore as AdjustedRandScore
from .rand.metrics import RandScore as RandScore
from .rand.scores import adjusted_rand_score as adjusted_rand_score
from .rand.scores import pair_confusion_matrix as pair_confusion_matrix
from .rand.scores import rand_score as rand_score
