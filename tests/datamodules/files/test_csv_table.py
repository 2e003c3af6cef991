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
    path.write_text("a,1\n2,2\n3,1\n")  # looks like a header
    assert len(read_table(path, 1, False).features) == 2
    assert len(read_table(path, 1, False, header=False, text="onehot").features) == 3
    path.write_text("1,2\n3,4\n5,6\n")  # looks like values
    assert len(read_table(path, "2", False, header=True).features) == 2


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


ROWS = [(i, i / 4, "ab"[i % 2]) for i in range(12)]


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("header", [True, False])
def test_separators_and_decimal_commas(tmp_path, separator, decimal, header):
    quote = '"' if separator == decimal else ""
    lines = [separator.join((str(i), f"{quote}{x}{quote}".replace(".", decimal), c)) for i, x, c in ROWS]
    path = written(tmp_path, "\n".join(([separator.join("xyc")] if header else []) + lines))
    table = read_table(path, -1, False)
    assert table.features.tolist() == [[i, x] for i, x, _ in ROWS]
    assert table.target.tolist() == [c for _, _, c in ROWS]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_byte_order_marks(tmp_path, encoding):
    path = written(tmp_path, "größe,c\n" + "".join(f"{i},{c}\n" for i, _, c in ROWS), encoding)
    assert read_table(path, "c", False).names == ["größe"]


def test_another_encoding(tmp_path):
    path = written(tmp_path, "größe,c\n" + "".join(f"{i},{c}\n" for i, _, c in ROWS), "cp1252")
    with pytest.raises(ValueError, match=r"is not utf-8 \(byte 0xf6 in line 1\); .* --data.encoding cp1252"):
        read_table(path, "c", False)
    assert read_table(path, "c", False, encoding="cp1252").names == ["größe"]
    with pytest.raises(ValueError, match="encoding must be an encoding such as utf-8 or cp1252, found 'klingon'"):
        read_table(path, "c", False, encoding="klingon")


def test_quoted_numbers_spaces_and_the_hint_of_excel(tmp_path):
    path = written(tmp_path, 'sep=;\n"x"; "c"\n"1" ;"a"\n 2;"b;b"\n;\n"3";"a"\n')
    table = read_table(path, "c", False)
    assert table.features.tolist() == [[1], [2], [3]]
    assert table.target.tolist() == ["a", "b;b", "a"]
    path = written(tmp_path, "1  2 a\n3 4  b\n")
    assert read_table(path, -1, False, separator="space").features.tolist() == [[1, 2], [3, 4]]


def test_a_typographic_minus_sign(tmp_path):
    path = written(tmp_path, "x;z;c\n\u22121,5;a\u2212b;k\n2,25;c;l\n")
    table = read_table(path, "c", False)
    assert table.names == ["x", "z=a\u2212b", "z=c"]
    assert table.features[:, 0].tolist() == [-1.5, 2.25]


def column(cells, name="v"):
    """Return a table with a column of these cells, repeated to 12 rows, and a column of classes."""
    return f"{name}\tc\n" + "".join(f"{cells[i % len(cells)]}\t{'ab'[i % 2]}\n" for i in range(12))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,234", "5,678"], "'1,234' in .* may be 1234 or 1.234; .* set --data.decimal to a comma"),
        (["1.234,5", "3"], "column 'v' .* has numbers with thousands separators, such as '1.234,5'"),
        (["1 234", "12"], "has numbers with thousands separators, such as '1 234'"),
        (["1'234.5", "12"], 'has numbers with thousands separators, such as "1\'234.5"'),
        (["1,5", "1.5"], "has both '1,5' and '1.5'; use one decimal mark"),
        (["12 %", "3%"], "has numbers with a unit, such as '12 %'; write plain numbers, or .* --data.drop v"),
        (["$5", "$6.50"], "has numbers with a unit, such as"),
        (
            ["1", "2", "3", "4O"],
            "has 9 numbers and 3 other entries, such as '4O' in row 3; correct them, .*--data.drop v",
        ),
        (["1", "1_000", "2"], "has 8 numbers and 4 other entries, such as '1_000' in row 1"),
        (["2024-01-02", "2024-02-01"], "column 'v' .* holds dates or times, such as '2024-01-02'; .*--data.drop v"),
        (["1.2.24 10:00", "2.2.24 11:00"], "holds dates or times"),
        (["10:30", "11:45"], "holds dates or times"),
        ([f"w{i}" for i in range(12)], "holds words that differ in most rows, such as 'w0'; .*--data.text onehot"),
        (["1e400", "1"], "holds an infinite number"),
        ([str(2**60), str(2**60 + 1)], "holds whole numbers beyond 2\\*\\*53, .* leave it out by --data.drop v"),
        (["1", "NA", "?", ""], "column 'v' .* lacks 9 values; fill them, or set missing to mean .*--data.drop v"),
        ([""], "column 'v' of .* has no value; leave it out by --data.drop v"),
    ],
)
def test_what_is_not_guessed_is_one_line_with_the_option(tmp_path, cells, message):
    path = written(tmp_path, column(cells))
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path, "c", False)
    assert "\n" not in str(caught.value)
    if cells != ["1,234", "5,678"] and "both" not in message:
        path.write_text(
            "".join(f"{line}\t{i}\n" if i else f"{line}\tx\n" for i, line in enumerate(column(cells).splitlines()))
        )
        assert read_table(path, "c", False, drop="v").names == ["x"]


