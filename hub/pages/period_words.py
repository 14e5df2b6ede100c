"""The days that a form names, as instants: whole days as people live them, in London."""

from datetime import date, datetime, time, timedelta

from fhir.outcome import refuse
from hub.pages.words import LONDON


def day_starts(text: str, now: datetime) -> datetime:
    """The beginning of the day; of today, and of no day at all, this moment."""
    if not text:
        return now
    on = _day(text)
    return now if on == now.astimezone(LONDON).date() else datetime.combine(on, time(), LONDON)


def day_ends(text: str) -> datetime:
    """The end of the day: the midnight after it."""
    return datetime.combine(_day(text) + timedelta(days=1), time(), LONDON)


def _day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise refuse(422, "value", "Choose a day, such as 2026-12-24.") from error
    if not 2000 <= found.year <= 2200:
        raise refuse(422, "value", "Choose a day of these years.")
    return found
