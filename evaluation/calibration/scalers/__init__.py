"""Scalers: maps that calibrate the probabilities of a trained classifier.

All have one interface, `fit(logits, labels)`, `predict_proba(logits)`, `get_params()`, and fitted attributes with a
trailing underscore; each is also a module from logits to calibrated logits.
"""
