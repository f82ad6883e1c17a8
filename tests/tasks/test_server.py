"""What a task believes about the server: only what it answers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tasks.config import load
from tasks.release import NotServed, confirm
from tasks.server import Served, served


@pytest.fixture
def answering(tiny_config):
    """Start a server on the config's port that answers every GET with (status, body)."""
    config = load(tiny_config)
    started = []

    def start(status: int, body: bytes):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", config.serving.port), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        started.append((server, thread))
        return config

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def test_no_server_is_an_answer(tiny_config):
    state = served(load(tiny_config))
    assert not state.running
    assert "no server answers" in state.reason


def test_the_version_that_answers(answering):
    body = {
        "name": "tiny",
        "versions": ["3"],
        "parameters": {"failed": {"version": "4", "reason": "no"}},
    }
    state = served(answering(200, json.dumps(body).encode()))
    assert state == Served(running=True, version="3", failed="4", reason="no")


def test_another_model_on_the_port_is_told_apart(answering):
    state = served(answering(404, b"{}"))
    assert not state.running
    assert "another model" in state.reason


def test_another_program_on_the_port_is_told_apart(answering):
    state = served(answering(200, b"<html>"))
    assert not state.running
    assert "not an everfit server" in state.reason


def test_a_roll_back_is_confirmed_by_the_answers():
    from models.records import Release

    release = Release("m", "2", "d", "w", "r")
    confirm(Served(running=False), release)
    confirm(Served(running=True, version="2"), release)
    with pytest.raises(NotServed, match="answers with 3"):
        confirm(Served(running=True, version="3"), release)
