"""The tables of the telemetry store, one store per model; portable between SQLite and PostgreSQL.

Times are whole microseconds since 1970 in UTC, so that they compare and index as integers.
Features, probabilities, label values and records are JSON text: exact types survive (1, 1.0, true
and "1" stay four different texts) and a new feature needs no migration.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

# What older code must not touch has another version; what it may overlook, a new table or index,
# has not. Either way a change here comes with a file in monitoring/migrations/versions, which
# brings stores that are there already up to date when they are opened.
VERSION = 1

metadata = MetaData()

layout = Table(
    "everfit_layout",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

predictions = Table(
    "predictions",
    metadata,
    Column("id", String, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("version", String, nullable=False),
    Column("features", Text, nullable=False),
    Column("probabilities", Text, nullable=False),
    Column("latency_ms", Double, nullable=False),
    Index("ix_predictions_time", "time", "id"),  # windows, and one order for equal times
)

# No foreign key: a label may come before its prediction.
labels = Table(
    "labels",
    metadata,
    Column("id", String, primary_key=True),
    Column("value", Text, nullable=False),
    Column("arrived", BigInteger, nullable=False),
    Column("source", String, nullable=False),
    Index("ix_labels_arrived", "arrived"),
    sqlite_with_rowid=False,  # short rows, always looked up by id: one tree instead of two
)

# What contradicted a label. The same contradiction sent again is the same row.
label_conflicts = Table(
    "label_conflicts",
    metadata,
    Column("id", String, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("arrived", BigInteger, nullable=False),
    Column("source", String, nullable=False),
)

# What the server was asked, by minute: several workers and restarts add to one row.
request_counts = Table(
    "request_counts",
    metadata,
    Column("minute", BigInteger, primary_key=True),
    Column("route", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("client_errors", BigInteger, nullable=False),
    Column("server_errors", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# What of an answered row is stored, from when on: a share, without some columns, hashed ids.
recordings = Table(
    "recordings",
    metadata,
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("window_id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("action", String, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_decisions_time", "time"),
)

policy_states = Table(
    "policy_states",
    metadata,
    Column("model", String, primary_key=True),
    Column("body", Text, nullable=False),
)

claims = Table(
    "claims",
    metadata,
    Column("window_id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("state", String, nullable=False),  # running, done or failed
    Column("owner", String, nullable=False),
    Column("started", BigInteger, nullable=False),  # of the present attempt
    Column("updated", BigInteger, nullable=False),
    Column("stage", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("result", Text),
    Column("error", Text, nullable=False),
    # The database itself refuses a second running retrain of one model.
    Index(
        "ux_claims_one_running",
        "model",
        unique=True,
        sqlite_where=text("state = 'running'"),
        postgresql_where=text("state = 'running'"),
    ),
)

# When the owner of a running claim was last heard of, by the database's own clock: what it is
# compared with is that clock too, so the clocks of two machines need not agree.
claim_beats = Table(
    "claim_beats",
    metadata,
    Column("window_id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("at", BigInteger, nullable=False),
)

# What the version beside the one that answered says of the same row, in a roll-out.
shadow_answers = Table(
    "shadow_answers",
    metadata,
    Column("id", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("time", BigInteger, nullable=False),  # of the row, as in `predictions`
    Column("probabilities", Text, nullable=False),
    Index("ix_shadow_answers_time", "time"),
)

# Every step of every roll-out: what the guards said, and what followed.
rollout_steps = Table(
    "rollout_steps",
    metadata,
    Column("model", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("move", String, nullable=False),
    Column("body", Text, nullable=False),
)

# What people were told of besides decisions: conditions that last, and moves past everfit.
notices = Table(
    "notices",
    metadata,
    Column("model", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("began", BigInteger, primary_key=True, autoincrement=False),
    Column("ended", BigInteger),  # null while it lasts
    Column("body", Text, nullable=False),
)
