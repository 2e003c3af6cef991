"""eli5 on PyTorch networks: rows, images, loaders; its text, HTML, image and data-frame formatters."""

import base64
import io
import re

import eli5
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from eli5.formatters.image import format_as_image
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from sklearn.datasets import make_regression
from sklearn.inspection import permutation_importance as sklearn_importance
from sklearn.linear_model import LinearRegression
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import evaluation.explanation  # noqa: F401
from evaluation.explanation.permutation import cell_name, grid_cells
from evaluation.explanation.pictures import to_heatmap

SOURCE = re.compile(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)">')


def linear(weights, bias=0.0):
    weights = torch.tensor(weights)
    net = nn.Linear(weights.shape[1], len(weights))
    net.weight.data.copy_(weights)
    net.bias.data.fill_(bias)
    return net


def convolutional(channels=1, height=8, width=8):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(6 * (height // 2) * (width // 2), 3),
    )  # fmt: skip


def all_weights(target):
    return {one.feature: one.weight for one in [*target.feature_weights.pos, *target.feature_weights.neg]}


# -------------------------------------------------------------------------------------------------------------- rows


def test_contributions_of_a_linear_model_are_weight_times_value():
    net = linear([[2.0, -1.0, 0.0], [0.5, 1.0, 1.0]], bias=0.25)
    found = eli5.explain_prediction(net, [3.0, 4.0, 5.0], feature_names=["a", "b", "c"], targets=[0, 1])
    assert all_weights(found.targets[0]) == pytest.approx({"a": 6.0, "b": -4.0, "<BIAS>": 0.25})
    assert all_weights(found.targets[1]) == pytest.approx({"a": 1.5, "b": 4.0, "c": 5.0, "<BIAS>": 0.25})
    assert [target.score for target in found.targets] == pytest.approx([2.25, 10.75])
    assert sum(target.proba for target in found.targets) == pytest.approx(1)
    text = eli5.format_as_text(found, show_feature_values=True)
    assert re.search(r"\+6\.000\s+a\s+3\.000", text)
    assert "Contribution" in eli5.format_as_html(found)


def test_the_remaining_difference_is_reported():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    row = torch.tensor([1.0, -2.0, 3.0, 0.5])
    found = eli5.explain_prediction(net, row, top_targets=3)
    scores = net(row[None])[0].tolist()
    for target in found.targets:
        gap = sum(all_weights(target).values()) - scores[target.target]
        assert found.differences[target.target] == pytest.approx(gap, abs=1e-6)
        bias = all_weights(target)["<BIAS>"]
        assert abs(gap) <= 1e-3 * abs(scores[target.target] - bias) + 1e-6
    rough = eli5.explain_prediction(net, row, max_steps=16)
    assert "remains after" in rough.description


def test_incomplete_contributions_are_reported():
    class Wave(nn.Module):
        def forward(self, rows):
            return torch.sin(300 * rows.sum(dim=1))

    coarse = eli5.explain_prediction(Wave(), torch.tensor([0.7, 0.5]), max_steps=16)
    assert "y: " in coarse.description
    assert "after 16 steps, which is MORE than 1e-3" in eli5.format_as_text(coarse)
    fine = eli5.explain_prediction(Wave(), torch.tensor([0.7, 0.5]))
    assert "MORE" not in fine.description
    assert fine.steps["y"] > 64
    assert abs(fine.differences["y"]) < 1e-3 < abs(coarse.differences["y"])


def test_rows_of_a_lightning_module_and_of_pandas():
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = linear([[1.0, 2.0]])

        def forward(self, rows):
            return self.net(rows)[:, 0]

    pd, _ = pytest.importorskip("pandas"), pytest.importorskip("IPython")
    row = pd.Series({"length": 3.0, "width": -1.0})
    found = eli5.explain_prediction(Module(), row)
    assert found.is_regression
    assert found.targets[0].target == "y"
    assert found.targets[0].proba is None
    assert all_weights(found.targets[0]) == pytest.approx({"length": 3.0, "width": -2.0})
    frame = eli5.explain_prediction_df(Module(), row)
    assert set(frame.feature) == {"length", "width"}
    assert eli5.show_prediction(Module(), row).data.startswith("\n")


def test_a_baseline_moves_the_contributions():
    net = linear([[2.0, 1.0]], bias=1.0)
    found = eli5.explain_prediction(net, [3.0, 4.0], baseline=[1.0, 4.0])
    assert all_weights(found.targets[0]) == pytest.approx({"x0": 4.0, "<BIAS>": 7.0})


def test_targets_and_top():
    net = linear(np.diag([3.0, 1.0, 2.0]).astype(np.float32).tolist())
    row = [1.0, 1.0, 1.0]
    names = ["cat", "dog", "cow"]

    def shown(**options):
        return [target.target for target in eli5.explain_prediction(net, row, target_names=names, **options).targets]

    assert shown() == ["cat"]
    assert shown(top_targets=2) == ["cat", "cow"]
    assert shown(top_targets=-1) == ["dog"]
    assert shown(targets=["dog", 2]) == ["dog", "cow"]
    wide = linear([[5.0, -4.0, 3.0, -2.0, 0.0]])
    weights = eli5.explain_prediction(wide, torch.ones(5), top=3).targets[0].feature_weights
    assert [one.weight for one in weights.pos] == pytest.approx([5, 3])
    assert [one.weight for one in weights.neg] == pytest.approx([-4])
    assert (weights.pos_remaining, weights.neg_remaining) == (0, 1)
    weights = eli5.explain_prediction(wide, torch.ones(5), top=(1, 2)).targets[0].feature_weights
    assert (len(weights.pos), len(weights.neg), weights.pos_remaining) == (1, 2, 1)


@pytest.mark.parametrize(
    ("doc", "options", "message"),
    [
        (torch.zeros(2, 3), {}, "row must be .* explain the rows one by one"),
        (torch.zeros(2, 1, 3, 3), {}, "image must be .* explain the images one by one"),
        (torch.zeros(3), {"feature_names": ["a"]}, "must name each of the 3 features, found 1"),
        (torch.zeros(3), {"targets": ["z"]}, "target must be one of 0, 1, found 'z'"),
        (torch.zeros(3), {"targets": []}, "at least one target"),
        (torch.zeros(3), {"targets": [0], "top_targets": 1}, "targets or top_targets, not both"),
        (torch.zeros(3), {"top_targets": 0}, "top_targets must be an integer other than 0"),
        (torch.zeros(3), {"target_names": ["a"]}, "each of the 2 scores, found 1"),
        (torch.zeros(3), {"top": -1}, "top must be a number"),
        (torch.full((3,), torch.inf), {}, "the input must be finite"),
    ],
)
def test_prediction_refuses(doc, options, message):
    with pytest.raises(ValueError, match=message):
        eli5.explain_prediction(nn.Linear(3, 2), doc, **options)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="layer"):
        eli5.explain_prediction(nn.Linear(3, 2), torch.zeros(3), layer="head")


