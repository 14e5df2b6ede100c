"""Who looks after a person: the rows of a CareTeam, assignment, and how the person reads it."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from care_plans.shapes import JSON, SNOMED, concept_text, instant, local_reference, reference_id
from fhir.outcome import refuse

LONGEST_CODE = 18
"""Digits of a SNOMED CT identifier, at most."""

COORDINATOR = "768820003"
COACH = "432100008"

# Words for the patient: SNOMED CT code -> (role, what they do). Codes as in UK Core PractitionerRoleCode,
# 768820003 as in the MCC eCare Plan examples; 106328005 "check" in our source, shown only when sent.
ROLES: dict[str, tuple[str, str]] = {
    COORDINATOR: ("care coordinator", "Your first contact. Helps you write your plan and makes sure that it happens."),
    COACH: ("health coach", "Helps you reach your goals, one small step at a time."),
    "62247001": ("GP", "Your family doctor."),
    "224540001": ("community nurse", "Cares for you at home or near home."),
    "158997000": ("district nurse", "Cares for you at home."),
    "80546007": ("occupational therapist", "Helps you do everyday things safely."),
    "36682004": ("physiotherapist", "Helps you move well and stay strong."),
    "734293001": ("pharmacist", "Helps you get the most from your medicines."),
    "90655003": ("geriatrician", "A hospital doctor for older people."),
    "224563006": ("mental health nurse", "Supports your mental health."),
    "224564000": ("community mental health nurse", "Supports your mental health at home or near home."),
    "106328005": ("social worker", "Helps with care, money and housing questions."),
    "768832004": ("case manager", "Brings your care together."),
}


@dataclass(frozen=True, slots=True)
class Member:
    """A row of the table `team_member`. *member* is a reference, *role_code* SNOMED CT or empty."""

    care_team_id: str
    member: str
    role_code: str
    patient_id: str
    role: str
    name: str
    since: datetime | None
    until: datetime | None

    def here(self, now: datetime) -> bool:
        return (self.since is None or self.since <= now) and (self.until is None or now < self.until)


def rows(care_team: JSON) -> list[Member]:
    """One row for each member and role of an active CareTeam; none of a team in any other status.

    Who held a role twice has one row, of the stay that ends last: that is the one that counts today.
    """
    patient_id = reference_id(care_team.get("subject"), "Patient")
    if care_team.get("status") != "active" or patient_id is None:
        return []
    found: dict[tuple[str, str], Member] = {}
    for position, participant in enumerate(care_team.get("participant") or ()):
        member: JSON = participant.get("member") or {}
        name = member.get("display") or ""
        if not member.get("reference") and not name:
            continue
        # Somebody who is not on our record (contained, on another server, a bare name) goes by their place.
        reference = local_reference(member) or f"#{position + 1}"
        since, until = stay(care_team, participant)
        for code, role in roles(participant):
            row = Member(str(care_team["id"]), reference, code, patient_id, role, name, since, until)
            other = found.get((row.member, code))
            if other is None or _ends(other) <= _ends(row):
                found[row.member, code] = row
    return list(found.values())


def _ends(member: Member) -> datetime:
    return member.until or datetime.max.replace(tzinfo=UTC)


def stay(care_team: JSON, participant: JSON) -> tuple[datetime | None, datetime | None]:
    """From when until when somebody belongs to the team: their own period within the team's."""
    periods = [care_team.get("period") or {}, participant.get("period") or {}]
    starts = [start for period in periods if (start := instant(period.get("start")))]
    ends = [end for period in periods if (end := instant(period.get("end"), end=True))]
    return max(starts, default=None), min(ends, default=None)


def roles(participant: JSON) -> list[tuple[str, str]]:
    """(SNOMED code or "", words) of each role of a participant; one pair even when no role is given."""
    found = []
    for concept in participant.get("role") or ():
        codes = (c.get("code") for c in concept.get("coding") or () if c.get("system") == SNOMED)
        code = next((code for code in codes if code and code.isdigit() and len(code) <= LONGEST_CODE), "")
        found.append((code, role_words(code, concept_text(concept))))
    return found or [("", "")]


