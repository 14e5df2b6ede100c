"""Tasks: overdue is worked out on read and locks nothing."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from care_plans.tasks import (
    OPEN,
    assign,
    cancel,
    claim,
    complete,
    due,
    due_at,
    due_words,
    new_task,
    reopen,
    row,
    start,
)
from fhir.outcome import Refusal

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SAM, KIM = "Practitioner/sam", "Practitioner/kim"


def task(**changes: Any) -> dict[str, Any]:
    made = new_task("k", "Ring Ann", KIM, NOW, patient="Patient/p", owner="Organization/h", due="2026-11-30")
    return {**made, **changes}


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"description": " "}, "Task.description"),
            ({"priority": "high"}, "Task.priority"),
            ({"due": "next week"}, "Task.restriction.period.end"),
        ],
    )
    def test_a_new_task(self, changes: dict[str, Any], field: str) -> None:
        given = {"description": "Ring", **changes}
        with pytest.raises(Refusal) as caught:
            new_task("k", given.pop("description"), KIM, NOW, **given)
        assert (caught.value.status, caught.value.issues[0].expression) == (422, field)

    @pytest.mark.parametrize("status", ["completed", "cancelled", "failed", "rejected", "entered-in-error"])
    def test_a_closed_task_is_not_closed_again(self, status: str) -> None:
        closed = task(status=status)
        for act in (
            lambda: complete(closed, SAM, NOW),
            lambda: cancel(closed, SAM, NOW, "why"),
            lambda: claim(closed, SAM, NOW),
            lambda: start(closed, NOW),
            lambda: assign(closed, SAM, NOW),
        ):
            with pytest.raises(Refusal) as caught:
                act()
            assert caught.value.status == 409

    def test_a_task_that_another_person_has_is_not_taken(self) -> None:
        theirs = task(owner={"reference": KIM, "display": "Kim Bray"}, status="accepted")
        with pytest.raises(Refusal, match="Kim Bray has this task") as caught:
            claim(theirs, SAM, NOW)
        assert caught.value.status == 409

    def test_cancelling_wants_a_reason(self) -> None:
        with pytest.raises(Refusal, match="Say why"):
            cancel(task(), SAM, NOW, " ")

    def test_an_open_task_is_not_reopened(self) -> None:
        with pytest.raises(Refusal, match="only a closed one"):
            reopen(task(), NOW)


class TestOverdueIsNotLocked:
    """OpenSRP's users could not complete what was overdue, and read a status that was hours old."""

    @pytest.mark.parametrize("status", sorted(OPEN))
    def test_an_overdue_task_is_claimed_started_and_completed(self, status: str) -> None:
        late = NOW + timedelta(days=90)
        found = task(status=status)
        assert due(status, due_at(found), late) == "overdue"
        assert claim(found, SAM, late)["owner"] == {"reference": SAM}
        assert start(found, late)["status"] == "in-progress"
        assert complete(found, SAM, late)["status"] == "completed"

    def test_a_completed_task_is_never_overdue(self) -> None:
        assert due("completed", NOW - timedelta(days=90), NOW) == "none"


class TestDue:
    @pytest.mark.parametrize(
        ("end", "state", "words"),
        [
            ("2026-11-20", "overdue", "overdue by 1 day"),
            ("2026-11-01", "overdue", "overdue by 20 days"),
            ("2026-11-21T11:00:00Z", "overdue", "overdue since today"),
            ("2026-11-21", "today", "due today"),
            ("2026-11-21T18:00:00Z", "today", "due today"),
            ("2026-11-22", "soon", "due 22 Nov 2026"),
            ("2026-11-28", "soon", "due 28 Nov 2026"),
            ("2026-11-29", "later", "due 29 Nov 2026"),
        ],
    )
    def test_a_day_is_due_until_it_ends(self, end: str, state: str, words: str) -> None:
        at = due_at({"restriction": {"period": {"end": end}}})
        assert (due("requested", at, NOW), due_words("requested", at, NOW)) == (state, words)

    def test_nothing_due(self) -> None:
        assert (due_at({}), due("requested", None, NOW), due_words("requested", None, NOW)) == (None, "none", "")

    def test_hazard_clock_a_summers_day_ends_at_midnight_in_london(self) -> None:
        at = due_at({"restriction": {"period": {"end": "2026-07-01"}}})
        assert due("requested", at, datetime(2026, 7, 1, 22, 59, tzinfo=UTC)) == "today"
        assert due("requested", at, datetime(2026, 7, 1, 23, 0, tzinfo=UTC)) == "overdue"


class TestNewTask:
    def test_what_it_is_for(self) -> None:
        made = new_task("k", " Ring ", KIM, NOW, patient="Patient/p", based_on="CarePlan/pl", focus="Flag/f", due=NOW)
        assert made["description"] == "Ring"
        assert (made["for"], made["focus"]) == ({"reference": "Patient/p"}, {"reference": "Flag/f"})
        assert made["basedOn"] == [{"reference": "CarePlan/pl"}]
        assert due_at(made) == NOW


class TestTransitions:
    def test_giving_it_to_somebody(self) -> None:
        given = assign(task(status="in-progress"), SAM, NOW)
        assert (given["status"], given["owner"]) == ("requested", {"reference": SAM})

    def test_claiming_from_the_team(self) -> None:
        mine = claim(task(), SAM, NOW)
        assert (mine["status"], mine["owner"]["reference"]) == ("accepted", SAM)

    def test_taking_over_from_a_colleague(self) -> None:
        theirs = task(owner={"reference": KIM}, status="in-progress")
        assert claim(theirs, SAM, NOW, take_over=True)["status"] == "accepted"

    def test_claiming_again_what_is_mine_keeps_its_progress(self) -> None:
        mine = task(owner={"reference": SAM}, status="in-progress")
        assert claim(mine, SAM, NOW)["status"] == "in-progress"

    def test_completing_with_an_outcome(self) -> None:
        done = complete(task(), SAM, NOW, "She is well")
        assert done["note"] == [{"authorReference": {"reference": SAM}, "time": NOW.isoformat(), "text": "She is well"}]
        assert done["executionPeriod"]["end"] == NOW.isoformat()

    def test_a_slip_is_undone(self) -> None:
        again = reopen(complete(task(), SAM, NOW), NOW)
        assert again["status"] == "in-progress"
        assert "executionPeriod" not in again

    def test_the_task_that_came_in_is_untouched(self) -> None:
        found = task()
        before = json.dumps(found)
        complete(found, SAM, NOW, "done")
        cancel(found, SAM, NOW, "why")
        assert json.dumps(found) == before


class TestRow:
    def test_the_home_hub_shows_it_else_the_organisation_that_has_it(self) -> None:
        assert row(task(), 1, "home").hub_id == "home"
        assert row(task(), 1).hub_id == "h"

    def test_official_examples(self, shared_data: Path) -> None:
        for path in sorted((shared_data / "hl7-examples" / "Task").glob("*.json")):
            found = row(json.loads(path.read_bytes()), 1)
            assert found.description
            assert found.status
