"""Who may see whom: the condition every query starts from, and the rows of `access` it looks at.

Access follows the care relationship, never the employer: a row of `access` says that *subject* (a person, a practice,
a hub, a device) may see *patient_id*, because of *source* (the resource that says so). The rows are projected from
Patient, CareTeam, RelatedPerson and Device in the transaction that writes these, so a membership that ends takes
effect with the write that ends it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from fhir.outcome import refuse
from fhir.store import Sql, Visible
from hub.identity import Actor
from hub.roles import (
    CHANGE_PERMISSIONS,
    ROLES,
    SHARED_AREAS,
    SPEAKERS,
    STRIKE,
    STRUCK,
    TASK_ANSWER,
    TYPE_AREAS,
    TYPE_PERMISSIONS,
    Role,
)

NOTHING: Sql | None = None
EVERYTHING = Sql("TRUE", ())


_NOW = "(access.since IS NULL OR access.since <= now()) AND (access.until IS NULL OR access.until > now())"


def visible(actor: Actor) -> Visible:
    """The condition that limits rows of a FHIR type to what *actor* may see; None when the type is invisible.

    `visible(actor)("Observation", "r")` is an SQL condition on `r.patient_id` and `r.id`, so it holds for search tables
    and for `resource_version` alike. Default-deny: an unknown role or a type without an area sees nothing.
    """
    role = ROLES.get(actor.role)

    def condition(type_: str, alias: str) -> Sql | None:
        area = TYPE_AREAS.get(type_)
        if role is None or area is None or _narrowed(actor, type_, "r"):
            return NOTHING
        if alias in ("access", "team_member", "named", "made"):
            raise ValueError(f"{alias!r} would be captured by the inner query")
        if type_ in role.named:
            return _named(actor, role, type_, alias)
        if area not in role.reads:
            return NOTHING
        linked_to_nobody = area in SHARED_AREAS or area in role.unlinked
        if role.everyone:
            return EVERYTHING if linked_to_nobody else Sql(f"{alias}.patient_id IS NOT NULL", ())
        if area == "staff" and role.team_only:
            return _team(actor, type_, alias)
        related = _related(actor, f"{alias}.patient_id")
        if linked_to_nobody:
            return Sql(f"({alias}.patient_id IS NULL OR {related.text})", related.params)
        return related

    return condition


def people(actor: Actor, patient_id: str = "person.patient_id") -> Sql | None:
    """The condition that limits any table with a patient's id in column *patient_id* to people *actor* may see.

    For pages and lists over projections. None when the actor may see nobody's record (devices, operations).
    """
    role = ROLES.get(actor.role)
    if role is None or "identity" not in role.reads or _narrowed(actor, "Patient", "r"):
        return NOTHING
    return EVERYTHING if role.everyone else _related(actor, patient_id)


def may_read(actor: Actor, type_: str) -> bool:
    """Whether the actor's role reads this type of the people it may see: pages that read projections ask this first."""
    role = ROLES.get(actor.role)
    return role is not None and TYPE_AREAS.get(type_) in role.reads and not _narrowed(actor, type_, "r")


def may_method(actor: Actor, type_: str, method: str) -> bool:
    """Whether the scope of the actor's token, if it has one, allows *method* (create, update, delete) of the type."""
    return not _narrowed(actor, type_, method[0])


def _narrowed(actor: Actor, type_: str, letter: str) -> bool:
    return actor.scope is not None and not actor.scope.allows(type_, letter)


def may_write(actor: Actor, type_: str, linked: bool = True, new: bool = True) -> bool:
    """Whether the actor's role writes this type at all.

    *linked* is False for a row that is about no patient, *new* for a change or removal of what is there. Whether they
    may for this patient is `writable_patients`.
    """
    role = ROLES.get(actor.role)
    area = TYPE_AREAS.get(type_)
    if role is None or area is None:
        return False
    if area not in role.writes and not (new and type_ in role.also_writes):
        return False
    if not linked and area not in SHARED_AREAS and area not in role.unlinked:
        return False
    wanted = {TYPE_PERMISSIONS.get(type_), None if new else CHANGE_PERMISSIONS.get(type_)} - {None}
    return wanted <= role.permissions


