"""One flag: why it was raised, and what was done about it. Also the acts on flags and tasks from any page."""

from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response

from fhir.outcome import Refusal, refuse
from hub import boards, composing, flows, notices
from hub.db import Tx
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import records, words
from hub.pages.door import Form, demand, form, local, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.flag_words import SNOOZES, TO, choices, history, next_step, standing
from hub.pages.mdt import gap_words, main_measure, reason_words, trend_words, with_limits
from hub.pages.records import FlagRow
from hub.pages.rendering import page
from hub.pages.sparkline import sparkline
from monitoring import moves
from monitoring.extents import again
from monitoring.local_rules import LIVE, LocalRule
from monitoring.outcomes import OUTCOMES
from monitoring.rules import BY_ID, name_of
from monitoring.states import ENDED, SEEN, SNOOZED

router = APIRouter(route_class=PageRoute)

TREND_DAYS = 14


@router.get("/flags/{flag_id}")
async def flag(request: Request, flag_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "flag.acknowledge")
    return await _page(request, actor, flag_id)


async def _page(
    request: Request,
    actor: Actor,
    flag_id: str,
    problem: str | None = None,
    sent: Form | None = None,
    status: int = 200,
) -> Response:
    """The flag as it stands; *problem* says why an act was not carried out, and *sent* holds what was typed with it."""
    now = persons.present()
    since = now - timedelta(days=TREND_DAYS)
    async with transaction(request) as tx:
        row = await records.flag(tx.pg, actor, flag_id)
        person = await persons.find(tx.pg, actor, row.patient_id)
        measure = main_measure(row.reasons)
        trends = await boards.trends(tx.pg, [(row.patient_id, measure)] if measure else [], since)
        gaps = await boards.gaps(tx.pg, [row.patient_id])
        own = None if row.rule in BY_ID else await composing.raised_by(tx, row.rule, row.rule_version)
        names = await boards.names(tx.pg, {row.acknowledged_by, *(one["by"] for one in row.moves)})
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
        rule=own_words(own) if own else rule_words(row.rule),
        measure=measure,
        missing=gap_words(gaps.get(row.patient_id, ()), now),
        sparkline=sparkline(with_limits(trend, measure), spoken, since.timestamp(), now.timestamp()),
        value=value,
        value_when=value_when,
        history=history(row.moves, names, now),
        next_step=next_step(row.state, row.severity, row.level, row.due, now),
        choices=choices(actor, row.state, row.severity, row.level),
        can_undo=moves.takes_back(row.moves, row.state, actor.reference, now) is None,
        problem=problem,
        why=sent.text("why", 1000) if sent else "",
        outcome=sent.text("outcome", 40) if sent else "",
        hours=sent.text("hours", 5) if sent else "",
    )


def rule_words(rule_id: str) -> dict[str, str]:
    rule = BY_ID.get(rule_id)
    if rule is None and rule_id.startswith("failed-"):
        return {
            "name": name_of(rule_id),
            "sentence": "The newest readings could not be evaluated here: look at them yourself.",
            "source": "",
        }
    if rule is None:
        return {"name": rule_id, "sentence": "This rule is no longer in use here.", "source": ""}
    return {"name": rule.name, "sentence": rule.sentence, "source": rule.source}


def own_words(rule: LocalRule) -> dict[str, str]:
    made = next((step for step in rule.steps if step.to == LIVE), None)
    source = f"a rule of this hub, live since {words.long_date(persons.today(made.at))}: {made.why}" if made else ""
    return {"name": rule.name, "sentence": rule.sentence(), "source": source}


def shown(row: FlagRow, names: dict[str, str], now: datetime, reasons: int = 0) -> dict[str, Any]:
    """A flag in words; the first *reasons* of its reasons."""
    since = f"Since {words.when(row.opened, now)} ({words.ago(row.opened, now)})."
    if row.count > 1:
        since += f" Raised {row.count} times, last {words.when(row.refreshed, now)}."
    stands = standing(row.state, row.level, row.due, row.acknowledged_by, row.acknowledged_at, names, now)
    since = f"{since} {stands}".strip()
    if row.state in SEEN:
        steps = [words_ for one in row.extents if (words_ := again(one, row.severity))]
        since += f" Opens again at {', '.join(steps)}." if steps else ""
    return {
        "id": row.id,
        "look": words.SEVERITIES[row.severity] if row.state not in ENDED else "done",
        "word": words.SEVERITY_WORDS[row.severity],
        "state": row.state,
        "seen": row.state in SEEN,
        "state_words": words.STATES.get(row.state, row.state),
        "outcome": OUTCOMES[row.outcome].words if row.outcome in OUTCOMES else None,
        "summary": row.summary,
        "rule_version": row.rule_version,
        "reasons": [reason_words(reason, now) for reason in row.reasons[:reasons]],
        "since": since,
    }


@router.post("/flags/{flag_id}")
async def act(request: Request, flag_id: str) -> Response:
    """Move the flag on, with the reason; or take the last move back."""
    actor = await signed_in(request)
    demand(actor, "flag.acknowledge")
    sent = await form(request, actor)
    try:
        async with transaction(request) as tx:
            await records.flag(tx.pg, actor, flag_id)
            said = await _carried_out(tx, actor, flag_id, sent)
    except Refusal as refusal:
        if refusal.status not in (409, 412, 422):
            raise
        # Somebody else was quicker, or the reason is missing: the flag as it stands, and what was typed beside it.
        return await _page(request, actor, flag_id, refusal.issues[0].diagnostics, sent, refusal.status)
    return told(local(sent.text("back"), home(actor)), said)


async def _carried_out(tx: Tx, actor: Actor, flag_id: str, sent: Form) -> str:
    """What the form asks for, done; the key of what is said afterwards (`rendering.SAID`)."""
    what, why = sent.text("act"), sent.text("why", 1000)
    if what == "undo":
        await flows.undo_flag_move(tx, actor, flag_id)
        return "undone"
    if what == "resolve":
        outcome = OUTCOMES.get(sent.text("outcome", 40))
        if outcome is None:
            raise refuse(422, "required", "Choose how it ends: what was done, or why it was a false alarm.", "outcome")
        await flows.resolve_flag(tx, actor, flag_id, why, outcome.code)
        return outcome.ends
    if what == "snooze":
        hours = sent.text("hours", 5)
        if not hours.isdecimal() or int(hours) not in SNOOZES:
            raise refuse(422, "required", "Choose for how long the flag is snoozed.", "hours")
        until = persons.present() + timedelta(hours=int(hours))
        await flows.move_flag(tx, actor, flag_id, SNOOZED, why, until=until)
        return SNOOZED
    if what not in TO:
        raise refuse(400, "invalid", "The form was not complete. Go back and try again.")
    await flows.move_flag(tx, actor, flag_id, TO[what], why)
    return TO[what]


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
