"""A flag: its FHIR shape and its row. What opens and refreshes it: `monitoring.decision`; how it moves from state to
state: `monitoring.moves`."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from fhir.outcome import refuse
from monitoring.case import Reason
from monitoring.extents import Extent
from monitoring.flag_parts import (
    extent_of,
    extent_parts,
    instant,
    move_of,
    move_parts,
    outcome_of,
    outcome_part,
    reason_of,
    reason_parts,
    tail,
    who_of,
)
from monitoring.limits import AMBER, INFORMATION, RED
from monitoring.rules import name_of
from monitoring.states import CALLING, ENDED, SEEN, STATES, Move
from monitoring.tables import LIVE

JSON = dict[str, Any]

EXT = "https://carehub.example/fhir/StructureDefinition/flag-state"
CATEGORY = "https://carehub.example/fhir/CodeSystem/flag-category"
RULE = "https://carehub.example/fhir/CodeSystem/rule"
AUTHOR = "Device/care-hub-engine"

KINDS = ("clinical", "compliance", "operational")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag: the row of the table `flag`, and all that its FHIR resource says.

    `reasons` holds those of the latest finding first; `observations` ids, oldest first; `version` that of the FHIR
    resource, 0 before the first write. People are references such as `Practitioner/x`. `extents` say how far it goes:
    those of the latest finding while it is open; once acknowledged, what was acknowledged. `moves` are its history,
    oldest first; `level` says how far up the chain it was told, `due` when something happens to it by itself.
    """

    id: str
    version: int
    patient_id: str
    hub_id: str | None
    rule: str
    rule_version: int
    kind: str
    severity: int
    state: str
    summary: str
    reasons: list[Reason]
    observations: list[str]
    count: int
    opened: datetime
    refreshed: datetime
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    acknowledged_why: str | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    resolved_why: str | None = None
    advice: str | None = None
    extents: list[Extent] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    level: int = 0
    due: datetime | None = None
    outcome: str | None = None

    @property
    def live(self) -> bool:
        return self.state not in ENDED

    @property
    def rule_name(self) -> str:
        return name_of(self.rule)


def called(before: JSON | None, after: JSON) -> str | None:
    """Whether the FHIR Flag *after* calls for eyes as *before* did not: `opened`, `reopened` (it had been seen),
    `escalated` (further up the chain), or None."""
    now = from_fhir(after, 0)
    if now is None or now.state not in CALLING:
        return None
    was = from_fhir(before, 0) if before is not None else None
    if was is not None and now.level > was.level:
        return "escalated"
    if was is None or was.state not in CALLING:
        return "reopened" if was is not None and was.state in SEEN else "opened"
    return None


def to_fhir(flag: Flag, before: JSON | None = None) -> JSON:
    """*flag* as a FHIR Flag; whatever else *before* (the stored resource) says is kept."""
    state: list[JSON] = [
        {"url": "state", "valueCode": flag.state},
        {"url": "severity", "valueInteger": flag.severity},
        {"url": "rule-version", "valueInteger": flag.rule_version},
        {"url": "count", "valueInteger": flag.count},
        {"url": "refreshed", "valueDateTime": flag.refreshed.isoformat()},
    ]
    if flag.advice:
        state.append({"url": "advice", "valueString": flag.advice})
    if flag.hub_id:
        state.append({"url": "hub", "valueReference": {"reference": f"Organization/{flag.hub_id}"}})
    if flag.level:
        state.append({"url": "level", "valueInteger": flag.level})
    if flag.due:
        state.append({"url": "due", "valueDateTime": flag.due.isoformat()})
    if flag.outcome:
        state.append({"url": "outcome", "valueCoding": outcome_part(flag.outcome)})
    state += [{"url": "extent", "extension": extent_parts(one)} for one in flag.extents]
    state += [{"url": "reason", "extension": reason_parts(one)} for one in flag.reasons]
    state += [{"url": "reading", "valueReference": {"reference": f"Observation/{one}"}} for one in flag.observations]
    for name, who, when, why in (
        ("acknowledged", flag.acknowledged_by, flag.acknowledged_at, flag.acknowledged_why),
        ("resolved", flag.resolved_by, flag.resolved_at, flag.resolved_why),
    ):
        if who and when:
            parts: list[JSON] = [
                {"url": "by", "valueReference": {"reference": who}},
                {"url": "at", "valueDateTime": when.isoformat()},
            ]
            if why:
                parts.append({"url": "why", "valueString": why})
            state.append({"url": name, "extension": parts})
    state += [{"url": "move", "extension": move_parts(one)} for one in flag.moves]
    period = {"start": flag.opened.isoformat()}
    if flag.resolved_at:
        period["end"] = flag.resolved_at.isoformat()
    others = [one for one in (before or {}).get("extension", ()) if one.get("url") != EXT]
    return {
        **(before or {}),
        "resourceType": "Flag",
        "id": flag.id,
        "extension": [*others, {"url": EXT, "extension": state}],
        "status": "active" if flag.live else "inactive",
        "category": [{"coding": [{"system": CATEGORY, "code": flag.kind}]}],
        "code": {
            "coding": [
                {"system": RULE, "version": str(flag.rule_version), "code": flag.rule, "display": flag.rule_name}
            ],
            "text": flag.summary,
        },
        "subject": {"reference": f"Patient/{flag.patient_id}"},
        "period": period,
        "author": {"reference": AUTHOR},
    }


