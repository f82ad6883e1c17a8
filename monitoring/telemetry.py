"""The telemetry store: what was predicted, what turned out to be true, what was decided.

One store holds one model. Writers (`record`, `label`) need no pandas, so the server stays light;
the functions that return frames import it when they are called.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import URL, Connection, Engine, delete, exists, func, select
from sqlalchemy.exc import DataError, IntegrityError

from monitoring import recordings, request_counts
from monitoring.errors import RecordFault, StateMoved, StoreFault, WindowFault
from monitoring.queries import between, by_id, joined, selected
from monitoring.recording import Recording
from monitoring.recordings import Kept
from monitoring.records import (
    Decision,
    Label,
    LabelResult,
    Prediction,
    RequestCount,
    Value,
    Window,
    to_dict,
)
from monitoring.storage import Database, from_json, from_micros, micros, to_json
from monitoring.tables import decisions, label_conflicts, labels, policy_states, predictions

if TYPE_CHECKING:
    import pandas as pd

_LONGEST_ID = 200
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: no database takes it as text


class Recorded(NamedTuple):
    """How many predictions were new, and how many the store had already."""

    new: int
    repeated: int


class TelemetryStore:
    """Predictions, labels, decisions and policy states of one model, on SQLite or PostgreSQL.

    Every method is one transaction: a batch is stored whole or not at all, and what was answered
    survives `kill -9`. Methods may be called from several threads. `as_of` hides labels that
    arrived later, so that a replay knows no more than was known then. Raises StoreFault with the
    remedy, and its subclass RecordFault when a record is to blame rather than the store.
    """

    def __init__(self, url: str | URL | Engine) -> None:
        self.database = Database(url)

    def __enter__(self) -> TelemetryStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the store itself stays."""
        self.database.close()

    # -- writing ------------------------------------------------------------------------------

    def record(self, batch: Iterable[Prediction]) -> Recorded:
        """Store predictions. An id that is there already is left as it is, and counted."""
        rows = [
            {
                "id": checked_id(p.id),
                "time": micros(p.time, f"the time of prediction {p.id!r}"),
                "version": str(p.version),
                "features": to_json(p.features, f"the features of prediction {p.id!r}"),
                "probabilities": to_json(p.probabilities, f"the output of prediction {p.id!r}"),
                "latency_ms": float(p.latency_ms),
            }
            for p in batch
        ]
        if not rows:
            return Recorded(0, 0)
        rows.sort(key=lambda row: str(row["id"]))  # as in `insert_json`: nobody waits in a circle
        with self.database.append() as connection:
            result = connection.execute(
                self.database.insert(predictions),
                rows,
                execution_options={"preserve_rowcount": True},
            )
            new = result.rowcount
        return Recorded(new, len(rows) - new)

    def record_encoded(self, batch: bytes, rows: int) -> Recorded:
        """Store `rows` predictions that `monitoring.recording.encoded` wrote, in one statement.

        As `record` at a fraction of its cost: the values are taken as they are. Raises RecordFault
        when they are not what the table holds.
        """
        statement = self.database.insert_json(predictions)
        try:
            with self.database.append() as connection:
                new = connection.execute(statement, {"rows": batch.decode()}).rowcount
        except StoreFault as fault:
            if isinstance(fault.__cause__, IntegrityError | DataError) or "JSON" in str(fault):
                raise RecordFault(str(fault)) from fault
            raise
        return Recorded(new, rows - new)

    def label(self, batch: Iterable[Label], source: str = "api") -> list[LabelResult]:
        """Store labels and answer each, in order; an id twice in a batch is as if sent twice.

        They are on the disk when this returns, whatever happens to the process or to the machine.

        The first value stays. The same value again is DUPLICATE; another one is CONTRADICTED and
        kept aside (`conflicts`). A first label whose prediction is not there is UNKNOWN: it is
        kept too, and joins when the prediction comes. Values are compared by `same_value`.
        """
        batch = list(batch)
        arrived = [micros(x.arrived, f"the arrival of label {x.id!r}") for x in batch]
        values = [_label_json(x) for x in batch]
        ids = [checked_id(x.id) for x in batch]
        fresh: dict[str, dict[str, Any]] = {}
        apart: list[dict[str, Any]] = []
        results: list[LabelResult] = []
        with self.database.write(lasting=True) as connection:
            kept = dict(by_id(connection, select(labels.c.id, labels.c.value), labels.c.id, ids))
            known = {
                key
                for (key,) in by_id(
                    connection, select(predictions.c.id), predictions.c.id, set(ids) - kept.keys()
                )
            }
            for key, item, value, at in zip(ids, batch, values, arrived, strict=True):
                row = {"id": key, "value": value, "arrived": at, "source": source}
                if key not in kept:
                    kept[key] = value
                    fresh[key] = row
                    results.append(LabelResult.ACCEPTED if key in known else LabelResult.UNKNOWN)
                elif kept[key] == value or same_value(from_json(kept[key]), item.value):
                    results.append(LabelResult.DUPLICATE)
                else:
                    apart.append(row)
                    results.append(LabelResult.CONTRADICTED)
            if fresh:
                connection.execute(self.database.insert(labels), list(fresh.values()))
            if apart:
                connection.execute(self.database.insert(label_conflicts), apart)
        return results

    # -- windows ------------------------------------------------------------------------------

    def window(
        self,
        model: str,
        version: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | None = None,
    ) -> Window:
        """The window `start` <= time < `end` of one version, or of all (`version` None: 'all').

        Its id is the same for the same bounds, to the second: the idempotency key of a retrain.
        """
        if micros(start, "a window's start") >= micros(end, "a window's end"):
            raise WindowFault(f"a window ends after it starts, got {start}..{end}: swap them")
        rows, labelled = self._count(start, end, version, as_of)
        name = version or "all"
        first, last = (f"{t.astimezone(UTC):%Y%m%dT%H%M%SZ}" for t in (start, end))
        kept = self.recordings(start, end)
        return Window(
            f"{model}-v{name}-{first}-{last}",
            model,
            name,
            start,
            end,
            rows,
            labelled,
            share=min((one.share for one in kept), default=1.0),
            not_stored=recordings.not_stored(kept),
        )

    def coverage(
        self,
        start: datetime | None,
        end: datetime | None,
        *,
        version: str | None = None,
        as_of: datetime | None = None,
    ) -> float:
        """Share of the window's rows whose label has come, in [0, 1]; 0 without rows."""
        rows, labelled = self._count(start, end, version, as_of)
        return labelled / rows if rows else 0.0

    def _count(
        self,
        start: datetime | None,
        end: datetime | None,
        version: str | None,
        as_of: datetime | None,
    ) -> tuple[int, int]:
        counted = select(func.count(), func.count(labels.c.id)).select_from(joined(as_of))
        statement = between(counted, start, end, version)
        with self.database.read() as connection:
            rows, labelled = connection.execute(statement).one()
        return int(rows), int(labelled)

    def rows(
        self,
        start: datetime | None,
        end: datetime | None,
        version: str | None = None,
        labelled_only: bool = False,
        limit: int | None = None,
        *,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        """The rows `start` <= time < `end` in order of time; `limit` keeps the newest.

        Columns: id, time (datetime64[ns, UTC]), version, the features, proba (list of floats),
        latency_ms, label (None when missing), label_arrived (NaT when missing). None for a bound
        leaves it open. Without rows the frame is empty and has the columns of the newest row.
        """
        statement = between(selected(as_of), start, end, version)
        return self._frame(statement, labelled_only, limit)

    def labelled(
        self,
        after: datetime | None,
        before: datetime | None,
        as_of: datetime | None,
        limit_newest: int | None = None,
        *,
        version: str | None = None,
    ) -> pd.DataFrame:
        """Labelled rows with `after` < time < `before`, known by `as_of`; columns as in `rows`.

        Both bounds are strict: rows after a champion's last training row are rows it never saw.
        """
        statement = between(selected(as_of), None, before, version, after)
        return self._frame(statement, True, limit_newest)

    def labelled_as_of(self, end: datetime, now: datetime) -> pd.DataFrame:
        """Labelled rows before `end` whose label had arrived by `now`."""
        return self.labelled(None, end, now)

    def new_labels(self, after: datetime | None, as_of: datetime | None = None) -> int:
        """How many rows `labelled(after, None, as_of)` has, without reading them."""
        inner = labels.c.id == predictions.c.id
        statement = select(func.count()).select_from(predictions.join(labels, inner))
        if after is not None:
            statement = statement.where(predictions.c.time > micros(after, "`after`"))
        if as_of is not None:
            statement = statement.where(labels.c.arrived <= micros(as_of, "`as_of`"))
        with self.database.read() as connection:
            return int(connection.scalar(statement) or 0)

    def last_label_arrival(self, *, as_of: datetime | None = None) -> datetime | None:
        """When the newest label arrived, joined to a prediction or not; None before the first."""
        statement = select(func.max(labels.c.arrived))
        if as_of is not None:
            statement = statement.where(labels.c.arrived <= micros(as_of, "`as_of`"))
        with self.database.read() as connection:
            found = connection.scalar(statement)
        return None if found is None else from_micros(found)

    def _frame(self, statement: Any, labelled_only: bool, limit: int | None) -> pd.DataFrame:
        from monitoring.frames import build

        newest = predictions.c.time.desc(), predictions.c.id.desc()
        oldest = predictions.c.time, predictions.c.id
        if labelled_only:
            statement = statement.where(labels.c.id.is_not(None))
        if limit is not None and limit < 0:
            raise WindowFault(f"a limit counts rows and is at least 0, got {limit}: correct it")
        with self.database.read() as connection:
            if limit is None:
                rows: Sequence[Any] = connection.execute(statement.order_by(*oldest)).all()
            else:
                rows = connection.execute(statement.order_by(*newest).limit(limit)).all()[::-1]
            if rows:
                return build(rows)
            last = connection.execute(selected(None).order_by(*newest).limit(1)).all()
        return build(last).iloc[:0]

    def recordings(
        self, start: datetime | None = None, end: datetime | None = None
    ) -> tuple[Kept, ...]:
        """What of an answered row was stored between `start` and `end`, oldest first."""
        return recordings.between(self.database, start, end)

    def save_recording(self, recording: Recording, since: datetime) -> bool:
        """Note that `recording` holds from `since` on. False when it held already."""
        return recordings.save(self.database, recording, since)

    # -- what the server was asked ------------------------------------------------------------

    def record_counts(self, batch: Iterable[RequestCount]) -> None:
        """Add counts to what each minute, route and version has already."""
        request_counts.add(self.database, batch)

    def counts_between(
        self, start: datetime, end: datetime, *, every: timedelta = timedelta(minutes=1)
    ) -> tuple[RequestCount, ...]:
        """Counts of the minutes that begin in `start` <= minute < `end`, oldest first.

        `every` adds up spans of so many minutes, by UTC; `minute` is then the span's beginning.
        """
        return request_counts.between(self.database, start, end, every)

    # -- decisions and policy state -----------------------------------------------------------

    def save_decision(
        self,
        decision: Decision,
        state: Mapping[str, Any] | None = None,
        *,
        before: Mapping[str, Any] | None = None,
    ) -> bool:
        """Store a decision; False, and nothing changed, if its window has one already.

        With the policy's `state` after it, both are stored or neither, and only if what is stored
        is still the state `before` it was made: else StateMoved, to decide again on that of now.
        """
        row = {
            "window_id": decision.window_id,
            "model": decision.signals.window.model,
            "time": micros(decision.time, "the time of a decision"),
            "action": decision.action.value,
            "body": to_json(to_dict(decision), f"decision {decision.window_id}"),
        }
        with self.database.write() as connection:
            taken = select(exists().where(decisions.c.window_id == decision.window_id))
            if connection.scalar(taken):
                return False
            connection.execute(decisions.insert(), row)
            if state is not None:
                model = decision.signals.window.model
                if _state(connection, model) != before:
                    raise StateMoved(
                        f"a decision is made on the newest policy state; that of {model} was "
                        "changed meanwhile, as by a retrain that ended: decide again"
                    )
                _save_state(connection, model, state)
        return True

    def decisions(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Decisions, newest first, as `monitoring.records.to_dict` writes them."""
        newest = select(decisions.c.body).order_by(
            decisions.c.time.desc(), decisions.c.window_id.desc()
        )
        with self.database.read() as connection:
            return [from_json(body) for body in connection.scalars(newest.limit(limit))]

    def decision(self, window_id: str) -> dict[str, Any] | None:
        """The decision about one window, or None."""
        statement = select(decisions.c.body).where(decisions.c.window_id == window_id)
        with self.database.read() as connection:
            body = connection.scalar(statement)
        return None if body is None else dict(from_json(body))

    def state(self, model: str) -> dict[str, Any] | None:
        """What `save_state` stored last; None before."""
        with self.database.read() as connection:
            return _state(connection, model)

    def save_state(self, model: str, state: Mapping[str, Any]) -> None:
        """Replace the policy's state."""
        with self.database.write() as connection:
            _save_state(connection, model, state)

    def change_state(
        self, model: str, change: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> None:
        """Replace the policy's state by what `change` makes of it; nobody writes in between."""
        with self.database.write() as connection:
            _save_state(connection, model, change(_state(connection, model) or {}))

    # -- what people ask about it -------------------------------------------------------------

    def conflicts(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Labels that contradicted an earlier one, newest first.

        Keys: id, kept (the value that stays), value, arrived, source.
        """
        statement = (
            select(
                label_conflicts.c.id,
                labels.c.value.label("kept"),
                label_conflicts.c.value,
                label_conflicts.c.arrived,
                label_conflicts.c.source,
            )
            .join_from(label_conflicts, labels, labels.c.id == label_conflicts.c.id)
            .order_by(label_conflicts.c.arrived.desc(), label_conflicts.c.id)
            .limit(limit)
        )
        with self.database.read() as connection:
            rows = connection.execute(statement).all()
        return [
            {
                "id": row.id,
                "kept": from_json(row.kept),
                "value": from_json(row.value),
                "arrived": from_micros(row.arrived),
                "source": row.source,
            }
            for row in rows
        ]

    def counts(self) -> dict[str, int]:
        """Rows of the store: predictions, labels, labelled, unknown, conflicts, decisions.

        `labelled` are predictions with a label, `unknown` labels without a prediction.
        """
        pairs = select(func.count()).select_from(
            predictions.join(labels, labels.c.id == predictions.c.id)
        )
        with self.database.read() as connection:
            count = {
                table.name: int(connection.scalar(select(func.count()).select_from(table)) or 0)
                for table in (predictions, labels, label_conflicts, decisions)
            }
            labelled = int(connection.scalar(pairs) or 0)
        return {
            "predictions": count["predictions"],
            "labels": count["labels"],
            "labelled": labelled,
            "unknown": count["labels"] - labelled,
            "conflicts": count["label_conflicts"],
            "decisions": count["decisions"],
        }


def _state(connection: Connection, model: str) -> dict[str, Any] | None:
    body = connection.scalar(select(policy_states.c.body).where(policy_states.c.model == model))
    return None if body is None else dict(from_json(body))


def _save_state(connection: Connection, model: str, state: Mapping[str, Any]) -> None:
    body = to_json(state, f"the policy state of {model}")
    connection.execute(delete(policy_states).where(policy_states.c.model == model))
    connection.execute(policy_states.insert(), {"model": model, "body": body})


def same_value(a: Value, b: Value) -> bool:
    """Numbers are equal by value whatever their type, text by its characters, never one the other.

    >>> same_value(1, 1.0), same_value(True, 1), same_value("1", 1), same_value("a", "A")
    (True, True, False, False)
    """
    return isinstance(a, str) == isinstance(b, str) and a == b


def checked_id(value: object) -> str:
    """`value` as the id of a row: text of 1 to 200 characters. Raises RecordFault."""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _LONGEST_ID
        or "\0" in value
        or not (value.isascii() or _SURROGATE.search(value) is None)
    ):
        raise RecordFault(
            f"an id is text of 1 to {_LONGEST_ID} characters without NUL or lone surrogates, got "
            f"{value!r:.80}: send one, or leave it out and take the server's"
        )
    return value


def _label_json(label: Label) -> str:
    value = label.value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise RecordFault(
            f"a label needs a value, got {value!r} for {label.id!r}: send it when it is known"
        )
    return to_json(value, f"label {label.id!r}")
