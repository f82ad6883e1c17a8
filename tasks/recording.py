"""What the config says to record of each answered row, with the key from the environment."""

from __future__ import annotations

import os

from monitoring.recording import KEY_BYTES, Recording
from tasks.config import Config, ConfigFault

KEY = "EVERFIT_ID_KEY"


def recording(config: Config) -> Recording:
    """Raises ConfigFault when ids are to be hashed and the environment has no key for it."""
    key = None
    if config.telemetry.hash_ids:
        key = os.environ.get(KEY, "").encode()
        if len(key) < KEY_BYTES:
            raise ConfigFault(
                f"telemetry.hash_ids needs a key of {KEY_BYTES} characters or more in {KEY}, got "
                f"{len(key)}: set it, for instance to the output of `openssl rand -hex 32`, and "
                "keep it, since labels find their predictions by it"
            )
    return Recording(config.serving.sample, frozenset(config.telemetry.never_store), key)
