"""The MDT board: people with open clinical flags, ranked, with the reasons, the trend and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from hub import audit, boards
from hub.boards import Gap, MdtRow, Trend
from hub.pages import words
from hub.pages.door import demand, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.flag_words import menu, standing
from hub.pages.rendering import page
from hub.pages.sparkline import sparkline
from monitoring.limits import Limits, in_force
from monitoring.measures import MEASURES

router = APIRouter(route_class=PageRoute)

# People a meeting of an hour gets through; a line stands under the last of them.
CAPACITY = 12
TREND_DAYS = 14
REASONS = 3

CHIPS = {None: "All", "red": "Red", "amber": "Amber", "open": "Not acknowledged", "seen": "Acknowledged"}


@dataclass(slots=True)
class Row:
    id: str
    patient_id: str
    rank: int
    look: str
    word: str
    name: str
    who: str
    summary: str
    reasons: list[str]
    missing: str
    others: list[dict[str, str]]
    since: str
    state: str
    sparkline: Markup
    value: str
    value_when: str
    line: bool


@router.get("/mdt")
async def mdt(request: Request) -> Response:
    actor = await signed_in(request)
    demand(actor, "board.mdt")
    now = datetime.now(UTC)
    chip = request.query_params.get("show") if request.query_params.get("show") in CHIPS else None
    since = now - timedelta(days=TREND_DAYS)
    async with transaction(request) as tx:
        board = await boards.mdt(tx.pg, actor, chip=chip, after=request.query_params.get("after"))
        wanted = {row.id: measure for row in board.rows if (measure := main_measure(row.reasons))}
        trends = await boards.trends(
            tx.pg, [(row.patient_id, wanted[row.id]) for row in board.rows if row.id in wanted], since
        )
        gaps = await boards.gaps(tx.pg, [row.patient_id for row in board.rows])
        names = await boards.names(tx.pg, {row.acknowledged_by for row in board.rows})
    await runtime(request).reads.record(
        audit.entry(actor, "search", "Flag", detail={"page": "mdt", "found": len(board.rows)})
    )
    here = f"/mdt?show={chip}" if chip else "/mdt"
    context: dict[str, Any] = {
        "rows": [
            shown(
                row,
                rank,
                trends.get((row.patient_id, wanted.get(row.id, ""))),
                wanted.get(row.id),
                names,
                gaps.get(row.patient_id, []),
                since,
                now,
            )
            for rank, row in enumerate(board.rows, board.first)
        ],
        "capacity": CAPACITY,
        "back": here,
        "menu": menu(actor),
        "more_href": f"{here}{'&' if '?' in here else '?'}after={board.more}" if board.more else None,
        "empty": {
            "title": "No open flags",
            "text": "When readings raise a flag, the person appears here by themselves. You need not reload this page.",
        },
    }
    if "fragment" in request.query_params:
        return page(request, "mdt_rows.html", actor, **context)
    return page(
        request,
        "mdt.html",
        actor,
        here="/mdt",
        today=f"{words.long_day(now)}, {words.clock(now)}",
        chips=[
            {
                "name": name,
                "href": f"/mdt?show={key}" if key else "/mdt",
                "current": key == chip,
                "count": board.counts.get(key or "all", 0),
            }
            for key, name in CHIPS.items()
        ],
        rows_href=f"{here}{'&' if '?' in here else '?'}fragment=1",
        **context,
    )


def main_measure(reasons: list[dict[str, Any]]) -> str | None:
    """The measure whose trend stands beside a flag: that of the first reason that has one with numbers."""
    for reason in reasons:
        measure = MEASURES.get(reason.get("measure") or "")
        if measure is not None and not measure.answers:
            return measure.key
    return None


def shown(
    row: MdtRow,
    rank: int,
    trend: Trend | None,
    measure_key: str | None,
    names: dict[str, str],
    missing: list[Gap],
    since: datetime,
    now: datetime,
) -> Row:
    value, value_when, spoken = trend_words(measure_key, trend, now)
    waiting = f"Since {words.when(row.opened, now)} ({words.ago(row.opened, now)})."
    if row.count > 1:
        waiting += f" Raised {row.count} times, last {words.when(row.refreshed, now)}."
    stands = standing(row.state, row.level, row.due, row.acknowledged_by, row.acknowledged_at, names, now)
    waiting = f"{waiting} {stands}".strip()
    return Row(
        id=row.id,
        patient_id=row.patient_id,
        rank=rank,
        look=words.SEVERITIES[row.severity],
        word=words.SEVERITY_WORDS[row.severity],
        name=words.person(row.family, row.given, row.called),
        who=words.who(row.birth_date, row.nhs_number, now),
        summary=row.summary,
        reasons=[reason_words(reason, now) for reason in row.reasons[:REASONS]],
        missing=gap_words(missing, now),
        others=[
            {
                "id": other["id"],
                "look": words.SEVERITIES[other["severity"]],
                "word": words.SEVERITY_WORDS[other["severity"]],
                "summary": other["summary"],
            }
            for other in row.others or ()
        ],
        since=waiting,
        state=row.state,
        sparkline=sparkline(with_limits(trend, measure_key), spoken, since.timestamp(), now.timestamp()),
        value=value,
        value_when=value_when,
        line=rank == CAPACITY,
    )


def with_limits(trend: Trend | None, measure_key: str | None) -> Trend | None:
    """The trend with the limits in force: the person's own, else the defaults."""
    if trend is None or measure_key is None:
        return trend
    own = Limits(trend.low_red, trend.low_amber, trend.high_amber, trend.high_red)
    default = in_force(measure_key, own, trend.scale)
    if own.given or default is None:
        return trend
    return replace(
        trend,
        low_red=default.low_red,
        low_amber=default.low_amber,
        high_amber=default.high_amber,
        high_red=default.high_red,
    )


def gap_words(gaps: Sequence[Gap], now: datetime) -> str:
    """`weight for 3 days, pulse never measured`: what was agreed and is not there."""
    parts = []
    for gap in gaps:
        measure = MEASURES.get(gap.measure)
        name = measure.plain if measure else gap.measure
        parts.append(f"{name} for {words.span((now - gap.at).total_seconds())}" if gap.at else f"{name} never measured")
    return ", ".join(parts)


def trend_words(measure_key: str | None, trend: Trend | None, now: datetime) -> tuple[str, str, str]:
    """The number beside a trend, when it was measured, and the trend for a screen reader."""
    measure = MEASURES.get(measure_key or "")
    if measure is None:
        return "", "", ""
    if trend is None or not trend.at:
        return "", f"{measure.name}: no reading in {TREND_DAYS} days", ""
    last = datetime.fromtimestamp(trend.at[-1], UTC)
    spoken = (
        f"{measure.name}, last {TREND_DAYS} days: {words.plural(len(trend.value), 'reading')} from "
        f"{measure.show(min(trend.value))} to {measure.show(max(trend.value))}"
    )
    return measure.show(trend.value[-1]), f"{measure.name}, {words.when(last, now)}, {words.ago(last, now)}", spoken


def reason_words(reason: dict[str, Any], now: datetime) -> str:
    """`Oxygen 90 %, limit 92 % (today 07:14, 2 h ago)`."""
    text = str(reason.get("text", ""))
    at = reason.get("at")
    if not at:
        return text
    instant = datetime.fromisoformat(at)
    return f"{text} ({words.when(instant, now)}, {words.ago(instant, now)})"
