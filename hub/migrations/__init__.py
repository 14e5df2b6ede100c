"""The schema's revisions (Alembic) and the few things that the service asks about them."""

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

FOLDER = Path(__file__).parent
LOCK = 0x63617265687562  # advisory lock; any number that every Care Hub agrees on


def configuration(url: str) -> Config:
    """Alembic's configuration, made here so that no alembic.ini has to be found. *url* is as libpq takes it."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    return config


def head() -> str:
    """The newest revision that this software brings."""
    revision = ScriptDirectory.from_config(configuration("")).get_current_head()
    assert revision is not None
    return revision


def current(url: str) -> str | None:
    """The revision a database is at; None for one that was never migrated. Raises psycopg.Error."""
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        present = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
        if present is None or not present[0]:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def lacking(url: str) -> list[str]:
    """Tables and columns (`account`, `credential.scope`) that this software needs and a migrated database lacks.

    Nothing, but for one that was made before a release by software whose first revision was not finished.
    """
    # Four hundred tables, which only this asks for.
    from hub.tables import metadata

    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        ).fetchall()
    there = {f"{table}.{column}" for table, column in rows}
    tables = {table for table, _ in rows}
    return sorted(
        name if name not in tables else f"{name}.{column.name}"
        for name, table in metadata.tables.items()
        for column in (table.columns if name in tables else list(table.columns)[:1])
        if f"{name}.{column.name}" not in there
    )


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at *url* to *revision*. One process at a time; the others wait and find nothing to do."""
    command.upgrade(configuration(url), revision)
