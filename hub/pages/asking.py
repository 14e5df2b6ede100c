"""A plan of monitoring in words: how often, what came, and what is to be measured today."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from hub.asked import Asked
from hub.pages import words
from monitoring.adherence import DONE, LATER, MISSED, OPEN, PAUSED, SILENT, Kept
from monitoring.measures import MEASURES
from monitoring.questionnaires import INSTRUMENTS
from monitoring.schedules import DAY, LONDON, Schedule, Window

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

MARKS = {DONE: "●", MISSED: "○", PAUSED: "‖", OPEN: "·", LATER: "·"}
"""A shape for each state; the words stand beside them."""

PARTS = frozenset({"diastolic"})
"""What is measured together with another number and is not asked for twice."""


def name_of(key: str) -> str:
    return "Blood pressure" if key == "systolic" else words.sentence(MEASURES[key].plain)


def how_often(schedule: Schedule) -> str:
    """`2 a day, 7am to 10am and 5pm to 8pm, on Monday and Friday`."""
    if not schedule.windows:
        return words.every(schedule.every_hours) if schedule.every_hours else "Not asked for"
    count = len(schedule.windows)
    found = f"{'Once' if count == 1 else count} a day"
    if schedule.windows != (Window(0, DAY),):
        found += f", {_and([window(one) for one in schedule.windows])}"
    return f"{found}, on {_and([DAYS[day - 1] for day in schedule.days])}" if schedule.days else found


def window(one: Window) -> str:
    return f"{_clock(one.start)} to {_clock(one.end)}"


def _clock(minutes: int) -> str:
    """`7am`, `5:30pm`, `noon`, `midnight`."""
    if minutes % (DAY // 2) == 0:
        return "noon" if minutes == DAY // 2 else "midnight"
    hour, rest = divmod(minutes, 60)
    half = "am" if hour < 12 else "pm"
    return f"{(hour - 1) % 12 + 1}{f':{rest:02}' if rest else ''}{half}"


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def row(one: Asked, now: datetime) -> dict[str, Any]:
    """What a list for staff shows of one measure: schedule, last reading with its age, and what came in 14 days."""
    found = one.adherence
    came = "Nothing was due yet."
    if found.expected:
        came = f"{found.done} of {found.expected} came"
        came += f", {found.paused} paused." if found.paused else "."
    elif found.paused:
        came = "Paused all the time."
    return {
        "key": one.order.measure,
        "name": name_of(one.order.measure),
        "often": how_often(one.order.schedule),
        "ends": words.day((one.order.ends - timedelta(seconds=1)).astimezone(LONDON).date(), _today(now))
        if one.order.ends
        else None,
        "last": f"{words.when(one.last, now)}, {words.ago(one.last, now)}" if one.last else None,
        "came": came,
        "marks": "".join(MARKS[each.state] for each in one.kept),
        "paused": f"Paused until {words.when(one.pause.until, now)}: {one.pause.reason}" if one.pause else None,
        "percent": found.percent,
        "late": {"missed": "Missed", SILENT: "Silent"}.get(one.late or ""),
    }


def _today(now: datetime) -> Any:
    return now.astimezone(LONDON).date()


def today(found: Sequence[Asked], now: datetime) -> list[dict[str, str]]:
    """What a person is to measure today, when, and whether it is done; what is to be done now comes first."""
    rows = []
    for one in found:
        if one.order.measure in PARTS:
            continue
        for slot in one.kept:
            if slot.slot.start.astimezone(LONDON).date() <= _today(now) < _last_day(slot):
                look, word = _said(slot, one, now)
                rows.append(
                    {
                        "name": name_of(one.order.measure),
                        "look": look,
                        "mark": _LOOKS[look],
                        "word": word,
                        "when": _when(slot, one),
                        "questions": one.order.measure if one.order.measure in INSTRUMENTS else "",
                    }
                )
    return sorted(rows, key=lambda each: list(_LOOKS).index(each["look"]))


_LOOKS = {"now": "task", "missed": "missed", "later": "none", "paused": "none", "done": "good"}
"""How a line looks; what is to be done now comes first."""


def _last_day(slot: Kept) -> Any:
    end = slot.slot.end.astimezone(LONDON)
    return end.date() if (end.hour, end.minute) == (0, 0) else end.date() + timedelta(days=1)


def _when(slot: Kept, one: Asked) -> str:
    start, end = (at.astimezone(LONDON) for at in (slot.slot.start, slot.slot.end))
    if end - start > timedelta(hours=26):
        return f"this week, until {DAYS[(end - timedelta(days=1)).weekday()]}" if (end - start).days <= 8 else "any day"
    if end - start > timedelta(hours=20):
        return "any time today"
    if not one.order.windows:
        return f"by {_clock(end.hour * 60 + end.minute)}"
    return window(Window(start.hour * 60 + start.minute, end.hour * 60 + end.minute or DAY))


def _said(slot: Kept, one: Asked, now: datetime) -> tuple[str, str]:
    if slot.state == DONE and slot.at is not None:
        return "done", f"Done, {words.when(slot.at, now)}"
    if slot.state == PAUSED:
        return "paused", "Paused. You do not have to measure."
    if slot.state == MISSED:
        return "missed", "Not done. You can still measure now."
    return ("now", "To do now") if slot.state == OPEN else ("later", "Later")
