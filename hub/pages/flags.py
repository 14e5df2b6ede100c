"""One flag: why it was raised, and what was done about it. Also the acts on flags and tasks from any page."""

from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response

from fhir.outcome import Refusal, refuse
from hub import boards, flows, notices
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import records, words
from hub.pages.door import demand, form, local, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.mdt import gap_words, main_measure, reason_words, trend_words, with_limits
from hub.pages.records import FlagRow
from hub.pages.rendering import page
from hub.pages.sparkline import sparkline
from monitoring.extents import again
from monitoring.rules import RULES, name_of

router = APIRouter(route_class=PageRoute)

TREND_DAYS = 14
_RULES = {rule.id: rule for rule in RULES}


@router.get("/flags/{flag_id}")
async def flag(request: Request, flag_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "flag.acknowledge")
    return await _page(request, actor, flag_id)


async def _page(
    request: Request, actor: Actor, flag_id: str, problem: str | None = None, why: str = "", status: int = 200
) -> Response:
    """The flag as it stands; *problem* says why an act was not carried out, and *why* is what was typed with it."""
    now = persons.present()
    since = now - timedelta(days=TREND_DAYS)
    async with transaction(request) as tx:
        row = await records.flag(tx.pg, actor, flag_id)
        person = await persons.find(tx.pg, actor, row.patient_id)
        measure = main_measure(row.reasons)
        trends = await boards.trends(tx.pg, [(row.patient_id, measure)] if measure else [], since)
        gaps = await boards.gaps(tx.pg, [row.patient_id], now)
        names = await boards.names(tx.pg, {row.acknowledged_by, row.resolved_by})
        await notices.see(tx.pg, actor, row.patient_id, notices.FLAGS, f"/flags/{flag_id}")
    await runtime(request).reads.record(persons.looked(actor, person.patient_id, "flag", "Flag"))
    trend = trends.get((row.patient_id, measure or ""))
    value, value_when, spoken = trend_words(measure, trend, now)
    return page(
        request,
        "flag.html",
        actor,
        status,
        tab=None,
        person=person,
        now=now,
        flag=shown(row, names, now, len(row.reasons)),
        rule=rule_words(row.rule),
        measure=measure,
        missing=gap_words(gaps.get(row.patient_id, ()), now),
        sparkline=sparkline(with_limits(trend, measure), spoken, since.timestamp(), now.timestamp()),
        value=value,
        value_when=value_when,
        done=done(row, names, now),
        problem=problem,
        why=why,
        can_acknowledge=True,
        can_resolve=actor.can("flag.resolve"),
    )


def rule_words(rule_id: str) -> dict[str, str]:
    rule = _RULES.get(rule_id)
    if rule is None and rule_id.startswith("failed-"):
        return {
            "name": name_of(rule_id),
            "sentence": "The newest readings could not be evaluated here: look at them yourself.",
            "source": "",
        }
    if rule is None:
        return {"name": rule_id, "sentence": "This rule is no longer in use here.", "source": ""}
    return {"name": rule.name, "sentence": rule.sentence, "source": rule.source}


def shown(row: FlagRow, names: dict[str, str], now: datetime, reasons: int = 0) -> dict[str, Any]:
    """A flag in words; the first *reasons* of its reasons."""
    since = f"Since {words.when(row.opened, now)} ({words.ago(row.opened, now)})."
    if row.count > 1:
        since += f" Raised {row.count} times, last {words.when(row.refreshed, now)}."
    if row.state == "acknowledged" and row.acknowledged_at:
        by = names.get(row.acknowledged_by or "", "someone in the team")
        since += f" Acknowledged by {by}, {words.when(row.acknowledged_at, now)}."
        steps = [words_ for one in row.extents if (words_ := again(one, row.severity))]
        since += f" Opens again at {', '.join(steps)}." if steps else ""
    return {
        "id": row.id,
        "look": words.SEVERITIES[row.severity] if row.state in ("open", "acknowledged") else "done",
        "word": words.SEVERITY_WORDS[row.severity],
        "state": row.state,
        "state_words": words.STATES.get(row.state, row.state),
        "summary": row.summary,
        "rule_version": row.rule_version,
        "reasons": [reason_words(reason, now) for reason in row.reasons[:reasons]],
        "since": since,
    }


def done(row: FlagRow, names: dict[str, str], now: datetime) -> list[dict[str, str]]:
    steps = (
        ("Acknowledged", row.acknowledged_by, row.acknowledged_at, row.acknowledged_why),
        (words.STATES.get(row.state, "Resolved"), row.resolved_by, row.resolved_at, row.resolved_why),
    )
    return [
        {"what": what, "by": names.get(by or "", "someone in the team"), "at": words.when(at, now), "why": why or ""}
        for what, by, at, why in steps
        if at is not None
    ]


@router.post("/flags/{flag_id}")
async def act(request: Request, flag_id: str) -> Response:
    """Acknowledge, resolve or call a false alarm, with the reason."""
    actor = await signed_in(request)
    sent = await form(request, actor)
    what, why = sent.text("act"), sent.text("why", 1000)
    try:
        async with transaction(request) as tx:
            await records.flag(tx.pg, actor, flag_id)
            if what == "acknowledge":
                demand(actor, "flag.acknowledge")
                await flows.acknowledge_flag(tx, actor, flag_id, why)
                said = "acknowledged"
            elif what in ("resolve", "false-alarm"):
                demand(actor, "flag.resolve")
                await flows.resolve_flag(tx, actor, flag_id, why, "other" if what == "false-alarm" else "none-needed")
                said = "resolved" if what == "resolve" else "false-alarm"
            else:
                raise refuse(400, "invalid", "The form was not complete. Go back and try again.")
    except Refusal as refusal:
        if refusal.status not in (409, 412, 422):
            raise
        # Somebody else was quicker, or the reason is missing: the flag as it stands, and what was typed beside it.
        return await _page(request, actor, flag_id, refusal.issues[0].diagnostics, why, refusal.status)
    return told(local(sent.text("back"), home(actor)), said)


@router.post("/tasks/{task_id}")
async def task(request: Request, task_id: str) -> Response:
    """Complete a task, however overdue."""
    actor = await signed_in(request)
    demand(actor, "task.answer")
    sent = await form(request, actor)
    async with transaction(request) as tx:
        await flows.complete_task(tx, actor, task_id)
    return told(local(sent.text("back"), home(actor)), "task-done")


def home(actor: Actor) -> str:
    return "/today" if actor.can("board.today") else "/me"
