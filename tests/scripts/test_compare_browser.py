"""The report of scripts/compare.py in a browser."""

import json

import pytest

import compare

pytestmark = pytest.mark.slow

VALUES = ["Adam", "SGD(lr=0.3)", "SGD(lr=1e30)"]
COMMAND = [
    *("--axis", "optimizer", "--values", *VALUES, "--seeds", "2", "--model.backbone", "TwoLayerNet", "--jobs", "2"),
    *("--data.batch_size", "256", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A comparison in which one combination diverges."""
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.raises(SystemExit):
        compare.main([*COMMAND, "--output", str(folder)])
    return folder


@pytest.fixture
def page(browser, report):
    """The report as a user opens it; without network requests and without errors."""
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    messages, requests = [], []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto((report / "report.html").as_uri())
    opened.wait_for_selector("#accuracy-seconds .main-svg")
    yield opened
    assert messages == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [(report / "report.html").as_uri()]
    opened.close()


def column(page, table, number):
    return [cell.inner_text() for cell in page.query_selector_all(f"#{table} tbody tr td:nth-child({number})")]


@pytest.mark.browser
def test_a_click_on_a_heading_sorts(page, report):
    results = json.loads((report / "results.json").read_text())
    means = {name: row["mean"] for name, row in results["table"].items() if row["mean"] is not None}
    means |= {f"{name}, ensemble of 2": row["accuracy"] for name, row in results["ensembles"].items() if row}
    assert set(column(page, "results", 1)) == {*VALUES, *means}
    page.click("#results th:has-text('mean')")
    rising = sorted(means, key=means.get)
    assert column(page, "results", 1) == [*rising, "SGD(lr=1e30)"]  # rows without a value stay last
    page.click("#results th:has-text('mean')")
    assert column(page, "results", 1) == [*reversed(rising), "SGD(lr=1e30)"]
    page.focus("#runs th:has-text('seed')")
    page.keyboard.press("Enter")
    assert column(page, "runs", 2) == ["0", "0", "0", "1", "1", "1"]
    assert page.get_attribute("#runs th:has-text('seed')", "aria-sort") == "ascending"


@pytest.mark.browser
def test_the_content_of_the_page(page, report, tmp_path):
    results = json.loads((report / "results.json").read_text())
    assert page.title() == "Comparison: optimizer"
    assert "4 of 6 runs finished" in page.inner_text(".lead")
    assert "too few seeds to conclude anything" in page.inner_text(".note") or results["note"] in page.inner_text(
        ".note"
    )
    adam = results["table"]["Adam"]
    assert f"{adam['mean']:.4f} ± {adam['sd']:.4f}" in page.inner_text("#results tbody tr:first-child")
    assert f"{adam['low']:.4f} to {adam['high']:.4f}" in page.inner_text("#results tbody tr:first-child")
    assert "0 of 2" in page.inner_text("#results tbody tr:nth-child(3)")
    assert page.locator("#runs td.failed").count() == 2
    assert "the training loss is" in page.locator("#runs td.failed").first.inner_text()
    settings = page.inner_text("#settings")
    assert "optimizer.lr" in settings
    assert "1e+30" in settings
    page.click("summary >> nth=1")
    assert "data.batch_size: 256" in page.inner_text("details >> nth=1")
    assert "torch" in column(page, "environment", 1)
    assert page.inner_text("#command").startswith("python scripts/compare.py --axis optimizer --values Adam")
    picture = tmp_path / "report.png"
    page.screenshot(path=picture, full_page=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 1400  # nothing extends beyond the window


@pytest.mark.browser
def test_a_curve_has_a_label_and_can_be_zoomed_and_changed(page, report):
    results = json.loads((report / "results.json").read_text())
    place = page.locator("#accuracy-steps")
    place.scroll_into_view_if_needed()
    # The last point of Adam's test curve, third panel.
    spot = page.evaluate(
        """() => {
          const plot = document.getElementById("accuracy-steps");
          const trace = plot._fullData.find((t) => t.name === "Adam" && t.xaxis === "x3" && t.hovertemplate);
          const box = plot.getBoundingClientRect();
          const { xaxis3: x, yaxis3: y } = plot._fullLayout;
          return [box.x + x._offset + x.c2p(trace.x.at(-1)), box.y + y._offset + y.c2p(trace.y.at(-1))];
        }"""
    )
    page.mouse.move(*spot)
    label = page.wait_for_selector("#accuracy-steps .hoverlayer .hovertext").text_content()
    assert "Adam, test" in label
    assert f"{results['table']['Adam']['mean']:.4g}" in label
    assert "step 10" in label
    before = page.evaluate("document.getElementById('accuracy-steps').layout.xaxis.range.slice()")
    plot = page.locator("#accuracy-steps .nsewdrag").first.bounding_box()
    page.mouse.move(plot["x"] + 0.3 * plot["width"], plot["y"] + 0.3 * plot["height"])
    page.mouse.down()
    page.mouse.move(plot["x"] + 0.7 * plot["width"], plot["y"] + 0.8 * plot["height"], steps=5)
    page.mouse.up()
    page.wait_for_function(
        "before => document.getElementById('accuracy-steps').layout.xaxis.range[1] < before[1]", arg=before
    )
    assert page.text_content("#accuracy-steps .ytitle") == "accuracy"
    page.select_option("#quantity", "loss")
    page.wait_for_selector("#loss-steps .ytitle")
    assert page.text_content("#loss-steps .ytitle") == page.text_content("#loss-seconds .ytitle") == "loss"
    assert "seconds" in page.text_content("#loss-seconds .xtitle")
    assert not page.is_visible("#accuracy-steps")
    # A chart that was drawn while hidden gets its width when it is shown.
    page.wait_for_function(
        """() => {
          const plot = document.getElementById("loss-steps");
          return plot.clientWidth > 1000 && plot.querySelector(".main-svg").clientWidth === plot.clientWidth;
        }"""
    )
