"""Clustering: k-means for data of any size, and the Rand index as functions and as metrics."""

from .kmeans import KMeans as KMeans
from .rand_index import adjusted_rand_score as adjusted_rand_score
from .rand_index import pair_confusion_matrix as pair_confusion_matrix
from .rand_index import rand_score as rand_score
from .rand_metrics import AdjustedRandScore as AdjustedRandScore
from .rand_metrics import RandScore as RandScore
