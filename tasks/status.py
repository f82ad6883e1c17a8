"""The state of one model's loop, from its stores alone: no server needs to run."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks import alias, approval, lineage, places, standing
from tasks.rows import now_utc
from tasks.server import served

if TYPE_CHECKING:
    from models.records import Release
    from tasks.config import Config


def status(config: Config, now: datetime | None = None, decisions: int = 5) -> dict[str, Any]:
    """Champion, challenger, last decisions with reasons, model age, label coverage, server."""
    now = now or now_utc()
    registry = places.registry(config)
    champion, challenger = registry.champion(), registry.challenger()
    with places.telemetry(config) as store:
        window = store.window(
            config.name,
            champion.version if champion else None,
            now - config.monitor.performance_window,
            now,
            as_of=now,
        )
        last = store.decisions(decisions)
        counts = store.counts()
    server = served(config)
    return {
        "name": config.name,
        "now": now.isoformat(),
        "champion": _version(config, champion, now) if champion else None,
        "challenger": _version(config, challenger, now) if challenger else None,
        "rollout": standing.told(config),
        "approval": approval.told(config),
        "moved": [
            {key: notice[key] for key in ("said", "at", "server")}
            for notice in alias.history(config, 3)
        ],
        "decisions": [
            {key: d[key] for key in ("window_id", "time", "action", "rule", "reasons")}
            for d in last
        ],
        "labels": {
            "since": window.start.isoformat(),
            "predictions": window.rows,
            "labelled": window.labelled,
            "recorded_share": window.share,
            "coverage": window.coverage if window.rows else None,
        },
        "store": counts,
        "server": {
            "url": config.server_url,
            "running": server.running,
            "version": server.version,
            "reason": server.reason,
        },
    }


def _version(config: Config, release: Release, now: datetime) -> dict[str, Any]:
    try:
        made = lineage.read(config, release)
    except lineage.NotOurs as fault:
        return {"version": release.version, "fault": str(fault)}
    return {
        "version": release.version,
        "age_days": round((now - made.made).total_seconds() / 86400, 2),
        "made": made.made.isoformat(),
        "rows": made.rows,
        "trained_through": made.trained_through.isoformat() if made.trained_through else None,
        "metrics": dict(made.baseline),
        "params": dict(made.params),
        "window_id": made.window_id,
        "gate": made.verdict.reason,
    }
