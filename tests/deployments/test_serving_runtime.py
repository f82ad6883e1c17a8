"""The server says what a version runs on: in its description and in the metrics."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.serving.metrics import Metrics
from deployments.serving.slots import Slot


@pytest.fixture(scope="module")
def answers(
    serving_config: Callable[..., Any],
    serving_release: Callable[..., Any],
    serving: Callable[..., Any],
) -> tuple[dict[str, Any], str]:
    """A real version's description and metrics, from a running server."""
    from deployments.serving.app import create_app

    config = serving_config()
    serving_release(config)
    with serving(create_app(config)) as client:
        return client.get("/v2/models/tiny").json(), client.get("/metrics").text


def test_the_description_and_the_metrics_name_the_runtime(answers) -> None:
    about, metrics = answers
    assert about["parameters"]["runtime"] == "onnx"
    assert about["parameters"]["runtime_reason"] == ""
    assert 'everfit_serving_runtime{runtime="onnx",version="1"} 1.0' in metrics


def test_a_version_without_an_onnx_form_shows_as_native_and_why() -> None:
    encoder = SimpleNamespace(categories={})
    model = SimpleNamespace(schema=SimpleNamespace(columns=()), encoder=encoder, classes=(0, 1))
    slot = Slot(SimpleNamespace(version="2"), model)
    assert (slot.runtime, slot.runtime_reason) == ("native", "")
    model.runtime, model.reason = "native", "no form"
    assert Slot(SimpleNamespace(version="2"), model).runtime_reason == "no form"
    metrics = Metrics()
    metrics.swapped("1", None, "onnx")
    metrics.swapped("2", "1", "native")
    text = metrics.text().decode()
    assert 'everfit_serving_runtime{runtime="onnx",version="1"} 0.0' in text
    assert 'everfit_serving_runtime{runtime="native",version="2"} 1.0' in text


def test_a_worker_says_which_version_serves_whatever_was_set_up_above_it() -> None:
    code = (
        "import logging; logging.basicConfig(level=logging.ERROR, stream=open('/dev/null', 'w'));"
        "from deployments.serving.app import log_to_stderr; log_to_stderr();"
        "logging.getLogger('deployments.serving.follower').info('version 7 serves')"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "INFO version 7 serves" in said.stderr
