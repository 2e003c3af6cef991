"""The Rand index as functions and as metrics."""