def test_options_decide(tmp_path):
    path = written(tmp_path, column(["1,234", "5,678"]))
    assert read_table(path, "c", False, decimal=",").features[:2].tolist() == [[1.234], [5.678]]
    path = written(tmp_path, column(["1", "2", "3", "4O"]))
    assert read_table(path, "c", False, text="onehot").names == ["v=1", "v=2", "v=3", "v=4O"]
    path = written(tmp_path, "n;x;c\n" + "".join(f"name {i};{i};{i % 2}\n" for i in range(12)))
    assert read_table(path, "c", False, text="drop").names == ["x"]
    assert len(read_table(path, "c", False, text="onehot").names) == 13


def test_all_columns_that_need_a_choice_are_named_at_once(tmp_path):
    path = written(tmp_path, "a;b;x;c\n" + "".join(f"n{i};m {i};{i};{i % 2}\n" for i in range(12)))
    with pytest.raises(ValueError, match=r"columns 'a', 'b' of .* hold words .*leave them out by --data.drop a,b"):
        read_table(path, "c", False)
    assert read_table(path, "c", False, drop="a,1").names == ["x"]


def test_nothing_is_silent(tmp_path, capsys):
    lines = (f"{i},{i + 100},red,7,{i * i},{i % 2}" for i in range(12))
    path = written(tmp_path, ",id,colour,k,x,c\n" + "\n".join(lines))
    assert read_table(path, "c", False, drop="x").names == ["id", "colour=red", "k"]
    line = capsys.readouterr().out
    assert "12 rows, target c, 2 columns of numbers; a 0/1 column for each word of colour (1); " in line
    assert "left out column 0, x; id counts the rows (--data.drop id leaves it out); k is constant" in line
    read_table(written(tmp_path, "1,2\n3,4\n"), -1, False)
    assert "no header found: columns have numbers" in capsys.readouterr().out


def test_headers(tmp_path):
    words = "".join(f"{'xy'[i % 2]},{'uv'[i % 2]},{'ab'[i % 2]}\n" for i in range(12))
    assert read_table(written(tmp_path, f"cap,gill,c\n{words}"), "c", False).names == [
        "cap=x",
        "cap=y",
        "gill=u",
        "gill=v",
    ]
    assert len(read_table(written(tmp_path, words), -1, False).features) == 12
    assert len(read_table(written(tmp_path, "0,1,2\n5,6,7\n8,9,7\n"), -1, False).features) == 2
    with pytest.raises(ValueError, match=r"target 'y' names 2 columns of .*; give its number, 1 or 2"):
        read_table(written(tmp_path, "x,y,y\n1,2,3\n4,5,6\n"), "y", False)
    with pytest.raises(ValueError, match="has two columns 'x'; rename one, or leave one out by its number"):
        read_table(written(tmp_path, "x,x,y\n1,2,3\n4,5,6\n"), "y", False)
    assert read_table(written(tmp_path, "x,x,y\n1,2,3\n4,5,6\n"), "y", False, drop=["1"]).features.tolist() == [
        [1],
        [4],
    ]
    with pytest.raises(ValueError, match=r"drop: 'z' is not a column of .*; its columns are x, y"):
        read_table(written(tmp_path, "x,y\n1,2\n3,4\n"), "y", False, drop="z")
    with pytest.raises(ValueError, match=r"drop: 'y' of .* is the target"):
        read_table(written(tmp_path, "x,y\n1,2\n3,4\n"), "y", False, drop="y")
    with pytest.raises(ValueError, match="has one row, too few"):
        read_table(written(tmp_path, "x,y\n1,2\n"), "y", False)


def test_a_word_among_words_is_no_gap(tmp_path):
    path = written(tmp_path, "x,c\n1,none\n2,mild\n3,none\n4,mild\n")
    assert read_table(path, "c", False).target.tolist() == ["none", "mild"] * 2
    with pytest.raises(ValueError, match=r"row 1 of .* has no target 'c'"):
        read_table(written(tmp_path, "x,c\n1,no\n2,NA\n"), "c", False)


def test_an_open_quote_is_no_long_cell(tmp_path):
    path = written(tmp_path, 'x,c\n1,a\n2,"b\n3,a\n4,b\n')
    with pytest.raises(ValueError, match=r"is not a CSV file \(.*\); correct its quotes"):
        read_table(path, "c", False)
