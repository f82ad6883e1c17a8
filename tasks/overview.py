"""One model at a glance, cheap enough for every few seconds: no MLflow, pandas or Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import standing

if TYPE_CHECKING:
    from models.records import Release
    from models.registry_lean import LeanRegistry
    from models.registry_stages import Staged
    from monitoring.claims import Claims
    from monitoring.telemetry import TelemetryStore
    from tasks.config import Config


class Overview:
    """Keeps one model's registry and store open between two looks."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._registry: LeanRegistry | None = None
        self._store: TelemetryStore | None = None
        self._claims: Claims | None = None

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def look(self) -> dict[str, Any]:
        """Champion, roll-out, approval that is waited for, retrain under way and last decision.

        What there is none of is None. Raises RegistryFault or StoreFault.
        """
        from models.registry_approvals import approval

        registry, (store, claims) = self._open_registry(), self._open_store()
        champion, challenger = registry.champion(), registry.challenger()
        going = _going(champion, challenger)
        asked = approval(challenger)
        busy = claims.running(self.config.name)
        last = store.decisions(1)
        return {
            "champion": champion.version if champion else None,
            "rollout": None
            if going is None
            else {
                "version": going[0].version,
                "stage": standing.said(going[1]),
                "since": going[1].since,
            },
            "approval": {"version": asked.version, "said": str(asked)}
            if asked is not None and asked.waits
            else None,
            "retrain": None
            if busy is None
            else {
                "window_id": busy.window_id,
                "stage": busy.stage,
                "since": busy.started.isoformat(),
            },
            "decision": {
                key: last[0][key] for key in ("window_id", "time", "action", "rule", "reasons")
            }
            if last
            else None,
        }

    def _open_registry(self) -> LeanRegistry:
        from models.registry_lean import LeanRegistry

        if self._registry is None:
            self.config.folder.mkdir(parents=True, exist_ok=True)
            self._registry = LeanRegistry(
                self.config.registry_url, self.config.name, self.config.artifacts
            )
        return self._registry

    def _open_store(self) -> tuple[TelemetryStore, Claims]:
        from monitoring.claims import Claims
        from monitoring.telemetry import TelemetryStore

        if self._store is None or self._claims is None:
            self.config.folder.mkdir(parents=True, exist_ok=True)
            self._store = TelemetryStore(self.config.store_url)
            self._claims = Claims(self._store.database.engine)
        return self._store, self._claims


def _going(champion: Release | None, challenger: Release | None) -> tuple[Release, Staged] | None:
    """The version that is rolled out, and its stage: a challenger's, else a champion that bakes."""
    from models.registry_stages import staged

    for release, modes in ((challenger, ("shadow", "canary")), (champion, ("bake",))):
        stage = staged(release)
        if release is not None and stage is not None and stage.mode in modes:
            return release, stage
    return None


def has_champion(config: Config) -> bool:
    """Whether the model has a champion, without MLflow in this process."""
    from models.registry_lean import LeanRegistry

    if not Path(config.folder).is_dir():
        return False
    return LeanRegistry(config.registry_url, config.name, config.artifacts).champion() is not None
