"""Typed projections of what devices and people measure, written in the transaction of the FHIR resource."""

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from fhir.tables import Name, metadata

# Of `monitoring.states`: not ended; and of these, those that somebody said they have looked at.
LIVE = "state NOT IN ('resolved', 'false-alarm')"
SEEN = "state IN ('acknowledged', 'in-progress', 'snoozed')"

reading = Table(
    "reading",
    metadata,
    Column("observation_id", Name, primary_key=True),
    Column("measure", Name, primary_key=True, comment="key of monitoring.measures.MEASURES"),
    Column("patient_id", Name, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, comment="when it was measured"),
    Column("value", Double, comment="in the measure's one UCUM unit; null where the answer is a word"),
    Column("word", Name, comment="coded answer: alert|confused|voice|pain|unresponsive, air|oxygen"),
    Column("given", Name, comment="number and unit as sent, such as '208.1 [lb_av]'"),
    Column("device_id", Name),
    Column("quality", Name, nullable=False, comment="ok | check | sandbox | wrong"),
    Column("why", Text, comment="what is doubtful about a reading of quality check"),
    Column("received", DateTime(timezone=True), nullable=False),
    Column("seq", BigInteger, nullable=False, comment="when it was evaluated, among the `seq` of resource_version"),
    Index("reading_window", "patient_id", "measure", text("at DESC"), postgresql_include=["value", "quality"]),
    Index("reading_device", "device_id", text("received DESC"), postgresql_where=text("device_id IS NOT NULL")),
)

