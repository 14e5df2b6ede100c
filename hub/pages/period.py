"""The stretch of time that charts show, and how an address says which. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import urlencode

from hub.pages import words

RANGES = {
    "day": ("Day", 1), "week": ("Week", 7), "month": ("Month", 31), "year": ("Year", 366), "decade": ("10 years", 3653),
}  # fmt: skip
USUAL = "month"
FIRST = date(1900, 1, 1)


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` to before `until`; `first` and `last` are its days in London, both in it. `key` one of RANGES, or
    None for days that somebody chose. `problem` says what was wrong with what was asked for."""

    since: datetime
    until: datetime
    key: str | None
    current: bool
    problem: str | None = None

    @property
    def first(self) -> date:
        return self.since.astimezone(words.LONDON).date()

    @property
    def last(self) -> date:
        return (self.until - timedelta(microseconds=1)).astimezone(words.LONDON).date()

    @property
    def text(self) -> str:
        """`the last month`, `14 Feb 2026`, `1 Feb 2026 to 14 Feb 2026`."""
        if self.current and self.key:
            return f"the last {RANGES[self.key][0].lower()}"
        if self.first == self.last:
            return words.short_date(self.first)
        return f"{words.short_date(self.first)} to {words.short_date(self.last)}"

    @property
    def query(self) -> dict[str, str]:
        """What an address must say to come back to this period."""
        if self.key is None:
            return {"from": self.first.isoformat(), "to": self.last.isoformat()}
        return {"range": self.key} if self.current else {"range": self.key, "to": self.last.isoformat()}


def period(query: Mapping[str, str], now: datetime) -> Period:
    """`range` alone is up to now; with `to` it ends with that day; `from` and `to` are days, both in it."""
    key = query.get("range", USUAL)
    key = key if key in RANGES else USUAL
    today = now.astimezone(words.LONDON).date()
    try:
        chosen = _day(query.get("from"), "From", today), _day(query.get("to"), "To", today)
    except ValueError as error:
        return _up_to_now(USUAL, now, str(error))
    first, last = chosen
    if first is not None:
        last = last or today
        if first > last:
            return _up_to_now(USUAL, now, "“From” is a later day than “To”. Choose an earlier one.")
        return Period(_midnight(first), _midnight(last + timedelta(days=1)), None, False)
    if last is None or last >= today:
        return _up_to_now(key, now)
    start = max(FIRST, last - timedelta(days=RANGES[key][1] - 1))
    return Period(_midnight(start), _midnight(last + timedelta(days=1)), key, False)


def _up_to_now(key: str, now: datetime, problem: str | None = None) -> Period:
    # A device may be a little ahead of us.
    return Period(now - timedelta(days=RANGES[key][1]), now + timedelta(minutes=5), key, True, problem)


def links(here: str, shown: Period, now: datetime, more: Mapping[str, str]) -> dict[str, object]:
    """The addresses of the other ranges, and of the time before and after this one; *more* stays in each."""

    def address(query: Mapping[str, str]) -> str:
        return f"{here}?{urlencode({**query, **more})}"

    today = now.astimezone(words.LONDON).date()
    days = (shown.last - shown.first).days + 1 if shown.key is None else RANGES[shown.key][1]
    earlier, later = shown.last - timedelta(days=days), shown.last + timedelta(days=days)
    if shown.key is None:
        moved = {"from": (shown.first - timedelta(days=days)).isoformat(), "to": earlier.isoformat()}
        onward = {"from": (shown.first + timedelta(days=days)).isoformat(), "to": min(later, today).isoformat()}
    else:
        moved = {"range": shown.key, "to": earlier.isoformat()}
        onward = {"range": shown.key} if later >= today else {"range": shown.key, "to": later.isoformat()}
    return {
        "ranges": [
            {"name": name, "href": address({"range": key}), "current": shown.key == key and shown.current}
            for key, (name, _) in RANGES.items()
        ],
        "earlier": address(moved) if earlier > FIRST else None,
        "later": None if shown.last >= today else address(onward),
        "here": here,
        "more": dict(more),
        "self": address(shown.query),
        "query": urlencode({**shown.query, **more}),
        "text": shown.text,
        "problem": shown.problem,
        "first": shown.first.isoformat(),
        "last": shown.last.isoformat(),
        "most": today.isoformat(),
    }


def _day(typed: str | None, name: str, today: date) -> date | None:
    if not typed:
        return None
    try:
        day = date.fromisoformat(typed)
    except ValueError as error:
        raise ValueError(f"“{name}” is not a day. Write it as 2026-03-14.") from error
    if not FIRST < day <= today:
        raise ValueError(f"“{name}” must be a day between {words.short_date(FIRST)} and today.")
    return day


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), words.LONDON).astimezone(UTC)
