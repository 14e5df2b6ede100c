"""A rule tried on the past: how many alerts it would have raised, for whom, how much earlier or later, how often."""

from datetime import date, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from fhir.outcome import refuse
from hub import access, audit, jobs, trials
from hub.db import Tx
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import words
from hub.pages.door import demand, form, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import page

router = APIRouter(route_class=PageRoute)


@router.get("/rules/{ident}/replay")
async def ask(request: Request, ident: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.read")
    async with transaction(request) as tx:
        rule, _ = await trials.rule_of(tx, actor, ident)
    return page(
        request, "trial.html", actor, here="/rules", ident=ident, rule=rule, days=trials.DAYS, job=None, found=None
    )


@router.post("/rules/{ident}/replay")
async def begin(request: Request, ident: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.read")
    sent = await form(request, actor)
    async with transaction(request) as tx:
        await trials.rule_of(tx, actor, ident)
        days = sent.number("days")
        if days not in trials.DAYS:
            raise refuse(422, "value", f"Choose {', '.join(map(str, trials.DAYS))} days.", "days")
        job = await jobs.start(tx, actor, trials.KIND, {"rule": ident, "days": days})
    runtime(request).wake.set()
    return RedirectResponse(f"/rules/{ident}/replay/{job}", 303)


@router.get("/rules/{ident}/replay/{job_id}")
async def shown(request: Request, ident: str, job_id: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "rule.read")
    now = persons.present()
    async with transaction(request) as tx:
        rule, _ = await trials.rule_of(tx, actor, ident)
        job = await jobs.find(tx, actor, job_id)
        if job.kind != trials.KIND or job.request.get("rule") != ident:
            raise refuse(404, "not-found", "There is no such trial of this rule.")
        result = job.result if job.state == "done" and job.result is not None else None
        names = await _names(tx, actor, [one["patient"] for one in result["pairs"]]) if result else {}
    await runtime(request).reads.record(audit.entry(actor, "search", "Flag", detail={"page": "trial", "rule": ident}))
    answer = page(
        request,
        "trial.html",
        actor,
        here="/rules",
        ident=ident,
        rule=rule,
        days=trials.DAYS,
        job={"state": job.state, "progress": job.progress, "over": job.over},
        found=_found(result, names, now) if result else None,
    )
    if not job.over:
        answer.headers["Refresh"] = "2"
    return answer


async def _names(tx: Tx, actor: Actor, people: list[str]) -> dict[str, str]:
    """Of those whom the actor may see now."""
    allowed = access.people(actor)
    if allowed is None or not people:
        return {}
    rows = await tx.pg.execute(
        f"SELECT patient_id, given || ' ' || family FROM person WHERE patient_id = ANY(%s) AND ({allowed.text})",
        (people, *allowed.params),
    )
    return dict(await rows.fetchall())


def _found(result: dict[str, Any], names: dict[str, str], now: datetime) -> dict[str, Any]:
    def told(one: list[Any] | None) -> str:
        if one is None:
            return "–"
        return f"{words.when(datetime.fromisoformat(one[0]), now)}, {words.SEVERITY_WORDS[one[1]].lower()}"

    minutes = result["sooner_minutes"]
    gap = None if not minutes else f"{abs(minutes)} minutes {'earlier' if minutes > 0 else 'later'}"
    return {
        **result,
        "gap": gap,
        "by_day": [
            {"day": words.day(date.fromisoformat(day), persons.today(now)), "was": was, "would": would}
            for day, was, would in result["by_day"]
        ],
        "pairs": [
            {
                "id": one["patient"],
                "name": names[one["patient"]],
                "was": told(one["before"]),
                "would": told(one["after"]),
            }
            for one in result["pairs"]
            if one["patient"] in names
        ],
        "most": trials.MOST_PAIRS,
    }
