"""Alembic's entry: runs revisions online, each in a transaction of its own, one process at a time."""

from alembic import context
from sqlalchemy import NullPool, create_engine, text

from hub.migrations import LOCK


def run() -> None:
    url = context.config.attributes["url"].replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url, poolclass=NullPool, connect_args={"options": "-c timezone=UTC -c lock_timeout=30s"})
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        connection.commit()
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


run()