# ------------------------------------------------------------------------------------------------------------ images


def picture_of(html):
    (found,) = SOURCE.findall(html)
    return found[0], Image.open(io.BytesIO(base64.b64decode(found[1])))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_all_formatters_take_an_image(channels):
    net = convolutional(channels, 12, 10)
    image = torch.randn(channels, 12, 10, generator=torch.Generator().manual_seed(0))
    found = eli5.explain_prediction(net, image, target_names=["cat", "<dog>", "cow"], targets=["<dog>"])
    text = eli5.format_as_text(found)
    assert "Explained as: Grad-CAM at 4" in text
    assert "y='<dog>' (probability=" in text
    assert "rows " in text
    overlay = format_as_image(found)
    assert overlay.size == (10 * 23, 12 * 23)
    html = eli5.format_as_html(found)
    words, embedded = picture_of(html)
    assert words == "Grad-CAM at 4 for &lt;dog&gt;"
    assert np.array_equal(np.asarray(embedded), np.asarray(overlay))
    assert "&lt;dog&gt;:</b>" in html
    assert picture_of(found._repr_html_())[1].size == overlay.size
    if hasattr(eli5, "show_prediction"):  # with IPython
        assert eli5.show_prediction(net, image).size == overlay.size
    assert eli5.format_as_dict(found)["targets"][0]["target"] == "<dog>"
    assert len(repr(found)) < 200


def test_eli5_alone_cannot_format_a_heatmap_as_text():
    # The reason for the regions as feature weights; if this fails, they are no longer needed.
    from eli5.base import Explanation, TargetExplanation

    with pytest.raises(AssertionError):
        eli5.format_as_text(Explanation("net", targets=[TargetExplanation(1, heatmap=np.zeros((2, 2)))]))