def answers(actor: Actor, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether this change is the owner's answer to a task: accepted, done, declined, with a note, and nothing else.

    So a voluntary organisation can answer what it was asked without seeing, or writing, anything else of the person.
    """
    return (
        before["resourceType"] == "Task"
        and actor.can("task.answer")
        and before.get("owner", {}).get("reference") in actor.subjects
        and {name for name in before | after if before.get(name) != after.get(name)} <= TASK_ANSWER
    )


def strikes_own(actor: Actor, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether this change strikes through, or takes back striking through, what the actor wrote by hand: its status and
    one more note in their own name, and nothing else.

    So people can say that a reading they typed was wrong, and rewrite no value, no device's reading, nobody else's.
    """
    noted = after.get("note", [])
    return (
        before["resourceType"] == "Observation"
        and "device" not in before
        and [one.get("reference") for one in before.get("performer", ())] == [actor.reference]
        and {name for name in before | after if before.get(name) != after.get(name)} <= STRIKE
        and STRUCK in (before.get("status"), after.get("status"))
        and (before.get("status") != STRUCK or _said_by(before) == actor.reference)
        and noted[:-1] == before.get("note", [])
        and _said_by(after) == actor.reference
    )


def _said_by(observation: dict[str, Any]) -> str | None:
    """Who wrote the last note of *observation*."""
    said: dict[str, Any] = next(reversed(observation.get("note", ())), {})
    reference: str | None = said.get("authorReference", {}).get("reference")
    return reference


def check_speaker(actor: Actor, resource: dict[str, Any]) -> None:
    """Refusal 403 when a patient, carer or device lets somebody else speak: a message sent in a clinician's name."""
    if actor.kind not in ("patient", "device"):
        return
    for element in SPEAKERS.get(resource["resourceType"], ()):
        named = resource.get(element, ())
        for reference in named if isinstance(named, (list, tuple)) else (named,):
            if reference.get("reference") != actor.reference:
                raise refuse(
                    403,
                    "forbidden",
                    f"{element} can only be {actor.reference}, who sends this.",
                    f"{resource['resourceType']}.{element}",
                )


async def writable_patients(pg: psycopg.AsyncConnection[Any], actor: Actor, patient_ids: Iterable[str]) -> set[str]:
    """Those of *patient_ids* in whose care the actor is now. One query for any number of people.

    A person who is being registered in the same transaction has no rows yet: whoever `can("person.register")` may
    write them together with the team that makes the relationship (see `hub.flows`).
    """
    wanted = set(patient_ids)
    role = ROLES.get(actor.role)
    if role is None or not wanted:
        return set()
    if role.everyone:
        return wanted
    related = await pg.execute(
        f"SELECT DISTINCT access.patient_id FROM access"
        f" WHERE access.patient_id = ANY(%s) AND access.subject = ANY(%s) AND {_NOW}",
        (list(wanted), list(actor.subjects)),
    )
    return {row[0] for row in await related.fetchall()}


def _related(actor: Actor, patient_id: str) -> Sql:
    return Sql(
        f"EXISTS (SELECT 1 FROM access WHERE access.patient_id = {patient_id} AND access.subject = ANY(%s) AND {_NOW})",
        (list(actor.subjects),),
    )


def _named(actor: Actor, role: Role, type_: str, alias: str) -> Sql | None:
    params = role.named[type_]
    if params == ("_id",):
        kind, _, own_id = actor.reference.partition("/")
        return Sql(f"{alias}.id = %s", (own_id,)) if kind == type_ else NOTHING
    if params == ("_owner",):
        made = f"SELECT 1 FROM subscription made WHERE made.id = {alias}.id AND made.account_id = %s"
        return Sql(f"EXISTS ({made})", (actor.id,))
    keys = [f"{param}={subject}" for param in params for subject in actor.subjects]
    return Sql(
        f"EXISTS (SELECT 1 FROM r_{type_.lower()} named WHERE named.id = {alias}.id AND named.keys && %s::text[])",
        (keys,),
    )


def _team(actor: Actor, type_: str, alias: str) -> Sql | None:
    if type_ != "Practitioner":
        return NOTHING
    return Sql(
        "EXISTS (SELECT 1 FROM team_member JOIN access ON access.patient_id = team_member.patient_id"
        f" WHERE team_member.member = 'Practitioner/' || {alias}.id AND access.subject = ANY(%s) AND {_NOW})",
        (list(actor.subjects),),
    )


@dataclass(frozen=True, slots=True)
class Relationship:
    """Why somebody may see a person."""

    subject: str
    basis: str
    source: str
    since: datetime | None
    until: datetime | None


async def explain(pg: psycopg.AsyncConnection[Any], patient_id: str) -> list[Relationship]:
    """Who may see one person now and why, for whoever `can("access.explain")`."""
    rows = await pg.execute(
        f"SELECT subject, basis, source, since, until FROM access WHERE patient_id = %s AND {_NOW}"
        " ORDER BY basis, subject, source",
        (patient_id,),
    )
    return [Relationship(*row) for row in await rows.fetchall()]


# -- what grants access ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grant:
    """*subject* may see *patient_id* from `since` until `until` (None: without bound), because of *basis*."""

    subject: str
    patient_id: str
    basis: str
    since: datetime | None = None
    until: datetime | None = None


def grants(resource: dict[str, Any]) -> list[Grant]:
    """What a resource grants: one row per subject. Nothing for types that grant nothing."""
    grant = _GRANTS.get(resource["resourceType"])
    return _merged(grant(resource)) if grant else []


GRANTING_TYPES = frozenset({"Patient", "RelatedPerson", "CareTeam", "Device"})


async def project_access(pg: psycopg.AsyncConnection[Any], by_source: Mapping[str, Sequence[Grant]]) -> None:
    """Replace what each source (`CareTeam/x`) grants. An empty list takes everything back. Two statements in all."""
    if not by_source:
        return
    await pg.execute("DELETE FROM access WHERE source = ANY(%s)", (list(by_source),))
    rows = [(source, grant) for source, source_grants in by_source.items() for grant in source_grants]
    if rows:
        await pg.execute(
            "INSERT INTO access (subject, patient_id, source, basis, since, until)"
            " SELECT * FROM"
            " unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])",
            (
                [grant.subject for _, grant in rows],
                [grant.patient_id for _, grant in rows],
                [source for source, _ in rows],
                [grant.basis for _, grant in rows],
                [grant.since for _, grant in rows],
                [grant.until for _, grant in rows],
            ),
        )


def _of_patient(patient: dict[str, Any]) -> list[Grant]:
    patient_id = patient["id"]
    practices = [
        Grant(subject, patient_id, "practice")
        for reference in patient.get("generalPractitioner", ())
        if (subject := _reference(reference, "Organization", "Practitioner", "PractitionerRole"))
    ]
    return [Grant(f"Patient/{patient_id}", patient_id, "self"), *practices]


def _of_related_person(related: dict[str, Any]) -> list[Grant]:
    patient = _reference(related.get("patient"), "Patient")
    if patient is None or related.get("active") is False:
        return []
    since, until = _bounds(related.get("period"))
    return [Grant(f"RelatedPerson/{related['id']}", patient.partition("/")[2], "carer", since, until)]


def _of_care_team(team: dict[str, Any]) -> list[Grant]:
    patient = _reference(team.get("subject"), "Patient")
    if patient is None or team.get("status") != "active":
        return []
    patient_id = patient.partition("/")[2]
    hubs = {_reference(reference, "Organization") for reference in team.get("managingOrganization", ())}
    whole = _bounds(team.get("period"))
    found = []
    for participant in team.get("participant", ()):
        # Only `member` is in the care relationship. `onBehalfOf` is the member's employer; people close to the person
        # are granted access by their RelatedPerson alone.
        member = _reference(participant.get("member"), "Practitioner", "PractitionerRole", "Organization")
        if member is not None:
            since, until = _narrower(whole, _bounds(participant.get("period")))
            found.append(Grant(member, patient_id, "hub" if member in hubs else "team", since, until))
    return found


def _of_device(device: dict[str, Any]) -> list[Grant]:
    patient = _reference(device.get("patient"), "Patient")
    if patient is None or device.get("status", "active") != "active":
        return []
    return [Grant(f"Device/{device['id']}", patient.partition("/")[2], "device")]


_GRANTS: Mapping[str, Callable[[dict[str, Any]], list[Grant]]] = {
    "Patient": _of_patient,
    "RelatedPerson": _of_related_person,
    "CareTeam": _of_care_team,
    "Device": _of_device,
}


def _reference(reference: dict[str, Any] | None, *types: str) -> str | None:
    """`Type/id` when the reference is a literal one to a resource of this server of one of *types*."""
    parts = str((reference or {}).get("reference", "")).split("/")
    return f"{parts[0]}/{parts[1]}" if len(parts) in (2, 4) and parts[0] in types and parts[1] else None


Bounds = tuple[datetime | None, datetime | None]


def _bounds(period: dict[str, Any] | None) -> Bounds:
    period = period or {}
    return _instant(period.get("start"), last=False), _instant(period.get("end"), last=True)


def _instant(text: str | None, last: bool) -> datetime | None:
    """A FHIR dateTime as an instant; for *last*, the first instant after a partial date."""
    if text is None:
        return None
    if "T" in text:
        return datetime.fromisoformat(text)
    year, month, day = (int(part) for part in (text + "-00-00").split("-")[:3])
    start = datetime(year, month or 1, day or 1, tzinfo=UTC)
    if not last:
        return start
    if text.startswith("9999"):
        return None  # how many systems write "for ever"; no instant comes after it
    if day:
        return start + timedelta(days=1)
    return datetime(year + (month in (0, 12)), 1 if month in (0, 12) else month + 1, 1, tzinfo=UTC)


def _narrower(one: Bounds, other: Bounds) -> Bounds:
    starts = [start for start in (one[0], other[0]) if start]
    ends = [end for end in (one[1], other[1]) if end]
    return max(starts, default=None), min(ends, default=None)


def _merged(found: list[Grant]) -> list[Grant]:
    """One grant per subject: a member listed twice has the longer of both times."""
    merged: dict[tuple[str, str], Grant] = {}
    for grant in found:
        key = (grant.subject, grant.patient_id)
        known = merged.get(key)
        if known is not None:
            since = min(known.since, grant.since) if known.since and grant.since else None
            until = max(known.until, grant.until) if known.until and grant.until else None
            grant = Grant(*key, known.basis, since, until)
        merged[key] = grant
    return list(merged.values())
