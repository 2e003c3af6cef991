"""Calibration: how far a classifier's confidence can be trusted, and scalers that correct it."""
