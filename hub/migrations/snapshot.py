"""Writes the metadata as one SQL script: `python -m hub.migrations.snapshot`.

Only while nothing is released: afterwards a change of schema is a revision of its own, and the snapshot stays as it is.
"""

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
    return "".join(f"{statement};\n" for statement in statements)


if __name__ == "__main__":
    SNAPSHOT.write_text(render())
    print(f"wrote {SNAPSHOT}")
