"""The optimizers again, slow and readable, one tensor at a time in float64: what tests compare with."""
