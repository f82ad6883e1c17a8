"""The few questions to Prefect's API that the screen needs, without Prefect in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx

_TIMEOUT = 5.0


class Asked:
    """A Prefect server's deployments and flow runs. Every method raises httpx.HTTPError."""

    def __init__(self, api: str, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(
            base_url=api, timeout=_TIMEOUT, trust_env=False, transport=transport
        )

    def close(self) -> None:
        self._client.close()

    def deployments(self, tag: str) -> dict[str, str]:
        """Id to the name of its flow's function, of those with this tag."""
        found = self._post("/deployments/filter", {"deployments": {"tags": {"all_": [tag]}}})
        return {
            str(d["id"]): str(d.get("entrypoint") or d["name"]).rpartition(".")[2] for d in found
        }

    def rounds(self, name: str) -> list[str]:
        """Ids of the rounds of this name, each of which checks many models."""
        asked = {"name": {"any_": [name]}, "tags": {"all_": ["everfit"]}}
        found = self._post("/deployments/filter", {"deployments": asked})
        return [
            str(d["id"])
            for d in found
            if str(d.get("entrypoint") or "").endswith(".round_of_checks")
        ]

    def next_run(self, deployments: Sequence[str]) -> datetime | None:
        """When the first of the runs that are scheduled is due."""
        if not deployments:
            return None
        found = self._runs(deployments, ["SCHEDULED"], "EXPECTED_START_TIME_ASC", 1)
        return datetime.fromisoformat(found[0]["expected_start_time"]) if found else None

    def running(self, deployments: Sequence[str]) -> list[tuple[str, str, datetime | None]]:
        """(deployment's id, run's name, since) of what runs now."""
        if not deployments:
            return []
        return [
            (
                str(run["deployment_id"]),
                str(run["name"]),
                datetime.fromisoformat(run["start_time"]) if run.get("start_time") else None,
            )
            for run in self._runs(deployments, ["RUNNING"], "START_TIME_DESC", 5)
        ]

    def _runs(
        self, deployments: Sequence[str], states: list[str], sort: str, limit: int
    ) -> list[dict[str, Any]]:
        return self._post(
            "/flow_runs/filter",
            {
                "flow_runs": {
                    "state": {"type": {"any_": states}},
                    "deployment_id": {"any_": list(deployments)},
                },
                "sort": sort,
                "limit": limit,
            },
        )

    def _post(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = self._client.post(path, json=body)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found
