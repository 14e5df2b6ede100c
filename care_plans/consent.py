"""The person's approval of being planned for: what counts as one, and the refusal when there is none.

Source: "With approval of the patient, care plans will be developed" (Wirral). Default-deny: a Consent that is not
plainly about sharing for, or planning of, the person's own care is no approval. The shape of a no is that of the
per-organisation opt-out in the FHIR example that Patients Know Best contributed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from care_plans.shapes import (
    ACT_CODE,
    CONSENT_SCOPE,
    EXTENSION,
    JSON,
    LOCAL,
    LOINC,
    codings,
    extension_value,
    instant,
    literals,
    reference_id,
)
from fhir.outcome import Refusal, refuse

SCOPES = frozenset({(CONSENT_SCOPE, "patient-privacy"), (CONSENT_SCOPE, "treatment")})
CATEGORIES = frozenset(
    {
        (LOINC, "59284-0"),  # Patient Consent
        (ACT_CODE, "INFA"),  # information access
        (ACT_CODE, "IDSCL"),  # information disclosure
        (LOCAL + "consent-category", "care-plan"),
    }
)
OPT_OUT = frozenset({(ACT_CODE, "OPTOUT"), (ACT_CODE, "OPTOUTE")})
APPROVAL_HOW = EXTENSION + "approval-how"
RECORDED_BY = EXTENSION + "recorded-by"
WITHDRAWN = EXTENSION + "withdrawn"
PURPOSES = frozenset({"TREAT", "CAREMGT", "COC"})


Decision = Literal["permit", "deny"]


@dataclass(frozen=True, slots=True)
class Approval:
    """A row of the table `approval`: what the person decided, and from when until when it stands.

    At most one of *given* and *denied* is true; both are false for a Consent that decides nothing (any more).
    """

    id: str
    patient_id: str
    given: bool
    denied: bool
    given_by: str | None
    given_at: datetime
    how: str | None
    valid_from: datetime | None
    valid_until: datetime | None
    withdrawn_at: datetime | None = None
    withdrawn_by: str | None = None
    withdrawn_why: str | None = None

    def stands(self, now: datetime) -> bool:
        begun = self.valid_from is None or self.valid_from <= now
        return (self.given or self.denied) and begun and (self.valid_until is None or now < self.valid_until)


def row(consent: JSON, recorded: datetime) -> Approval | None:
    """The approval row of a Consent; None when it names no patient by a literal reference.

    *recorded* stands for a missing `dateTime`.
    """
    patient_id = reference_id(consent.get("patient"), "Patient")
    if patient_id is None:
        return None
    # What was withdrawn stays withdrawn: the end of the yes is no end of the no.
    active = consent.get("status") == "active"
    period: JSON = (consent.get("provision") or {}).get("period") or {} if active else {}
    performers = literals(consent.get("performer"))
    decided = decision(consent)
    parts = _withdrawal(consent)
    return Approval(
        id=str(consent["id"]),
        patient_id=patient_id,
        given=decided == "permit",
        denied=decided == "deny",
        given_by=performers[0] if performers else f"Patient/{patient_id}",
        given_at=instant(consent.get("dateTime")) or recorded,
        how=extension_value(consent, "approval-how", "valueString"),
        valid_from=instant(period.get("start")),
        valid_until=instant(period.get("end"), end=True),
        withdrawn_at=instant(parts.get("at", {}).get("valueDateTime")),
        withdrawn_by=parts.get("said-by", {}).get("valueReference", {}).get("reference"),
        withdrawn_why=parts.get("why", {}).get("valueString"),
    )


def _withdrawal(consent: JSON) -> dict[str, JSON]:
    """What the Consent says of how it was withdrawn, by the name of each part."""
    found: JSON = next((one for one in consent.get("extension", ()) if one.get("url") == WITHDRAWN), {})
    return {str(one.get("url")): one for one in found.get("extension", ())}


def approves(approvals: Iterable[Approval], now: datetime) -> bool:
    """Does the person approve now? The latest decision that stands counts; of two at one instant, the no."""
    standing = [approval for approval in approvals if approval.stands(now)]
    return bool(standing) and max(standing, key=lambda a: (a.given_at, a.denied)).given


def decision(consent: JSON) -> Decision | None:
    """What a Consent says about care planning, time aside; None when it says nothing.

    It speaks when its scope and category are of SCOPES and CATEGORIES and a stated purpose is care. It says no by
    `provision.type` deny, or by an opt-out policy that no `permit` lifts. A no that is narrowed (to a person, to some
    data) is an exception, not an answer, unless it names the organisation that asked.

    A yes that was withdrawn (inactive) or rejected is a no: an older yes that still lies in the record does not stand
    up again. A no that was taken back says nothing, and nor does a draft or a mistake.
    """
    said = _said(consent)
    match consent.get("status"):
        case "active":
            return said
        case "inactive" | "rejected" if said == "permit":
            return "deny"
        case _:
            return None


def _said(consent: JSON) -> Decision | None:
    if not SCOPES.intersection(codings(consent.get("scope"))):
        return None
    if not CATEGORIES.intersection(codings(consent.get("category"))):
        return None
    provision: JSON = consent.get("provision") or {}
    purposes = {purpose.get("code") for purpose in provision.get("purpose") or ()}
    if purposes and not purposes & PURPOSES:
        return None
    organisations = set(literals(consent.get("organization")))
    kind = provision.get("type")
    if kind == "deny" or (kind is None and OPT_OUT.intersection(codings(consent.get("policyRule")))):
        return None if _is_exception(provision, organisations) else "deny"
    for rule in provision.get("provision") or ():
        if rule.get("type") == "deny" and not _is_exception(rule, organisations):
            return "deny"
    return "permit"


def _is_exception(provision: JSON, organisations: set[str]) -> bool:
    """Is this `deny` about somebody or something only? A period narrows a root provision's time, not what it says."""
    if not provision.keys() & {"actor", "action", "securityLabel", "class", "code", "data"}:
        return False
    return not organisations.intersection(literals(actor.get("reference") for actor in provision.get("actor") or ()))


