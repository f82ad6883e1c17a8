"""Pure library: telemetry store, drift tests, performance from late labels, decision policy."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitoring.mmd import MMDResult, mmd_test
    from monitoring.shift import ShiftResult, shift_test

__all__ = ["MMDResult", "ShiftResult", "mmd_test", "shift_test"]

_HOMES = {
    "MMDResult": "monitoring.mmd",
    "ShiftResult": "monitoring.shift",
    "mmd_test": "monitoring.mmd",
    "shift_test": "monitoring.shift",
}


def __getattr__(name: str) -> Any:
    """Names that need scipy or torch are loaded when they are asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
