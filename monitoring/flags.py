"""A flag: what people do about it, its FHIR shape, and its row. What opens and refreshes it: `monitoring.decision`."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import psycopg
from psycopg.types.json import Jsonb

from fhir.outcome import refuse
from monitoring.case import Reason
from monitoring.extents import STEPS, Extent, Side
from monitoring.limits import AMBER, INFORMATION, RED
from monitoring.measures import MEASURES, UCUM
from monitoring.rules import name_of
from monitoring.tables import LIVE

JSON = dict[str, Any]

EXT = "https://carehub.example/fhir/StructureDefinition/flag-state"
CATEGORY = "https://carehub.example/fhir/CodeSystem/flag-category"
RULE = "https://carehub.example/fhir/CodeSystem/rule"
AUTHOR = "Device/care-hub-engine"

OPEN, ACKNOWLEDGED, RESOLVED, FALSE_ALARM = "open", "acknowledged", "resolved", "false-alarm"
STATES = (OPEN, ACKNOWLEDGED, RESOLVED, FALSE_ALARM)
KINDS = ("clinical", "compliance", "operational")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag: the row of the table `flag`, and all that its FHIR resource says.

    `reasons` holds those of the latest finding first; `observations` ids, oldest first; `version` that of the FHIR
    resource, 0 before the first write. People are references such as `Practitioner/x`. `extents` say how far it goes:
    those of the latest finding while it is open; once acknowledged, what was acknowledged.
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

    @property
    def live(self) -> bool:
        return self.state in (OPEN, ACKNOWLEDGED)

    @property
    def rule_name(self) -> str:
        return name_of(self.rule)


def reopened(before: JSON, after: JSON) -> bool:
    """Whether the FHIR Flag *after* waits for eyes again that *before* was acknowledged."""
    was, now = from_fhir(before, 0), from_fhir(after, 0)
    return was is not None and now is not None and (was.state, now.state) == (ACKNOWLEDGED, OPEN)


def acknowledge(flag: Flag, who: str, when: datetime, why: str) -> Flag:
    """*who* has seen it and acts. Refusal 409 unless it is open, 422 without a reason."""
    if flag.state != OPEN:
        raise refuse(409, "conflict", f"This flag is {flag.state}, not open.", "Flag.status")
    _need(why)
    return replace(flag, state=ACKNOWLEDGED, acknowledged_by=who, acknowledged_at=when, acknowledged_why=why.strip())


def resolve(flag: Flag, who: str, when: datetime, why: str, outcome: str = RESOLVED) -> Flag:
    """*who* ends it as `resolved` or `false-alarm`. Refusal 409 when it has ended, 422 without a reason."""
    if outcome not in (RESOLVED, FALSE_ALARM):
        raise refuse(422, "value", "A flag ends as resolved or false-alarm.", "Flag.extension")
    if not flag.live:
        raise refuse(409, "conflict", f"This flag is {flag.state} already.", "Flag.status")
    _need(why)
    return replace(flag, state=outcome, resolved_by=who, resolved_at=when, resolved_why=why.strip())


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
    state += [{"url": "extent", "extension": _extent_parts(one)} for one in flag.extents]
    state += [{"url": "reason", "extension": _reason_parts(one)} for one in flag.reasons]
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
    ):
        raise refuse(
            422, "value", "State, severity, kind, rule-version or count is none that we know.", "Flag.extension"
        )
    if flag.live != (resource.get("status") == "active"):
        raise refuse(422, "invariant", f"Flag.status contradicts the flag-state {flag.state!r}.", "Flag.status")
    if (flag.state == ACKNOWLEDGED and not flag.acknowledged_why) or (not flag.live and not flag.resolved_why):
        raise refuse(422, "required", f"A flag that is {flag.state} says who did so, when and why.", "Flag.extension")
    return flag


def _flag(resource: JSON, version: int, found: JSON) -> Flag:
    parts: list[JSON] = found.get("extension", [])
    one = {part["url"]: part for part in parts if part.get("url") not in ("reason", "reading", "extent")}
    rule: JSON = next((c for c in resource["code"]["coding"] if c.get("system") == RULE), {})
    by, at, why = zip(*(_who(one.get(name)) for name in ("acknowledged", "resolved")), strict=True)
    return Flag(
        id=resource["id"],
        version=version,
        patient_id=_tail(resource["subject"]["reference"]),
        hub_id=_tail(one["hub"]["valueReference"]["reference"]) if "hub" in one else None,
        rule=rule["code"],
        rule_version=int(one["rule-version"]["valueInteger"]),
        kind=resource["category"][0]["coding"][0]["code"],
        severity=int(one["severity"]["valueInteger"]),
        state=one["state"]["valueCode"],
        summary=resource["code"].get("text", ""),
        reasons=[_reason(part["extension"]) for part in parts if part.get("url") == "reason"],
        observations=[_tail(p["valueReference"]["reference"]) for p in parts if p.get("url") == "reading"],
        count=int(one["count"]["valueInteger"]),
        opened=_instant(resource["period"]["start"]),
        refreshed=_instant(one["refreshed"]["valueDateTime"]),
        acknowledged_by=by[0],
        acknowledged_at=at[0],
        acknowledged_why=why[0],
        resolved_by=by[1],
        resolved_at=at[1],
        resolved_why=why[1],
        advice=one["advice"]["valueString"] if "advice" in one else None,
        extents=[_extent(part["extension"]) for part in parts if part.get("url") == "extent"],
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


def _need(why: str) -> None:
    if not why.strip():
        raise refuse(422, "required", "Say why.", "Flag.extension")


def _json(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _reason_parts(reason: Reason) -> list[JSON]:
    parts: list[JSON] = [
        {"url": "text", "valueString": reason["text"]},
        {"url": "measure", "valueCode": reason["measure"]},
    ]
    if reason["value"] is not None:
        measure = MEASURES[reason["measure"]]
        quantity = {
            "value": _number(reason["value"]),
            "unit": measure.shown,
            "system": UCUM,
            "code": measure.unit,
        }
        parts.append({"url": "value", "valueQuantity": quantity})
    if reason["word"] is not None:
        parts.append({"url": "word", "valueCode": reason["word"]})
    parts.append({"url": "at", "valueDateTime": reason["at"]})
    if reason["observation"]:
        parts.append({"url": "observation", "valueReference": {"reference": f"Observation/{reason['observation']}"}})
    return parts


def _reason(parts: list[JSON]) -> Reason:
    one = {part["url"]: part for part in parts}
    quantity = one["value"]["valueQuantity"] if "value" in one else None
    return Reason(
        text=one["text"]["valueString"],
        measure=one["measure"]["valueCode"],
        value=float(quantity["value"]) if quantity else None,
        word=cast(str | None, one["word"]["valueCode"]) if "word" in one else None,
        unit=MEASURES[one["measure"]["valueCode"]].unit,
        at=one["at"]["valueDateTime"],
        observation=_tail(one["observation"]["valueReference"]["reference"]) if "observation" in one else "",
    )


def _extent_parts(one: Extent) -> list[JSON]:
    return [
        {"url": "measure", "valueCode": one["measure"]},
        {"url": "side", "valueCode": one["side"]},
        {"url": "value", "valueDecimal": _number(one["value"])},
    ]


def _extent(parts: list[JSON]) -> Extent:
    one = {part["url"]: part for part in parts}
    measure, side = one["measure"]["valueCode"], one["side"]["valueCode"]
    if measure not in STEPS or side not in ("low", "high"):
        raise ValueError(f"no extent of {measure!r} goes {side!r}")
    return Extent(measure=measure, side=cast(Side, side), value=float(one["value"]["valueDecimal"]))


def _number(value: float) -> int | Decimal:
    exact = Decimal(repr(value))
    return int(exact) if exact == exact.to_integral_value() else exact


def _who(part: JSON | None) -> tuple[str | None, datetime | None, str | None]:
    if part is None:
        return None, None, None
    one = {inner["url"]: inner for inner in part["extension"]}
    why = one["why"]["valueString"] if "why" in one else None
    return one["by"]["valueReference"]["reference"], _instant(one["at"]["valueDateTime"]), why


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return at


def _tail(reference: str) -> str:
    return reference.rpartition("/")[2]
