"""Typed projections of plans, approvals, teams and tasks, written in the transaction of the FHIR resource."""

from sqlalchemy import Boolean, Column, Date, DateTime, Index, Integer, Table, Text, text

from fhir.tables import Name, metadata

# Overdue is no status: it is worked out on read, so an overdue task is as open as any other.
TASK_OPEN = "status IN ('requested', 'received', 'accepted', 'ready', 'in-progress', 'on-hold')"

# The person's own plan. Condition-specific plans that other systems sent are records, not rows here.
plan = Table(
    "plan",
    metadata,
    Column("id", Name, primary_key=True, comment="id of the FHIR CarePlan"),
    Column("patient_id", Name, nullable=False),
    Column("status", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("review_on", Date),
    Column("updated", DateTime(timezone=True), nullable=False),
    Column("author", Name, nullable=False),
    Index("plan_one_active", "patient_id", unique=True, postgresql_where=text("status = 'active'")),
    Index("plan_review", "review_on", postgresql_where=text("status = 'active'")),
)

# Which version each reader saw last: "changes since you last looked", and who in the team has not read the plan yet.
plan_reader = Table(
    "plan_reader",
    metadata,
    Column("plan_id", Name, primary_key=True),
    Column("reader", Name, primary_key=True, comment="reference such as Practitioner/x or Patient/y"),
    Column("version", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

# The person's recorded approval of being planned for (FHIR Consent).
approval = Table(
    "approval",
    metadata,
    Column("id", Name, primary_key=True, comment="id of the FHIR Consent"),
    Column("patient_id", Name, nullable=False),
    Column("given", Boolean, nullable=False, comment="active, permits, and is about care planning"),
    Column("denied", Boolean, nullable=False, comment="says no, or is a yes withdrawn; the latest decision counts"),
    Column("given_by", Name),
    Column("given_at", DateTime(timezone=True), nullable=False),
    Column("how", Text),
    Column("valid_from", DateTime(timezone=True)),
    Column(
        "valid_until", DateTime(timezone=True), comment="compared with now on every read: an approval ends by itself"
    ),
    Column("withdrawn_at", DateTime(timezone=True)),
    Column("withdrawn_by", Name, comment="who said so: the person, or who decides for them"),
    Column("withdrawn_why", Text),
    Index("approval_patient", "patient_id", postgresql_where=text("given OR denied")),
)

team_member = Table(
    "team_member",
    metadata,
    Column("care_team_id", Name, primary_key=True),
    Column("member", Name, primary_key=True, comment="Practitioner/x, Organization/y; #n: not on our record"),
    Column("role_code", Name, primary_key=True, comment="SNOMED CT code, empty when none was given"),
    Column("patient_id", Name, nullable=False),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("since", DateTime(timezone=True)),
    Column("until", DateTime(timezone=True)),
    Index("team_member_patient", "patient_id"),
    Index("team_member_member", "member", "role_code"),
)

task = Table(
    "task",
    metadata,
    Column("id", Name, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("patient_id", Name),
    Column("hub_id", Name),
    Column("owner", Name),
    Column("status", Name, nullable=False),
    Column("priority", Name),
    Column("description", Text, nullable=False),
    Column("due", DateTime(timezone=True)),
    Index("task_open", "owner", "due", postgresql_where=text(TASK_OPEN)),
    Index("task_open_hub", "hub_id", "due", postgresql_where=text(TASK_OPEN)),
    Index("task_patient", "patient_id"),
)
