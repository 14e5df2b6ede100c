"""What makes a care relationship, what ends it, and what it allows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir.outcome import Refusal
from hub import access, emergency
from hub.access import Grant, check_speaker, explain, grants, may_write, people, project_access, writable_patients
from hub.db import Tx
from hub.identity import ENGINE, IMPORTER, Actor
from hub.roles import PERMISSIONS, ROLES, SYSTEM_ROLES, TYPE_AREAS, TYPE_PERMISSIONS

NURSE = Actor("user", "1", "Nia Nurse", "clinician", "Practitioner/nia", ("Practitioner/nia", "Organization/hub-1"))
COACH = Actor("user", "2", "Cai Coach", "health-coach", "Practitioner/cai", ("Practitioner/cai",))
PATIENT = Actor("patient", "3", "Pat", "patient", "Patient/p1", ("Patient/p1",))
CARER = Actor("patient", "4", "Carys", "carer", "RelatedPerson/r1", ("RelatedPerson/r1",))
DEVICE = Actor("device", "d1", "Scales", "device", "Device/d1", ("Device/d1",))
GOVERNANCE = Actor("user", "5", "Gwen", "information-governance", "Practitioner/gwen", ("Practitioner/gwen",))

JSON = dict[str, Any]


def ref(reference: str) -> JSON:
    return {"reference": reference}


def team(**more: Any) -> JSON:
    return {
        "resourceType": "CareTeam",
        "id": "t1",
        "status": "active",
        "subject": ref("Patient/p1"),
        "managingOrganization": [ref("Organization/hub-1")],
        "participant": [{"member": ref("Organization/hub-1")}, {"member": ref("Practitioner/cai")}],
    } | more


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type]


class TestGrants:
    def test_a_person_sees_themselves_and_their_practice_sees_them(self) -> None:
        patient = {
            "resourceType": "Patient",
            "id": "p1",
            "managingOrganization": ref("Organization/hub-1"),
            "generalPractitioner": [ref("Organization/practice-1"), ref("Practitioner/gp")],
        }
        assert grants(patient) == [
            Grant("Patient/p1", "p1", "self"),
            Grant("Organization/practice-1", "p1", "practice"),
            Grant("Practitioner/gp", "p1", "practice"),
        ]

    def test_being_managed_by_a_hub_gives_its_staff_nothing(self) -> None:
        patient = {"resourceType": "Patient", "id": "p1", "managingOrganization": ref("Organization/hub-1")}
        assert [grant.subject for grant in grants(patient)] == ["Patient/p1"]

    def test_a_team_gives_its_members_and_its_hub(self) -> None:
        assert grants(team()) == [
            Grant("Organization/hub-1", "p1", "hub"),
            Grant("Practitioner/cai", "p1", "team"),
        ]

    def test_the_employer_of_a_member_gets_nothing(self) -> None:
        member = {"member": ref("Practitioner/cai"), "onBehalfOf": ref("Organization/council")}
        assert [grant.subject for grant in grants(team(participant=[member]))] == ["Practitioner/cai"]

    @pytest.mark.parametrize("status", ["proposed", "suspended", "inactive", "entered-in-error", None])
    def test_a_team_that_is_not_active_gives_nothing(self, status: str | None) -> None:
        assert grants(team(status=status)) == []

    def test_carers_and_the_person_come_by_their_own_resources_not_by_the_team(self) -> None:
        members = [{"member": ref("RelatedPerson/r1")}, {"member": ref("Patient/p2")}, {"member": ref("CareTeam/t2")}]
        assert grants(team(participant=members)) == []

    def test_the_shorter_of_both_periods_counts(self) -> None:
        member = {"member": ref("Practitioner/cai"), "period": {"start": "2026-02", "end": "2026-12-31"}}
        (grant,) = grants(team(period={"start": "2026-01-01", "end": "2026-11"}, participant=[member]))
        assert (grant.since, grant.until) == (utc(2026, 2, 1), utc(2026, 12, 1))

    def test_a_member_listed_twice_has_the_longer_of_both(self) -> None:
        members = [
            {"member": ref("Practitioner/cai"), "period": {"start": "2026-01-01", "end": "2026-02-01"}},
            {"member": ref("Practitioner/cai"), "period": {"start": "2026-06-01"}},
        ]
        (grant,) = grants(team(participant=members))
        assert (grant.since, grant.until) == (utc(2026, 1, 1), None)

    @pytest.mark.parametrize(
        ("text", "until"),
        [
            ("2026", utc(2027, 1, 1)),
            ("2026-12", utc(2027, 1, 1)),
            ("2026-02", utc(2026, 3, 1)),
            ("2026-02-28", utc(2026, 3, 1)),
            ("2026-11-21T12:00:00+01:00", utc(2026, 11, 21, 11)),
            ("2026-11-21T12:00:00Z", utc(2026, 11, 21, 12)),
        ],
    )
    def test_the_end_of_a_partial_date_is_its_last_moment(self, text: str, until: datetime) -> None:
        (grant, _) = grants(team(period={"end": text}))
        assert grant.until == until

    def test_carer_over_access_a_carer_sees_until_the_period_ends_or_the_row_is_inactive(self) -> None:
        related = {"resourceType": "RelatedPerson", "id": "r1", "patient": ref("Patient/p1")}
        assert grants(related) == [Grant("RelatedPerson/r1", "p1", "carer")]
        assert grants(related | {"active": False}) == []
        assert grants(related | {"period": {"end": "2026-01-01"}})[0].until == utc(2026, 1, 2)

    def test_device_swapped_between_household_members_belongs_to_its_present_holder_only(self) -> None:
        device = {"resourceType": "Device", "id": "d1", "patient": ref("Patient/p1")}
        assert grants(device) == [Grant("Device/d1", "p1", "device")]
        assert grants(device | {"patient": ref("Patient/p2")}) == [Grant("Device/d1", "p2", "device")]
        assert grants(device | {"status": "inactive"}) == []

    @pytest.mark.parametrize(
        "reference",
        ["https://elsewhere/fhir/Practitioner/x", "#contained", "urn:uuid:1", "Practitioner/", "Practitioner", ""],
    )
    def test_a_reference_that_is_not_ours_grants_nothing(self, reference: str) -> None:
        assert grants(team(participant=[{"member": ref(reference)}])) == []

    def test_a_logical_reference_grants_nothing(self) -> None:
        assert grants(team(participant=[{"member": {"identifier": {"value": "x"}}}, {}])) == []

    def test_other_types_grant_nothing(self) -> None:
        assert grants({"resourceType": "Observation", "id": "o", "subject": ref("Patient/p1")}) == []


class TestProjection:
    async def test_access_follows_the_resource_and_ends_with_it(self, tx: Tx) -> None:
        await project_access(tx.pg, {"CareTeam/t1": grants(team()), "CareTeam/t2": grants(team(id="t2"))})
        assert await writable_patients(tx.pg, COACH, ["p1", "p2"]) == {"p1"}
        await project_access(tx.pg, {"CareTeam/t1": []})
        assert await writable_patients(tx.pg, COACH, ["p1"]) == {"p1"}, "the second team still stands"
        await project_access(tx.pg, {"CareTeam/t2": grants(team(status="inactive"))})
        assert await writable_patients(tx.pg, COACH, ["p1"]) == set()

    async def test_access_does_not_begin_early_nor_outlast_its_end(self, tx: Tx) -> None:
        now, hour = datetime.now(UTC), timedelta(hours=1)
        for name, since, until, seen in (
            ("past", None, now - hour, False),
            ("future", now + hour, None, False),
            ("within", now - hour, now + hour, True),
            ("always", None, None, True),
        ):
            await project_access(tx.pg, {"CareTeam/x": [Grant("Practitioner/cai", name, "team", since, until)]})
            assert (await writable_patients(tx.pg, COACH, [name]) == {name}) is seen, name
            condition = people(COACH, "p.id")
            assert condition is not None
            row = await (
                await tx.pg.execute(
                    f"SELECT count(*) FROM (VALUES (%s)) p(id) WHERE {condition.text}",  # type: ignore[arg-type]
                    (name, *condition.params),
                )
            ).fetchone()
            assert row == (int(seen),)

    async def test_who_may_see_a_person_and_why_can_be_told(self, tx: Tx) -> None:
        await project_access(tx.pg, {"CareTeam/t1": grants(team())})
        assert [(one.subject, one.basis, one.source) for one in await explain(tx.pg, "p1")] == [
            ("Organization/hub-1", "hub", "CareTeam/t1"),
            ("Practitioner/cai", "team", "CareTeam/t1"),
        ]


class TestPeople:
    def test_lists_of_people_are_limited_the_same_way(self) -> None:
        condition = people(NURSE)
        assert condition is not None
        assert "person.patient_id" in condition.text
        assert people(ENGINE) == access.EVERYTHING

    @pytest.mark.parametrize("role", ["device", "operations", "information-governance", "voluntary-worker", "invented"])
    def test_roles_without_sight_of_people_get_no_list(self, role: str) -> None:
        assert people(Actor("user", "1", "X", role, "Practitioner/x", ("Practitioner/x",))) is None


class TestWriting:
    @pytest.mark.parametrize(
        ("actor", "type_", "allowed"),
        [
            (NURSE, "Observation", True),
            (NURSE, "Claim", False),
            (NURSE, "Organization", False),
            (COACH, "CarePlan", True),
            (COACH, "CareTeam", False),
            (COACH, "Condition", False),
            (COACH, "Patient", False),
            (PATIENT, "Observation", True),
            (PATIENT, "Communication", True),
            (PATIENT, "Flag", False),
            (PATIENT, "CarePlan", False),
            (PATIENT, "Consent", False),
            (PATIENT, "RelatedPerson", False),
            (CARER, "Observation", True),
            (CARER, "Communication", False),
            (DEVICE, "Observation", True),
            (DEVICE, "Device", False),
            (GOVERNANCE, "Consent", False),
            (ENGINE, "Flag", True),
            (ENGINE, "Patient", False),
            (IMPORTER, "Claim", True),
        ],
    )
    def test_who_may_write_what(self, actor: Actor, type_: str, allowed: bool) -> None:
        assert may_write(actor, type_) is allowed

    def test_whoever_may_add_a_reading_may_not_rewrite_one(self) -> None:
        for actor in (PATIENT, CARER, DEVICE):
            assert may_write(actor, "Observation", new=True)
            assert not may_write(actor, "Observation", new=False)
        assert may_write(NURSE, "Observation", new=False)

    def test_rows_about_nobody_are_for_those_who_see_them(self) -> None:
        assert not may_write(NURSE, "Observation", linked=False)
        assert may_write(NURSE, "Device", linked=False)
        assert may_write(IMPORTER, "Observation", linked=False)

    async def test_another_patients_id_is_not_writable(self, tx: Tx) -> None:
        await project_access(tx.pg, {"Patient/p1": [Grant("Patient/p1", "p1", "self")]})
        assert await writable_patients(tx.pg, PATIENT, ["p1", "p2"]) == {"p1"}
        assert await writable_patients(tx.pg, PATIENT, []) == set()
        assert await writable_patients(tx.pg, IMPORTER, ["p1", "p2"]) == {"p1", "p2"}

    @pytest.mark.parametrize(
        "resource",
        [
            {"resourceType": "Communication", "sender": ref("Practitioner/nia")},
            {"resourceType": "Observation", "performer": [ref("Patient/p1"), ref("Practitioner/nia")]},
            {"resourceType": "QuestionnaireResponse", "author": ref("Practitioner/nia")},
            {"resourceType": "QuestionnaireResponse", "source": {"display": "Nia Nurse"}},
        ],
    )
    def test_nobody_speaks_in_a_clinicians_name(self, resource: JSON) -> None:
        with pytest.raises(Refusal) as caught:
            check_speaker(PATIENT, resource)
        assert caught.value.status == 403
        check_speaker(NURSE, resource)

    def test_one_may_speak_for_oneself_or_leave_it_out(self) -> None:
        check_speaker(PATIENT, {"resourceType": "Communication", "sender": ref("Patient/p1")})
        check_speaker(DEVICE, {"resourceType": "Observation"})


class TestAnswering:
    AGENT = Actor("user", "7", "Vi", "voluntary-worker", "Practitioner/vi", ("Practitioner/vi", "Organization/charity"))
    TASK: JSON = {  # noqa: RUF012
        "resourceType": "Task", "id": "t", "status": "requested", "intent": "order", "description": "Visit",
        "for": ref("Patient/p1"), "owner": ref("Organization/charity"),
    }  # fmt: skip

    @pytest.mark.parametrize(
        "answer",
        [
            {"status": "completed", "note": [{"text": "Went well"}], "lastModified": "2026-11-21T12:00:00Z"},
            {"status": "rejected", "statusReason": {"text": "No volunteer"}},
            {"status": "in-progress", "executionPeriod": {"start": "2026-11-21"}, "meta": {"versionId": "1"}},
        ],
    )
    def test_the_owner_accepts_completes_or_declines(self, answer: JSON) -> None:
        assert access.answers(self.AGENT, self.TASK, self.TASK | answer)

    @pytest.mark.parametrize(
        "change",
        [
            {"for": ref("Patient/p2")},
            {"owner": ref("Practitioner/other")},
            {"description": "Something else"},
            {"status": "completed", "input": [{"valueString": "x"}]},
        ],
    )
    def test_an_answer_changes_nothing_else(self, change: JSON) -> None:
        assert not access.answers(self.AGENT, self.TASK, self.TASK | change)
        without = {name: value for name, value in self.TASK.items() if name != "for"}
        assert not access.answers(self.AGENT, self.TASK, without)

    def test_only_the_owner_answers(self) -> None:
        done = {"status": "completed"}
        assert not access.answers(NURSE, self.TASK, self.TASK | done)
        assert not access.answers(self.AGENT, self.TASK | {"owner": ref("Organization/hub-1")}, self.TASK | done)
        assert not access.answers(PATIENT, self.TASK | {"owner": ref("Patient/p1")}, self.TASK | done)
        unowned = {name: value for name, value in self.TASK.items() if name != "owner"}
        assert not access.answers(self.AGENT, unowned, unowned | done)


class TestEmergency:
    async def person(self, tx: Tx) -> None:
        await tx.pg.execute(
            "INSERT INTO person (patient_id, family, given, search_name, synthetic)"
            " VALUES ('p9', 'Nine', 'Pat', 'nine pat', true)"
        )

    async def test_it_is_for_one_person_one_actor_and_a_few_hours_and_leaves_traces(self, tx: Tx) -> None:
        await self.person(tx)
        until = await emergency.grant_emergency(tx, NURSE, "p9", "Found collapsed at home, relatives unknown")
        assert timedelta(hours=3, minutes=59) < until - datetime.now(UTC) <= timedelta(hours=4)
        assert await writable_patients(tx.pg, NURSE, ["p9"]) == {"p9"}
        colleague = Actor("user", "9", "N", "clinician", "Practitioner/n9", ("Practitioner/n9", "Organization/hub-1"))
        assert await writable_patients(tx.pg, colleague, ["p9"]) == set()
        (opened,) = await emergency.emergencies(tx.pg)
        assert (opened.actor, opened.patient_id, opened.reviewed_by) == ("Practitioner/nia", "p9", None)
        trail = await (await tx.pg.execute("SELECT action, actor, audit::text FROM audit")).fetchall()
        assert [row[:2] for row in trail] == [("emergency-access", "Practitioner/nia")]
        assert "collapsed" not in trail[0][2]
        told = await (await tx.pg.execute("SELECT kind, recipient FROM notice")).fetchall()
        assert told == [("emergency-access", "Patient/p9")]

    async def test_somebody_else_looks_into_it(self, tx: Tx) -> None:
        await self.person(tx)
        await emergency.grant_emergency(tx, NURSE, "p9", "Found collapsed at home")
        (opened,) = await emergency.emergencies(tx.pg)
        with pytest.raises(Refusal) as caught:
            await emergency.review_emergency(tx, NURSE, opened.id)
        assert caught.value.status == 403
        await emergency.review_emergency(tx, GOVERNANCE, opened.id)
        assert await emergency.emergencies(tx.pg) == []
        assert (await emergency.emergencies(tx.pg, unreviewed=False))[0].reviewed_by == "Practitioner/gwen"

    @pytest.mark.parametrize(
        ("actor", "patient", "reason", "status"),
        [
            (PATIENT, "p9", "I would like to see it", 403),
            (GOVERNANCE, "p9", "I would like to see it", 403),
            (NURSE, "p9", "   urgent   ", 422),
            (NURSE, "nobody", "Found collapsed at home", 404),
        ],
    )
    async def test_not_without_permission_person_and_reason(
        self, tx: Tx, actor: Actor, patient: str, reason: str, status: int
    ) -> None:
        await self.person(tx)
        with pytest.raises(Refusal) as caught:
            await emergency.grant_emergency(tx, actor, patient, reason)
        assert caught.value.status == status
        assert await emergency.emergencies(tx.pg) == []


class TestRoles:
    def test_every_permission_is_a_known_word_and_somebody_has_it(self) -> None:
        used = set().union(*(role.permissions for role in ROLES.values()))
        assert used <= set(PERMISSIONS)
        assert set(PERMISSIONS) == used

    def test_types_and_their_permissions_are_known(self) -> None:
        assert set(TYPE_PERMISSIONS) <= set(TYPE_AREAS)
        assert set(TYPE_PERMISSIONS.values()) <= set(PERMISSIONS)

    def test_whoever_writes_a_type_also_sees_it(self) -> None:
        for role in ROLES.values():
            seen = role.reads | {TYPE_AREAS[type_] for type_ in role.named}  # of the latter, their own
            assert role.writes <= seen, role.name
            if role.name != "device":
                assert {TYPE_AREAS[type_] for type_ in role.also_writes} <= role.reads, role.name

    def test_only_systems_and_administrators_are_not_limited_to_the_people_in_their_care(self) -> None:
        clinical = {role.name for role in ROLES.values() if role.everyone and "clinical" in role.reads}
        assert clinical == {"administrator", "ehr-system", "importer"}

    def test_governance_and_operations_read_no_clinical_area(self) -> None:
        for name in ("information-governance", "operations"):
            assert not ROLES[name].reads & {"identity", "clinical", "plan", "monitoring", "triage", "messages"}

    def test_no_role_may_open_in_an_emergency_and_review_it(self) -> None:
        assert not any({"emergency.access", "emergency.review"} <= role.permissions for role in ROLES.values())

    def test_roles_of_the_hub_itself_exist(self) -> None:
        assert set(ROLES) >= SYSTEM_ROLES
