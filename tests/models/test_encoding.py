from __future__ import annotations

import json
import subprocess
import sys
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoding import MISSING, UNKNOWN, Encoder
from models.errors import DataFault
from models.schema import Column, Schema

SCHEMA = Schema((Column("c", "category"), Column("x", "number")), "y", (0, 1))


@pytest.fixture
def encoder() -> Encoder:
    frame = pd.DataFrame({"x": [1.0, None, 3.0, 4.0], "c": ["b", "a", "b", None]})
    return Encoder.fit(frame, SCHEMA)


def test_codes_rank_by_frequency_and_keep_two_for_unknown_and_missing(encoder: Encoder) -> None:
    encoded = encoder.transform({"x": [0, 1, 2, 3, 4], "c": ["b", "a", "new", None, ""]})
    assert encoded.codes.tolist() == [[2], [3], [UNKNOWN], [MISSING], [MISSING]]
    assert encoder.cardinality == (4,)


def test_shapes_and_types(encoder: Encoder) -> None:
    encoded = encoder.transform({"x": [1, None], "c": ["a", "b"], "ignored": [object(), 1]})
    assert (encoded.numbers.shape, encoded.numbers.dtype) == ((2, 1), np.float32)
    assert (encoded.codes.shape, encoded.codes.dtype) == ((2, 1), np.int64)
    assert np.isnan(encoded.numbers[1, 0])
    empty = encoder.transform({"x": [], "c": []})
    assert (empty.numbers.shape, empty.codes.shape) == ((0, 1), (0, 1))


@pytest.mark.parametrize(
    "values",
    [
        [1, 0, None],
        [1.0, 0.0, float("nan")],
        [True, False, None],
        (np.float32(1), np.int8(0), np.nan),
        [Decimal(1), Decimal(0), pd.NA],
        np.array([1.0, 0.0, np.nan]),
        np.array([1, 0, None], dtype=object),
        pd.Series([1, 0, None], dtype="Int64"),
        pd.Series([True, False, None], dtype="boolean"),
        pd.Series([True, False, None], dtype=object),
        pd.Series([1.0, 0.0, None], index=[7, 8, 9]),
    ],
)
def test_numbers_in_every_guise(encoder: Encoder, values: object) -> None:
    encoded = encoder.transform({"x": values, "c": ["a", "a", "a"]})
    np.testing.assert_array_equal(encoded.numbers[:, 0], np.array([1, 0, np.nan], dtype=np.float32))


@pytest.mark.parametrize(
    ("seen", "sent"),
    [
        (["3", "4"], [3, 4]),
        ([3, 4], ["3", "4"]),
        ([3.0, 4.0], [3, 4]),
        ([3, 4], np.array([3.0, 4.0])),
        ([3, 4], pd.Series([3, 4], dtype="category")),
        (["True", "False"], [True, False]),
        (pd.Series([True, False]), np.array(["True", "False"])),
        ([0.5, 1.5], ["0.5", "1.5"]),
    ],
)
def test_categories_match_by_text(seen: list, sent: object) -> None:
    encoder = Encoder.fit(pd.DataFrame({"x": [1, 2], "c": seen}), SCHEMA)
    codes = encoder.transform({"x": [1, 2], "c": sent}).codes[:, 0]
    assert sorted(codes.tolist()) == [2, 3]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1]}, "got no c: there are x"),
        ({}, "got no c, x: there are none"),
        ({"c": ["a"], "xx": [1]}, "got no x: did you mean 'xx'"),
        ({"c": ["a"], "x": ["1"]}, r"column 'x' holds numbers, got '1' \(str\) in row 0"),
        ({"c": ["a", "b"], "x": [1, "x"]}, "in row 1"),
        ({"c": ["a"], "x": np.array(["1"])}, r"got '1' \(str\)"),
        ({"c": ["a"], "x": pd.Series(["1"])}, r"got '1' \(str\)"),
        ({"c": ["a"], "x": [[1.0]]}, r"got \[1.0\] \(list\)"),
        ({"c": ["a"], "x": np.ones((1, 1))}, "got 2 dimensions for 'x'"),
        ({"c": ["a"], "x": pd.to_datetime(["2013-01-01"])}, "holds numbers"),
        ({"c": ["a"], "x": [1j]}, "holds numbers"),
        ({"c": ["a"], "x": [float("inf")]}, "'x' holds finite numbers .* got inf in row 0"),
        ({"c": ["a"], "x": [-np.inf]}, "got -inf"),
        ({"c": ["a"], "x": [1e39]}, r"got 1e\+39"),
        ({"c": ["a"], "x": [10**400]}, "got inf"),
        ({"c": ["a"], "x": np.array([np.inf])}, "got inf"),
        ({"c": ["a"], "x": 1.0}, "a column is a list of values, got float for 'x'"),
        ({"c": "a", "x": [1]}, "got str for 'c'"),
        ({"c": {"a": 1}, "x": [1]}, "got dict for 'c'"),
        ({"c": ["a", "b"], "x": [1]}, "got 1 values of 'x' and 2 of 'c'"),
        ({"c": [["a"]], "x": [1]}, r"'c' holds categories .* got \['a'\] \(list\) in row 0"),
        ({"c": [float("inf")], "x": [1]}, "'c' holds categories, got inf in row 0"),
        ({"c": [b"a"], "x": [1]}, r"\(bytes\) in row 0"),
        ({"c": pd.Series(["a", b"a"], dtype=object), "x": [1, 2]}, r"\(bytes\) in row 1"),
    ],
)
def test_a_fault_names_the_column_and_what_was_received(
    encoder: Encoder, columns: dict, message: str
) -> None:
    with pytest.raises(DataFault, match=message):
        encoder.transform(columns)


