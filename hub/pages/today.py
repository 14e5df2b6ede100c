"""The Today board: one ranked list of what needs a coordinator or a coach."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response

from hub import audit, boards, worklist
from hub.db import Tx
from hub.identity import Actor
from hub.pages import words
from hub.pages.door import demand, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.flag_words import menu, standing
from hub.pages.rendering import page
from hub.worklist import OVERDUE, TodayRow
from monitoring.adherence import SILENT
from monitoring.measures import MEASURES

router = APIRouter(route_class=PageRoute)

CHIPS = {
    None: "All",
    "red": "Red",
    "amber": "Amber",
    "task": "Tasks",
    "missed": "Missed readings",
    "review": "Limits to review",
    "seen": "Acknowledged",
    "confirming": "Waiting for a repeat",
    "information": "Information",
    "snoozed": "Snoozed",
}

EMPTY = {
    None: (
        "Nothing here needs you now",
        "New flags and tasks appear here by themselves. You need not reload this page. “My people” are those in whose "
        "team you are; “Everyone in the hub” shows the others.",
    ),
    "red": ("No red flags", "A red flag appears here as soon as a reading raises one."),
    "amber": ("No amber flags", "An amber flag appears here as soon as readings raise one."),
    "task": ("No tasks due", "Tasks that are yours appear here on the day they are due."),
    "missed": ("No missed readings", "When an agreed reading does not come, the person appears here."),
    "review": (
        "No limits to review",
        "Limits that a clinician set for one person appear here on the day on which they are to be looked at again.",
    ),
    "seen": ("Nothing is acknowledged", "Flags that someone has acknowledged stay here until they are resolved."),
    "confirming": (
        "Nothing waits for a repeat",
        "When an amber reading comes alone, the person is asked to measure again, and waits here until they did.",
    ),
    "information": ("Nothing to know", "Flags that only inform appear here."),
    "snoozed": ("Nothing is snoozed", "Flags that someone put off stay here until the time is over."),
}


@dataclass(slots=True)
class Row:
    """A row as it is shown. `look` is its shape and colour, `word` what they mean."""

    kind: str
    id: str
    patient_id: str
    look: str
    word: str
    name: str
    who: str
    summary: str
    reason: str
    since: str
    state: str | None
    measure: str | None = None


@router.get("/today")
async def today(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "board.today")
    now = datetime.now(UTC)
    scope = "hub" if request.query_params.get("scope") == "hub" else "mine"
    chip = request.query_params.get("show") if request.query_params.get("show") in worklist.CHIPS else None
    fragment = "fragment" in request.query_params
    async with transaction(request) as tx:
        board = await worklist.today(
            tx.pg, actor, now, end_of_day(now), scope=scope, chip=chip, after=request.query_params.get("after")
        )
        names = await boards.names(tx.pg, {row.acknowledged_by for row in board.rows})
        figures = [] if fragment else await _figures(tx, actor, now)
    await runtime(request).reads.record(
        audit.entry(actor, "search", "Flag", detail={"page": "today", "found": len(board.rows)})
    )
    here = address(scope, chip)
    context: dict[str, Any] = {
        "rows": [shown(row, names, now) for row in board.rows],
        "back": here,
        "menu": menu(actor),
        "can_limit": actor.can("limit.set"),
        "more_href": f"{here}{'&' if '?' in here else '?'}after={board.more}" if board.more else None,
        "empty": dict(zip(("title", "text"), EMPTY[chip], strict=True)),
    }
    if fragment:
        return page(request, "today_rows.html", actor, **context)
    total = sum(board.counts.values())
    return page(
        request,
        "today.html",
        actor,
        here="/today",
        today=f"{words.long_day(now)}, {words.clock(now)}",
        scope=scope,
        chips=[
            {
                "name": name,
                "href": address(scope, key),
                "current": key == chip,
                "count": total if key is None else board.counts.get(key, 0),
            }
            for key, name in CHIPS.items()
        ],
        rows_href=f"{here}{'&' if '?' in here else '?'}fragment=1",
        caseload=figures,
        **context,
    )


def address(scope: str, chip: str | None) -> str:
    parts = [part for part in ("scope=hub" if scope == "hub" else "", f"show={chip}" if chip else "") if part]
    return "/today" + ("?" + "&".join(parts) if parts else "")


def end_of_day(now: datetime) -> datetime:
    """The first instant of tomorrow in London."""
    local = now.astimezone(words.LONDON)
    return datetime(local.year, local.month, local.day, tzinfo=words.LONDON) + timedelta(days=1)


async def _figures(tx: Tx, actor: Actor, now: datetime) -> list[dict[str, Any]]:
    horizon = worklist.review_horizon(now.astimezone(words.LONDON).date())
    load = await worklist.caseload(tx.pg, actor, now, horizon)
    return [
        {"name": "People in my care", "value": load.people},
        {"name": "With a red flag", "value": load.with_red},
        {"name": "Plan review due in 14 days", "value": load.reviews_due},
        {"name": "Without a plan", "value": load.no_plan},
    ]


def shown(row: TodayRow, names: dict[str, str], now: datetime) -> Row:
    look, word, reason, since = _LOOKS[row.kind](row, names, now)
    return Row(
        kind=row.kind,
        id=row.id,
        patient_id=row.patient_id,
        look=look,
        word=word,
        name=words.person(row.family, row.given, row.called),
        who=words.who(row.birth_date, row.nhs_number, now),
        summary=row.summary or (_review(row) if row.kind == "review" else _missed(row, now)),
        reason=reason,
        since=since,
        state=row.state,
        measure=row.measure,
    )


def _flag(row: TodayRow, names: dict[str, str], now: datetime) -> tuple[str, str, str, str]:
    look = words.SEVERITIES[row.severity or 1]
    reasons = row.reasons or []
    reason = str(reasons[0].get("text", "")) if reasons else ""
    if reason.rstrip(".").casefold() in row.summary.casefold():
        reason = ""
    since = f"Since {words.when(row.at, now)} ({words.ago(row.at, now)})." if row.at else ""
    stands = standing(row.state or "", row.level or 0, row.due, row.acknowledged_by, row.acknowledged_at, names, now)
    since = f"{since} {stands}".strip()
    return look, words.SEVERITY_WORDS[row.severity or 1], reason, since


def _task(row: TodayRow, _: dict[str, str], now: datetime) -> tuple[str, str, str, str]:
    assert row.at is not None
    overdue = row.rank == OVERDUE
    # A due day ends at midnight, which is the first instant of the next one.
    last = row.at - timedelta(microseconds=1)
    due = f"Due {words.day(last.astimezone(words.LONDON).date(), now.astimezone(words.LONDON).date())}"
    if overdue:
        return "task", "Overdue", "", f"{due} ({words.ago(row.at, now)})."
    return "task", "Due today", "", f"{due}."


def _missed_reading(row: TodayRow, _: dict[str, str], now: datetime) -> tuple[str, str, str, str]:
    every = words.every(row.every_hours or 24)
    last = f"Last one {words.when(row.at, now)} ({words.ago(row.at, now)})." if row.at else "There has never been one."
    if row.state == SILENT:
        return "missed", "Silent", f"{every} is agreed, and nothing at all is coming.", last
    return "missed", "Missed", f"{every} is agreed.", last


def _missed(row: TodayRow, now: datetime) -> str:
    measure = MEASURES.get(row.measure or "")
    name = measure.plain if measure else "reading"
    return f"No {name} for {words.span((now - row.at).total_seconds())}." if row.at else f"No {name} yet."


def _limits(row: TodayRow, _: dict[str, str], now: datetime) -> tuple[str, str, str, str]:
    assert row.at is not None
    due = words.day(row.at.astimezone(words.LONDON).date(), now.astimezone(words.LONDON).date())
    return "task", "Review", "They hold until somebody changes them.", f"To be looked at again {due}."


def _review(row: TodayRow) -> str:
    measure = MEASURES.get(row.measure or "")
    return f"Personal limits: {measure.name.lower() if measure else 'a reading'}."


_LOOKS = {"flag": _flag, "task": _task, "missed": _missed_reading, "review": _limits}
