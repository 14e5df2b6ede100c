"""What counts as the person's approval."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from care_plans.consent import approval_required, approves, decision, new_consent, row, withdrawn
from fhir.outcome import Refusal

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def consent(**changes: Any) -> dict[str, Any]:
    made = new_consent("c", "Patient/p", "Organization/hub", NOW - timedelta(days=1), "in person")
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def approved(*consents: dict[str, Any], now: datetime = NOW) -> bool:
    rows = [row({**one, "id": f"c{i}"}, NOW) for i, one in enumerate(consents)]
    return approves([one for one in rows if one], now)


def coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


class TestNoApproval:
    def test_nobody_asked(self) -> None:
        assert not approves([], NOW)

    @pytest.mark.parametrize("status", ["draft", "proposed", "rejected", "inactive", "entered-in-error"])
    def test_it_is_not_active(self, status: str) -> None:
        assert not approved(consent(status=status))

    def test_withdrawn(self) -> None:
        assert not approved(withdrawn(consent()))

    def test_it_denies(self) -> None:
        assert not approved(consent(provision={"type": "deny"}))

    def test_opting_out_in_the_shape_of_patients_know_best(self) -> None:
        assert not approved(consent(policyRule=coded(ACT_CODE, "OPTOUT"), provision=None))

    def test_its_period_has_ended(self) -> None:
        ended = consent(provision={"type": "permit", "period": {"end": "2026-11-20"}})
        assert not approved(ended)

    def test_its_period_has_yet_to_begin(self) -> None:
        assert not approved(consent(provision={"type": "permit", "period": {"start": "2026-11-22"}}))

    def test_it_is_about_research(self) -> None:
        scope = coded("http://terminology.hl7.org/CodeSystem/consentscope", "research")
        assert not approved(consent(scope=scope))

    def test_it_is_an_acknowledgement_of_a_privacy_notice(self) -> None:
        npp = coded("http://terminology.hl7.org/CodeSystem/consentcategorycodes", "npp")
        assert not approved(consent(category=[npp]))

    def test_its_purpose_is_research_alone(self) -> None:
        purpose = [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}]
        assert not approved(consent(provision={"type": "permit", "purpose": purpose}))

    def test_it_excludes_the_hub_that_asked(self) -> None:
        hub = {"reference": {"reference": "Organization/hub"}, "role": {"text": "custodian"}}
        assert not approved(consent(provision={"type": "permit", "provision": [{"type": "deny", "actor": [hub]}]}))

    def test_an_exception_alone_is_no_answer(self) -> None:
        nurse = {"reference": {"reference": "Practitioner/n"}, "role": {"text": "recipient"}}
        assert not approved(consent(provision={"type": "deny", "actor": [nurse]}))

    def test_it_names_nobody(self) -> None:
        assert row(consent(patient=None), NOW) is None


class TestApproval:
    def test_as_the_pages_record_it(self) -> None:
        found = row(consent(), NOW)
        assert found is not None
        assert (found.patient_id, found.given, found.given_by, found.how) == ("p", True, "Patient/p", "in person")
        assert approved(consent())

    def test_by_a_representative(self) -> None:
        made = new_consent(
            "c",
            "Patient/p",
            "Organization/hub",
            NOW,
            "by her daughter, who holds a lasting power of attorney",
            performer="RelatedPerson/d",
            performer_name="Jo Lee",
        )
        found = row(made, NOW)
        assert found is not None
        assert (found.given_by, found.how) == (
            "RelatedPerson/d",
            "by her daughter, who holds a lasting power of attorney",
        )

    def test_until_a_day_and_recorded_by_somebody(self) -> None:
        made = new_consent(
            "c",
            "Patient/p",
            "Organization/hub",
            NOW,
            "by telephone",
            recorded_by="Practitioner/sam",
            until=NOW + timedelta(1),
        )
        assert approved(made)
        assert not approved(made, now=NOW + timedelta(days=2))
        assert made["extension"][1]["valueReference"] == {"reference": "Practitioner/sam"}

    def test_how_it_was_given_is_demanded(self) -> None:
        with pytest.raises(Refusal, match="how approval was given"):
            new_consent("c", "Patient/p", "Organization/hub", NOW, "  ")

    def test_an_exception_for_one_nurse_leaves_it_standing(self) -> None:
        nurse = {"reference": {"reference": "Practitioner/n"}, "role": {"text": "recipient"}}
        assert approved(consent(provision={"type": "permit", "provision": [{"type": "deny", "actor": [nurse]}]}))

    def test_without_a_date_it_counts_from_when_it_was_recorded(self) -> None:
        found = row(consent(dateTime=None), NOW)
        assert found is not None
        assert found.given_at == NOW

    def test_the_last_day_counts_whole_in_london(self) -> None:
        summer = consent(provision={"type": "permit", "period": {"end": "2027-07-01"}})
        assert approved(summer, now=datetime(2027, 7, 1, 22, 59, tzinfo=UTC))
        assert not approved(summer, now=datetime(2027, 7, 1, 23, 0, tzinfo=UTC))


class TestLatestDecision:
    """A person who says no after a yes has said no, even while the yes stays on record (hazard: opted-out person)."""

    def test_a_later_no_counts(self) -> None:
        no = consent(provision={"type": "deny"}, dateTime="2026-11-21T09:00:00Z")
        assert not approved(consent(), no)
        assert not approved(no, consent())

    def test_a_later_yes_counts(self) -> None:
        no = consent(provision={"type": "deny"}, dateTime="2026-11-01")
        assert approved(consent(), no)

    def test_of_two_at_one_moment_the_no_counts(self) -> None:
        no = consent(provision={"type": "deny"})
        assert not approved(no, consent())

    def test_withdrawing_the_newer_yes_does_not_bring_back_an_older_one(self) -> None:
        newer = consent(dateTime="2026-11-21T09:00:00Z", provision={"type": "permit", "period": {"end": "2026-11-22"}})
        assert approved(consent(), newer)
        assert not approved(consent(), withdrawn(newer))
        assert not approved(consent(), withdrawn(newer), now=NOW + timedelta(days=30))

    def test_a_yes_that_a_newer_one_replaced_takes_nothing_away(self) -> None:
        assert approved(withdrawn(consent()), consent(dateTime="2026-11-21T09:00:00Z"))

    def test_a_yes_written_by_mistake_leaves_the_older_one(self) -> None:
        assert approved(consent(), consent(dateTime="2026-11-21T09:00:00Z", status="entered-in-error"))

    def test_a_no_that_was_taken_back_says_nothing(self) -> None:
        no = consent(provision={"type": "deny"}, dateTime="2026-11-21T09:00:00Z", status="inactive")
        assert approved(consent(), no)

    def test_a_no_that_has_ended_counts_no_more(self) -> None:
        ended = {"type": "deny", "period": {"end": "2026-11-20"}}
        assert approved(consent(), consent(provision=ended, dateTime="2026-11-21T09:00:00Z"))


class TestOfficialExamples:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [("basic", "permit"), ("Emergency", None), ("signature", None), ("notAuthor", "permit"), ("notTime", "permit")],
    )
    def test_what_they_say_of_care_planning(self, shared_data: Path, name: str, expected: str | None) -> None:
        path = shared_data / "hl7-examples" / "Consent" / f"Consent-consent-example-{name}.json"
        assert decision(json.loads(path.read_bytes())) == expected


class TestApprovalRequired:
    @pytest.mark.parametrize("status", ["draft", "active", "on-hold", "revoked", "completed", "unknown", None])
    def test_no_plan_without_approval(self, status: str | None) -> None:
        refusal = approval_required(False, status)
        assert refusal is not None
        assert refusal.status == 422
        assert "LOINC 59284-0" in refusal.issues[0].diagnostics
        assert refusal.issues[0].expression == "CarePlan.subject"

    def test_a_mistake_can_always_be_marked(self) -> None:
        assert approval_required(False, "entered-in-error") is None

    def test_with_approval(self) -> None:
        assert approval_required(True, "draft") is None