def test_mean_and_std_are_undone():
    pixels = torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(0))
    mean, std = [0.2, 0.5, 0.7], [0.1, 0.3, 0.2]
    image = (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    net = convolutional(3)
    found = eli5.explain_prediction(net, image, mean=mean, std=std, measure=False)
    shown = np.asarray(found.image)[::28, ::28]
    assert np.array_equal(shown, pixels.permute(1, 2, 0).numpy())
    with pytest.raises(ValueError, match="std must be a number or one for each of the 3 channels, found 2"):
        eli5.explain_prediction(net, image, std=[1.0, 2.0], measure=False)


def test_the_heatmap_is_the_map_scaled():
    net, image = convolutional(), torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(3))
    both = eli5.explain_prediction(net, image, relu=False, measure=False, top=None, layer="3")
    kept = eli5.explain_prediction(net, image, measure=False, layer=net[3])
    assert both.layer == kept.layer == "3"
    assert both.map.min() < 0 < both.map.max()
    np.testing.assert_allclose(kept.map, both.map.clip(min=0))
    np.testing.assert_allclose(kept.targets[0].heatmap, kept.map / kept.map.max())
    np.testing.assert_allclose(both.targets[0].heatmap, (both.map - both.map.min()) / np.ptp(both.map))
    weights = all_weights(both.targets[0])
    assert weights["rows 0-1, columns 2-3"] == pytest.approx(both.map[0, 1] / abs(both.map).max())


def test_an_mlp_is_explained_by_its_pixels():
    net = nn.Sequential(nn.Flatten(), linear([[1.0] * 8 + [-1.0] * 8, [0.0] * 16]))
    image = torch.arange(16.0).view(1, 4, 4) / 16
    found = eli5.explain_prediction(net, image, targets=[0], relu=False)
    assert found.method == "integrated gradients of the pixels"
    signs = torch.tensor([1.0] * 8 + [-1.0] * 8).view(4, 4)
    np.testing.assert_allclose(found.map, (image[0] * signs).numpy(), atol=1e-6)
    assert found.layer is None
    assert abs(found.difference) < 1e-5
    assert all_weights(found.targets[0])["row 3, column 3"] == pytest.approx(-15 / 16)


def test_a_constant_map_is_reported():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 2))
    net[2].weight.data.zero_()
    found = eli5.explain_prediction(net, torch.ones(1, 4, 4))
    assert "The map is constant" in found.description
    assert found.faithfulness.random_correlation is None
    assert "undefined: the map is constant" in eli5.format_as_text(found)
    assert format_as_image(found).size == (224, 224)
    assert picture_of(eli5.format_as_html(found))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (torch.zeros(1, 8, 8, dtype=torch.uint8), {}, "normalised as in training, found torch.uint8"),
        (torch.zeros(1, 8, 8), {"targets": [0, 1]}, "targets must hold one target"),
        (torch.zeros(1, 8, 8), {"layer": "9"}, "no layer '9'"),
        (torch.zeros(0, 8, 8), {}, "image must be"),
    ],
)
def test_images_refuse(image, options, message):
    with pytest.raises(ValueError, match=message):
        eli5.explain_prediction(convolutional(), image, **options)


def test_bfloat16_and_inference_mode():
    net, image = convolutional(), torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = eli5.explain_prediction(net, image, targets=[1]).map
    with torch.inference_mode():
        np.testing.assert_allclose(eli5.explain_prediction(net, image, targets=[1]).map, expected, rtol=1e-5)
    half = net.to(torch.bfloat16)
    rounded = eli5.explain_prediction(half, image.bfloat16(), targets=[1])
    assert np.corrcoef(rounded.map.flatten(), expected.flatten())[0, 1] > 0.99
    assert next(half.parameters()).dtype == torch.bfloat16


# ----------------------------------------------------------------------------------------------------------- weights


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 25))
def test_the_cells_of_a_grid_cover_each_pixel_once(height, width, side):
    seen = np.zeros((height, width), int)
    cells = list(grid_cells(height, width, side))
    for cell in cells:
        seen[cell] += 1
    assert (seen == 1).all()
    assert len({cell_name(*cell) for cell in cells}) == len(cells)


@settings(deadline=None)
@given(arrays(float, (3, 4), elements=st.floats(-1e6, 1e6)), st.booleans())
def test_a_heatmap_is_within_0_and_1_and_keeps_the_order(values, signed):
    heat = to_heatmap(values, signed)
    assert heat.min() >= 0
    assert heat.max() <= 1
    order = values.flatten().argsort()
    assert (np.diff(heat.flatten()[order]) >= 0).all()


class Regressor(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(model.coef_))
        self.bias = model.intercept_

    def forward(self, rows):
        return rows @ self.weight + self.bias


def test_permutation_importance_is_scikit_learns():
    X, y = make_regression(400, 5, n_informative=3, noise=5, random_state=0)
    model = LinearRegression().fit(X, y)
    reference = sklearn_importance(model, X, y, n_repeats=40, random_state=0)
    found = eli5.explain_weights(Regressor(model), data=(X, y), repeats=40, feature_names=list("abcde"))
    ours = {one.feature: one for one in found.feature_importances.importances}
    for i, name in enumerate("abcde"):
        slack = 5 * reference.importances_std[i] / np.sqrt(40) + 1e-6
        assert ours[name].weight == pytest.approx(reference.importances_mean[i], abs=2 * slack)
        assert ours[name].std == pytest.approx(reference.importances_std[i], rel=0.6)
    order = [one.weight for one in found.feature_importances.importances]
    assert order == sorted(order, reverse=True)
    assert "Decrease of r2" in eli5.format_as_text(found)


