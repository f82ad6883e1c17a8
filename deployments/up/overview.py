"""What is known of the models while they run: asked again and again, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from deployments.up.plan import Model
from deployments.up.prefect_api import Asked

_EVERY = 2.0  # seconds between two looks at the stores
_PREFECT_EVERY = 5.0  # and at Prefect
_LEARN = 30.0  # and at its deployments


class Observer:
    """`now` holds the last look at each model; `told` hears what has changed.

    A store that cannot be read leaves what was known, with the reason under `fault`.
    """

    def __init__(
        self, models: tuple[Model, ...], api: str, told: Callable[[str, str], None]
    ) -> None:
        from tasks.overview import Overview

        self.now: dict[str, dict[str, Any]] = {m.name: {"name": m.name} for m in models}
        self._overviews = {m.name: Overview(m.config) for m in models}
        self._prefect = Asked(api)
        self._told = told
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._deployments: dict[str, dict[str, str]] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._prefect.close()
        for name in self.now:
            self._put(name, running=[])  # what ran ends too
        for overview in self._overviews.values():
            overview.close()

    def training(self, name: str, since: datetime | None, failed: str) -> None:
        """A first training begins, or with None has ended, perhaps for a reason."""
        self._put(name, training=since.isoformat() if since else None, failed=failed)

    def _run(self) -> None:
        asked = learnt = float("-inf")
        while True:
            now = datetime.now(UTC).timestamp()
            for name in self._overviews:
                self._look(name)
            if now - learnt > _LEARN or (not any(self._deployments.values())):
                learnt = now
                self._learn()
            if now - asked > _PREFECT_EVERY:
                asked = now
                for name in self._overviews:
                    self._ask(name)
            if self._over.wait(_EVERY):
                return

    def _look(self, name: str) -> None:
        try:
            found = self._overviews[name].look() | {"fault": ""}
        except Exception as fault:  # a store that is down or of another layout, now or for ever
            found = {"fault": " ".join(str(fault).split())}
        for line in changes(self.now[name], found):
            self._told(name, line)
        self._put(name, **found)

    def _learn(self) -> None:
        from deployments.rounds.register import name_of

        for name, overview in self._overviews.items():
            try:
                found = self._prefect.deployments(f"everfit.model.{name}")
                for key in self._prefect.rounds(name_of(overview.config.schedule.cron)):
                    found[key] = "watch"  # with others, where there are many
                self._deployments[name] = found
            except (httpx.HTTPError, ValueError, KeyError):
                self._deployments.setdefault(name, {})

    def _ask(self, name: str) -> None:
        known = self._deployments.get(name, {})
        watch = [key for key, flow in known.items() if flow == "watch"]
        try:
            due = self._prefect.next_run(watch)
            runs = self._prefect.running(list(known))
        except (httpx.HTTPError, ValueError, KeyError):
            return
        self._put(
            name,
            next_check=due.isoformat() if due else None,
            running=[
                {"flow": known[key], "run": run, "since": since.isoformat() if since else None}
                for key, run, since in runs
            ],
        )

    def _put(self, name: str, **found: Any) -> None:
        self.now[name] = self.now[name] | found  # replaced whole: others read it meanwhile


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a person wants to hear of the difference.

    >>> changes({"champion": "1"}, {"champion": "2", "fault": ""})
    ['version 2 is the champion, before it was version 1']
    """
    told = []
    if now.get("fault"):
        if now["fault"] != before.get("fault"):
            told.append(f"its stores cannot be read: {now['fault']}")
        return told
    first = "champion" not in before
    if first or before["champion"] != now.get("champion"):
        was, champion = before.get("champion"), now.get("champion")
        if champion is None:
            told.append("no champion yet")
        else:
            told.append(
                f"version {champion} is the champion"
                + (f", before it was version {was}" if was else "")
            )
    for key, begins, ends in (
        ("rollout", _rollout, "the roll-out is over"),
        ("approval", _approval, "nobody is asked for an approval any more"),
        ("retrain", _retrain, "the retrain is over"),
        ("decision", decision, ""),
    ):
        was, found = before.get(key), now.get(key)
        if found and found != was and not (first and key == "decision"):
            told.append(begins(found))
        elif was and not found and ends:
            told.append(ends)
    return told


def _rollout(found: Mapping[str, Any]) -> str:
    return f"roll-out: version {found['version']} is {found['stage']}"


def _approval(found: Mapping[str, Any]) -> str:
    return f"{found['said']}: `everfit approve` or `everfit reject`"


def _retrain(found: Mapping[str, Any]) -> str:
    return f"retrain for window {found['window_id']} runs: {found['stage'] or 'begins'}"


def decision(found: Mapping[str, Any]) -> str:
    """A decision in a line."""
    reasons = "; ".join(found["reasons"][:2])
    return f"decided: {found['action']} ({found['rule']})" + (f": {reasons}" if reasons else "")
