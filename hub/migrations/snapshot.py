"""Writes the metadata as one SQL script: `python -m hub.migrations.snapshot`.

Only while nothing is released: afterwards a change of schema is a revision of its own, and the snapshot stays as it is.
"""

from itertools import groupby
from pathlib import Path

from sqlalchemy import create_mock_engine
from sqlalchemy.sql.ddl import ExecutableDDLElement

from hub.tables import metadata

SNAPSHOT = Path(__file__).parent / "versions" / "0001_initial.sql"


def render() -> str:
    """The script that makes every table, index and sequence of the metadata."""
    statements: list[str] = []

    def collect(statement: ExecutableDDLElement, *_: object, **__: object) -> None:
        compiled = str(statement.compile(dialect=engine.dialect)).strip()
        statements.append("\n".join(line.rstrip() for line in compiled.splitlines()))

    engine = create_mock_engine("postgresql+psycopg://", collect)
    metadata.create_all(engine, checkfirst=False)
    # SQLAlchemy keeps the indexes of a table in a set: in order, so that a new snapshot differs where a table does.
    indexes = ("CREATE INDEX", "CREATE UNIQUE")
    runs = groupby(statements, key=lambda statement: statement.startswith(indexes))
    ordered = [statement for is_index, run in runs for statement in (sorted(run) if is_index else run)]
    return "".join(f"{statement};\n" for statement in ordered)


if __name__ == "__main__":
    SNAPSHOT.write_text(render())
    print(f"wrote {SNAPSHOT}")
