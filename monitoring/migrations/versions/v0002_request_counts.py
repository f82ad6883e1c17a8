"""What the server was asked, by minute."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "request_counts",
        sa.Column("minute", sa.BigInteger, primary_key=True),
        sa.Column("route", sa.String, primary_key=True),
        sa.Column("version", sa.String, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("client_errors", sa.BigInteger, nullable=False),
        sa.Column("server_errors", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,  # stores of this time were not noted
    )
