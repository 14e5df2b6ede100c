"""A plan of monitoring: from a template or by hand, changed, stopped, undone; limits stay with it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import factories
import pytest

from care_plans.activities import For
from care_plans.application import apply
from fhir.outcome import Refusal
from fhir.validation import check
from fhir.wire import decode, encode
from hub import asked, flows
from hub.asked import Asked
from hub.db import Tx
from hub.identity import Actor
from hub.pages import asking
from monitoring import templates
from monitoring.adherence import Kept
from monitoring.limits import Limits, Order
from monitoring.schedules import LONDON, Slot

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
TWICE = "07:00-10:00,17:00-20:00"


async def people(tx: Tx) -> tuple[str, Actor, Actor]:
    """A person, a clinician and a coordinator of their team."""
    hub = await factories.organisation(tx)
    patient = await factories.patient(tx, hub=hub)
    await factories.team(tx, patient, {"Practitioner/doc": "158965000", "Practitioner/co": "768820003"}, hub=hub)
    doctor, coordinator = (
        Actor("user", who, who, role, f"Practitioner/{who}", (f"Practitioner/{who}",), hub)
        for who, role in (("doc", "clinician"), ("co", "care-coordinator"))
    )
    return patient, doctor, coordinator


async def plan(tx: Tx, patient: str, now: datetime = NOW) -> dict[str, str]:
    return {one.order.measure: asking.how_often(one.order.schedule) for one in await asked.asked(tx.pg, patient, now)}


class TestTemplates:
    @pytest.mark.parametrize("key", templates.TEMPLATES)
    def test_are_valid_say_their_source_and_become_orders(self, key: str) -> None:
        template: dict[str, Any] = decode(encode(templates.TEMPLATES[key]))
        check(template)
        assert template["purpose"] and template["description"]
        proposed = apply(template, {}, For("Patient/p1", "2026-11-21T12:30:00Z"))
        orders = list(templates.orders(proposed["contained"][1:], "Practitioner/doc", NOW))
        assert len(orders) == len(template["action"])
        assert all(one.every_hours and not one.personal and one.active for one in orders)

    async def test_a_week_of_blood_pressure_ends_by_itself(self, tx: Tx) -> None:
        patient, doctor, _ = await people(tx)
        await asked.use_template(tx, doctor, patient, "hypertension", NOW)
        (one,) = await asked.asked(tx.pg, patient, NOW)
        assert one.order.ends == datetime(2026, 11, 28, tzinfo=LONDON)
        assert asking.how_often(one.order.schedule) == "2 a day, 7am to 10am and 5pm to 8pm"
        assert [each.state for each in one.kept] == ["later"]

    async def test_limits_that_a_clinician_set_stay(self, tx: Tx) -> None:
        patient, doctor, _ = await people(tx)
        own = Limits(low_red=88.0)
        review = datetime.now(UTC).date() + timedelta(days=30)
        limited = Order("x", patient, "spo2", own, None, None, doctor.reference, "COPD", review)
        await flows.set_limits(tx, doctor, limited)
        made = await asked.use_template(tx, doctor, patient, "copd", NOW)
        found = {one.order.measure: one.order for one in await asked.asked(tx.pg, patient, NOW)}
        assert found["spo2"].limits == own and found["spo2"].reason == "COPD"
        assert found.keys() == {"spo2", "pulse", "mmrc"}
        await asked.undo(tx, doctor, patient, made, NOW)
        (left,) = await asked.asked(tx.pg, patient, NOW)
        assert left.order.limits == own and left.order.every_hours is None


class TestChanges:
    async def test_only_who_sets_limits(self, tx: Tx) -> None:
        patient, _, coordinator = await people(tx)
        with pytest.raises(Refusal) as refused:
            await asked.use_template(tx, coordinator, patient, "copd", NOW)
        assert refused.value.status == 403
        assert await plan(tx, patient) == {}

    async def test_ask_change_stop_and_undo_each(self, tx: Tx) -> None:
        patient, doctor, _ = await people(tx)
        order = Order("", patient, "weight", every_hours=24.0)
        added = await asked.ask(tx, doctor, [order], NOW)
        changed = await asked.ask(tx, doctor, [replace(order, every_hours=12.0, windows=TWICE)], NOW)
        assert await plan(tx, patient) == {"weight": "2 a day, 7am to 10am and 5pm to 8pm"}
        await asked.undo(tx, doctor, patient, changed, NOW)
        assert await plan(tx, patient) == {"weight": "One a day"}
        with pytest.raises(Refusal) as refused:
            await asked.undo(tx, doctor, patient, added, NOW)
        assert refused.value.status == 409
        stopped = await asked.stop(tx, doctor, patient, "weight", NOW)
        assert await plan(tx, patient) == {}
        ((known, version),) = await asked.stopped(tx.pg, patient, datetime.now(UTC))
        assert [(known.service_request_id, version)] == stopped
        await asked.undo(tx, doctor, patient, stopped, NOW)
        assert await plan(tx, patient) == {"weight": "One a day"}

    async def test_nobody_undoes_what_is_of_another_person(self, tx: Tx) -> None:
        patient, doctor, _ = await people(tx)
        other, theirs, _ = await people(tx)
        made = await asked.ask(tx, theirs, [Order("", other, "weight", every_hours=24.0)], NOW)
        with pytest.raises(Refusal) as refused:
            await asked.undo(tx, doctor, patient, made, NOW)
        assert refused.value.status == 404


def one(state: str, start: str, end: str, at: str | None = None, measure: str = "systolic") -> Asked:
    first, last = (datetime.fromisoformat(f"2026-11-21T{text}").replace(tzinfo=LONDON) for text in (start, end))
    taken = datetime.fromisoformat(f"2026-11-21T{at}").replace(tzinfo=LONDON) if at else None
    kept = Kept(Slot(first, last, first, last), state, taken)  # type: ignore[arg-type]
    return Asked(Order("s", "p", measure, every_hours=24, windows=TWICE), [kept], None, None)


class TestToday:
    def test_what_is_to_be_done_now_comes_first(self) -> None:
        found = [
            one("done", "07:00", "10:00", "08:12"),
            one("later", "17:00", "20:00"),
            one("open", "12:00", "15:00", measure="weight"),
            one("missed", "07:00", "10:00", measure="spo2"),
            one("open", "12:00", "15:00", measure="diastolic"),
        ]
        rows = [(row["name"], row["when"], row["word"]) for row in asking.today(found, NOW)]
        assert rows == [
            ("Weight", "noon to 3pm", "To do now"),
            ("Oxygen level", "7am to 10am", "Not done. You can still measure now."),
            ("Blood pressure", "5pm to 8pm", "Later"),
            ("Blood pressure", "7am to 10am", "Done, today 08:12"),
        ]

    def test_hazard_stale_a_reading_of_yesterday_is_not_done_today(self) -> None:
        (row,) = asking.today([one("open", "00:00", "23:59")], NOW)
        assert (row["word"], row["when"]) == ("To do now", "any time today")
