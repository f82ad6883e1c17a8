"""What a second version says of the same rows, and the steps of roll-outs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "shadow_answers",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("version", sa.String, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("probabilities", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_shadow_answers_time", "shadow_answers", ["time"], if_not_exists=True)
    op.create_table(
        "rollout_steps",
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("version", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("move", sa.String, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        if_not_exists=True,
    )
