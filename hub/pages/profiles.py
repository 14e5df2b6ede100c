"""Beside two charts: the week of home blood pressure, and a sensor's glucose as one day made of all days."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from hub.pages import words
from hub.pages.axis import Values
from hub.pages.chart import ACROSS, HEIGHT
from monitoring.blood_pressure import FEWEST_DAYS, Week
from monitoring.glucose_sensor import COVERED, HIGH, LOW, VERY_HIGH, VERY_LOW, TimeInRange
from monitoring.summaries import SLOT, SensorProfile, Slot

DAY = 24 * 60
STAGES = ("below the level of high blood pressure", "stage 1 high blood pressure", "stage 2 high blood pressure")


def week_words(week: Week, plain: bool) -> list[str]:
    """The home blood pressure week in sentences; nothing for somebody who measured nothing."""
    if week.stage is None:
        days = len(week.days)
        if not days:
            return []
        return [f"Week of home readings: {days} of the {FEWEST_DAYS} days needed have two readings or more."]
    assert week.discarded is not None and week.systolic is not None and week.diastolic is not None
    mean = f"Week of home readings: average {week.systolic:.0f}/{week.diastolic:.0f} mmHg"
    if plain:
        return [f"{mean} over {len(week.days) - 1} days."]
    return [
        f"{mean} ({STAGES[week.stage]}, NICE NG136), {words.plural(len(week.counted), 'reading')} on "
        f"{len(week.days) - 1} days; the first day, {words.short_date(week.discarded)}, is left out."
    ]


def sensor(profile: SensorProfile) -> dict[str, Any]:
    """What `charts.html` shows of a sensor: shares of the time, and the day."""
    found = profile.range
    return {
        "covered": f"{found.covered:.0f}",
        "enough": found.in_range is not None,
        "least": COVERED,
        "mean": f"{found.mean:.1f}" if found.mean is not None else None,
        "variation": f"{found.variation:.0f}" if found.variation is not None else None,
        "misses": found.misses(),
        "shares": _shares(found),
        "bar": _bar(_shares(found)),
        "chart": _day(profile.slots),
    }


def _shares(found: TimeInRange) -> list[dict[str, Any]]:
    """From the highest to the lowest, in percent of the time; together 100."""
    if found.in_range is None:
        return []
    assert found.low is not None and found.very_low is not None
    assert found.high is not None and found.very_high is not None
    return [
        {"look": "very-high", "words": f"above {VERY_HIGH}", "share": found.very_high},
        {"look": "high", "words": f"{HIGH} to {VERY_HIGH}", "share": found.high - found.very_high},
        {"look": "in", "words": f"{LOW} to {HIGH}, in range", "share": found.in_range},
        {"look": "low", "words": f"{VERY_LOW} to {LOW}", "share": found.low - found.very_low},
        {"look": "very-low", "words": f"below {VERY_LOW}", "share": found.very_low},
    ]


def _bar(shares: Sequence[dict[str, Any]]) -> Markup:
    if not shares:
        return Markup("")
    parts, x = [], 0.0
    for one in reversed(shares):
        parts.append(f'<rect class="share share--{one["look"]}" x="{x:.2f}%" width="{one["share"]:.2f}%" height="22"/>')
        x += one["share"]
    inside = "".join(parts)
    return Markup(f'<svg class="hub-svg" width="100%" height="22" aria-hidden="true">{inside}</svg>')  # noqa: S704 (numbers)


def _day(slots: Sequence[Slot]) -> Markup:
    """Median, the middle half and nine of ten readings at each time of the day; half hours without any are gaps."""
    if not slots:
        return Markup("")
    values = Values([LOW, HIGH, *(one.p5 for one in slots), *(one.p95 for one in slots)], HEIGHT, 1)
    step = int(SLOT.total_seconds() / 60)
    runs: list[list[Slot]] = []
    for one in slots:
        if runs and one.minute - runs[-1][-1].minute == step:
            runs[-1].append(one)
        else:
            runs.append([one])

    def x(one: Slot) -> float:
        return (one.minute + step / 2) * ACROSS / DAY

    def area(run: Sequence[Slot], low: str, high: str) -> str:
        over = [f"{x(one):.1f} {values.place(getattr(one, high)):.1f}" for one in run]
        under = [f"{x(one):.1f} {values.place(getattr(one, low)):.1f}" for one in reversed(run)]
        return f"M{'L'.join([*over, *under])}Z"

    across = "".join(f"M0 {y:.1f}H{ACROSS}" for y, _ in values.ticks())
    lines = "".join("M" + "L".join(f"{x(one):.1f} {values.place(one.p50):.1f}" for one in run) for run in runs)
    inner = (
        f'<rect class="paper" width="{ACROSS}" height="{HEIGHT}"/><path class="grid" d="{across}"/>'
        f'<path class="nine" d="{"".join(area(run, "p5", "p95") for run in runs)}"/>'
        f'<path class="between" d="{"".join(area(run, "p25", "p75") for run in runs)}"/>'
        + "".join(f'<path class="target" d="M0 {values.place(bound):.1f}H{ACROSS}"/>' for bound in (LOW, HIGH))
        + f'<path class="line" d="{lines}"/>'
    )
    beside = "".join(f'<text class="beside" x="-8" y="{y + 4:.1f}">{label}</text>' for y, label in values.ticks())
    below = "".join(
        f'<text class="below{" below--first" if hour == 0 else ""}" x="{100 * hour / 24:.2f}%" y="{HEIGHT + 18}">'
        f"{hour:02}:00</text>"
        for hour in range(0, 24, 4)
    )
    return Markup(  # noqa: S704 (numbers)
        f'<svg class="hub-svg" width="100%" height="{HEIGHT + 26}" aria-hidden="true">'
        f'<svg class="hub-svg__plot" width="100%" height="{HEIGHT}" viewBox="0 0 {ACROSS} {HEIGHT}"'
        f' preserveAspectRatio="none">{inner}</svg>{beside}{below}</svg>'
    )
