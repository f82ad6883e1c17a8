"""Claims: a window retrains once, one retrain at a time, and a dead claimant is taken over.

A claim is a row. Whoever writes it first owns the window; the others are told so. Nothing needs
cleaning up after `kill -9`: the row names its process, and the next claimant sees that it is gone.
A process of another host cannot be looked at: it beats, and counts as dead once it has been silent
for the lease, by the database's clock.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, delete, insert, literal, select, update

from monitoring.errors import StoreFault
from monitoring.storage import Database, from_json, from_micros, micros, to_json
from monitoring.tables import claim_beats, claims

BEAT_SECONDS = 15.0  # between two signs of life of an owner
LEASE = timedelta(seconds=120)  # of silence, after which an owner on another host counts as dead

# What this process holds. A claim in its name that is not here was left behind by a fault that
# could not even be noted, for instance because the disk was full.
_held: set[tuple[str, str]] = set()


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claimant is told.

    - new: the window is yours, nobody has had it before
    - resumed: yours; an earlier attempt failed or died at `stage`
    - done: it was finished earlier, `result` is what came of it
    - busy: `window_id` is being retrained by `owner`, who lives; it may be another window than the
      one asked for, since a model retrains once at a time
    """

    status: Literal["new", "resumed", "done", "busy"]
    window_id: str
    model: str
    stage: str
    owner: str
    started: datetime  # of the present attempt
    updated: datetime
    attempts: int
    result: dict[str, Any] | None = None
    error: str = ""  # of the attempt before, or why it counts as dead

    state: str = ""  # running, done or failed, as it is written
    # Since the owner's last beat, by the database's clock; None for one that never beat.
    silent: timedelta | None = field(default=None, compare=False)

    @property
    def token(self) -> str:
        """What the owner has put behind its process: the id of its flow run."""
        return self.owner.split(":", 3)[3] if self.owner.count(":") > 2 else ""

    @property
    def mine(self) -> bool:
        """True when the claimant is to do the work."""
        return self.status in ("new", "resumed")


