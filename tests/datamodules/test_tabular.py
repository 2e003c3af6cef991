"""Tables: scikit-learn's and CSV files."""

import numpy as np
import pytest
import torch
from sklearn import datasets

from datamodules import TabularDataModule

CSV = """height,colour,weight,kind
1.5,red,10,a
2.5,blue,20,b
3.5,red,30,a
4.5,green,40,b
5.5,red,50,a
6.5,blue,60,b
7.5,green,70,a
8.5,green,80,b
"""
COLOURS = ["colour=blue", "colour=green", "colour=red"]
SIZES = {"test_size": 2, "val_size": 2}


def small(folder, monkeypatch):
    """scikit-learn's wine, 178 rows."""
    return {"table": "wine"}


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a CSV file and returns its data module."""

    def write(text=CSV, **options):
        (tmp_path / "table.csv").write_text(text)
        return TabularDataModule(table="table.csv", data_dir=str(tmp_path), **{**SIZES, **options})

    return write


def everything(data):
    """Return the whole table as it is kept, and its targets."""
    data.setup()
    return data._set("train").values, data._set("train").labels


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
def test_classification_tables(name):
    data = TabularDataModule(table=name)
    bunch = getattr(datasets, f"load_{name}")()
    rows, labels = everything(data)
    assert data.image_shape == (bunch.data.shape[1],)
    assert data.classes == [str(c) for c in bunch.target_names]
    torch.testing.assert_close(rows, torch.from_numpy(bunch.data).float())
    assert torch.equal(labels, torch.from_numpy(bunch.target).long())


@pytest.mark.parametrize("name", ["diabetes", "house prices"])
def test_a_numeric_target_is_refused_in_one_line(name, table):
    prices = "\n".join(f"{i / 7},{i * 1000}" for i in range(300))
    with pytest.raises(ValueError, match=r"target of .* is a quantity, not a class: .* classifiers") as caught:
        TabularDataModule(table="diabetes") if name == "diabetes" else table(prices)
    assert "\n" not in str(caught.value)


def test_only_the_training_part_scales():
    data = TabularDataModule(table="wine")
    rows, _ = everything(data)
    train = datasets.load_wine().data[data.part_indices("train").numpy()]
    np.testing.assert_allclose(data.mean, train.mean(0))
    np.testing.assert_allclose(data.std, train.std(0))
    test = torch.cat([batch for batch, _ in data.test_dataloader()])
    expected = (rows[data.part_indices("test")].double() - torch.tensor(data.mean)) / torch.tensor(data.std)
    torch.testing.assert_close(test.double(), expected, atol=1e-4, rtol=1e-4)


def test_csv(table):
    data = table()
    rows, labels = everything(data)
    assert data.classes == ["a", "b"]
    assert labels.tolist() == [0, 1] * 4
    # height, then blue, green, red, then weight
    assert rows[:3].tolist() == [[1.5, 0, 0, 1, 10], [2.5, 1, 0, 0, 20], [3.5, 0, 0, 1, 30]]


def test_csv_target_by_name_or_number(table):
    for target in ("colour", "1", 1, -3):
        assert table(target=target, test_size=0, val_size=0).classes == ["blue", "green", "red"]
    with pytest.raises(ValueError, match="is a quantity"):
        table(target=0)  # 1.5 is not whole


def test_csv_without_header(table):
    data = table("\n".join(CSV.splitlines()[1:]))
    assert len(everything(data)[0]) == 8


def test_whole_numbers_are_classes_unless_there_are_many(table):
    text = "\n".join(f"{i / 7},{i % 3 + 5}" for i in range(30))
    data = table(text, test_size=6, val_size=6)
    assert data.classes == ["5", "6", "7"]
    many = "\n".join(f"{i / 7},{i % 101}" for i in range(303))
    with pytest.raises(ValueError, match="is a quantity"):
        table(many)
    assert table(many, task="classification", test_size=101, val_size=101).num_classes == 101


def test_missing_values(table):
    text = CSV.replace("3.5,", "NA,")
    with pytest.raises(ValueError, match=r"column 'height' of .* lacks 1 values; fill them, or set missing to mean"):
        table(text)
    data = table(text, missing="mean", test_size=0, val_size=0)
    batch = torch.cat([rows for rows, _ in data_in_order(data)])
    assert batch[2, 0] == 0
    assert data.mean[0] == pytest.approx((1.5 + 2.5 + 4.5 + 5.5 + 6.5 + 7.5 + 8.5) / 7)


def data_in_order(data):
    data.setup()
    loader = data.train_dataloader()
    loader.shuffle = False
    return loader


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (CSV, {"target": "size"}, "target 'size' is not a column of .*; its columns are height, colour, weight, kind"),
        (CSV, {"target": 4}, "target 4 is not a column of .*, which has 4 columns"),
        (CSV, {"task": "guess"}, "task must be one of auto, classification, found 'guess'"),
        (CSV, {"target": 0, "task": "classification"}, "8 rows of table.csv have 8 classes; choose another target"),
        (CSV + "1,2\n", {}, "line 10 of .* has 2 cells, the first has 4"),
        (CSV + "1,red,2,\n", {}, "row 8 of .* has no target 'kind'; remove the row"),
        (CSV + "1,red,inf,a\n", {}, "column 'weight' of .* holds an infinite number"),
        ("a,b\n", {}, "has 1 lines, too few for a table"),
        ("a\n1\n2\n", {}, "has no column besides the target"),
        ("a,b\n1,x\n2,x\n", {}, "the target of table.csv has one value only, x; choose another by target"),
        (
            "".join(f"{i},w{i},{i % 2}\n" for i in range(200)),
            {},
            "column '1' of .* holds words that differ .* 'w0'.* --data.drop 1",
        ),
    ],
)
def test_bad_tables(table, text, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        table(text, **options)
    assert "\n" not in str(caught.value)


def test_not_a_text_file(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"is not a CSV file"):
        TabularDataModule(table="table.csv", data_dir=str(tmp_path))


def test_unknown_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no table 'irises': it is neither one of iris, wine"):
        TabularDataModule(table="irises", data_dir=str(tmp_path))


def test_whole_numbers_beyond_floats_are_words(table):
    for first in (2**53, 2**64, 10**300):
        assert table("x,y\n" + "".join(f"{i},{first + i % 3}\n" for i in range(9))).num_classes == 3
    assert table("x,y\n" + "".join(f"{i},{'01' if i % 2 else '1'}\n" for i in range(9))).classes == ["01", "1"]


def test_options_of_a_file_with_a_table_of_scikit_learn():
    with pytest.raises(ValueError, match="drop describes a CSV file, found the table iris"):
        TabularDataModule(table="iris", drop="petal width")


def test_home_folder(table, tmp_path, monkeypatch):
    table()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert TabularDataModule(table="~/table.csv", **SIZES).features == ["height", *COLOURS, "weight"]


def test_a_column_without_values_in_the_training_part(table):
    data = table("x,y,c\n" + "".join(f"{i},{1 if i == 9 else ''},{i % 2}\n" for i in range(12)), missing="mean")
    with pytest.raises(ValueError, match=r"column 'y' of table.csv has no value in the training part"):
        data.statistics(torch.arange(9))