# Readings as they were evaluated before they were corrected, found wrong or deleted: what replay needs to see the past.
reading_replaced = Table(
    "reading_replaced",
    metadata,
    Column("observation_id", Name, primary_key=True),
    Column("measure", Name, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("until", BigInteger, nullable=False, comment="when it was replaced, counted as `seq` is"),
    Column("patient_id", Name, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("value", Double),
    Column("word", Name),
    Column("quality", Name, nullable=False),
    Column("why", Text),
    Column("received", DateTime(timezone=True), nullable=False),
    Index("reading_replaced_patient", "patient_id"),
)

# One row per accepted Observation of a device: the key is what makes a resend harmless.
receipt = Table(
    "receipt",
    metadata,
    Column("key", LargeBinary, primary_key=True, comment="blake2b-16 of device, person, code, instant and identifier"),
    Column("observation_id", Name, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="blake2b-16 of the values: tells a resend from a correction"),
)

# What was refused, as it came, so that nothing a device says is ever lost.
refusal = Table(
    "refusal",
    metadata,
    Column("id", Name, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("device_id", Name),
    Column("actor", Name, nullable=False),
    Column("reason", Name, nullable=False, comment="code such as wrong-unit, future-time, unassigned-device"),
    Column("detail", Text, nullable=False),
    Column("expression", Name),
    Column("raw", LargeBinary, nullable=False),
    Index("refusal_device", "device_id", text("at DESC")),
)

monitoring_limit = Table(
    "monitoring_limit",
    metadata,
    Column("service_request_id", Name, primary_key=True),
    Column("patient_id", Name, nullable=False),
    Column("measure", Name, nullable=False),
    Column("low_red", Double),
    Column("low_amber", Double),
    Column("high_amber", Double),
    Column("high_red", Double),
    Column("scale", SmallInteger, comment="2 where a named clinician set NEWS2 SpO2 scale 2, else null"),
    Column("every_hours", REAL, comment="how often a reading is expected"),
    Column("set_by", Name),
    Column("reason", Text),
    Column("review_on", Date),
    Column("active", Boolean, nullable=False),
    Column("windows", Name, nullable=False, server_default=text("''"), comment="monitoring.schedules.Schedule.text"),
    Column("starts", DateTime(timezone=True), comment="readings are asked for from here on"),
    Column("ends", DateTime(timezone=True), comment="and until here"),
    Column("shared", Boolean, nullable=False, server_default=text("false"), comment="the person sees the limits"),
    Index("monitoring_limit_active", "patient_id", "measure", unique=True, postgresql_where=text("active")),
)

# Readings that were asked for and did not come, as the last check found them (`monitoring.overdue`).
missed = Table(
    "missed",
    metadata,
    Column("patient_id", Name, primary_key=True),
    Column("measure", Name, primary_key=True),
    Column("service_request_id", Name, nullable=False),
    Column("kind", Name, nullable=False, comment="missed: this measure; silent: nothing at all that was asked for"),
    Column("found", DateTime(timezone=True), nullable=False, comment="when a check first found it"),
    Column("last_at", DateTime(timezone=True), comment="when it was last measured"),
    Column("two_days", Boolean, nullable=False, comment="two days on end were missed"),
)

# How far somebody who measures nothing was followed up: one row a person, gone when readings come.
chase = Table(
    "chase",
    metadata,
    Column("patient_id", Name, primary_key=True),
    Column("found", DateTime(timezone=True), nullable=False),
    Column("step", SmallInteger, nullable=False, comment="0 nobody, 1 the person, 2 a second channel, 3 the hub"),
    Column("stepped", DateTime(timezone=True), nullable=False),
    Index("chase_step", "step", "stepped"),
)

# Conditions that say a person is pregnant, until somebody ends them. Which of them count: `monitoring.pregnancy`.
pregnancy = Table(
    "pregnancy",
    metadata,
    Column("condition_id", Name, primary_key=True),
    Column("patient_id", Name, nullable=False),
    Column("since", Date),
    Column("recorded_by", Name, comment="Practitioner or PractitionerRole; null when no clinician's name is on it"),
    Index("pregnancy_patient", "patient_id"),
)

# When nobody is chased for a person's readings, and why. One that was revoked before it began has no row.
pause = Table(
    "pause",
    metadata,
    Column("id", Name, primary_key=True, comment="of the ServiceRequest that says so"),
    Column("patient_id", Name, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    Column("reason", Text, nullable=False),
    Column("set_by", Name),
    Column("device_id", Name, comment="the device that it is about; null: the person"),
    Column("measures", ARRAY(Name), comment="keys of monitoring.measures.MEASURES; null: all"),
    Index("pause_patient", "patient_id", "until"),
    Index("pause_device", "device_id", postgresql_where=text("device_id IS NOT NULL")),
)

# The PlanDefinitions that are rules of a hub; who evaluates keeps the live ones at hand (see `rule_projection`).
local_rule = Table(
    "local_rule",
    metadata,
    Column("id", Name, primary_key=True),
    Column("key", Name, nullable=False, comment="what flags of all its versions are filed under"),
    Column("version", Integer, nullable=False),
    Column("hub_id", Name, nullable=False),
    Column("status", Name, nullable=False, comment="draft | active | retired"),
    Column("name", Text, nullable=False),
    Column("who", Name, nullable=False, comment="one of monitoring.local_rules.WHO"),
    Column("terms", ARRAY(Name), nullable=False, comment="what search rows of those hold whom it watches"),
    Column("measure", Name),
    Column("resource", Text, nullable=False),
    Index("local_rule_version", "key", "version", unique=True),
    Index("local_rule_live", "key", unique=True, postgresql_where=text("status = 'active'")),
    Index("local_rule_hub", "hub_id", "status"),
)

# The typed face of the FHIR Flag with the same id.
flag = Table(
    "flag",
    metadata,
    Column("id", Name, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("patient_id", Name, nullable=False),
    Column("hub_id", Name),
    Column("rule", Name, nullable=False),
    Column("rule_version", Integer, nullable=False),
    Column("kind", Name, nullable=False, comment="clinical | compliance | operational"),
    Column("severity", SmallInteger, nullable=False, comment="3 red, 2 amber, 1 information"),
    Column("state", Name, nullable=False, comment="one of monitoring.states.STATES"),
    Column("summary", Text, nullable=False),
    Column(
        "extents",
        JSONB,
        nullable=False,
        server_default=text("'[]'"),
        comment="how far it goes: list of {measure, side, value}",
    ),
    Column("advice", Text, comment="what the patient may be told at once, without waiting for staff"),
    Column("reasons", JSONB, nullable=False, comment="list of {text, measure, value, unit, at, observation}"),
    Column("observations", ARRAY(Name), nullable=False, comment="ids of the readings behind it, oldest first"),
    Column("count", Integer, nullable=False, comment="how many evaluations raised or refreshed it"),
    Column("opened", DateTime(timezone=True), nullable=False),
    Column("refreshed", DateTime(timezone=True), nullable=False),
    Column("acknowledged_by", Name),
    Column("acknowledged_at", DateTime(timezone=True)),
    Column("acknowledged_why", Text),
    Column("resolved_by", Name),
    Column("resolved_at", DateTime(timezone=True)),
    Column("resolved_why", Text),
    Column(
        "moves",
        JSONB,
        nullable=False,
        server_default=text("'[]'"),
        comment="its history, oldest first: list of {to, at, by, why, code, until}",
    ),
    Column(
        "level",
        SmallInteger,
        nullable=False,
        server_default=text("0"),
        comment="how far up the chain it was told: 0 is the first step",
    ),
    Column("due", DateTime(timezone=True), comment="when it lapses, is escalated or wakes, if nobody does anything"),
    Column("outcome", Name, comment="one of monitoring.outcomes.OUTCOMES, once it has ended"),
    Index("flag_one_open", "patient_id", "rule", unique=True, postgresql_where=text(LIVE)),
    Index("flag_board", "hub_id", text("severity DESC"), text("opened"), "id", postgresql_where=text(LIVE)),
    Index("flag_patient", "patient_id", text("opened DESC")),
    Index("flag_due", "due", postgresql_where=text("due IS NOT NULL")),
)

# How a hub looks after its flags: the typed face of one HealthcareService (`monitoring.cover`).
cover = Table(
    "cover",
    metadata,
    Column("service_id", Name, primary_key=True),
    Column("hub_id", Name, nullable=False, unique=True),
    Column("resource", Text, nullable=False, comment="hours, delays and people, as the resource says them"),
)