def role_words(code: str, text: str | None = None) -> str:
    return ROLES[code][0] if code in ROLES else text or ""


def holder(members: Iterable[Member], role_code: str, now: datetime) -> Member | None:
    """Who holds a role now: the one who came last when two do."""
    here = [member for member in members if member.role_code == role_code and member.here(now)]
    return max(here, key=lambda member: member.since or datetime.min.replace(tzinfo=UTC), default=None)


def coordinator(members: Iterable[Member], now: datetime) -> Member | None:
    return holder(members, COORDINATOR, now)


def coach(members: Iterable[Member], now: datetime) -> Member | None:
    return holder(members, COACH, now)


def new_team(
    care_team_id: str, patient: str, since: datetime, *, hub: str | None = None, hub_name: str | None = None
) -> JSON:
    """A CareTeam with the hub as its first participant, which lets the hub's clinicians see the person."""
    team: JSON = {
        "resourceType": "CareTeam",
        "id": care_team_id,
        "status": "active",
        "subject": {"reference": patient},
        "period": {"start": since.isoformat()},
        "participant": [],
    }
    if hub:
        organisation = {"reference": hub} | ({"display": hub_name} if hub_name else {})
        team["managingOrganization"] = [organisation]
        team["participant"].append({"role": [{"text": "hub"}], "member": organisation})
    return team


def assign(care_team: JSON, role_code: str, practitioner: str, name: str, since: datetime) -> JSON:
    """The team with *practitioner* in the role from *since*; who held it before stays in the record with an end.

    The same team comes back when they hold the role already. Refused 422: a role that is not in ROLES, no name (the
    patient must see one), and a team that is not active.
    """
    if role_code not in ROLES:
        raise refuse(422, "code-invalid", f"{role_code} is not a role of the team.", "CareTeam.participant.role")
    if not name.strip():
        raise refuse(
            422, "required", "A member of the team needs a name to show.", "CareTeam.participant.member.display"
        )
    if care_team.get("status") != "active":
        raise refuse(
            422, "business-rule", "The team is not active, so nobody can be assigned to it.", "CareTeam.status"
        )
    team = copy.deepcopy(care_team)
    for participant in team.setdefault("participant", []):
        if role_code not in {code for code, _ in roles(participant)} or _ended(participant, since):
            continue
        if (participant.get("member") or {}).get("reference") == practitioner:
            return care_team
        participant["period"] = {**(participant.get("period") or {}), "end": since.isoformat()}
    team["participant"].append(
        {
            "role": [{"coding": [{"system": SNOMED, "code": role_code}], "text": ROLES[role_code][0]}],
            "member": {"reference": practitioner, "display": name.strip()},
            "period": {"start": since.isoformat()},
        }
    )
    return team


def leave(care_team: JSON, member: str, on: datetime) -> JSON:
    """The team without *member* (a reference) from *on*: every open stay of theirs ends."""
    team = copy.deepcopy(care_team)
    for participant in team.get("participant") or ():
        if (participant.get("member") or {}).get("reference") == member and not _ended(participant, on):
            participant["period"] = {**(participant.get("period") or {}), "end": on.isoformat()}
    return team


def _ended(participant: JSON, now: datetime) -> bool:
    end = instant((participant.get("period") or {}).get("end"), end=True)
    return end is not None and end <= now


@dataclass(frozen=True, slots=True)
class Face:
    """A member as the person sees them: "Sam Okafor", "your care coordinator", and what they do for you."""

    member: str
    name: str
    role: str
    does: str


def faces(members: Sequence[Member], now: datetime) -> list[Face]:
    """The people of the team, coordinator first, then coach, then the others by name; organisations last."""
    order = {COORDINATOR: 0, COACH: 1}
    here = [member for member in members if member.here(now)]
    here.sort(key=lambda m: (m.member.startswith("Organization/"), order.get(m.role_code, 2), m.name))
    return [
        Face(
            member=member.member,
            name=member.name or "A member of your team",
            role=f"your {member.role}" if member.role else "in your team",
            does=ROLES[member.role_code][1] if member.role_code in ROLES else "",
        )
        for member in here
    ]
