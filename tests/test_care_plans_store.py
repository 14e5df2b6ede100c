"""Facts, typed tables and reads on a real PostgreSQL, and people who act at the same moment."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from care_plans import consent, edits, facts, queries, rules, tasks, team
from care_plans.edits import AddGoal, ChangeGoal, SetNextReview, SetTitle
from care_plans.facts import Facts
from care_plans.plan import Plan, new_goal, new_plan, with_goals, written
from care_plans.projections import (
    Changed,
    plan_row,
    project_approvals,
    project_plans,
    project_tasks,
    project_team,
)
from care_plans.versions import since
from fhir import store
from fhir.outcome import Refusal
from fhir.store import Change, Sql
from hub.db import Database, Tx

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TODAY = NOW.date()
SAM, KIM = "Practitioner/sam", "Practitioner/kim"
EVERYONE = Sql("TRUE")
NOBODY = Sql("FALSE")

Connection = psycopg.AsyncConnection[Any]
PROJECT = {
    "CarePlan": project_plans,
    "Consent": project_approvals,
    "CareTeam": project_team,
    "Task": project_tasks,
}


async def save(pg: Connection, *resources: dict[str, Any], author: str = SAM, at: datetime = NOW) -> None:
    """Store resources whatever they are now, and bring the typed tables up to date, as the hub does."""
    keys = [(one["resourceType"], one["id"]) for one in resources]
    known = await store.load(pg, keys, lock=True)
    changes = [
        Change("update" if key in known else "create", *key, one) for key, one in zip(keys, resources, strict=True)
    ]
    for done in await store.write(pg, changes, author, at, known):
        if project := PROJECT.get(done.change.type):
            changed = Changed(done.change.id, done.change.resource, done.version, done.updated, author)
            await project(pg, [changed])


async def remove(pg: Connection, type: str, id: str, at: datetime = NOW) -> None:
    await store.write(pg, [Change("delete", type, id, None)], SAM, at)
    if project := PROJECT.get(type):
        await project(pg, [Changed(id, None, 2, at, SAM)])


def approval(patient: str = "p", **changes: Any) -> dict[str, Any]:
    made = consent.new_consent(f"c-{patient}", f"Patient/{patient}", "Organization/h", NOW - timedelta(1), "in person")
    return {**made, **changes}


def plan(id: str = "pl", patient: str = "p", **changes: Any) -> dict[str, Any]:
    return {**new_plan(id, f"Patient/{patient}", SAM, TODAY).resource, **changes}


async def known(pg: Connection, *pairs: facts.Pair, can_import: bool = False) -> dict[str, Facts]:
    return await facts.gather(pg, pairs, NOW, can_import=can_import)


async def rows(pg: Connection, sql: str) -> list[tuple[Any, ...]]:
    return await (await pg.execute(sql)).fetchall()


class TestFacts:
    async def test_nobody_asked_is_no_approval(self, tx: Tx) -> None:
        found = await facts.load_facts(tx.pg, ["p"], NOW)
        assert (found["p"].has_approval, found["p"].active_plan_id, found["p"].care_team_id) == (False, None, None)

    async def test_another_persons_approval_is_none(self, tx: Tx) -> None:
        await save(tx.pg, approval("q"))
        found = await facts.load_facts(tx.pg, ["p", "q"], NOW)
        assert [found[id].has_approval for id in ("p", "q")] == [False, True]

    async def test_an_approval_that_has_ended_by_itself(self, tx: Tx) -> None:
        ends = approval(provision={"type": "permit", "period": {"end": "2026-11-30"}})
        await save(tx.pg, ends)
        assert (await facts.load_facts(tx.pg, ["p"], NOW))["p"].has_approval
        assert not (await facts.load_facts(tx.pg, ["p"], NOW + timedelta(days=10)))["p"].has_approval

    async def test_what_is_stored(self, tx: Tx) -> None:
        await save(
            tx.pg,
            approval(),
            plan(status="active"),
            plan("draft"),
            team.new_team("t", "Patient/p", NOW, hub="Organization/h"),
        )
        found = (await facts.load_facts(tx.pg, ["p"], NOW))["p"]
        assert (found.has_approval, found.active_plans, found.care_team_id) == (True, {"pl"}, "t")

    async def test_whose_goals_a_plan_refers_to(self, tx: Tx) -> None:
        mine = new_goal("mine", "Patient/p", "Walk", "Patient/p", TODAY)
        theirs = new_goal("theirs", "Patient/q", "Run", "Patient/q", TODAY)
        staff = new_goal("staff", "Patient/p", "Lose 5 kg", SAM, TODAY)
        await save(tx.pg, approval(), mine, theirs, staff)
        refers = plan(goal=[{"reference": f"Goal/{id}"} for id in ("mine", "staff", "theirs", "unknown")])
        found = (await known(tx.pg, (None, refers)))["p"]
        assert found.owners == {"Goal/mine": "p", "Goal/staff": "p", "Goal/theirs": "q"}
        assert found.own_words == {"mine", "theirs"}
        with pytest.raises(Refusal, match="Goal/theirs belongs to another person"):
            rules.check((None, refers), {"p": found}, Facts("", NOW))

    async def test_a_bundle_of_supporting_plans_asks_for_nothing_stored(self, tx: Tx) -> None:
        supporting = plan("s", intent="order", category=[{"text": "Diabetes self management plan"}])
        found = await known(tx.pg, (None, supporting), can_import=True)
        rules.check((None, supporting), found, Facts("", NOW))
        assert found["p"].can_import


class TestPlans:
    async def test_a_supporting_plan_has_no_row(self, tx: Tx) -> None:
        await save(tx.pg, plan("s", intent="order", category=[{"text": "Diabetes self management plan"}]))
        assert await rows(tx.pg, "SELECT id FROM plan") == []

    async def test_a_plan_of_a_group_has_no_row(self) -> None:
        assert plan_row(plan(subject={"reference": "Group/g"}), 1, NOW, SAM) is None

    async def test_a_row_follows_its_plan(self, tx: Tx) -> None:
        draft = edits.apply(Plan(plan()), [SetNextReview(date(2027, 1, 10))], SAM, TODAY).resource
        await save(tx.pg, draft)
        await save(tx.pg, {**draft, "status": "active", "title": "Ann’s plan"}, author=KIM, at=NOW + timedelta(1))
        (row,) = await rows(tx.pg, "SELECT id, status, version, title, review_on, updated, author FROM plan")
        assert row == ("pl", "active", 2, "Ann’s plan", date(2027, 1, 10), NOW + timedelta(1), KIM)

    async def test_a_deleted_plan_has_no_row(self, tx: Tx) -> None:
        await save(tx.pg, plan())
        await remove(tx.pg, "CarePlan", "pl")
        assert await rows(tx.pg, "SELECT id FROM plan") == []

    async def test_a_successor_takes_the_active_place_in_one_write(self, tx: Tx) -> None:
        old, new = plan("a-old", status="active"), plan("b-new", status="active")
        await save(tx.pg, old)
        changed = [Changed("b-new", new, 1, NOW, SAM), Changed("a-old", {**old, "status": "completed"}, 2, NOW, SAM)]
        await project_plans(tx.pg, changed)
        assert await rows(tx.pg, "SELECT id, status FROM plan ORDER BY id") == [
            ("a-old", "completed"),
            ("b-new", "active"),
        ]

    async def test_the_table_itself_keeps_one_active_plan(self, tx: Tx) -> None:
        await save(tx.pg, plan("first", status="active"))
        with pytest.raises(Refusal) as caught:
            await project_plans(tx.pg, [Changed("second", plan("second", status="active"), 1, NOW, SAM)])
        assert caught.value.status == 409


class TestTeamRows:
    async def test_who_left_the_resource_leaves_the_table(self, tx: Tx) -> None:
        first = team.assign(team.new_team("t", "Patient/p", NOW), team.COACH, SAM, "Sam", NOW)
        await save(tx.pg, first)
        await save(tx.pg, {**first, "participant": []})
        assert await rows(tx.pg, "SELECT member FROM team_member") == []

    async def test_a_member_who_comes_back_has_one_row(self, tx: Tx) -> None:
        first = team.assign(team.new_team("t", "Patient/p", NOW), team.COACH, SAM, "Sam", NOW)
        second = team.assign(first, team.COACH, KIM, "Kim", NOW + timedelta(days=1))
        third = team.assign(second, team.COACH, SAM, "Sam", NOW + timedelta(days=2))
        await save(tx.pg, third)
        members = await queries.team_of(tx.pg, "p", EVERYONE)
        coach = team.coach(members, NOW + timedelta(days=3))
        assert coach is not None
        assert (coach.member, coach.since, coach.until) == (SAM, NOW + timedelta(days=2), None)

    async def test_an_inactive_team_has_no_members(self, tx: Tx) -> None:
        first = team.assign(team.new_team("t", "Patient/p", NOW), team.COACH, SAM, "Sam", NOW)
        await save(tx.pg, {**first, "status": "inactive"})
        assert await queries.team_of(tx.pg, "p", EVERYONE) == []


class TestReads:
    async def test_who_may_not_see_the_person_sees_nothing(self, tx: Tx) -> None:
        made = team.assign(team.new_team("t", "Patient/p", NOW), team.COORDINATOR, SAM, "Sam", NOW)
        task = tasks.new_task("k", "Ring", SAM, NOW, patient="Patient/p", owner=SAM, due="2026-11-20")
        await save(tx.pg, plan(status="active"), made, task)
        assert await queries.plan_of(tx.pg, "p", NOBODY) is None
        assert await queries.plans_of(tx.pg, "p", NOBODY) == []
        assert await queries.team_of(tx.pg, "p", NOBODY) == []
        assert await queries.tasks_of(tx.pg, "p", NOBODY) == []
        assert await queries.open_tasks(tx.pg, [SAM], NOBODY) == []
        assert await queries.caseloads(tx.pg, NOBODY) == []
        assert await queries.reviews_due(tx.pg, TODAY, NOBODY) == []

    @pytest.mark.parametrize(
        ("statuses", "shown"),
        [
            (["completed", "draft", "on-hold", "active"], "active"),
            (["completed", "draft", "on-hold"], "on-hold"),
            (["completed", "draft"], "draft"),
            (["completed", "entered-in-error"], "completed"),
        ],
    )
    async def test_the_plan_of_a_person(self, tx: Tx, statuses: list[str], shown: str) -> None:
        await save(tx.pg, *(plan(status, status=status) for status in statuses))
        found = await queries.plan_of(tx.pg, "p", EVERYONE)
        assert found is not None
        assert found.status == shown

    async def test_a_plan_entered_in_error_is_never_shown(self, tx: Tx) -> None:
        await save(tx.pg, plan(status="entered-in-error"))
        assert await queries.plan_of(tx.pg, "p", EVERYONE) is None

    async def test_the_plan_with_its_goals(self, tx: Tx) -> None:
        made = edits.apply(Plan(plan()), [AddGoal("g2", "Run"), AddGoal("g1", "Walk")], SAM, TODAY)
        await save(tx.pg, *written(None, made))
        found = await queries.current(tx.pg, "pl")
        assert found is not None
        assert ([goal.text for goal in found[0].goals], found[1]) == (["Run", "Walk"], 1)
        assert await queries.current(tx.pg, "other") is None

    async def test_a_deleted_plan_is_none(self, tx: Tx) -> None:
        await save(tx.pg, plan())
        await remove(tx.pg, "CarePlan", "pl")
        assert await queries.current(tx.pg, "pl") is None

    async def test_reviews_due(self, tx: Tx) -> None:
        def due(id: str, on: date, **changes: Any) -> dict[str, Any]:
            return edits.apply(Plan(plan(id, id, **changes)), [SetNextReview(on)], SAM, date(2026, 1, 1)).resource

        await save(
            tx.pg,
            due("late", date(2026, 11, 1), status="active"),
            due("later", date(2026, 10, 1), status="active"),
            due("soon", date(2026, 12, 1), status="active"),
            due("draft", date(2026, 11, 1)),
        )
        assert [row.id for row in await queries.reviews_due(tx.pg, TODAY, EVERYONE)] == ["later", "late"]

    async def test_open_tasks_by_what_is_most_overdue(self, tx: Tx) -> None:
        def task(id: str, due: str | None, owner: str = SAM, status: str = "requested") -> dict[str, Any]:
            return {**tasks.new_task(id, id, KIM, NOW, patient="Patient/p", owner=owner, due=due), "status": status}

        await save(
            tx.pg,
            task("none", None),
            task("later", "2026-12-01"),
            task("overdue", "2026-11-01"),
            task("done", "2026-11-01", status="completed"),
            task("other", "2026-11-01", owner=KIM),
        )
        assert [row.id for row in await queries.open_tasks(tx.pg, [SAM], EVERYONE)] == ["overdue", "later", "none"]
        assert len(await queries.tasks_of(tx.pg, "p", EVERYONE)) == 4

    async def test_caseloads(self, tx: Tx) -> None:
        def looked_after(id: str, by: str) -> dict[str, Any]:
            begun = datetime(2026, 1, 1, tzinfo=UTC)
            return team.assign(team.new_team(f"t{id}", f"Patient/{id}", begun), team.COORDINATOR, by, by, begun)

        await save(tx.pg, looked_after("a", SAM), looked_after("b", SAM), looked_after("c", KIM))
        assert [(load.member, load.people) for load in await queries.caseloads(tx.pg, EVERYONE)] == [(SAM, 2), (KIM, 1)]

    async def test_open_tasks_use_their_partial_index(self, tx: Tx) -> None:
        await tx.pg.execute("SET LOCAL enable_seqscan = off")
        explained = await rows(
            tx.pg, f"EXPLAIN SELECT 1 FROM task WHERE task.owner = 'Practitioner/sam' AND {queries.OPEN}"
        )
        assert "task_open" in str(explained)


class TestVersions:
    async def edit(
        self, pg: Connection, before: Plan | None, changes: Sequence[edits.Edit], author: str, at: datetime
    ) -> Plan:
        after = edits.apply(before or Plan(plan()), changes, author, TODAY)
        await save(pg, *written(before, after), author=author, at=at)
        return after

    async def test_each_with_its_author_and_what_changed(self, tx: Tx) -> None:
        first = await self.edit(tx.pg, None, [AddGoal("g", "Walk")], SAM, NOW)
        await self.edit(tx.pg, first, [ChangeGoal("g", "Run"), SetTitle("Mine")], KIM, NOW + timedelta(hours=1))
        one, two = await queries.versions(tx.pg, "pl")
        assert (one.version, one.author, one.plan.goals[0].text) == (1, SAM, "Walk")
        assert (two.version, two.author, two.plan.goals[0].text) == (2, KIM, "Run")
        assert [change.sentence for change in two.changes] == [
            "Title changed from “My care plan” to “Mine”.",
            "Goal changed: “Walk” is now “Run”.",
        ]

    async def test_a_goal_changed_alone_is_an_act_of_its_own(self, tx: Tx) -> None:
        first = await self.edit(tx.pg, None, [AddGoal("g", "Walk")], SAM, NOW)
        await save(
            tx.pg, {**first.goal_resources[0], "description": {"text": "Run"}}, author=KIM, at=NOW + timedelta(1)
        )
        found = await queries.versions(tx.pg, "pl")
        assert [(one.version, one.author) for one in found] == [(1, SAM), (1, KIM)]
        assert [change.sentence for change in since(found, 1)] == []
        assert found[1].changes[0].sentence == "Goal changed: “Walk” is now “Run”."

    async def test_versions_written_in_the_same_instant_are_both_there(self, tx: Tx) -> None:
        first = await self.edit(tx.pg, None, [AddGoal("g", "Walk")], SAM, NOW)
        await self.edit(tx.pg, first, [ChangeGoal("g", "Run")], SAM, NOW)
        assert [one.version for one in await queries.versions(tx.pg, "pl")] == [1, 1]

    async def test_a_goal_that_the_plan_has_no_more_is_still_in_its_old_versions(self, tx: Tx) -> None:
        first = await self.edit(tx.pg, None, [AddGoal("g", "Walk")], SAM, NOW)
        without = with_goals({key: value for key, value in first.resource.items() if key != "goal"}, ())
        await save(tx.pg, without.resource, at=NOW + timedelta(1))
        await remove(tx.pg, "Goal", "g", NOW + timedelta(2))
        one, two = await queries.versions(tx.pg, "pl")
        assert [goal.text for goal in one.plan.goals] == ["Walk"]
        assert two.changes[0].sentence == "Goal taken out of the plan: Walk"

    async def test_a_plan_that_came_back_after_its_deletion(self, tx: Tx) -> None:
        await self.edit(tx.pg, None, [SetTitle("Old")], SAM, NOW)
        await remove(tx.pg, "CarePlan", "pl", NOW + timedelta(1))
        await save(tx.pg, plan(title="New"), at=NOW + timedelta(2))
        assert [(one.version, one.plan.title) for one in await queries.versions(tx.pg, "pl")] == [
            (1, "Old"),
            (3, "New"),
        ]

    async def test_nothing_is_new_in_a_plan_without_versions(self) -> None:
        assert since([], None) == []

    async def test_a_plan_that_is_not_there_has_none(self, tx: Tx) -> None:
        assert await queries.versions(tx.pg, "none") == []


class TestSinceYouLastLooked:
    async def test_the_version_seen_before_comes_back(self, tx: Tx) -> None:
        assert await queries.mark_read(tx.pg, "pl", SAM, 1, NOW) is None
        assert await queries.mark_read(tx.pg, "pl", SAM, 3, NOW) == 1
        assert await queries.mark_read(tx.pg, "pl", KIM, 3, NOW) is None

    async def test_looking_at_an_old_version_again_forgets_nothing(self, tx: Tx) -> None:
        await queries.mark_read(tx.pg, "pl", SAM, 3, NOW)
        await queries.mark_read(tx.pg, "pl", SAM, 1, NOW)
        assert await queries.mark_read(tx.pg, "pl", SAM, 3, NOW) == 3

    async def test_har_04_who_of_the_team_has_not_read_it(self, tx: Tx) -> None:
        begun = datetime(2026, 1, 1, tzinfo=UTC)
        made = team.new_team("t", "Patient/p", begun, hub="Organization/h")
        made = team.assign(made, team.COORDINATOR, SAM, "Sam", begun)
        made = team.assign(made, team.COACH, KIM, "Kim", begun)
        await save(tx.pg, made)
        await queries.mark_read(tx.pg, "pl", SAM, 2, NOW)
        found = await queries.readers(tx.pg, "pl", "p")
        assert [(reader.name, reader.version) for reader in found] == [("Kim", None), ("Sam", 2)]


class TestWir03ApprovalThatEnds:
    async def test_plans_to_suspend_are_found_though_nobody_wrote(self, tx: Tx) -> None:
        ends = approval("p", provision={"type": "permit", "period": {"end": "2026-11-30"}})
        await save(tx.pg, ends, plan(status="active"), approval("q"), plan("other", "q", status="active"))
        assert await queries.unapproved_plans(tx.pg, NOW) == []
        assert await queries.unapproved_plans(tx.pg, NOW + timedelta(days=10)) == ["pl"]

    async def test_a_later_no_is_found_too(self, tx: Tx) -> None:
        no = {**approval(), "id": "no", "dateTime": NOW.isoformat(), "provision": {"type": "deny"}}
        await save(tx.pg, approval(), no, plan(status="active"))
        assert await queries.unapproved_plans(tx.pg, NOW) == ["pl"]


async def attempt(database: Database, pair: facts.Pair, held: asyncio.Event | None = None) -> list[str]:
    """One writer, as the hub has it: facts, rules, store, typed tables. What to suspend comes back."""
    async with database.transaction() as tx:
        found = await known(tx.pg, pair)
        rules.check(pair, found, Facts("", NOW))
        if held:
            held.set()
            await asyncio.sleep(0.2)
        after = pair[1]
        assert after is not None
        await save(tx.pg, after)
        return rules.suspensions(found)


class TestAtTheSameMoment:
    @pytest.fixture
    async def approved(self, database: Database) -> str:
        patient = store.new_id()
        async with database.transaction() as tx:
            await save(tx.pg, approval(patient))
        return patient

    async def test_two_who_make_a_plan_leave_one(self, database: Database, approved: str) -> None:
        made = [plan(store.new_id(), approved, status="active") for _ in range(4)]
        outcomes = await asyncio.gather(*(attempt(database, (None, one)) for one in made), return_exceptions=True)
        refusals = [one for one in outcomes if isinstance(one, Refusal)]
        assert [one.status for one in refusals] == [409, 409, 409]
        async with database.transaction() as tx:
            found = await queries.plans_of(tx.pg, approved, EVERYONE)
        assert [row.status for row in found] == ["active"]
        assert all(f"CarePlan/{found[0].id}" in one.issues[0].diagnostics for one in refusals)

    async def test_a_withdrawal_sees_the_plan_that_was_being_made(self, database: Database, approved: str) -> None:
        made, stored, held = plan(store.new_id(), approved, status="active"), approval(approved), asyncio.Event()
        making = asyncio.create_task(attempt(database, (None, made), held))
        await held.wait()
        suspended = await attempt(database, (stored, consent.withdrawn(stored)))
        await making
        assert suspended == [made["id"]]

    async def test_a_plan_being_made_sees_the_withdrawal(self, database: Database, approved: str) -> None:
        stored, held = approval(approved), asyncio.Event()
        withdrawing = asyncio.create_task(attempt(database, (stored, consent.withdrawn(stored)), held))
        await held.wait()
        with pytest.raises(Refusal, match="No approval"):
            await attempt(database, (None, plan(store.new_id(), approved, status="active")))
        assert await withdrawing == []
