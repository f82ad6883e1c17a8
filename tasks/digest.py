"""The week's digest of one model: gathered, written beside its reports, shown on Prefect's page."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks import foretelling, lineage, places
from tasks.artifacts import key

if TYPE_CHECKING:
    from models.records import Release
    from monitoring.digest import facts
    from monitoring.digest.facts import Digest, Made
    from tasks.config import Config


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=1)
def gather(config: Config, until: datetime, days: int) -> Digest:
    """What happened in the `days` before `until`."""
    from monitoring.digest import facts

    registry = places.registry(config)
    champion = registry.champion()
    serves = champion.version if champion else None
    since = until - timedelta(days=days)
    made = [
        _made(config, release, champion=release.version == serves)
        for release in registry.versions()
        if (when := _registered(release)) is not None and since <= when < until
    ]
    with places.telemetry(config) as store:
        return facts.gather(
            store,
            config.name,
            since,
            until,
            metric=config.train.objective,
            made=made,
            champion=serves,
        )


@task(cache_policy=NO_CACHE)
def write(config: Config, digest: Digest) -> Path:
    """The page, under the name of its last day."""
    from monitoring.digest import page

    path = page.write(digest, digest_path(config, digest.until))
    create_markdown_artifact(
        key=key(config.name, "digest"),
        markdown=page.markdown(digest),
        description=" ".join(digest.headline),
    )
    create_link_artifact(
        key=key(config.name, "digest-page"),
        link=f"file://{path}",
        link_text=f"the digest until {digest.until:%Y-%m-%d}",
    )
    return path


def digest_path(config: Config, until: datetime) -> Path:
    return config.folder / "reports" / f"digest-{until:%Y-%m-%d}.html"


def _made(config: Config, release: Release, *, champion: bool) -> Made:
    from monitoring.digest import facts

    with places.claims(config) as book:
        claim = book.get(release.window_id)
    result = (claim.result if claim else None) or {}
    when = _registered(release)
    assert when is not None
    return facts.Made(
        release.version,
        when,
        release.window_id,
        release.tags.get("gate_reason", ""),
        release.tags.get("gate") == "passed",
        facts.fate(release.tags, champion=champion),
        trials=result.get("trials"),
        seconds=result.get("seconds"),
        front=_front(config, release),
        foretold=_foretold(config, release),
    )


def _front(config: Config, release: Release) -> facts.Front | None:
    from monitoring.digest import facts

    try:
        made = lineage.read(config, release)
    except lineage.NotOurs:
        return None
    if not made.front:
        return None
    places_of = [place for place, row in enumerate(made.front) if row["params"] == made.params]
    metrics = tuple(made.front[0]["metrics"])
    return facts.Front(
        metrics,
        tuple(tuple(row["metrics"][name] for name in metrics) for row in made.front),
        places_of[0] if places_of else None,
        made.chosen,
    )


def _foretold(config: Config, release: Release) -> tuple[str, ...]:
    """What the goal names, and what answering and fitting take."""
    path = places.version_file(config, release, foretelling.FILE)
    if path is None:
        return ()
    before, left_out = foretelling.read(path)
    told = {report.target: report for report in (*left_out, *before)}
    wanted = dict.fromkeys((*config.train.goal.named, "latency_ms", "fit_cpu_s"))
    return tuple(str(told[name]) for name in wanted if name in told)


def _registered(release: Release) -> datetime | None:
    try:
        return datetime.fromisoformat(release.tags["registered_at"])
    except (KeyError, ValueError):  # a version that somebody else registered
        return None
