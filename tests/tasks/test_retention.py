"""What a purge may take is the config's word, within what the loop still needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from deployments.cli import main
from monitoring.records import Label, Prediction
from tasks import places
from tasks.config import ConfigFault, load
from tasks.recording import recording
from tasks.retention import limits, purge, retain
from tasks.rows import served_rows

NOW = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def with_text(tiny_config):
    """The config with more lines."""

    def make(more: str = ""):
        tiny_config.write_text(tiny_config.read_text() + more)
        return load(tiny_config)

    return make


def fill(config, days):
    with places.telemetry(config) as store:
        store.record(
            Prediction(f"p{day}", NOW - day * DAY, "1", {"carrier": "UA"}, (0.5, 0.5), 1.0)
            for day in days
        )
        store.label([Label(f"p{day}", "late", NOW) for day in days])


def test_nothing_is_taken_that_a_check_still_looks_at(with_text):
    config = with_text("telemetry: {keep: 3d}\n")
    found = limits(config, NOW)
    assert found.labelled == NOW - 14 * DAY  # the probation
    assert limits(config, NOW, force=True, before=NOW - DAY).labelled == NOW - DAY
    late = config.model_copy(
        update={"data": config.data.model_copy(update={"label_delay": 30 * DAY})}
    )
    assert limits(late, NOW, NOW - 40 * DAY).labelled == NOW - 44 * DAY
    assert limits(late, NOW, NOW - 50 * DAY).labelled == NOW - 50 * DAY
    assert limits(late, NOW, NOW - 50 * DAY).unlabelled == NOW - 60 * DAY


def test_without_an_age_or_with_one_to_come_a_purge_is_refused(with_text):
    config = with_text()
    with pytest.raises(ConfigFault, match=r"telemetry\.keep"):
        purge(config, NOW)
    with pytest.raises(ConfigFault, match="past"):
        purge(config, NOW, NOW + DAY)
    assert retain.fn(config, NOW) is None


def test_a_check_purges_by_age(with_text):
    config = with_text("telemetry: {keep: 30d}\n")
    fill(config, range(60))
    assert retain.fn(config, NOW).predictions == 29
    with places.telemetry(config) as store:
        assert store.counts()["predictions"] == 31


def test_the_command_says_what_it_would_do_and_does_it(with_text, tiny_config):
    config = with_text()
    fill(config, range(60))
    arguments = ["purge", str(tiny_config), "--before", "2024-04-01"]
    dry = CliRunner().invoke(main, [*arguments, "--dry-run"])
    assert dry.output.startswith("29 predictions before 2024-04-01 00:00 UTC and 29 labels would")
    assert CliRunner().invoke(main, arguments).output == dry.output.replace("would be", "were")
    assert "0 predictions" in CliRunner().invoke(main, arguments).output
    fault = CliRunner().invoke(main, ["purge", str(tiny_config)])
    assert (fault.exit_code, "telemetry.keep" in fault.output) == (1, True)


def test_a_key_for_ids_comes_from_the_environment_and_has_a_length(with_text, monkeypatch):
    config = with_text("telemetry: {hash_ids: true}\n")
    for key in (None, "short"):
        if key:
            monkeypatch.setenv("EVERFIT_ID_KEY", key)
        with pytest.raises(ConfigFault, match="EVERFIT_ID_KEY"):
            recording(config)
    monkeypatch.setenv("EVERFIT_ID_KEY", "a key of sixteen")
    assert recording(config).stored_id("a") != "a"


@pytest.mark.parametrize(
    ("never", "said"),
    [
        ("[wnd]", "wnd"),
        ("[carrier, hour, wind, visibility]", "all of them"),
    ],
)
def test_a_column_that_is_never_stored_is_an_input_and_not_the_last(with_text, never, said):
    with pytest.raises(ConfigFault, match=said):
        with_text(f"telemetry: {{never_store: {never}}}\n")


def test_rows_without_an_input_teach_no_model(with_text, caplog):
    config = with_text("telemetry: {never_store: [wind]}\n")
    fill(config, range(5))
    assert len(served_rows(config, None, NOW + DAY)) == 0
    assert "5 labelled rows are not learnt" in caplog.text
    assert list(config.watched) == ["carrier", "hour", "visibility"]
