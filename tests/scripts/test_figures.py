"""How often train.py draws figures: a graphics card can train an epoch in the time that one takes."""

from types import SimpleNamespace

import pytest

from _train.figures import figure_callbacks


@pytest.mark.parametrize(
    ("max_epochs", "typed", "every"),
    [(40, None, 2), (5, None, 1), (None, None, 1), (-1, None, 1), (1000, None, 50), (40, 7, 7)],
)
def test_about_twenty_sets_by_default(max_epochs, typed, every):
    config = SimpleNamespace(figures_every=typed, trainer=SimpleNamespace(max_epochs=max_epochs))
    assert [callback.every_n_epochs for callback in figure_callbacks(config)] == [every, every]
