from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from models.errors import DataFault
from models.schema import Column, Schema, class_key, infer


def table(n: int = 200, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    base = {"x": rng.normal(size=n), "late": rng.integers(0, 2, n)}
    return pd.DataFrame({**base, **columns})


def test_json_round_trip_keeps_types_of_classes() -> None:
    schema = Schema((Column("a", "number"), Column("b", "category")), "t", (0, 1), "when")
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema
    assert [type(c) for c in again.classes] == [int, int]
    assert (schema.numbers, schema.categories) == (("a",), ("b",))


@pytest.mark.parametrize(
    ("columns", "classes", "message"),
    [
        ((), (0, 1), "at least one input"),
        (("a", "a"), (0, 1), r"\['a'\] twice"),
        (("t",), (0, 1), "must not hold the target"),
        (("a",), (0,), "two or more different classes"),
        (("a",), (0, False), "two or more different classes"),
    ],
)
def test_schemas_that_cannot_be(columns: tuple[str, ...], classes: tuple, message: str) -> None:
    with pytest.raises(DataFault, match=message):
        Schema(tuple(Column(name, "number") for name in columns), "t", classes)


def test_a_column_of_another_kind_is_refused() -> None:
    with pytest.raises(DataFault, match="got 'picture' for 'a'"):
        Schema((Column("a", "picture"),), "t", (0, 1))  # type: ignore[arg-type]


def test_labels_match_across_csv_and_json() -> None:
    assert class_key(True) == class_key("True") == class_key(1.0) == class_key(np.int64(1))
    assert class_key("yes") != class_key("no")
    assert class_key(0) != class_key(1)


def test_kinds_are_inferred() -> None:
    frame = table(
        carrier=np.tile(["UA", "B6", None, "AA"], 50),
        flag=np.tile([True, False], 100),
        gappy=np.tile([True, None], 100),
        count=pd.array([1, None, 3, 4] * 50, dtype="Int64"),
    )
    schema, notes = infer(frame, "late")
    kinds = {column.name: column.kind for column in schema.columns}
    assert kinds == {
        "x": "number",
        "carrier": "category",
        "flag": "number",
        "gappy": "number",
        "count": "number",
    }
    assert schema.classes == (0, 1)
    assert notes == []


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (["same"] * 200, "same in every row"),
        ([None] * 200, "same in every row"),
        (range(200), "numbers the rows"),
        ([f"user-{i}" for i in range(200)], "identify them"),
        (pd.date_range("2013-01-01", periods=200), "holds dates"),
        ([f"2013-01-{1 + i % 28:02d}" for i in range(200)], "holds dates"),
    ],
)
def test_columns_that_cannot_be_learnt_from_are_left_out_with_a_note(
    values: object, why: str
) -> None:
    schema, notes = infer(table(odd=values), "late")
    assert [column.name for column in schema.columns] == ["x"]
    assert len(notes) == 1
    assert notes[0].startswith("odd: left out")
    assert why in notes[0]


_WORDS = ["the", "of", "to", "win", "free", "money", "call", "now", "report", "see", "you", "soon"]


def _sentences(words: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(_WORDS, words)) for _ in range(200)]


def _names() -> list[str]:
    letters = np.random.default_rng(0).choice(list("abcdefghij"), (200, 3, 7))
    return [" ".join(map("".join, name)) for name in letters]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (_sentences(12), "text"),
        ([*_sentences(12)[:150], *[None] * 50], "text"),
        (_sentences(4), "text"),  # subject lines: few words, but the same ones again
        ([f"{i % 3} is a name that goes on for some words" for i in range(200)], "category"),
        (_names(), None),
        (_sentences(1), "category"),
    ],
)
def test_free_text_is_told_from_names(values: object, kind: str | None) -> None:
    schema, notes = infer(table(odd=values), "late")
    assert {c.name: c.kind for c in schema.columns}.get("odd") == kind
    if isinstance(values, list) and values == _sentences(4):
        assert notes == ["odd: taken as text of 4 words; if it names things, a category"]


def test_a_copy_of_the_target_is_left_out() -> None:
    frame = table()
    frame["leak"] = np.where(frame["late"] == 1, "yes", "no")
    schema, notes = infer(frame, "late")
    assert schema.numbers == ("x",)
    assert "copies the target" in notes[0]


def test_an_identifier_called_so_is_left_out_in_any_order() -> None:
    ids = np.random.default_rng(1).permutation(200)
    schema, _ = infer(table(customer_id=ids), "late")
    assert schema.numbers == ("x",)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["no", "yes"] * 100, ("no", "yes")),
        ([True, False] * 100, (False, True)),
        ([1.0, 0.0] * 100, (0, 1)),
        ([3, 1, 2, 1] * 50, (1, 2, 3)),
        (["b", None, "a", "c"] * 50, ("a", "b", "c")),
    ],
)
def test_classes_are_sorted_so_that_the_positive_one_comes_last(
    labels: list, classes: tuple
) -> None:
    schema, _ = infer(table(late=labels), "late")
    assert schema.classes == classes
    assert [type(c) for c in schema.classes] == [type(c) for c in classes]


def test_a_quantity_is_no_target_and_the_remedy_says_how_to_cut_it() -> None:
    frame = table(delay=np.random.default_rng(2).normal(size=200))
    with pytest.raises(DataFault, match=r"'delay' must hold classes.*cut it .*delay > "):
        infer(frame, "delay")
    with pytest.raises(DataFault, match="must hold classes"):
        infer(table(delay=np.arange(200) % 50), "delay")
    with pytest.raises(DataFault, match="may hold 100 classes"):
        infer(table(delay=[f"c{i}" for i in range(200)]), "delay")


@pytest.mark.parametrize(
    ("target", "time", "message"),
    [
        ("lat", None, "no column 'lat': did you mean 'late'"),
        ("late", "when", "no column 'when'"),
    ],
)
def test_a_misspelt_column_is_named(target: str, time: str | None, message: str) -> None:
    with pytest.raises(DataFault, match=message):
        infer(table(), target, time)


def test_one_class_and_no_inputs_are_refused() -> None:
    with pytest.raises(DataFault, match="two or more classes"):
        infer(table(late=[1] * 200), "late")
    with pytest.raises(DataFault, match="same in every row"):
        infer(pd.DataFrame({"c": ["x"] * 40, "late": [0, 1] * 20}), "late")


def test_missing_and_rare_labels_are_noted() -> None:
    labels = ["a"] * 100 + ["b"] * 95 + ["c"] * 2 + [None] * 3
    _, notes = infer(table(late=labels), "late")
    assert notes == ["late: 3 rows without a label are not learnt", "late: fewer than 10 rows of c"]
