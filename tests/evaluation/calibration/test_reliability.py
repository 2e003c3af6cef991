"""The reliability diagram shows the bins from which the calibration error is computed."""

import matplotlib.collections
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from evaluation import calibration_error, reliability_diagram
from evaluation.calibration.reliability import bootstrap_band
from evaluation.figures import to_rgb


def sample(n=500, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial((logits / 2).softmax(1), 1, generator=generator).squeeze(1)
    return logits, labels


def bars(axes):
    """Left, bottom, width and height of the bars of each collection."""
    found = [c for c in axes.collections if isinstance(c, matplotlib.collections.PatchCollection)]
    boxes = [[path.get_extents() for path in collection.get_paths()] for collection in found]
    return [np.array([[b.x0, b.y0, b.width, b.height] for b in group]) for group in boxes]


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize(("norm", "name"), [("l1", "ECE"), ("l2", "RMSCE"), ("max", "MCE")])
def test_title_has_the_error_of_the_same_call(norm, name, strategy):
    logits, labels = sample()
    options = {"n_bins": 9, "norm": norm, "strategy": strategy, "from_logits": True}
    figure = reliability_diagram(logits, labels, title="net", **options)
    error = calibration_error(logits, labels, **options).item()
    assert figure.axes[0].get_title() == f"net {name} {error:.4f} (9 bins, 500 samples)"


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_bars_are_accuracy_gap_and_share(strategy):
    logits, labels = sample()
    p = logits.softmax(1)
    confidence, right = p.amax(1).numpy(), (p.argmax(1) == labels).numpy()
    figure = reliability_diagram(p, labels, n_bins=6, strategy=strategy)
    accuracy, gap = bars(figure.axes[0])
    (share,) = bars(figure.axes[1])
    for (left, _, width, height), (_, low, _, size), (*_, part) in zip(accuracy, gap, share, strict=True):
        inside = (confidence > left + 1e-12) & (confidence <= left + width + 1e-12)
        assert height == pytest.approx(right[inside].mean())
        assert part == pytest.approx(inside.mean())
        ends = sorted([right[inside].mean(), confidence[inside].mean()])
        assert [low, low + size] == pytest.approx(ends)
    weighted = (share[:, 3] * gap[:, 3]).sum()
    assert weighted == pytest.approx(calibration_error(p, labels, n_bins=6, strategy=strategy).item())


def test_bootstrap_band_agrees_with_resampling():
    logits, labels = sample(200)
    p = logits.softmax(1)
    bins = np.minimum((p.amax(1).numpy() * 5).astype(int), 4)
    right = (p.argmax(1) == labels).numpy()
    count = np.bincount(bins, minlength=5).astype(float)
    low, high = bootstrap_band(count, np.bincount(bins, right, 5), 0.9, 4000)
    generator = np.random.default_rng(1)
    drawn = generator.integers(200, size=(4000, 200))
    for b in np.flatnonzero(count > 10):
        inside = bins[drawn] == b
        accuracy = (inside & right[drawn]).sum(1) / inside.sum(1)
        assert [low[b], high[b]] == pytest.approx(np.quantile(accuracy, [0.05, 0.95]), abs=0.02)
    assert np.isnan(low[count == 0]).all()


def test_a_wider_level_is_a_wider_band():
    logits, labels = sample()
    widths = []
    for level in (0.5, 0.95):
        figure = reliability_diagram(logits, labels, from_logits=True, level=level)
        whiskers = next(c for c in figure.axes[0].collections if isinstance(c, matplotlib.collections.LineCollection))
        widths.append(sum(segment[1][1] - segment[0][1] for segment in whiskers.get_segments()))
    assert widths[0] < 0.8 * widths[1]
    with pytest.raises(ValueError, match=r"level must be between 0 and 1, found 1"):
        reliability_diagram(logits, labels, from_logits=True, level=1)


@pytest.mark.parametrize("preds", [[0.1, 0.9, 0.8], [1.0, 0.0, 1.0], [[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]]])
def test_few_samples_are_drawn(preds):
    picture = to_rgb(reliability_diagram(preds, [0, 1, 1]))
    assert picture.shape in ((540, 460, 3), (540, 459, 3))  # matplotlib 3.9 rounds down
    assert picture.std() > 10
    same = to_rgb(reliability_diagram(np.array(preds), torch.tensor([0, 1, 1])))
    assert np.array_equal(picture, same)


def test_binary_diagrams_have_their_own_labels():
    figure = reliability_diagram([0.1, 0.9], [0, 1])
    texts = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"share of class 1", "probability of class 1"} <= texts


@pytest.mark.parametrize(
    ("preds", "target", "names"),
    [
        ([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 4, [0, 0, 1, 1, 0, 0, 0, 0], ["gap: overconfident", "gap: underconfident"]),
        ([0.9] * 4 + [0.6] * 4, [1, 1, 0, 0, 1, 1, 1, 1], ["gap: probability too high", "gap: probability too low"]),
    ],
)
def test_the_legend_has_the_colour_of_either_gap(preds, target, names):
    axes = reliability_diagram(preds, target, n_bins=5).axes[0]
    assert [text.get_text() for text in axes.texts if text.get_text().startswith("gap")] == names
    heights = {text.get_text(): text.get_position() for text in axes.texts}
    lines = {tuple(line.get_xydata()[0].round(3)): to_rgba(line.get_color()) for line in axes.lines}
    over, under = (lines[round(heights[name][0] - 0.05, 3), heights[name][1]] for name in names)
    _, gaps = (c for c in axes.collections if isinstance(c, matplotlib.collections.PatchCollection))
    assert [tuple(colour) for colour in gaps.get_facecolor()] == [under, over]  # of 0.6 and of 0.9
    assert over != under
