"""Reports: how useful the alerts of a week were, rule by rule, and which rules are worth another look."""

from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request, Response

from fhir import store
from hub import audit, reports
from hub.identity import Actor
from hub.pages import person as persons
from hub.pages import words
from hub.pages.door import demand, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import HUB_NAMES, page
from monitoring import usefulness
from monitoring.outcomes import OUTCOMES
from monitoring.usefulness import FEW, RETUNE, Usefulness

router = APIRouter(route_class=PageRoute)

WEEKS = 26


@router.get("/reports/alerts")
async def alerts(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "report.read")
    today = persons.today(persons.present())
    this_week = usefulness.week_of(today)
    chosen = request.query_params.get("week") or usefulness.week_of(today - timedelta(days=7))
    async with transaction(request) as tx:
        lines = await reports.alerts(tx.pg, actor, chosen)
        teams = list(dict.fromkeys(one.hub_id for one in lines))
        found = await store.load(tx.pg, [("Organization", one) for one in teams if one])
    names = {one.id: (one.resource or {}).get("name") for one in found.values()}
    await _looked(request, actor, chosen)
    if request.query_params.get("as") == "csv":
        name = f"alerts-{chosen}.csv"
        head = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return Response(reports.as_csv(lines), media_type="text/csv; charset=utf-8", headers=head)
    since, until = usefulness.week(chosen)
    return page(
        request,
        "alert_report.html",
        actor,
        here="/reports/alerts",
        week=chosen,
        weeks={one: _days(one) for one in (usefulness.week_of(today - timedelta(days=7 * n)) for n in range(WEEKS))},
        span=f"{words.long_date(since.date())} to {words.long_date((until - timedelta(days=1)).date())}",
        unfinished=chosen == this_week,
        hub=HUB_NAMES.get(actor.hub_id or "") if reports.hubs(actor) is not None else None,
        teams=[
            {
                "name": names.get(hub_id or "") or hub_id or "No hub",
                "rules": [_line(one) for one in lines if one.hub_id == hub_id and one.rule is not None],
                "total": next(_line(one) for one in lines if one.hub_id == hub_id and one.rule is None),
                "retune": [_line(one) for one in lines if one.hub_id == hub_id and one.retune],
            }
            for hub_id in teams
        ],
        few=FEW,
        retune=RETUNE,
    )


def _days(week: str) -> str:
    """`9 Nov 2026 to 15 Nov 2026`."""
    since, until = usefulness.week(week)
    last = until - timedelta(days=1)
    return f"{words.short_date(since.date())} to {words.short_date(last.date())}"


async def _looked(request: Request, actor: Actor, week: str) -> None:
    detail = {"page": "alert report", "week": week}
    await runtime(request).reads.record(audit.entry(actor, "search", "Flag", detail=detail))


def _line(one: Usefulness) -> dict[str, Any]:
    return {
        "rule": one.rule,
        "name": one.name,
        "alerts": one.alerts,
        "people": one.people,
        "looked": _share(one.looked, one),
        "acted": _share(one.acted, one),
        "nothing": one.nothing,
        "false": _share(one.false_alarms, one),
        "false_alarms": one.false_alarms,
        "ended": one.ended,
        "open": one.open,
        "reopened": one.reopened,
        "unconfirmed": one.unconfirmed,
        "median": _gap(one.first_look),
        "p90": _gap(one.first_look_p90),
        "few": one.few,
        "reasons": [
            f"{OUTCOMES[code].words}: {count}"
            for code, count in sorted(one.reasons.items(), key=lambda item: (-item[1], item[0]))
            if code in OUTCOMES
        ],
    }


def _share(count: int, of: Usefulness) -> str:
    """`6 (75 %)`; of few alerts the number alone, since a share would say more than is known."""
    return f"{count}" if of.few or not of.alerts else f"{count} ({100 * count / of.alerts:.0f} %)"


def _gap(gap: timedelta | None) -> str:
    """`12 min`, `3 h 05 min`, `2 days`."""
    if gap is None:
        return "–"
    minutes = round(gap / timedelta(minutes=1))
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} days"
