"""The one MetaData of the database, and the tables that every stored resource shares.

`resource_version` is append-only and holds each version's JSON once. The search table of a type
(`resource_table`) holds one row per live resource: typed search columns that point at the current version.
"""

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSTZRANGE, TSVECTOR
from sqlalchemy.types import UserDefinedType

metadata = MetaData()

version_sequence = Sequence("resource_version_seq", metadata=metadata)

# Ids, tokens and references compare by bytes: collation "C" is what FHIR means, and is the fastest index.
Key = String(collation="C")
Name = Text(collation="C")


class TransactionId(UserDefinedType[str]):
    """PostgreSQL's `xid8`."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


resource_version = Table(
    "resource_version",
    metadata,
    Column("type", Name, primary_key=True),
    Column("id", Name, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("seq", BigInteger, version_sequence, server_default=version_sequence.next_value(), nullable=False),
    Column("updated", DateTime(timezone=True), nullable=False),
    Column("patient_id", Name),
    Column("author", Name, nullable=False, comment="reference of who wrote it, such as Practitioner/x"),
    Column("method", Name, nullable=False, comment="POST, PUT, PATCH or DELETE"),
    Column("body", Text, comment="the JSON as stored, meta included; null for a deletion"),
    # Not `xmin`, which is that of a savepoint where there is one, and no snapshot knows those.
    Column("xact", TransactionId(), server_default=text("pg_current_xact_id()"), nullable=False),
    Index("resource_version_seq_idx", "seq"),
    Index("resource_version_patient_idx", "patient_id", "seq"),
    postgresql_partition_by="LIST (type)",
)

# Types with so many versions that a partition of their own keeps their indexes small and their vacuum apart.
HEAVY = (
    "AuditEvent",
    "CarePlan",
    "Claim",
    "Communication",
    "Condition",
    "DiagnosticReport",
    "Encounter",
    "ExplanationOfBenefit",
    "Flag",
    "Immunization",
    "MedicationRequest",
    "Observation",
    "Patient",
    "Procedure",
    "Provenance",
    "Task",
)


def versions_of(type_: str) -> str:
    """The partition of `resource_version` that holds *type_*: to write there spares PostgreSQL the way to it."""
    return f"resource_version_{type_.lower() if type_ in HEAVY else 'other'}"


def _partitions() -> list[str]:
    statements = [
        f"CREATE TABLE resource_version_{name.lower()} PARTITION OF resource_version FOR VALUES IN ('{name}')"
        for name in HEAVY
    ]
    statements.append("CREATE TABLE resource_version_other PARTITION OF resource_version DEFAULT")
    # Only here does a type share its partition, so only here does the history of one type need an index.
    statements.append("CREATE INDEX resource_version_other_type_seq ON resource_version_other (type, seq)")
    return statements


for _statement in _partitions():
    event.listen(resource_version, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]


def resource_table(
    name: str,
    dates: tuple[str, ...] = (),
    strings: bool = False,
    patient: bool = True,
    busy: bool = True,
    amounts: bool = False,
) -> Table:
    """The search table of FHIR type *name*, such as `r_observation`.

    `keys` holds every token, reference and uri as `param=value` (see `fhir.index`), `strings` the normalised words
    of string parameters as lexemes `param=word`, and each date parameter a range column `d_<param>`. `low` and `high`
    span all numbers and quantities of the resource, as written and in the preferred unit of their kind (see
    `fhir.units`). A type that is not *busy* has few rows, and goes without the indexes that serve long lists.
    """
    table_name = f"r_{name.lower()}"
    columns: list[Column[Any]] = [
        Column("id", Name, primary_key=True),
        Column("version", Integer, nullable=False),
        Column("updated", DateTime(timezone=True), nullable=False),
        Column("patient_id", Name),
        Column("keys", ARRAY(Name), nullable=False),
    ]
    if strings:
        columns.append(Column("strings", TSVECTOR))
    columns += [Column(date_column(date), TSTZRANGE) for date in dates]
    if amounts:
        columns += [Column("low", Double), Column("high", Double)]
    table = Table(table_name, metadata, *columns)
    heavy = name in HEAVY
    # A GIN index takes new rows to a list first; a short one keeps the pause short when the list is worked off.
    pending = {"gin_pending_list_limit": 1024} if heavy else {}
    Index(f"{table_name}_keys", table.c["keys"], postgresql_using="gin", postgresql_with=pending)
    if patient:
        # One person's list, the latest first, is the question asked most.
        latest = [table.c[date_column(date)].desc().nulls_last() for date in dates[:1]]
        Index(f"{table_name}_patient", table.c.patient_id, *latest)
    if strings:
        where = text("strings IS NOT NULL")
        Index(f"{table_name}_strings", table.c.strings, postgresql_using="gin", postgresql_where=where)
    if busy:
        Index(f"{table_name}_updated", table.c.updated, table.c.id)
        for date in dates:
            column = table.c[date_column(date)]
            where = text(f"{column.name} IS NOT NULL")
            if heavy and date == dates[0]:
                # `_latest` below finds ranges by where they begin, this one by where they end: together they serve
                # every prefix, at a quarter of what a new row costs in a GiST index.
                end = text(ends(column.name))
                Index(f"{table_name}_{column.name}_end", end, postgresql_where=where, _table=table)
                continue
            # A GiST index on the range serves every prefix (eq, ge, sa, ...), open periods included.
            Index(f"{table_name}_{column.name}", column, postgresql_using="gist", postgresql_where=where)
        for column in (table.c.low, table.c.high) if amounts else ():
            Index(f"{table_name}_{column.name}", column, postgresql_where=text(f"{column.name} IS NOT NULL"))
    if heavy and dates:
        first = table.c[date_column(dates[0])]
        Index(f"{table_name}_latest", first.desc().nulls_last(), table.c.id.desc())
    return table


def ends(column: str) -> str:
    """The SQL of where the ranges of *column* end; one without an end ends at infinity."""
    return f"coalesce(upper({column}), 'infinity')"


def date_column(param: str) -> str:
    """`birthdate` -> `d_birthdate`, `onset-date` -> `d_onset_date`."""
    return "d_" + param.replace("-", "_")
