"""rollout: promote -> does the server answer with it? -> keep | roll back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from prefect import flow

from models.records import Release, Verdict
from monitoring.records import Decision
from tasks import claims, release
from tasks.config import Config
from tasks.lineage import Lineage
from tasks.records import utc
from tasks.rows import now_utc


@flow(name="rollout", flow_run_name="rollout-v{challenger.version}", validate_parameters=False)
async def rollout(
    config: Config, challenger: Release, made: Lineage, why: str, now: datetime
) -> Verdict:
    """Make `challenger` the champion, and undo it if the running server cannot answer with it.

    If another version has become champion since the gate compared, nothing changes: the challenger
    was not proven against that one. Without a running server the next start serves it.
    """
    if challenger.tags.get("rolled_back_at"):  # a run that died after the roll-back is resumed
        return replace(made.verdict, passed=False, reason="it was rolled back before")
    if moved := release.overtaken(config, challenger.version, made.opponent):
        return replace(made.verdict, passed=False, reason=moved)
    release.promote(config, challenger.version, made.opponent, challenger.window_id, why, now)
    state = release.await_server(config, challenger.version)
    if state.running and state.version != challenger.version:
        reason = f"the server did not take version {challenger.version}: {state.reason or 'late'}"
        if made.opponent is not None:
            release.roll_back(config, challenger.window_id, reason, claims.here(), now)
        return replace(made.verdict, passed=False, reason=reason)
    return made.verdict


@flow(name="rollback", flow_run_name="rollback-{config.name}", validate_parameters=False)
async def rollback(
    config: Config,
    why: str,
    who: str | None = None,
    now: datetime | None = None,
    decision: Decision | None = None,
) -> Release:
    """Return to the previous champion, and wait until the running server answers with it.

    With a `decision`, only the version that it is about is taken back, and only once.
    """
    now = utc(now or now_utc())
    decision_id = decision.window_id if decision else f"rollback-{now:%Y%m%dT%H%M%SZ}"
    expected = decision.signals.window.version if decision else None
    again = release.undone_by(config, decision_id) is not None
    previous = release.roll_back(config, decision_id, why, who or claims.here(), now, expected)
    if not again:
        release.remember(config, now)
    state = release.await_server(config, previous.version)
    release.confirm(state, previous)
    return previous