class Claims:
    """The claims of a telemetry store; `target` is its URL, or the engine of an open store.

    An owner on another host, whose process cannot be looked at from here, counts as dead once it
    has not beaten for `lease` by the database's clock; one that never beat, after `foreign_lease`
    without `advance` by the caller's clock. Raises StoreFault.
    """

    def __init__(
        self,
        target: str | URL | Engine,
        *,
        foreign_lease: timedelta = timedelta(hours=6),
        lease: timedelta = LEASE,
    ) -> None:
        self.database = Database(target)
        self.foreign_lease = foreign_lease
        self.lease = lease

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that were opened here; a given engine stays open."""
        self.database.close()

    def claim(self, window_id: str, owner: str, now: datetime, *, model: str = "") -> Claim:
        """Ask for a window. Of any number of processes that ask at once, one is answered 'new'.

        `owner` comes from `process_owner()`. The same owner asking again is a retry: 'resumed'.
        """
        at = micros(now, "the time of a claim")
        with self.database.write() as connection:
            row = self._row(connection, window_id)
            if row is not None and row.state == "done":
                return _told("done", row)
            error = row.error if row is not None else ""
            for holder in self._running(connection, row.model if row is not None else model):
                mine = holder.window_id == window_id and holder.owner == owner
                if not mine and self._lives(holder, now):
                    return _told("busy", holder)
                gone = _gone(holder)
                _set(connection, holder, state="failed", error=gone)
                if holder.window_id == window_id:
                    error = gone
            taken = {
                "state": "running",
                "owner": owner,
                "started": at,
                "updated": at,
                "error": error,
            }
            if row is None:
                first = {"window_id": window_id, "model": model, "stage": "", "attempts": 1}
                connection.execute(insert(claims), first | taken)
            else:
                _set(
                    connection,
                    self._row(connection, window_id),
                    **taken,
                    attempts=row.attempts + 1,
                )
            self._beat(connection, window_id, owner)
            told = _told("new" if row is None else "resumed", self._row(connection, window_id))
        _held.add((window_id, owner))
        return told

    def beat(self, window_id: str, owner: str) -> bool:
        """The owner still works at it: every BEAT_SECONDS. False when it owns the window no more.

        >>> BEAT_SECONDS * 4 < LEASE.total_seconds()  # a few may be lost
        True
        """
        mine = (
            claims.c.window_id == window_id,
            claims.c.owner == owner,
            claims.c.state == "running",
        )
        with self.database.write() as connection:
            if connection.scalar(select(literal(1)).select_from(claims).where(*mine)) is None:
                return False
            self._beat(connection, window_id, owner)
        return True

    def _beat(self, connection: Connection, window_id: str, owner: str) -> None:
        connection.execute(delete(claim_beats).where(claim_beats.c.window_id == window_id))
        row = {"window_id": window_id, "owner": owner, "at": self.database.clock()}
        connection.execute(insert(claim_beats).values(row))

    def advance(
        self, window_id: str, stage: str, now: datetime, *, owner: str | None = None
    ) -> None:
        """Note how far the running retrain has come; this also renews a lease.

        With `owner`, a claimant that was taken over in the meantime is told so by a StoreFault,
        here and in `finish` and `fail`.
        """
        self._change(window_id, owner, stage=stage, updated=micros(now, "the time of a stage"))

    def finish(
        self,
        window_id: str,
        result: Mapping[str, Any],
        now: datetime,
        *,
        owner: str | None = None,
    ) -> None:
        """The window is done for good; every later claim of it is answered with `result`.

        Finishing again with the same result changes nothing.
        """
        body = to_json(result, f"the result of {window_id}")
        with self.database.read() as connection:
            row = self._row(connection, window_id)
        if row is not None and row.state == "done" and row.result == body:
            return
        at = micros(now, "the time of a result")
        self._change(
            window_id, owner, state="done", stage="done", result=body, updated=at, error=""
        )
        _held.discard((window_id, owner or ""))

    def fail(self, window_id: str, error: str, now: datetime, *, owner: str | None = None) -> None:
        """The attempt failed; the window may be claimed again."""
        _held.discard((window_id, owner or ""))  # even if the store cannot be told
        at = micros(now, "the time of a failure")
        self._change(window_id, owner, state="failed", error=error, updated=at)

    def running(self, model: str = "", *, now: datetime | None = None) -> Claim | None:
        """The model's running retrain whose owner lives, or None.

        `now` is what the lease of an owner on another host is held against; without it such an
        owner counts as living.
        """
        return next((c for c in self._open(model, now) if c.status == "busy"), None)

    def interrupted(self, model: str = "", *, now: datetime | None = None) -> Claim | None:
        """The model's retrain whose owner died, as a claim would find it; None if there is none."""
        return next((c for c in self._open(model, now) if c.status == "resumed"), None)

    def get(self, window_id: str, *, now: datetime | None = None) -> Claim | None:
        """What a new claimant of this window would be told, without claiming; None if 'new'."""
        with self.database.read() as connection:
            row = self._row(connection, window_id)
        return None if row is None else self._seen(row, now)

    def newest(self, model: str, limit: int = 100, *, now: datetime | None = None) -> list[Claim]:
        """The model's last claims, newest start first, each as a claimant would find it."""
        statement = self._select().where(claims.c.model == model)
        statement = statement.order_by(claims.c.started.desc(), claims.c.window_id.desc())
        with self.database.read() as connection:
            rows = list(connection.execute(statement.limit(limit)).all())
        return [self._seen(row, now) for row in rows]

    def _seen(self, row: Any, now: datetime | None) -> Claim:
        if row.state == "done":
            return _told("done", row)
        busy = row.state == "running" and self._lives(row, now)
        return _told("busy" if busy else "resumed", row)

    def _open(self, model: str, now: datetime | None) -> list[Claim]:
        with self.database.read() as connection:
            rows = self._running(connection, model)
        return [_told("busy" if self._lives(row, now) else "resumed", row) for row in rows]

    def _lives(self, row: Any, now: datetime | None) -> bool:
        alive = owner_alive(row.owner)
        if alive is None and row.beat is not None:
            return bool(row.clock - row.beat <= self.lease / timedelta(microseconds=1))
        if alive is None:
            return now is None or now - from_micros(row.updated) <= self.foreign_lease
        return alive and not _left_behind(row)

    def _select(self) -> Any:
        """Claims, each with the last beat of its owner and the database's clock beside it."""
        beating = (claim_beats.c.window_id == claims.c.window_id) & (
            claim_beats.c.owner == claims.c.owner
        )
        return select(
            claims, claim_beats.c.at.label("beat"), self.database.clock().label("clock")
        ).select_from(claims.outerjoin(claim_beats, beating))

    def _row(self, connection: Connection, window_id: str) -> Any:
        statement = self._select().where(claims.c.window_id == window_id)
        return connection.execute(statement).one_or_none()

    def _running(self, connection: Connection, model: str) -> list[Any]:
        statement = self._select().where(claims.c.model == model, claims.c.state == "running")
        return list(connection.execute(statement).all())

    def _change(self, window_id: str, owner: str | None, **values: Any) -> None:
        statement = update(claims).where(
            claims.c.window_id == window_id, claims.c.state == "running"
        )
        if owner is not None:
            statement = statement.where(claims.c.owner == owner)
        with self.database.write() as connection:
            if connection.execute(statement.values(**values)).rowcount:
                return
            row = self._row(connection, window_id)
        found = "no claim" if row is None else f"a claim that is {row.state}, of {row.owner}"
        raise StoreFault(
            f"only the owner of a running claim may change it; window {window_id} has {found}, "
            f"asked by {owner or 'its claimant'}: claim it first, and stop if another has it"
        )


