"""Predictions, labels, decisions, policy states and claims: what the first store had.

A new store is made whole by the tables' own definition, so this one is only ever noted.
"""

from __future__ import annotations

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Nothing: it is there."""
