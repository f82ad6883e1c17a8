"""What a table's columns are: the inputs, the target, its classes and the time."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from models.errors import DataFault
from models.records import Scalar

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "category", "text"]
KINDS: tuple[Kind, ...] = ("number", "category", "text")

MAXIMUM_CLASSES = 100  # more distinct labels than this are no classes
MAXIMUM_CATEGORIES = 1_000  # more distinct texts than this are no categories
NUMERIC_CLASSES = 20  # a numeric target with more distinct values is a quantity
_WORDS = 6  # in the mean: longer values are text, shorter ones where their words come again
_SHORT = 3  # words, of a subject line or a title
_NAMED = (20, 0.05)  # different values, and share of the rows: fewer are names of things


@dataclass(frozen=True, slots=True)
class Column:
    """One input column."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Schema:
    """The inputs in their order, the target, its classes (the positive one last) and the time.

    >>> schema = Schema((Column("x", "number"),), target="late", classes=(False, True))
    >>> Schema.from_json(schema.to_json()) == schema
    True
    """

    columns: tuple[Column, ...]
    target: str
    classes: tuple[Scalar, ...]
    time: str | None = None

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not names:
            raise DataFault("a schema needs at least one input column, got none: name one")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataFault(f"column names must differ, got {repeated} twice: rename one of each")
        for reserved in (self.target, self.time):
            if reserved in names:
                raise DataFault(
                    f"the inputs must not hold the target or the time, got {reserved!r}: "
                    "remove it from the inputs"
                )
        for column in self.columns:
            if column.kind not in KINDS:
                raise DataFault(
                    f"a column is a number, a category or text, got {column.kind!r} for "
                    f"{column.name!r}: use one of the three"
                )
        if len(set(map(class_key, self.classes))) != len(self.classes) or len(self.classes) < 2:
            raise DataFault(
                f"a target needs two or more different classes, got {list(self.classes)}: "
                "name every label once"
            )

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the number columns, in order."""
        return tuple(c.name for c in self.columns if c.kind == "number")

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the category columns, in order."""
        return tuple(c.name for c in self.columns if c.kind == "category")

    @property
    def texts(self) -> tuple[str, ...]:
        """Names of the text columns, in order: sentences, mails, reviews."""
        return tuple(c.name for c in self.columns if c.kind == "text")

    def to_json(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "target": self.target,
            "classes": list(self.classes),
            "time": self.time,
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Schema:
        """The inverse of `to_json`."""
        return cls(
            columns=tuple(Column(**column) for column in state["columns"]),
            target=state["target"],
            classes=tuple(state["classes"]),
            time=state["time"],
        )


def class_key(value: Any) -> tuple[str, float | str]:
    """What makes two labels the same: 1, 1.0, True and '1' are one class, as CSV and JSON mix them.

    >>> class_key(1) == class_key(True) == class_key("1") == class_key("true")
    True
    >>> class_key("late") == class_key("Late")
    False
    """
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ("true", "false"):
            return ("number", float(text.lower() == "true"))
        try:
            return ("number", float(text))
        except ValueError:
            return ("text", text)
    try:
        return ("number", float(value))
    except (TypeError, ValueError):
        return ("text", str(value))


def closest(name: str, names: Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest one there is, or all of them."""
    names = [str(other) for other in names]
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names[:20])}"


def infer(frame: pd.DataFrame, target: str, time: str | None = None) -> tuple[Schema, list[str]]:
    """Guess the schema of a table, with a note for each column left out and each doubt.

    Left out: identifiers, constants, dates, and copies of the target. Raises DataFault
    for a missing column, a target that is a quantity, or a table without a usable input.
    """
    names = [str(name) for name in frame.columns]
    for name in (target, time):
        if name is not None and name not in names:
            raise DataFault(f"the table has no column {name!r}: {closest(name, names)}")
    if len(set(names)) != len(names):
        raise DataFault(f"column names must differ, got {names}: rename those that repeat")
    notes: list[str] = []
    classes = _classes(frame[target], notes)
    columns = []
    for name in names:
        if name in (target, time):
            continue
        kind, note = _column(frame[name], frame[target])
        if note:
            notes.append(f"{name}: {note}")
        if kind is not None:
            columns.append(Column(name, kind))
    if not columns:
        raise DataFault(
            f"no column of {names} can be learnt from: " + "; ".join(notes) + ": add inputs"
        )
    return Schema(tuple(columns), target, classes, time), notes


def _classes(labels: pd.Series, notes: list[str]) -> tuple[Scalar, ...]:
    import pandas as pd

    name = str(labels.name)
    known = labels.dropna()
    if len(known) < len(labels):
        notes.append(f"{name}: {len(labels) - len(known):,} rows without a label are not learnt")
    counts = known.value_counts()
    if len(counts) < 2:
        raise DataFault(
            f"the target {name!r} needs two or more classes, got {list(counts.index)}: "
            "name another column, or add rows of the other class"
        )
    if pd.api.types.is_datetime64_any_dtype(labels):
        raise DataFault(f"the target {name!r} holds dates: name a column of classes")
    numeric = pd.api.types.is_numeric_dtype(labels) and not pd.api.types.is_bool_dtype(labels)
    whole = not numeric or bool((known.astype("float64") % 1 == 0).all())
    if numeric and (len(counts) > NUMERIC_CLASSES or (not whole and len(counts) > 2)):
        raise DataFault(
            f"the target {name!r} must hold classes, got {len(counts):,} different numbers, "
            f"which is a quantity: cut it into classes first, for instance {name} > "
            f"{float(known.median()):g}"
        )
    if len(counts) > MAXIMUM_CLASSES:
        raise DataFault(
            f"the target {name!r} may hold {MAXIMUM_CLASSES} classes, got {len(counts):,}: "
            "group the rare ones, or name another column"
        )
    if rare := [str(label) for label, count in counts.items() if count < 10]:
        notes.append(f"{name}: fewer than 10 rows of {', '.join(rare[:10])}")
    values = [v.item() if hasattr(v, "item") else v for v in counts.index]
    if numeric and whole:
        values = [int(v) for v in values]
    return tuple(sorted(values, key=lambda v: (isinstance(v, str), v)))


def _column(values: pd.Series, target: pd.Series) -> tuple[Kind | None, str]:
    """(kind, '') of a usable column, (None, why) of one left out."""
    import pandas as pd

    known = values.dropna()
    distinct = int(known.nunique())
    kind: Kind | None = None
    note = ""
    if distinct == 0 or (distinct == 1 and len(known) == len(values)):
        note = "left out, it is the same in every row"
    elif _copies(values, target):
        note = f"left out, it copies the target {target.name!r}"
    elif pd.api.types.is_datetime64_any_dtype(values):
        note = "left out, it holds dates; name it as the time if rows happen then"
    elif pd.api.types.is_bool_dtype(values) or bool(known.map(lambda v: isinstance(v, bool)).all()):
        kind = "number"
    elif not pd.api.types.is_numeric_dtype(values):
        kind, note = _text_column(known.astype(str), distinct)
    elif _counts_rows(str(values.name), known, distinct):
        note = "left out, it numbers the rows"
    else:
        kind = "number"
    return kind, note


def _text_column(known: pd.Series, distinct: int) -> tuple[Kind | None, str]:
    import pandas as pd

    sample = known.iloc[:: max(1, len(known) // 1_000)]
    dated = pd.to_datetime(sample, errors="coerce", utc=True, format="ISO8601").notna()
    if bool(dated.all()) and not bool(sample.str.fullmatch(r"\d+").any()):
        return None, "left out, it holds dates; name it as the time if rows happen then"
    words = float(sample.str.count(r"\S+").mean())
    if distinct > max(_NAMED[0], _NAMED[1] * len(known)) and words >= _SHORT:
        if words >= _WORDS:
            return "text", ""
        if _words_come_again(sample):
            return "text", f"taken as text of {words:.0f} words; if it names things, a category"
    if distinct > MAXIMUM_CATEGORIES or (len(known) >= 30 and distinct > 0.5 * len(known)):
        return None, f"left out, {distinct:,} different values in {len(known):,} rows identify them"
    return "category", ""


def _words_come_again(sample: pd.Series) -> bool:
    """Whether at least half of the words are those of another row, too: a language's, not names."""
    rows = sample.str.lower().str.findall(r"[^\W\d_]{2,}").map(set)
    found = rows.explode().dropna()
    return len(found) > 0 and bool(found.duplicated(keep=False).mean() >= 0.5)


def _counts_rows(name: str, known: pd.Series, distinct: int) -> bool:
    """Whether numbers merely name rows: all different, whole, and in order or called an id."""
    if len(known) < 30 or distinct < len(known) or bool((known.astype("float64") % 1 != 0).any()):
        return False
    called = name.lower() in ("id", "index", "row", "key") or name.lower().endswith(("_id", " id"))
    return called or bool(known.is_monotonic_increasing) or bool(known.is_monotonic_decreasing)


def _copies(values: pd.Series, target: pd.Series) -> bool:
    """Whether each value of a column stands for one label and each label for one value."""
    both = values.notna() & target.notna()
    if int(both.sum()) < 30 or int(values[both].nunique()) != int(target[both].nunique()):
        return False
    return len(set(zip(values[both], target[both], strict=True))) == int(target[both].nunique())
