"""Pregnancy as a named clinician recorded it (FHIR Condition): NEWS2 is not made for it.

A record that nobody ends must not silence NEWS2 for years, and one that nobody signed must not silence it at all: what
does not count is scored, and the person's page says why.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import psycopg

from fhir.outcome import refuse

JSON = dict[str, Any]

SNOMED = "http://snomed.info/sct"
PREGNANT = "77386006"
"""SNOMED CT *Pregnancy (finding)*. More special codes (a normal pregnancy, one at risk) come with imports of all ages,
and do not count."""

LONGEST = timedelta(weeks=43)
"""From the first day of the last period. Term ends at 42 weeks; an older record was forgotten. Ours, unverified."""

_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_CLINICIANS = ("Practitioner/", "PractitionerRole/")
_ACTIVE = frozenset({"active", "recurrence", "relapse"})


@dataclass(frozen=True, slots=True)
class Pregnancy:
    """An active, confirmed record of it: the row of `pregnancy`. `since` is the first day of the last period, or the
    day from which it was known; `recorded_by` the clinician whose name it bears."""

    condition_id: str
    patient_id: str
    since: date | None
    recorded_by: str | None

    def why_not(self, today: date) -> str | None:
        """Why it does not count *today*, in words for staff; None when it does, and NEWS2 is silent."""
        if self.recorded_by is None:
            return "no clinician's name is on it"
        if self.since is None:
            return "it does not say since when"
        if self.since > today:
            return "it begins in the future"
        if today - self.since > LONGEST:
            return f"it began more than {LONGEST.days // 7} weeks ago and nobody recorded its end"
        return None


COUNTS = (
    "EXISTS (SELECT 1 FROM pregnancy p WHERE p.patient_id = person.patient_id AND p.recorded_by IS NOT NULL"
    f" AND %s::date - p.since BETWEEN 0 AND {LONGEST.days})"
)
"""SQL beside the table `person`: whether a pregnancy counts on the day of its one parameter, as `why_not` says it."""


def from_condition(resource: JSON) -> Pregnancy | None:
    """The pregnancy that *resource* says; None when it is something else, not confirmed, or over."""
    if not tells_of_pregnancy(resource):
        return None
    verified = _codes(resource, "verificationStatus")
    over = any(name.startswith("abatement") for name in resource)
    if over or not _codes(resource, "clinicalStatus") & _ACTIVE or (verified and "confirmed" not in verified):
        return None
    period = resource.get("onsetPeriod") or {}
    since = resource.get("onsetDateTime") or period.get("start") or resource.get("recordedDate")
    signed = (resource.get(name, {}).get("reference", "") for name in ("recorder", "asserter"))
    return Pregnancy(
        condition_id=resource["id"],
        patient_id=resource.get("subject", {}).get("reference", "").removeprefix("Patient/"),
        since=_first_day(since) if since else None,
        recorded_by=next((one for one in signed if one.startswith(_CLINICIANS)), None),
    )


def tells_of_pregnancy(resource: JSON) -> bool:
    """Whether *resource* is a Condition of that code, whatever else it says."""
    codings = resource.get("code", {}).get("coding", ())
    return any(one.get("system") == SNOMED and one.get("code") == PREGNANT for one in codings)


def new_condition(id_: str, patient_id: str, since: date, today: date, by: str, name: str | None) -> JSON:
    """A pregnancy since *since* as *by* (a reference) records it *today*. Raises Refusal 422 for an impossible day."""
    if not timedelta(0) <= today - since <= LONGEST:
        text = f"The first day is today or up to {LONGEST.days // 7} weeks ago."
        raise refuse(422, "value", text, "Condition.onset.ofType(dateTime)")
    return {
        "resourceType": "Condition",
        "id": id_,
        "clinicalStatus": {"coding": [{"system": _CLINICAL, "code": "active"}]},
        "verificationStatus": {"coding": [{"system": _VERIFICATION, "code": "confirmed"}]},
        "code": {"coding": [{"system": SNOMED, "code": PREGNANT, "display": "Pregnancy"}], "text": "Pregnant"},
        "subject": {"reference": f"Patient/{patient_id}"},
        "onsetDateTime": since.isoformat(),
        "recordedDate": today.isoformat(),
        "recorder": {"reference": by} | ({"display": name} if name else {}),
    }


def ended(resource: JSON, on: date, today: date) -> JSON:
    """*resource* as of a pregnancy that ended *on*. Raises Refusal 422 for a day before it began or after *today*."""
    begun = resource.get("onsetDateTime", "")
    if on > today or (begun and on < _first_day(begun)):
        text = "The last day is not after today and not before the pregnancy began."
        raise refuse(422, "value", text, "Condition.abatement.ofType(dateTime)")
    status = {"coding": [{"system": _CLINICAL, "code": "resolved"}]}
    return {**resource, "clinicalStatus": status, "abatementDateTime": on.isoformat()}


async def project_pregnancies(
    pg: psycopg.AsyncConnection[Any], changed: Sequence[tuple[str, JSON | None]], made: Collection[str] = ()
) -> None:
    """Bring the rows up to date with *changed* Conditions: (id, resource or None when it was deleted). Those in *made*
    are new, and have no row yet."""
    if before := [id_ for id_, _ in changed if id_ not in made]:
        await pg.execute("DELETE FROM pregnancy WHERE condition_id = ANY(%s)", (before,))
    found = [one for _, resource in changed if resource and (one := from_condition(resource))]
    if found:
        await pg.execute(
            "INSERT INTO pregnancy (condition_id, patient_id, since, recorded_by)"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::date[], %s::text[])",
            (
                [one.condition_id for one in found],
                [one.patient_id for one in found],
                [one.since for one in found],
                [one.recorded_by for one in found],
            ),
        )


async def pregnancies(pg: psycopg.AsyncConnection[Any], patient_id: str) -> list[Pregnancy]:
    """Those on record that nobody ended, newest first; `why_not` says which of them count."""
    rows = await pg.execute(
        "SELECT condition_id, patient_id, since, recorded_by FROM pregnancy WHERE patient_id = %s"
        " ORDER BY since DESC NULLS LAST, condition_id",
        (patient_id,),
    )
    return [Pregnancy(*row) for row in await rows.fetchall()]


def _codes(resource: JSON, name: str) -> set[str]:
    return {one.get("code", "") for one in resource.get(name, {}).get("coding", ())}


def _first_day(text: str) -> date:
    """The day of a FHIR date or dateTime; of a year or month the first, so that the record grows old sooner."""
    return date.fromisoformat((text[:10] + "-01-01")[:10])
