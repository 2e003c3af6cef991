"""CSV files as tables with named columns."""

import pytest

from datamodules.files.csv_table import read_table

CSV = """height,colour,weight
1.5,red,10
2.5,,20
3.5,blue,30
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "table.csv").write_text(CSV)
    return tmp_path / "table.csv"


def test_names_of_columns_and_words(path):
    table = read_table(path, "weight", allow_missing=True)
    assert table.names == ["height", "colour=missing", "colour=blue", "colour=red"]
    assert table.target_name == "weight"
    assert table.features.tolist() == [[1.5, 0, 0, 1], [2.5, 1, 0, 0], [3.5, 0, 1, 0]]
    assert table.target.tolist() == [10, 20, 30]


def test_the_first_line_can_be_declared_data_or_header(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,1\n2,2\n")  # looks like a header
    assert len(read_table(path, 1, False).features) == 1
    assert len(read_table(path, 1, False, header=False).features) == 2
    path.write_text("1,2\n3,4\n")  # looks like values
    assert len(read_table(path, "2", False, header=True).features) == 1


@pytest.mark.parametrize("names", [["size", "shade", "mass"], ["size", "shade"]])
def test_given_names(path, names):
    table = read_table(path, -1, allow_missing=True, names=names)
    assert table.names == ["size", "shade=missing", "shade=blue", "shade=red"]
    assert table.target_name == ("mass" if len(names) == 3 else "weight")


def test_target_by_given_name(path):
    assert read_table(path, "size", allow_missing=True, names=["size", "shade", "mass"]).target.tolist() == [
        1.5,
        2.5,
        3.5,
    ]


def test_a_wrong_number_of_names(path):
    with pytest.raises(ValueError, match="has 3 columns, found 1 names"):
        read_table(path, -1, allow_missing=True, names=["size"])