def new_consent(
    consent_id: str,
    patient: str,
    hub: str,
    given_at: datetime,
    how: str,
    *,
    performer: str | None = None,
    performer_name: str | None = None,
    recorded_by: str | None = None,
    until: datetime | None = None,
) -> JSON:
    """An approval as the pages record it. *how* in words: in person, by telephone, by a representative and why.

    *performer* is who said yes: the patient when None, else the RelatedPerson. Times keep their offset.
    """
    if not how.strip():
        raise refuse(422, "required", "Say how approval was given, such as 'in person'.", "Consent.extension")
    said: JSON = {"reference": performer or patient}
    if performer_name:
        said["display"] = performer_name
    provision: JSON = {"type": "permit"}
    if until:
        provision["period"] = {"end": until.isoformat()}
    extensions: list[JSON] = [{"url": APPROVAL_HOW, "valueString": how.strip()}]
    if recorded_by:
        extensions.append({"url": RECORDED_BY, "valueReference": {"reference": recorded_by}})
    return {
        "resourceType": "Consent",
        "id": consent_id,
        "extension": extensions,
        "status": "active",
        "scope": {"coding": [{"system": CONSENT_SCOPE, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": LOINC, "code": "59284-0", "display": "Patient Consent"}]}],
        "patient": {"reference": patient},
        "dateTime": given_at.isoformat(),
        "performer": [said],
        "organization": [{"reference": hub}],
        "policyRule": {"text": "The person approves a care plan being made and shared with their care team."},
        "provision": provision,
    }


def withdrawn(consent: JSON) -> JSON:
    """The same Consent, no longer given. Store it and `care_plans.rules.suspensions` says which plan stops."""
    return {**consent, "status": "inactive"}


def withdraw(consent: JSON, why: str, at: datetime, said_by: str, recorded_by: str) -> JSON:
    """`withdrawn`, with who said so (a reference), *why* in words, when, and who wrote it down."""
    if not why.strip():
        raise refuse(422, "required", "Say how and why the approval was withdrawn.", "Consent.extension")
    parts: list[JSON] = [
        {"url": "at", "valueDateTime": at.isoformat()},
        {"url": "said-by", "valueReference": {"reference": said_by}},
        {"url": "recorded-by", "valueReference": {"reference": recorded_by}},
        {"url": "why", "valueString": why.strip()},
    ]
    others = [one for one in consent.get("extension", ()) if one.get("url") != WITHDRAWN]
    return withdrawn(consent) | {"extension": [*others, {"url": WITHDRAWN, "extension": parts}]}


def approval_required(has_approval: bool, status: str | None) -> Refusal | None:
    """The refusal of a plan without approval, or None. *status* is the CarePlan's: one entered in error needs none."""
    if has_approval or status == "entered-in-error":
        return None
    return refuse(
        422,
        "business-rule",
        "No approval is recorded for this person, so no care plan can be made or changed. "
        "Ask the person (or who decides for them) and record the answer first: a Consent with status active, "
        "scope patient-privacy, category LOINC 59284-0 and this patient, that permits and whose period has not ended.",
        "CarePlan.subject",
    )
