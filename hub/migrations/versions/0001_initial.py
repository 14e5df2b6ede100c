"""The first schema: everything in `0001_initial.sql`, a snapshot of the metadata (see `hub.migrations.snapshot`)."""

from pathlib import Path

import psycopg
from alembic import op

revision = "0001"
down_revision = None

SNAPSHOT = Path(__file__).with_suffix(".sql")


def upgrade() -> None:
    connection = op.get_bind().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    # Without parameters psycopg sends the whole script at once: one round trip for some thousand statements.
    connection.execute(SNAPSHOT.read_bytes())
