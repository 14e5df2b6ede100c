"""Times, ages, numbers and names as a person reads them. Pure: the caller gives the present moment."""

from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from monitoring.states import WORDS

LONDON = ZoneInfo("Europe/London")

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LONG_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

SEVERITIES = {3: "red", 2: "amber", 1: "info"}
SEVERITY_WORDS = {3: "Red", 2: "Amber", 1: "Information"}
STATES = WORDS


def clock(at: datetime) -> str:
    """`14:05`, in Europe/London."""
    local = at.astimezone(LONDON)
    return f"{local.hour:02}:{local.minute:02}"


def when(at: datetime, now: datetime) -> str:
    """`today 14:05`, `yesterday 09:10`, `tomorrow 09:10`, `Tue 18 Nov 09:10`, `18 Nov 2025 09:10`.

    In the hour that comes twice when summer time ends, `01:30 BST` is followed by `01:30 GMT`.
    """
    local, today = at.astimezone(LONDON), now.astimezone(LONDON).date()
    twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    zone = f" {local.tzname()}" if twice else ""
    return f"{day(local.date(), today)} {local.hour:02}:{local.minute:02}{zone}"


def day(on: date, today: date) -> str:
    """`today`, `yesterday`, `tomorrow`, `Tue 18 Nov` within half a year, else `18 Nov 2025`."""
    gap = (on - today).days
    if gap in (-1, 0, 1):
        return ("yesterday", "today", "tomorrow")[gap + 1]
    if abs(gap) <= 180:
        return f"{DAYS[on.weekday()]} {on.day} {MONTHS[on.month - 1]}"
    return f"{on.day} {MONTHS[on.month - 1]} {on.year}"


def long_date(on: date) -> str:
    """`4 March 1948`."""
    return f"{on.day} {LONG_MONTHS[on.month - 1]} {on.year}"


def short_date(on: date) -> str:
    """`4 Mar 1948`."""
    return f"{on.day} {MONTHS[on.month - 1]} {on.year}"


def ago(at: datetime, now: datetime) -> str:
    """How long since, in the largest unit that is not misleading: `just now`, `12 min ago`, `2 h ago`, `3 days ago`."""
    seconds = (now - at).total_seconds()
    if seconds < -60:
        return "in " + span(-seconds)
    return "just now" if seconds < 60 else span(seconds) + " ago"


def span(seconds: float) -> str:
    """`12 min`, `2 h`, `3 days`, `5 weeks`, `7 months`, `2 years`."""
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h"
    days = minutes // 1440
    if days < 21:
        return f"{days} days"
    if days < 70:
        return f"{days // 7} weeks"
    return f"{days // 30} months" if days < 730 else f"{days // 365} years"


def years(born: date, today: date) -> int:
    """Age in whole years."""
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def born(birth_date: date | None, today: date) -> str:
    """`4 Mar 1948 (78)`; says so when it is not known."""
    return f"{short_date(birth_date)} ({years(birth_date, today)})" if birth_date else "date of birth not known"


def nhs_number(number: str | None) -> str:
    """`999 000 0018`, the 3-3-4 form that staff read aloud."""
    return f"{number[:3]} {number[3:6]} {number[6:]}" if number else "no NHS number"


@lru_cache(maxsize=4096)
def number(value: float, decimals: int = 1) -> str:
    """`93`, `82.4`: no trailing zeros, at most *decimals* places."""
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def initials(name: str) -> str:
    """`AB` for a round picture of a person who has none."""
    words = [word for word in name.replace("-", " ").split() if word[0].isalpha()]
    return (words[0][0] + words[-1][0]).upper() if len(words) > 1 else name[:1].upper()


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 flag`, `3 flags`, `0 people`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def long_day(now: datetime) -> str:
    """`Saturday 21 November`."""
    local = now.astimezone(LONDON)
    return f"{LONG_DAYS[local.weekday()]} {local.day} {LONG_MONTHS[local.month - 1]}"


def person(family: str, given: str, called: str | None = None) -> str:
    """`OAKES, Margaret (Peggy)`: the family name in capitals, as on every NHS list."""
    name = f"{family.upper()}, {given}" if given else family.upper()
    return f"{name} ({called})" if called and called != given.split(" ")[0] else name


def who(birth_date: date | None, number: str | None, now: datetime) -> str:
    """`78 · 999 012 3456`: what tells two people of one name apart in a list."""
    age = f"{years(birth_date, now.astimezone(LONDON).date())} · " if birth_date else ""
    return age + nhs_number(number)


def every(hours: float) -> str:
    """`One a day`, `One every 12 h`, `One a week`."""
    if hours == 168:
        return "One a week"
    if hours == 24:
        return "One a day"
    if hours > 24 and hours % 24 == 0:
        return f"One every {number(hours / 24)} days"
    if hours < 24 and 24 % hours == 0:
        return f"{number(24 / hours)} a day"
    return f"One every {number(hours)} h"


def sentence(text: str) -> str:
    """*text* with a capital first letter; the rest stays as it is (`GP`, `3 Dec`)."""
    return text[:1].upper() + text[1:]