def from_fhir(resource: JSON, version: int) -> Flag | None:
    """The flag that a FHIR Flag says; None for one that is not of our engine (it has no flag-state).

    Raises Refusal 422 when its flag-state is incomplete or contradicts `Flag.status`: anyone may try to write one.
    """
    found = next((one for one in resource.get("extension", ()) if one.get("url") == EXT), None)
    if found is None:
        return None
    try:
        flag = _flag(resource, version, found)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise refuse(
            422, "structure", f"This flag-state is incomplete or malformed: {error}.", "Flag.extension"
        ) from error
    whole = (flag.rule_version, flag.count)
    if (
        flag.state not in STATES
        or flag.severity not in (RED, AMBER, INFORMATION)
        or flag.kind not in KINDS
        or not all(0 < number < 2**31 for number in whole)
        or not 0 <= flag.level < 2**15
    ):
        raise refuse(
            422, "value", "State, severity, kind, rule-version or count is none that we know.", "Flag.extension"
        )
    if flag.live != (resource.get("status") == "active"):
        raise refuse(422, "invariant", f"Flag.status contradicts the flag-state {flag.state!r}.", "Flag.status")
    if (flag.state in SEEN and not flag.acknowledged_why) or (not flag.live and not flag.resolved_why):
        raise refuse(422, "required", f"A flag that is {flag.state} says who did so, when and why.", "Flag.extension")
    return flag


def _flag(resource: JSON, version: int, found: JSON) -> Flag:
    parts: list[JSON] = found.get("extension", [])
    one = {part["url"]: part for part in parts if part.get("url") not in ("reason", "reading", "extent", "move")}
    rule: JSON = next((c for c in resource["code"]["coding"] if c.get("system") == RULE), {})
    by, at, why = zip(*(who_of(one.get(name)) for name in ("acknowledged", "resolved")), strict=True)
    return Flag(
        id=resource["id"],
        version=version,
        patient_id=tail(resource["subject"]["reference"]),
        hub_id=tail(one["hub"]["valueReference"]["reference"]) if "hub" in one else None,
        rule=rule["code"],
        rule_version=int(one["rule-version"]["valueInteger"]),
        kind=resource["category"][0]["coding"][0]["code"],
        severity=int(one["severity"]["valueInteger"]),
        state=one["state"]["valueCode"],
        summary=resource["code"].get("text", ""),
        reasons=[reason_of(part["extension"]) for part in parts if part.get("url") == "reason"],
        observations=[tail(p["valueReference"]["reference"]) for p in parts if p.get("url") == "reading"],
        count=int(one["count"]["valueInteger"]),
        opened=instant(resource["period"]["start"]),
        refreshed=instant(one["refreshed"]["valueDateTime"]),
        acknowledged_by=by[0],
        acknowledged_at=at[0],
        acknowledged_why=why[0],
        resolved_by=by[1],
        resolved_at=at[1],
        resolved_why=why[1],
        advice=one["advice"]["valueString"] if "advice" in one else None,
        extents=[extent_of(part["extension"]) for part in parts if part.get("url") == "extent"],
        moves=[move_of(part["extension"]) for part in parts if part.get("url") == "move"],
        level=int(one["level"]["valueInteger"]) if "level" in one else 0,
        due=instant(one["due"]["valueDateTime"]) if "due" in one else None,
        outcome=outcome_of(one["outcome"]) if "outcome" in one else None,
    )


COLUMNS = tuple(Flag.__dataclass_fields__)


async def take_turns(pg: psycopg.AsyncConnection[Any], patient_ids: Iterable[str]) -> None:
    """Until the transaction ends nobody else passes here for any of these people. Take it before reading what `decide`
    is given, or two transactions may each open the same flag and one of them fail."""
    await pg.execute(turns("unnest(%s::text[]) AS id"), (list(patient_ids),))


def turns(people: str) -> str:
    """The statement of `take_turns` for the patients in the column `id` of the relation *people*, as SQL."""
    # In one order everywhere, so that two batches never wait for each other.
    return (
        "SELECT pg_advisory_xact_lock(number) FROM ("
        f"SELECT DISTINCT hashtextextended('flag/' || id, 0) AS number FROM {people} ORDER BY 1) AS ordered"
    )


async def live_flags(pg: psycopg.AsyncConnection[Any], patient_ids: Iterable[str]) -> dict[tuple[str, str], Flag]:
    """Live flags by (patient, rule)."""
    cursor = await pg.execute(
        f"SELECT {', '.join(COLUMNS)} FROM flag WHERE patient_id = ANY(%s) AND {LIVE}", (list(patient_ids),)
    )
    flags = [Flag(*row) for row in await cursor.fetchall()]
    return {(flag.patient_id, flag.rule): flag for flag in flags}


async def project_flags(
    pg: psycopg.AsyncConnection[Any], written: Sequence[tuple[JSON, int]], removed: Sequence[str] = ()
) -> None:
    """Write the rows of *written* FHIR Flags, each with its version; drop those of *removed* (ids).

    A Flag that is not of our engine, or no longer says so, has no row. Raises Refusal 409 for a second live flag of one
    rule and person, which only someone who writes flags by hand can bring about.
    """
    flags = [(resource["id"], from_fhir(resource, version)) for resource, version in written]
    gone = [*removed, *(id_ for id_, flag in flags if flag is None)]
    if gone:
        await pg.execute("DELETE FROM flag WHERE id = ANY(%s)", (gone,))
    rows = [{key: _json(value) for key, value in asdict(flag).items()} for _, flag in flags if flag is not None]
    if not rows:
        return
    update = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])
    try:
        await pg.execute(
            f"""INSERT INTO flag ({", ".join(COLUMNS)})
                SELECT {", ".join(COLUMNS)} FROM jsonb_populate_recordset(NULL::flag, %s)
                ON CONFLICT (id) DO UPDATE SET {update}""",
            (Jsonb(rows),),
        )
    except psycopg.errors.UniqueViolation as error:
        raise refuse(409, "conflict", "This person has a live flag of this rule already.", "Flag.code") from error


def _json(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