def test_fitting_finds_the_same_faults() -> None:
    with pytest.raises(DataFault, match="'x' holds numbers, got 'one'"):
        Encoder.fit(pd.DataFrame({"x": ["one"], "c": ["a"]}), SCHEMA)
    with pytest.raises(DataFault, match="got no c"):
        Encoder.fit(pd.DataFrame({"x": [1]}), SCHEMA)
    with pytest.raises(DataFault, match="learns from rows"):
        Encoder.fit(pd.DataFrame({"x": [], "c": []}), SCHEMA)


def test_beyond_the_limit_the_rarest_categories_are_unknown() -> None:
    frame = pd.DataFrame({"c": ["a"] * 3 + ["b"] * 2 + ["c"], "x": range(6)})
    encoder = Encoder.fit(frame, SCHEMA, limit=2)
    assert encoder.transform(frame).codes[:, 0].tolist() == [2, 2, 2, 3, 3, UNKNOWN]


def test_state_survives_json(encoder: Encoder) -> None:
    again = Encoder.from_json(json.loads(json.dumps(encoder.to_json())))
    columns = {"x": [1.0, None], "c": ["a", "q"]}
    one, two = encoder.transform(columns), again.transform(columns)
    np.testing.assert_array_equal(one.numbers, two.numbers)
    np.testing.assert_array_equal(one.codes, two.codes)
    assert again.names == ("c", "x")


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(-3, 3), st.sampled_from(["a", "b", ""])
)


@settings(deadline=None, max_examples=60)
@given(seen=st.lists(scalars, min_size=1, max_size=20), sent=st.lists(scalars, max_size=20))
def test_lists_arrays_and_frames_get_the_same_codes(seen: list, sent: list) -> None:
    frame = pd.DataFrame({"x": 1.0, "c": pd.Series(seen, dtype=object)})
    encoder = Encoder.fit(frame, SCHEMA)
    ones = [1.0] * len(sent)
    as_list = encoder.transform({"x": ones, "c": sent}).codes
    series = pd.Series(sent, dtype=object)
    for other in (series, series.to_numpy()):
        np.testing.assert_array_equal(encoder.transform({"x": ones, "c": other}).codes, as_list)
    single = [encoder.transform({"x": [1.0], "c": [value]}).codes[0, 0] for value in sent]
    assert single == as_list[:, 0].tolist()


def test_a_large_table_takes_a_moment() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": rng.normal(size=300_000), "c": rng.choice([f"c{i}" for i in range(100)], 300_000)}
    )
    encoder = Encoder.fit(frame, SCHEMA)
    began = time.process_time()
    encoder.transform(frame)
    assert time.process_time() - began < 2.0  # 0.03 s alone; generous for a busy machine


def test_serving_needs_no_pandas() -> None:
    code = (
        "import sys; import models.encoding as e;"
        "e.Encoder(('x',), {'c': ('a',)}).transform({'x': [1, None], 'c': ['a', None]});"
        "assert not {'pandas', 'sklearn', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_text_stays_as_it_is() -> None:
    columns = (Column("x", "number"), Column("body", "text"), Column("plan", "category"))
    schema = Schema(columns, "y", (0, 1))
    rows = pd.DataFrame({"x": [1, 2, None], "body": ["a  B\n", None, "c"], "plan": ["p", "q", "p"]})
    encoder = Encoder.from_json(json.loads(json.dumps(Encoder.fit(rows, schema).to_json())))
    for columns_of in (rows, rows.to_dict("list")):
        encoded = encoder.transform(columns_of)
        assert encoded.texts is not None
        assert encoded.texts.tolist() == [["a  B\n"], [""], ["c"]]
        assert encoded.codes.tolist() == [[2], [3], [2]]
    taken = encoded.take([2, 0]).texts
    assert taken is not None
    assert taken.tolist() == [["c"], ["a  B\n"]]
    single = encoder.transform({"x": [1], "body": [None], "plan": ["p"]})
    assert single.texts is not None
    assert single.texts.tolist() == [[""]]
    with pytest.raises(DataFault, match=r"'body' holds text, got 3 .int. in row 1: send a string"):
        encoder.transform({"x": [1, 2], "body": ["a", 3], "plan": ["p", "p"]})


def test_a_column_of_empty_texts_is_refused() -> None:
    schema = Schema((Column("body", "text"),), "y", (0, 1))
    with pytest.raises(DataFault, match="none in the 2 rows of 'body'"):
        Encoder.fit(pd.DataFrame({"body": [" ", None]}), schema)


def test_without_text_there_is_none() -> None:
    schema = Schema((Column("x", "number"),), "y", (0, 1))
    assert Encoder.fit(pd.DataFrame({"x": [1.0]}), schema).transform({"x": [1]}).texts is None
