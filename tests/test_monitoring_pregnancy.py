"""Pregnancy: what counts as a record of it, and that NEWS2 hears of it on every path of a reading."""

from datetime import date, timedelta
from typing import Any

import pytest
from test_flow_readings import NOW, person, rows, send

from fhir.outcome import Refusal
from fhir.store import Change
from hub import flows, watch
from hub.db import Tx
from hub.identity import IMPORTER, Actor
from monitoring.pregnancy import LONGEST, Pregnancy, ended, from_condition, new_condition

TODAY = NOW.date()
OLA = "Practitioner/ola"
CLINICIAN = Actor("user", "a", "Dr Ola", "clinician", OLA, (OLA, "Organization/yeovil"))


def condition(since: date = TODAY - timedelta(weeks=20), patient_id: str = "p1", **more: Any) -> dict[str, Any]:
    return new_condition("c1", patient_id, since, TODAY, OLA, "Dr Ola") | more


def without(resource: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name not in names}


def status(code: str, name: str = "condition-clinical") -> dict[str, Any]:
    return {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{name}", "code": code}]}


class TestRecord:
    def test_what_a_clinician_records_counts(self) -> None:
        found = from_condition(condition())
        assert found == Pregnancy("c1", "p1", TODAY - timedelta(weeks=20), OLA)
        assert found.why_not(TODAY) is None

    @pytest.mark.parametrize(
        "resource",
        [
            condition(clinicalStatus=status("resolved")),
            condition(clinicalStatus=status("inactive")),
            without(condition(), "clinicalStatus"),
            condition(verificationStatus=status("refuted", "condition-ver-status")),
            condition(verificationStatus=status("entered-in-error", "condition-ver-status")),
            condition(verificationStatus=status("provisional", "condition-ver-status")),
            condition(abatementDateTime="2026-11-01"),
            condition(abatementString="in the spring"),
            condition(code={"coding": [{"system": "http://snomed.info/sct", "code": "72892002"}]}),
            condition(code={"coding": [{"system": "http://loinc.org", "code": "77386006"}]}),
            condition(code={"text": "Pregnant"}),
        ],
    )
    def test_what_is_over_doubted_or_something_else_is_none(self, resource: dict[str, Any]) -> None:
        assert from_condition(resource) is None

    def test_without_a_clinicians_name_it_does_not_count(self) -> None:
        for resource in (without(condition(), "recorder"), condition(recorder={"reference": "Patient/p1"})):
            found = from_condition(resource)
            assert found is not None and found.why_not(TODAY) == "no clinician's name is on it"
        asserted = from_condition(without(condition(), "recorder") | {"asserter": {"reference": OLA}})
        assert asserted is not None and asserted.why_not(TODAY) is None

    def test_hazard_wrong_score_a_forgotten_record_stops_to_count(self) -> None:
        found = from_condition(condition(TODAY - LONGEST))
        assert found is not None and found.why_not(TODAY) is None
        reason = found.why_not(TODAY + timedelta(days=1))
        assert reason == "it began more than 43 weeks ago and nobody recorded its end"

    @pytest.mark.parametrize(
        ("more", "since"),
        [
            ({"onsetDateTime": "2026"}, date(2026, 1, 1)),
            ({"onsetDateTime": "2026-06"}, date(2026, 6, 1)),
            ({"onsetDateTime": "2026-06-03T10:00:00+01:00"}, date(2026, 6, 3)),
            ({"onsetPeriod": {"start": "2026-06-03"}}, date(2026, 6, 3)),
            ({"recordedDate": "2026-07-01"}, date(2026, 7, 1)),
            ({}, None),
        ],
    )
    def test_since(self, more: dict[str, Any], since: date | None) -> None:
        found = from_condition(without(condition(), "onsetDateTime", "recordedDate") | more)
        assert found is not None and found.since == since

    def test_without_a_day_or_with_a_coming_one_it_does_not_count(self) -> None:
        assert Pregnancy("c", "p", None, OLA).why_not(TODAY) == "it does not say since when"
        assert Pregnancy("c", "p", TODAY + timedelta(days=1), OLA).why_not(TODAY) == "it begins in the future"

    @pytest.mark.parametrize("since", [TODAY + timedelta(days=1), TODAY - LONGEST - timedelta(days=1)])
    def test_a_day_that_cannot_be_is_refused(self, since: date) -> None:
        with pytest.raises(Refusal, match="up to 43 weeks ago"):
            condition(since)

    def test_its_end(self) -> None:
        after = ended(condition(), TODAY, TODAY)
        assert after["abatementDateTime"] == TODAY.isoformat() and from_condition(after) is None
        for day in (TODAY + timedelta(days=1), TODAY - timedelta(weeks=21)):
            with pytest.raises(Refusal, match="not before the pregnancy began"):
                ended(condition(), day, TODAY)


def fast_breathing(patient_id: str, **more: Any) -> dict[str, Any]:
    """26 breaths a minute: 3 points, of which NEWS2 alone speaks."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "9279-1"}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": NOW.isoformat(),
        "valueQuantity": {"value": 26, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
        **more,
    }


async def recorded(tx: Tx, patient_id: str, **more: Any) -> dict[str, Any]:
    resource = condition(patient_id=patient_id) | {"id": f"pregnancy-{patient_id}"} | more
    await flows.write(tx, IMPORTER, [Change("create", "Condition", resource["id"], resource)])
    return resource


async def raised(tx: Tx, patient_id: str) -> list[str]:
    return [row[0] for row in await rows(tx, "SELECT rule FROM flag WHERE patient_id = %s", patient_id)]


class TestHazardNews2InPregnancy:
    async def test_hazard_wrong_score_no_news2_of_a_device_in_pregnancy_until_its_end(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        resource = await recorded(tx, patient_id)
        await send(tx, device, fast_breathing(patient_id))
        assert await raised(tx, patient_id) == []
        over = Change("update", "Condition", resource["id"], ended(resource, TODAY, TODAY))
        await flows.write(tx, IMPORTER, [over])
        await send(tx, device, fast_breathing(patient_id, effectiveDateTime=(NOW - timedelta(minutes=1)).isoformat()))
        assert await raised(tx, patient_id) == ["news2"]

    async def test_nor_of_a_reading_by_hand(self, tx: Tx) -> None:
        patient_id, _ = await person(tx)
        other, _ = await person(tx)
        await recorded(tx, patient_id)
        await flows.write(
            tx, IMPORTER,
            [Change("create", "Observation", f"o-{one}", fast_breathing(one)) for one in (patient_id, other)],
        )  # fmt: skip
        assert await raised(tx, patient_id) == [] and await raised(tx, other) == ["news2"]

    @pytest.mark.parametrize(
        "more",
        [
            {"onsetDateTime": (TODAY - LONGEST - timedelta(days=1)).isoformat()},
            {"onsetDateTime": (TODAY + timedelta(days=1)).isoformat()},
            {"recorder": {"display": "somebody"}},
        ],
        ids=["forgotten", "coming", "unsigned"],
    )
    async def test_hazard_wrong_score_a_record_that_does_not_count_silences_nothing(
        self, tx: Tx, more: dict[str, Any]
    ) -> None:
        patient_id, device = await person(tx)
        await recorded(tx, patient_id, **more)
        assert not (await watch.facts_of(tx, [patient_id], NOW))[patient_id].pregnant
        await send(tx, device, fast_breathing(patient_id))
        assert await raised(tx, patient_id) == ["news2"]

    async def test_the_database_counts_as_the_record_does(self, tx: Tx) -> None:
        for since in (TODAY, TODAY - LONGEST, TODAY - LONGEST - timedelta(days=1)):
            patient_id, _ = await person(tx)
            resource = await recorded(tx, patient_id, onsetDateTime=since.isoformat())
            found = from_condition(resource)
            assert found is not None
            counts = (await watch.facts_of(tx, [patient_id], NOW))[patient_id].pregnant
            assert counts == (found.why_not(TODAY) is None), since

    async def test_a_deleted_record_silences_nothing(self, tx: Tx) -> None:
        patient_id, _ = await person(tx)
        resource = await recorded(tx, patient_id)
        assert (await watch.facts_of(tx, [patient_id], NOW))[patient_id].pregnant
        await flows.write(tx, IMPORTER, [Change("delete", "Condition", resource["id"], None)])
        assert await rows(tx, "SELECT 1 FROM pregnancy WHERE patient_id = %s", patient_id) == []

    async def test_other_rules_go_on(self, tx: Tx) -> None:
        patient_id, device = await person(tx)
        await recorded(tx, patient_id)
        low = {"value": 88, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}
        code = {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]}
        await send(tx, device, fast_breathing(patient_id, code=code, valueQuantity=low))
        assert await raised(tx, patient_id) == ["oximetry-at-home"]

    @pytest.mark.parametrize("role", ["care-coordinator", "patient", "social-worker"])
    async def test_only_who_writes_the_clinical_record_may_say_so(self, tx: Tx, role: str) -> None:
        patient_id, _ = await person(tx)
        actor = Actor("user", "x", "X", role, OLA, (OLA, "Organization/yeovil"))
        with pytest.raises(Refusal) as refused:
            await flows.write(tx, actor, [Change("create", "Condition", "c1", condition(patient_id=patient_id))])
        assert refused.value.status == 403
