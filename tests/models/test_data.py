from __future__ import annotations

import gzip
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.data import FileSource, digest, read_table, times, to_labels
from models.errors import DataFault


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "when": ["2013-01-01T10:00:00Z", "2013-01-02", "2013-01-03T00:00:00+02:00"],
            "x": [1.5, None, 3.0],
            "c": ["a", None, "b"],
        }
    )


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_each_format_reads_back(name: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    again = read_table(path)
    assert list(again.columns) == ["when", "x", "c"]
    assert again["x"].isna().tolist() == [False, True, False]
    assert again["c"].dropna().tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"x", "is .csv, .csv.gz or .parquet, got 't.xlsx'"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"a,b\n", "holds no rows"),
        ("t.csv", b"a,a\n1,2\n", r"\['a'\] twice"),
        ("t.csv", b"a,b\n1,2\n1,2,3,4\n", "is not a readable table"),
        ("t.csv", b"a,b\n\xff\xfe,\x81\n", "is not a readable table"),
        ("t.csv.gz", b"no gzip", "is not a readable table"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 1000)[:30], "is not a readable table"),
        ("t.parquet", b"no parquet", "is not a readable table"),
    ],
)
def test_files_that_are_no_tables(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFault, match=message):
        read_table(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"no such file: .*none\.csv"):
        read_table(tmp_path / "none.csv")


def test_a_source_gives_rows_later_than_a_time(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "t.csv", index=False)
    source = FileSource(tmp_path / "t.csv", "when")
    assert len(source.read()) == 3
    assert source.read(datetime(2013, 1, 2, tzinfo=UTC))["c"].tolist() == ["b"]
    with pytest.raises(DataFault, match="name it as the time"):
        FileSource(tmp_path / "t.csv").read(datetime(2013, 1, 2, tzinfo=UTC))


def test_times_are_in_utc_whatever_they_were_written_in(frame: pd.DataFrame) -> None:
    got = times(frame, "when")
    assert got.tolist() == [
        pd.Timestamp("2013-01-01T10:00Z"),
        pd.Timestamp("2013-01-02T00:00Z"),
        pd.Timestamp("2013-01-02T22:00Z"),
    ]
    naive = pd.DataFrame({"when": pd.to_datetime(["2013-01-01 10:00"])})
    assert times(naive, "when")[0] == pd.Timestamp("2013-01-01T10:00Z")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2013-01-01", "soon", "later"], r"got 'soon' in row 1 and 1 more such"),
        (["2013-01-01", None], r"in row 1 and 0 more such"),
        ([1357034400], "got the number"),
    ],
)
def test_the_first_bad_time_is_named(values: list, message: str) -> None:
    with pytest.raises(DataFault, match=message):
        times(pd.DataFrame({"when": values}), "when")
    with pytest.raises(DataFault, match="did you mean 'when'"):
        times(pd.DataFrame({"when": values}), "wen")


@pytest.mark.parametrize(
    ("values", "classes", "codes"),
    [
        (["no", "yes", "no"], ("no", "yes"), [0, 1, 0]),
        (["1", 0, True, 1.0, "false"], (0, 1), [1, 0, 1, 1, 0]),
        ([True, False, 1], (False, True), [1, 0, 1]),
        (["1", "2"], ("1", "2"), [0, 1]),
        (pd.Series(["c", "a"], dtype="category"), ("a", "b", "c"), [2, 0]),
        ([], ("a", "b"), []),
    ],
)
def test_labels_become_codes(values: object, classes: tuple, codes: list[int]) -> None:
    assert to_labels(values, classes).tolist() == codes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["no", "maybe", "maybe"], "got 'maybe' in row 1 and 1 more such"),
        (["no", None], "got no label in row 1"),
        (["no", float("nan")], "got no label in row 1"),
    ],
)
def test_labels_outside_the_classes_are_named(values: list, message: str) -> None:
    with pytest.raises(DataFault, match=message):
        to_labels(values, ("no", "yes"))


def test_the_digest_sees_values_order_names_and_types_and_nothing_else(
    frame: pd.DataFrame,
) -> None:
    base = digest(frame)
    assert len(base) == 64
    assert digest(frame.copy()) == base
    assert digest(frame.set_axis([7, 8, 9])) == base  # the index is no content
    different = [
        frame.iloc[::-1],
        frame.rename(columns={"x": "z"}),
        frame[["x", "when", "c"]],
        frame.assign(x=frame["x"].astype("float32")),
        frame.assign(x=[1.5, None, 3.0000001]),
        frame.assign(c=["a", "b", None]),
        frame.iloc[:2],
        frame.assign(c=["a", "", "b"]),
    ]
    assert len({base, *map(digest, different)}) == len(different) + 1


def test_the_digest_tells_one_from_text_and_true() -> None:
    mixed = [pd.DataFrame({"a": pd.Series([v], dtype=object)}) for v in (1, "1", 1.0, True)]
    assert len({digest(frame) for frame in mixed}) == 4


def test_the_digest_tells_one_from_true_within_a_column() -> None:
    ones, mixed = (pd.DataFrame({"a": pd.Series(v, dtype=object)}) for v in ([1, 1], [1, True]))
    assert digest(ones) != digest(mixed)


def test_the_digest_is_the_same_in_another_process() -> None:
    code = (
        "import pandas as pd; from models.data import digest;"
        "print(digest(pd.DataFrame({'a': ['x', None, 'y'], 'b': [1, 2, 3]})))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."},
    )
    here = digest(pd.DataFrame({"a": ["x", None, "y"], "b": [1, 2, 3]}))
    assert out.stdout.strip() == here


def test_the_digest_takes_one_nan_for_another() -> None:
    odd = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)
    assert digest(pd.DataFrame({"a": odd})) == digest(pd.DataFrame({"a": [np.nan]}))
