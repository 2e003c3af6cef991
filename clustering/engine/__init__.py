"""The machinery of k-means, behind :class:`clustering.KMeans`."""
