"""The weekly digest under Prefect: from the file that a deployment names to the page."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks import digest
from tasks.config import load
from tasks.entry import parameter
from tests import registry_parts as parts

pytestmark = pytest.mark.prefect


async def test_a_digest_is_a_page_and_an_artifact(tiny_config):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactCollectionFilter

    from flows.report import report

    config = load(tiny_config)
    parts.tables(config.folder)
    now = datetime(2013, 2, 11, 7, tzinfo=UTC)
    path = await report(parameter(tiny_config), now=now)
    assert path == digest.digest_path(config, now)
    text = path.read_text(encoding="utf-8")
    assert "No check has decided anything" in text
    assert "<svg" in text
    wanted = ArtifactCollectionFilter.model_validate({"key": {"any_": ["tiny-digest"]}})
    async with get_client() as client:
        (artifact,) = await client.read_latest_artifacts(artifact_filter=wanted)
    assert "No version serves; nothing was asked." in artifact.data
