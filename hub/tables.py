"""Tables of the running service: people, access, identity, audit. Importing this module fills the MetaData."""

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

import care_plans.tables
import fhir.registry
import monitoring.tables
from fhir.tables import Name, TransactionId, metadata

person = Table(
    "person",
    metadata,
    Column("patient_id", Name, primary_key=True),
    Column("nhs_number", Name, comment="ten digits, no spaces"),
    Column("family", Text, nullable=False),
    Column("given", Text, nullable=False),
    Column("search_name", Name, nullable=False, comment="casefolded 'family given' for prefix search"),
    Column("called", Text, comment="likes to be called"),
    Column("about", Text, comment="one line of About Me"),
    Column("birth_date", Date),
    Column("gender", Name),
    Column("hub_id", Name),
    Column("practice_id", Name),
    Column("tier", Name),
    Column("synthetic", Boolean, nullable=False, comment="tagged HTEST"),
    Index("person_nhs_number", "nhs_number", unique=True, postgresql_where=text("nhs_number IS NOT NULL")),
    Index("person_search_name", "search_name", postgresql_ops={"search_name": "text_pattern_ops"}),
    Index("person_birth_date", "birth_date"),
    Index("person_hub", "hub_id", "search_name"),
)

# Who may see whom, and why. Every read starts here.
access = Table(
    "access",
    metadata,
    Column("subject", Name, primary_key=True, comment="reference: Practitioner/x, Organization/y, Patient/z, Device/d"),
    Column("patient_id", Name, primary_key=True),
    Column("source", Name, primary_key=True, comment="resource that grants it, such as CareTeam/x"),
    Column("basis", Name, nullable=False, comment="self, team, hub, practice, carer, device, registered or emergency"),
    Column("since", DateTime(timezone=True), comment="when it begins; null: always has"),
    Column("until", DateTime(timezone=True)),
    Index("access_patient", "patient_id"),
    Index("access_source", "source"),
)