def process_owner(token: str = "") -> str:
    """This process as an owner: host:pid:start time, and `token` to tell its threads apart.

    >>> owner_alive(process_owner())
    True
    """
    pid = os.getpid()
    parts = [socket.gethostname(), str(pid), process_start(pid) or ""]
    return ":".join([*parts, token] if token else parts)


def owner_alive(owner: str) -> bool | None:
    """Whether the owner's process lives; None when it is of another host and cannot be seen.

    A process that was killed and not yet waited for is dead, and so is an owner whose process id
    now belongs to a process that started at another time.
    """
    try:
        host, pid, start, *_ = owner.split(":", 3)
        number = int(pid)
    except ValueError:
        raise StoreFault(
            f"an owner is host:pid:start, got {owner!r}: use process_owner()"
        ) from None
    if host != socket.gethostname():
        return None
    return process_start(number) == start


def process_start(pid: int, proc: Path = Path("/proc")) -> str | None:
    """When a process started, as text that no other process of that id shares; None if it is dead.

    On Linux the clock ticks of /proc/PID/stat and the boot they count from (proc(5), field 22).
    Elsewhere only whether it lives is known, and the text is empty.
    """
    if not (proc / "self" / "stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return ""
        return ""
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name in parentheses may hold anything
    if fields[0] in ("Z", "X", "x"):
        return None
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        boot = ""  # some containers hide it: the ticks alone must do
    return f"{fields[19]}@{boot}"


def _left_behind(row: Any) -> bool:
    """Whether the owner is this very process, and holds it no more."""
    return row.owner.startswith(process_owner()) and (row.window_id, row.owner) not in _held


def _set(connection: Connection, seen: Any, **values: Any) -> None:
    """Change a row only if it is still as it was seen."""
    same = (
        claims.c.window_id == seen.window_id,
        claims.c.state == seen.state,
        claims.c.owner == seen.owner,
        claims.c.attempts == seen.attempts,
    )
    changed = connection.execute(update(claims).where(*same).values(**values)).rowcount
    if changed != 1:
        raise StoreFault(
            f"the claim of window {seen.window_id} changed hands while it was read: claim again"
        )


def _gone(row: Any) -> str:
    return f"its owner {row.owner} is gone since stage {row.stage or 'start'!r}"


def _told(status: Literal["new", "resumed", "done", "busy"], row: Any) -> Claim:
    return Claim(
        status=status,
        window_id=row.window_id,
        model=row.model,
        stage=row.stage,
        owner=row.owner,
        started=from_micros(row.started),
        updated=from_micros(row.updated),
        attempts=row.attempts,
        result=None if row.result is None else dict(from_json(row.result)),
        error=row.error,
        state=row.state,
        silent=None if row.beat is None else timedelta(microseconds=row.clock - row.beat),
    )
