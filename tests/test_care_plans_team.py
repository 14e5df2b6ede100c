"""Who looks after a person, and how they read it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from care_plans.team import (
    COACH,
    COORDINATOR,
    ROLES,
    assign,
    coach,
    coordinator,
    faces,
    leave,
    new_team,
    rows,
)
from fhir.outcome import Refusal

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BEGUN = NOW - timedelta(days=100)
SAM, KIM = "Practitioner/sam", "Practitioner/kim"


def team(**changes: Any) -> dict[str, Any]:
    made = new_team("t", "Patient/p", BEGUN, hub="Organization/h", hub_name="Yeovil hub")
    made = assign(made, COORDINATOR, SAM, "Sam Okafor", BEGUN)
    return {**assign(made, COACH, KIM, "Kim Bray", BEGUN), **changes}


class TestRefused:
    @pytest.mark.parametrize(
        ("role", "name", "status", "field"),
        [
            ("999", "Lee", "active", "CareTeam.participant.role"),
            (COACH, " ", "active", "CareTeam.participant.member.display"),
            (COACH, "Lee", "inactive", "CareTeam.status"),
        ],
    )
    def test_assigning(self, role: str, name: str, status: str, field: str) -> None:
        with pytest.raises(Refusal) as caught:
            assign(team(status=status), role, "Practitioner/lee", name, NOW)
        assert (caught.value.status, caught.value.issues[0].expression) == (422, field)


class TestRows:
    @pytest.mark.parametrize("status", ["proposed", "suspended", "inactive", "entered-in-error", None])
    def test_only_an_active_team_has_members(self, status: str | None) -> None:
        assert rows(team(status=status)) == []

    def test_a_team_of_nobody_has_none(self) -> None:
        assert rows(team(subject={"reference": "Group/g"})) == []

    def test_one_for_each_member(self) -> None:
        assert [(row.member, row.role_code, row.role, row.name) for row in rows(team())] == [
            ("Organization/h", "", "hub", "Yeovil hub"),
            (SAM, COORDINATOR, "care coordinator", "Sam Okafor"),
            (KIM, COACH, "health coach", "Kim Bray"),
        ]

    def test_one_for_each_role_of_a_member(self) -> None:
        both = assign(team(), COACH, SAM, "Sam Okafor", NOW)
        assert [row.role_code for row in rows(both) if row.member == SAM] == [COORDINATOR, COACH]

    def test_who_is_not_on_our_record_goes_by_their_place(self) -> None:
        outside = [
            {"member": {"display": "Jo, the neighbour"}},
            {"onBehalfOf": {"reference": "Organization/x"}},
            {"member": {"reference": "https://elsewhere.example/Practitioner/1", "display": "Dr Outside"}},
        ]
        assert [(row.member, row.name) for row in rows(team(participant=outside))] == [
            ("#1", "Jo, the neighbour"),
            ("#3", "Dr Outside"),
        ]

    def test_two_stays_in_one_role_are_one_row_of_the_last(self) -> None:
        def stay(start: str, end: str) -> dict[str, Any]:
            return {"member": {"reference": SAM}, "period": {"start": start, "end": end}}

        (row,) = rows(team(participant=[stay("2026-09-01", "2026-10-01"), stay("2026-02-01", "2026-03-01")]))
        assert row.since == datetime(2026, 8, 31, 23, tzinfo=UTC)

    def test_a_stay_ends_with_the_team_at_the_latest(self) -> None:
        ended = rows(team(period={"start": "2026-08-13T12:00:00Z", "end": "2026-11-30"}))
        assert {row.until for row in ended} == {datetime(2026, 12, 1, tzinfo=UTC)}

    def test_the_official_example(self, shared_data: Path) -> None:
        example = json.loads((shared_data / "hl7-examples/CareTeam/CareTeam-example.json").read_bytes())
        found = rows(example)
        assert [(row.name, row.role, row.here(NOW)) for row in found] == [
            ("Peter James Chalmers", "responsiblePerson", False),
            ("Dorothy Dietition", "adviser", False),
        ]


class TestAssign:
    def test_who_held_the_role_before_stays_on_record_with_an_end(self) -> None:
        members = rows(assign(team(), COORDINATOR, "Practitioner/lee", "Lee Park", NOW))
        before, after = coordinator(members, NOW - timedelta(seconds=1)), coordinator(members, NOW)
        assert before is not None
        assert after is not None
        assert (before.name, after.name) == ("Sam Okafor", "Lee Park")

    def test_the_coach_is_not_touched_by_a_new_coordinator(self) -> None:
        found = coach(rows(assign(team(), COORDINATOR, "Practitioner/lee", "Lee Park", NOW)), NOW)
        assert found is not None
        assert found.name == "Kim Bray"

    def test_who_has_the_role_already_changes_nothing(self) -> None:
        made = team()
        assert assign(made, COORDINATOR, SAM, "Sam Okafor", NOW) is made

    def test_the_team_that_came_in_is_untouched(self) -> None:
        made = team()
        before = json.dumps(made)
        assign(made, COORDINATOR, "Practitioner/lee", "Lee Park", NOW)
        leave(made, SAM, NOW)
        assert json.dumps(made) == before

    def test_who_left_may_come_back(self) -> None:
        gone = leave(team(), SAM, NOW - timedelta(days=1))
        assert coordinator(rows(gone), NOW) is None
        back = coordinator(rows(assign(gone, COORDINATOR, SAM, "Sam Okafor", NOW)), NOW)
        assert back is not None
        assert back.since == NOW


class TestFaces:
    def test_the_coordinator_first_then_the_coach_then_others_and_the_hub_last(self) -> None:
        shown = faces(rows(assign(team(), "62247001", "Practitioner/gp", "Dr Amy Lin", BEGUN)), NOW)
        assert [(face.name, face.role) for face in shown] == [
            ("Sam Okafor", "your care coordinator"),
            ("Kim Bray", "your health coach"),
            ("Dr Amy Lin", "your GP"),
            ("Yeovil hub", "your hub"),
        ]
        assert shown[0].does.startswith("Your first contact.")

    def test_who_has_left_is_not_shown(self) -> None:
        assert [face.name for face in faces(rows(leave(team(), KIM, NOW)), NOW)] == ["Sam Okafor", "Yeovil hub"]

    def test_a_member_without_name_or_role_still_reads_well(self) -> None:
        bare = {**team(), "participant": [{"member": {"reference": SAM}}]}
        (face,) = faces(rows(bare), NOW)
        assert (face.name, face.role, face.does) == ("A member of your team", "in your team", "")

    def test_no_code_is_shown(self) -> None:
        shown = faces(rows(team()), NOW)
        assert not any(code in f"{face.name} {face.role} {face.does}" for face in shown for code in ROLES)