# Records opened outside the care relationship: why, for how long, and whether somebody has looked into it.
emergency_access = Table(
    "emergency_access",
    metadata,
    Column("id", Name, primary_key=True),
    Column("actor", Name, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("patient_id", Name, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    Column("reviewed_by", Name),
    Column("reviewed_at", DateTime(timezone=True)),
    Index("emergency_access_unreviewed", "at", postgresql_where=text("reviewed_at IS NULL")),
    Index("emergency_access_patient", "patient_id"),
)

device = Table(
    "device",
    metadata,
    Column("id", Name, primary_key=True),
    Column("patient_id", Name, comment="who holds it now"),
    Column("name", Text, nullable=False),
    Column("status", Name, nullable=False),
    Column("sandbox", Boolean, nullable=False),
    Column("since", DateTime(timezone=True), comment="from when they hold it; null: from before anybody noted it"),
    Column("kind", Name, comment="key of monitoring.instruments.INSTRUMENTS"),
    Column("serial", Text, comment="casefolded serial number or identifiers, for the search"),
    Column("model", Text),
    Column("hub_id", Name, comment="whose it is"),
    Column("gone", Name, comment="lost | retired, when it is out of use"),
    Column(
        "passed_on",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="whether somebody held it before: else intake need not look",
    ),
    Column("clock_off", Double, comment="as in `device_state`, where it is too much: what intake asks (hub.hearing)"),
    Index("device_patient", "patient_id"),
    Index("device_serial", "serial", postgresql_ops={"serial": "text_pattern_ops"}),
)

# Who held a device before: what it kept of that time is theirs, whenever it sends it. The present holder stands in
# `device`, and here once it is over.
device_use = Table(
    "device_use",
    metadata,
    Column("id", Name, primary_key=True, comment="of the DeviceUseStatement"),
    Column("device_id", Name, nullable=False),
    Column("patient_id", Name, nullable=False),
    Column("since", DateTime(timezone=True), comment="null: from before anybody noted it"),
    Column("until", DateTime(timezone=True), comment="null: it is not over"),
    Index("device_use_device", "device_id"),
    Index("device_use_patient", "patient_id"),
)

# What devices tell of themselves by the way, written every few seconds for all that spoke (see hub.hearing).
device_state = Table(
    "device_state",
    metadata,
    Column("device_id", Name, primary_key=True),
    Column("heard", DateTime(timezone=True), comment="when it last spoke to the hub, or last measured as imported"),
    Column("battery", SmallInteger, comment="per cent"),
    Column("battery_at", DateTime(timezone=True)),
    Column("offsets", ARRAY(Double), comment="seconds its clock was ahead of ours, the newest last, nine at most"),
    Column("clock_off", Double, comment="the median of these"),
    Column("clock_at", DateTime(timezone=True)),
)

# Messages of a device that leave no other trace: resends, and what became a record only. The last few of each.
device_aside = Table(
    "device_aside",
    metadata,
    Column("device_id", Name, primary_key=True),
    Column("at", DateTime(timezone=True), primary_key=True),
    Column("outcome", Name, nullable=False, comment="as in Receipt"),
    Column("observation_id", Name),
    Column("told", Text, nullable=False),
)

account = Table(
    "account",
    metadata,
    Column("id", Name, primary_key=True),
    Column("username", Name, nullable=False, unique=True),
    Column("password_hash", Name, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Name, nullable=False),
    Column("reference", Name, nullable=False, comment="Practitioner/x, Patient/x, RelatedPerson/x"),
    Column(
        "organisations", ARRAY(Name), nullable=False, comment="references Organization/x that this account works for"
    ),
    Column("hub_id", Name),
    Column("demonstration", Boolean, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("locked_until", DateTime(timezone=True)),
    Column("created", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)

session = Table(
    "session",
    metadata,
    Column("hash", LargeBinary, primary_key=True, comment="sha256 of the cookie's secret"),
    Column("account_id", Name, nullable=False),
    Column("csrf", Name, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("expires", DateTime(timezone=True), nullable=False),
    Index("session_account", "account_id"),
)

credential = Table(
    "credential",
    metadata,
    Column("hash", LargeBinary, primary_key=True, comment="sha256 of a bearer token or device key (256 random bits)"),
    Column("kind", Name, nullable=False, comment="token | device"),
    Column("account_id", Name),
    Column("device_id", Name),
    Column("label", Text, nullable=False),
    Column("scope", Text, comment="what narrows the account's role (see hub.scopes); NULL narrows nothing"),
    Column("sandbox", Boolean, nullable=False, server_default=text("false"), comment="a device's key for trying out"),
    Column("used", DateTime(timezone=True), comment="about when it was last used"),
    Column("created", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("expires", DateTime(timezone=True)),
    Column("revoked", DateTime(timezone=True)),
    Index("credential_device", "device_id"),
    Index("credential_scoped", "expires", postgresql_where=text("scope IS NOT NULL")),
)

# Each process remembers for a while whose a key is (see hub.identity): it is told when one ends, whoever ends it.
for _statement in (
    """CREATE FUNCTION tell_of_credentials() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_notify('carehub_credentials', ''); RETURN NULL; END $$""",
    "CREATE TRIGGER credential_ended AFTER UPDATE OF revoked, expires, scope ON credential"
    " FOR EACH ROW EXECUTE FUNCTION tell_of_credentials()",
    "CREATE TRIGGER credential_gone AFTER DELETE ON credential FOR EACH ROW"
    " WHEN (OLD.expires IS NULL OR OLD.expires > now()) EXECUTE FUNCTION tell_of_credentials()",
    "CREATE TRIGGER device_gone AFTER DELETE ON device FOR EACH ROW EXECUTE FUNCTION tell_of_credentials()",
    "CREATE TRIGGER account_gone AFTER DELETE ON account FOR EACH ROW EXECUTE FUNCTION tell_of_credentials()",
    "CREATE TRIGGER account_changed AFTER UPDATE OF active, name, role, reference, organisations, hub_id ON account"
    " FOR EACH ROW EXECUTE FUNCTION tell_of_credentials()",
):
    event.listen(metadata, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]

# Other systems that sign in with a key of their own (see hub.oauth), and what they have said already.
client = Table(
    "client",
    metadata,
    Column("account_id", Name, primary_key=True, comment="also the client id"),
    Column("keys", JSONB, nullable=False, comment="their public keys, a JWKS"),
    Column("since", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)
assertion = Table(
    "assertion",
    metadata,
    Column("client_id", Name, primary_key=True),
    Column("jti", LargeBinary, primary_key=True, comment="sha256: an assertion is good for one token"),
    Column("until", DateTime(timezone=True), nullable=False, comment="then it has run out by itself"),
    Index("assertion_until", "until"),
)

# One row per read and write. `tx` orders rows so that a finished range can be sealed (see hub.audit).
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, Identity(), primary_key=True),
    Column("tx", TransactionId(), nullable=False, server_default=text("pg_current_xact_id()")),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", Name, nullable=False),
    Column("role", Name, nullable=False),
    Column(
        "action", Name, nullable=False, comment="read | search | history | create | update | delete | sign-in | ..."
    ),
    Column("type", Name),
    Column("resource_id", Name),
    Column("patient_id", Name),
    Column("outcome", Name, nullable=False, comment="ok | refused | failed"),
    Column("detail", JSONB),
    Column("request_id", Name),
    Index("audit_tx", "tx", "seq"),
    Index("audit_patient", "patient_id", text("at DESC")),
)

audit_seal = Table(
    "audit_seal",
    metadata,
    Column("block", BigInteger, primary_key=True, autoincrement=False),
    Column("tx_from", TransactionId(), nullable=False),
    Column("tx_until", TransactionId(), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("sealed", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)

# Set when the data was restored into a PostgreSQL whose transaction counter is lower (see hub.audit).
audit_clock = Table(
    "audit_clock",
    metadata,
    Column(
        "shift", BigInteger, primary_key=True, autoincrement=False, comment="added to the transaction id in `audit.tx`"
    ),
)

# Who must hear of what: written with the change, delivered after it.
notice = Table(
    "notice",
    metadata,
    Column("id", Name, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("kind", Name, nullable=False, comment="flag-opened | plan-changed | ..."),
    Column("patient_id", Name, nullable=False),
    Column("recipient", Name, nullable=False, comment="reference"),
    Column("text", Text, nullable=False),
    Column("link", Name, nullable=False),
    Column("seen", DateTime(timezone=True)),
    Index("notice_recipient", "recipient", "id"),
    Index("notice_unseen", "recipient", "patient_id", postgresql_where=text("seen IS NULL")),
)

imported_file = Table(
    "imported_file",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="sha256 of the file"),
    Column("entries_done", BigInteger, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)

# What the hub keeps of a Subscription beside the resource: whose it is, its secrets, and how far it has got. Everything
# up to `position` (a `seq` of resource_version) has been looked at; events up to `delivered` have arrived.
subscription = Table(
    "subscription",
    metadata,
    Column("id", Name, primary_key=True),
    Column("owner", Name, nullable=False, comment="reference of who asked, such as Practitioner/x"),
    Column("account_id", Name, nullable=False, comment="whose access limits what is delivered, at the time"),
    Column("status", Name, nullable=False, comment="requested | active | error | off, as in the resource"),
    Column("channel", Name, nullable=False, comment="rest-hook | websocket"),
    Column("type", Name, nullable=False, comment="the FHIR type it is about"),
    Column("secret", Name, nullable=False, comment="signs what is sent; shown when it is made, and never again"),
    Column("headers", ARRAY(Text), nullable=False, comment="name, value, name, value: never part of the resource"),
    Column("position", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False, server_default=text("0"), comment="number of the last event"),
    Column("delivered", BigInteger, nullable=False, server_default=text("0")),
    Column("attempts", Integer, nullable=False, server_default=text("0"), comment="failed ones since the last success"),
    Column("failing_since", DateTime(timezone=True)),
    Column("next_attempt", DateTime(timezone=True)),
    Column("error", Text, comment="why the last attempt failed"),
    Column("last_sent", DateTime(timezone=True)),
    Column("created", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Index("subscription_owner", "owner"),
)

# Numbered without gaps for each subscription; what `$events` gives again.
subscription_event = Table(
    "subscription_event",
    metadata,
    Column("subscription_id", Name, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("resource_id", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, comment="when the version was written"),
    Column("sent", DateTime(timezone=True), comment="when it left for the first time"),
    Index("subscription_event_at", "at"),
)

# What lets a websocket be bound, once and soon.
subscription_token = Table(
    "subscription_token",
    metadata,
    Column("hash", LargeBinary, primary_key=True, comment="sha256 of the token"),
    Column("account_id", Name, nullable=False),
    Column("subscriptions", ARRAY(Name), nullable=False),
    Column("expires", DateTime(timezone=True), nullable=False),
)

# Long work that a request starts and does not wait for: taken by any process, and taken again when that one dies.
job = Table(
    "job",
    metadata,
    Column("id", Name, primary_key=True),
    Column("kind", Name, nullable=False, comment="export | import"),
    Column("state", Name, nullable=False, comment="arriving | waiting | running | done | failed"),
    Column("owner", Name, nullable=False, comment="reference of who asked"),
    Column("account_id", Name, nullable=False, comment="whose access limits it while it runs"),
    Column("scope", Text, comment="and what narrowed the token it was asked for with"),
    Column("request", JSONB, nullable=False),
    Column("progress", Text, nullable=False, server_default=text("''"), comment="in words"),
    Column("result", JSONB, comment="what was made, or the OperationOutcome of a failure"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("worker", Name, comment="the process that has it"),
    Column("lease", DateTime(timezone=True), comment="until when nobody else takes it"),
    Column("request_id", Name),
    Column("created", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("finished", DateTime(timezone=True)),
    Column("expires", DateTime(timezone=True), nullable=False, comment="then it is removed with its pieces"),
    Index("job_open", "created", postgresql_where=text("state IN ('waiting', 'running')")),
    Index("job_owner", "owner"),
    Index("job_expires", "expires"),
)

# What a job made or was given: NDJSON in pieces, each compressed by itself (see `hub.pieces`).
job_piece = Table(
    "job_piece",
    metadata,
    Column("job_id", Name, primary_key=True),
    Column("file", Integer, primary_key=True, comment="counted from 1; 0 is what the job was given"),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

__all__ = ["care_plans", "fhir", "metadata", "monitoring"]