def test_the_columns_of_a_data_frame_are_its_features():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"length": [1.0, 2.0, 3.0, 4.0], "width": [0.0, 1.0, 0.0, 1.0]})
    found = eli5.explain_weights_df(linear([[1.0, 0.0]]), data=(frame, np.array([1.0, 2.0, 3.0, 4.0])))
    assert dict(zip(found.feature, found.weight, strict=True))["width"] == 0
    assert set(found.feature) == {"length", "width"}


def images_of(label_place):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(300, 2, 6, 7, generator=generator)
    return images, (images[label_place] > 0).long()


class Reader(nn.Module):
    """Predicts whether one pixel is positive."""

    def __init__(self, channel, row, column):
        super().__init__()
        self.place = channel, row, column

    def forward(self, images):
        return torch.stack([torch.zeros(len(images)), images[:, *self.place]], dim=1)


@pytest.mark.parametrize("source", ["pair", "loader"])
def test_the_informative_channel_and_cell_are_found(source):
    images, labels = images_of((slice(None), 1, 5, 6))
    data = (images, labels)
    if source == "loader":
        data = DataLoader(TensorDataset(*data), batch_size=64)
    channels = eli5.explain_weights(Reader(1, 5, 6), data=data)
    weights = {one.feature: one.weight for one in channels.feature_importances.importances}
    assert weights["channel 1"] == pytest.approx(0.5, abs=0.1)
    assert weights["channel 0"] == 0
    cells = eli5.explain_weights(Reader(1, 5, 6), data=data, patch=4, metric="nll", batch_size=100)
    weights = {one.feature: one.weight for one in cells.feature_importances.importances}
    assert set(weights) == {
        "rows 0-3, columns 0-3", "rows 0-3, columns 4-6", "rows 4-5, columns 0-3", "rows 4-5, columns 4-6"
    }  # fmt: skip
    assert weights.pop("rows 4-5, columns 4-6") > 0.3
    assert set(weights.values()) == {0.0}
    assert "permutation importance" in eli5.format_as_html(cells)


def test_the_network_is_left_as_it_was_by_permutation():
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)).train()
    rows, labels = torch.randn(50, 3), torch.randint(0, 2, (50,))
    before = [value.clone() for value in net.state_dict().values()]
    state, copied = torch.get_rng_state(), rows.clone()
    found = [eli5.explain_weights(net, data=(rows, labels)) for _ in range(2)]
    assert found[0] == found[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(rows, copied)
    assert all(torch.equal(a, b) for a, b in zip(before, net.state_dict().values(), strict=True))
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "pass data="),
        ({"data": 5}, "data must be a loader"),
        ({"data": []}, "data has no batch"),
        ({"data": [torch.zeros(4, 3)]}, r"must yield batches \(inputs, labels\)"),
        ({"data": (torch.zeros(4, 3), torch.zeros(5).long())}, "labels .N. of at least two"),
        ({"data": (torch.zeros(4, 3), torch.full((4,), 2))}, r"labels must be in 0..1, found 2..2"),
        ({"data": (torch.zeros(4, 3), torch.zeros(4))}, "'r2' needs one output"),
        ({"data": (torch.zeros(4, 3), torch.zeros(4).long()), "metric": "f1"}, "found 'f1'"),
        ({"data": (torch.zeros(4, 3), torch.zeros(4).long()), "patch": 2}, "patch needs images"),
        ({"data": (torch.zeros(4, 3), torch.zeros(4).long()), "feature_names": ["a"]}, "each of the 3 parts"),
        ({"data": (torch.zeros(4, 3), torch.zeros(4).long()), "repeats": 0}, "repeats must be a positive integer"),
    ],
)
def test_weights_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        eli5.explain_weights(nn.Linear(3, 2), **options)


def test_a_custom_metric():
    def mean_error(outputs, labels):
        return -float((outputs[:, 0] - labels).abs().mean())

    rows = torch.randn(200, 2)
    found = eli5.explain_weights(linear([[3.0, 0.0]]), data=(rows, 3 * rows[:, 0]), metric=mean_error)
    weights = {one.feature: one.weight for one in found.feature_importances.importances}
    assert weights["x0"] > 2
    assert weights["x1"] == 0
    assert "Decrease of mean_error" in found.description
