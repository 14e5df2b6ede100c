"""A chart as SVG that the server draws: it needs no script, is as wide as its page, and its marks are links.

Inside the outer picture stands a second one, stretched to the width, for lines and areas; dots are lines of no length
with round ends, which stay round. What must keep its shape (text, marks) stands in the outer one, in percent of the
width. There are attributes and classes only: the content security policy allows no inline style.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup, escape

from hub.pages.axis import Tick, Times, Values
from monitoring.limits import Limits
from monitoring.measures import Measure
from monitoring.series import Point, runs

HEIGHT = 150
FOOT = 26
ACROSS = 1000
MANY = 140
"""More dots than this stand so close that they are drawn small."""
CLOSE = 1.6
"""Marks nearer to each other than this (percent of the width) become one."""

LEVELS = {0: "", 2: "amber", 3: "red"}


@dataclass(frozen=True, slots=True)
class Band:
    """Where this person's values usually lie, in the measure's unit, and the time that this says something about."""

    low: float
    middle: float
    high: float
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """One measure in a chart. `every` is how often it is asked for; `limits` are None where nothing watches it or they
    are not for the reader."""

    measure: Measure
    points: Sequence[Point]
    limits: Limits | None
    band: Band | None
    every: timedelta | None

    @property
    def good(self) -> list[Point]:
        return [point for point in self.points if point.good]

    @property
    def doubtful(self) -> list[Point]:
        return [point for point in self.points if not point.good and point.value is not None]

    def level(self, value: float) -> int:
        return self.limits.level(self.measure.round(value))[0] if self.limits else 0


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at an instant. `kind` red, amber, info, plan or note; `href` is where its reason stands;
    `count` of several that stand in one place."""

    at: datetime
    kind: str
    text: str
    href: str | None = None
    count: int = 1


def draw(name: str, lines: Sequence[Line], times: Times, alerts: Sequence[Mark], events: Sequence[Mark]) -> Markup:
    """The chart called *name*. *alerts* are links at the top; *events* (plan, notes) are lines from top to bottom.

    Nothing measured: nothing drawn.
    """
    seen = [point for line in lines for point in line.points if point.value is not None]
    if not seen:
        return Markup("")
    # A wrong value far out must not press everything else flat: it is at the edge, and in the table.
    counted = [point for line in lines for point in line.good] or seen
    shown = [value for point in counted for value in (point.low, point.high) if value is not None]
    for line in lines:
        shown += [bound for bound in (line.limits.bounds if line.limits else ()) if bound is not None]
        shown += [line.band.low, line.band.high] if line.band else []
    values = Values(shown, HEIGHT, lines[0].measure.decimals)
    inner = [f'<rect class="paper" width="{ACROSS}" height="{HEIGHT}"/>', _grid(times, values)]
    outer = [_labels(times, values)]
    for number, line in enumerate(lines):
        inner += [_usual(line, times, values), *_limit_lines(line, values)]
        outer += _limit_words(line, values, f"{'lower' if number else 'upper'}: " if len(lines) > 1 else "")
        inner += _readings(line, number, times, values)
    inner += [_ruler(times, event) for event in events]
    outer += [_event(times, event) for event in together(events, times)]
    for line in lines:
        outer += [_doubtful(line, times, values, point) for point in line.doubtful]
    outer += [_alert(times, mark) for mark in together(alerts, times)]
    return Markup(  # noqa: S704 (numbers, and words that are escaped where they are put in)
        f'<svg class="hub-svg" width="100%" height="{HEIGHT + FOOT}" role="group"'
        f' aria-label="Chart: {escape(name)}">'
        f'<svg class="hub-svg__plot" aria-hidden="true" width="100%" height="{HEIGHT}"'
        f' viewBox="0 0 {ACROSS} {HEIGHT}" preserveAspectRatio="none">{"".join(inner)}</svg>{"".join(outer)}</svg>'
    )


def together(marks: Iterable[Mark], times: Times) -> list[Mark]:
    """Marks, oldest first; those that would cover each other as one: the gravest of them, with their number."""
    found: list[Mark] = []
    for mark in sorted(marks, key=lambda one: one.at):
        before = found[-1] if found else None
        if before is not None and times.place(mark.at) - times.place(before.at) < CLOSE and _alike(before, mark):
            worse = min(before, mark, key=lambda one: _GRAVEST.index(one.kind))
            found[-1] = Mark(before.at, worse.kind, worse.text, worse.href, before.count + mark.count)
        else:
            found.append(mark)
    return found


_GRAVEST = ("red", "amber", "info", "plan", "note")


def _alike(one: Mark, other: Mark) -> bool:
    return one.kind == other.kind or (one.kind in _GRAVEST[:3] and other.kind in _GRAVEST[:3])


# -- what is stretched -------------------------------------------------------------------------------------------------


def _x(times: Times, at: datetime) -> float:
    return times.place(at) * ACROSS / 100


def _grid(times: Times, values: Values) -> str:
    across = "".join(f"M0 {y:.1f}H{ACROSS}" for y, _ in values.ticks())
    down = "".join(f"M{tick.place * ACROSS / 100:.1f} 0V{HEIGHT}" for tick in times.ticks())
    return f'<path class="grid" d="{across}{down}"/>'


def _usual(line: Line, times: Times, values: Values) -> str:
    if line.band is None:
        return ""
    start, end = max(0.0, _x(times, line.band.since)), min(float(ACROSS), _x(times, line.band.until))
    top, bottom = values.place(line.band.high), values.place(line.band.low)
    middle = values.place(line.band.middle)
    return (
        f'<rect class="usual" x="{start:.1f}" y="{top:.1f}" width="{end - start:.1f}" height="{bottom - top:.1f}"/>'
        f'<path class="usual-middle" d="M{start:.1f} {middle:.1f}H{end:.1f}"/>'
    )


def _bounds(line: Line) -> list[tuple[str, float]]:
    if line.limits is None:
        return []
    levels = ("red", "amber", "amber", "red")
    return [(level, bound) for level, bound in zip(levels, line.limits.bounds, strict=True) if bound is not None]


def _limit_lines(line: Line, values: Values) -> list[str]:
    return [
        f'<path class="limit limit--{level}" d="M0 {values.place(bound):.1f}H{ACROSS}"/>'
        for level, bound in _bounds(line)
    ]


def _readings(line: Line, number: int, times: Times, values: Values) -> list[str]:
    """Lines where readings follow each other as expected; a band from lowest to highest where spans stand for several;
    a dot for each reading, or for each span the ends that pass a limit: averaging hides none."""
    good = line.good
    joined: list[str] = []
    bands: list[str] = []
    for run in runs(good, line.every):
        at = [_x(times, point.middle) for point in run]
        joined.append("M" + "L".join(f"{x:.1f} {values.place(p.value or 0):.1f}" for x, p in zip(at, run, strict=True)))
        if any(point.count > 1 for point in run):
            at = at if len(at) > 1 else [at[0] - 1, at[0] + 1]
            whole = run if len(run) > 1 else run * 2
            over = [f"{x:.1f} {values.place(p.high or 0):.1f}" for x, p in zip(at, whole, strict=True)]
            under = [f"{x:.1f} {values.place(p.low or 0):.1f}" for x, p in zip(at, whole, strict=True)]
            bands.append(f"M{'L'.join([*over, *reversed(under)])}Z")
    dots: dict[str, list[str]] = {"": [], "amber": [], "red": []}
    for point in good:
        x = _x(times, point.middle)
        if point.count == 1 and point.value is not None:
            dots[LEVELS.get(line.level(point.value), "")].append(f"M{x:.1f} {values.place(point.value):.1f}h.01")
            continue
        for end in (point.low, point.high):
            level = line.level(end) if end is not None else 0
            if level and end is not None:
                dots[LEVELS[level]].append(f"M{x:.1f} {values.place(end):.1f}h.01")
    look = " line--second" if number else ""
    small = " dots--small" if len(good) > MANY else ""
    return [
        f'<path class="between{look}" d="{"".join(bands)}"/>' if bands else "",
        f'<path class="line{look}" d="{"".join(joined)}"/>',
        *(
            f'<path class="dots{small}{f" dots--{level}" if level else look}" d="{"".join(found)}"/>'
            for level, found in dots.items()
            if found
        ),
    ]


def _ruler(times: Times, event: Mark) -> str:
    return f'<path class="ruler ruler--{event.kind}" d="M{_x(times, event.at):.1f} 0V{HEIGHT}"/>'


# -- what keeps its shape ----------------------------------------------------------------------------------------------


def _labels(times: Times, values: Values) -> str:
    beside = "".join(f'<text class="beside" x="-8" y="{y + 4:.1f}">{label}</text>' for y, label in values.ticks())
    below = "".join(
        f'<text class="below{" below--first" if tick.place < 6 else " below--last" if tick.place > 94 else ""}"'
        f' x="{tick.place:.2f}%" y="{HEIGHT + 18}">{tick.label}</text>'
        for tick in _apart(times.ticks())
    )
    return f'<g aria-hidden="true">{beside}{below}</g>'


def _apart(ticks: list[Tick]) -> list[Tick]:
    """Without the last one when it would run into the one before: at the edge it is written to the left."""
    crowded = len(ticks) > 1 and ticks[-1].place > 94 and ticks[-1].place - ticks[-2].place < 22
    return ticks[:-1] if crowded else ticks


def _limit_words(line: Line, values: Values, name: str) -> list[str]:
    number = line.measure.decimals
    return [
        f'<text class="limit-word limit-word--{level}" aria-hidden="true" x="4" y="{values.place(bound) - 4:.1f}">'
        f"{name}{level} {bound:.{number}f}</text>"
        for level, bound in _bounds(line)
    ]


def _doubtful(line: Line, times: Times, values: Values, point: Point) -> str:
    """Hollow where somebody is to check, crossed where it was wrong; at the edge when it lies outside the chart."""
    y = min(max(values.place(point.value or 0), 6.0), HEIGHT - 6.0)
    shape = "M-5-5 5 5M-5 5 5-5" if point.quality == "wrong" else "M0-5 5 0 0 5-5 0Z"
    word = "Wrong" if point.quality == "wrong" else "Test" if point.quality == "sandbox" else "Check"
    words = escape(f"{word}: {line.measure.show(point.value or 0)}")
    return (
        f'<svg class="doubtful" x="{times.place(point.at):.2f}%" y="{y:.1f}" overflow="visible">'
        f'<path d="{shape}"><title>{words}</title></path></svg>'
    )


def _alert(times: Times, mark: Mark) -> str:
    more = f" and {mark.count - 1} more" if mark.count > 1 else ""
    words = escape(f"{mark.text}{more}")
    picture = (
        f'<use href="#s-{mark.kind}" x="{times.place(mark.at):.2f}%" y="2" width="20" height="20"'
        f' transform="translate(-10 0)"/>'
    )
    if mark.href is None:
        return (
            f'<g class="alert alert--{mark.kind}" role="img" aria-label="{words}"><title>{words}</title>{picture}</g>'
        )
    # A finger needs more than the sign.
    touch = f'<rect x="{times.place(mark.at):.2f}%" y="-6" width="32" height="36" transform="translate(-16 0)"/>'
    return (
        f'<a class="alert alert--{mark.kind}" href="{escape(mark.href)}" aria-label="{words}">'
        f"<title>{words}</title>{touch}{picture}</a>"
    )


def _event(times: Times, mark: Mark) -> str:
    words = escape(mark.text + (f" and {mark.count - 1} more" if mark.count > 1 else ""))
    sign = "P" if mark.kind == "plan" else "N"
    return (
        f'<a class="event event--{mark.kind}" href="{escape(mark.href or "")}" aria-label="{words} {sign}">'
        f"<title>{words}</title>"
        f'<rect x="{times.place(mark.at):.2f}%" y="{HEIGHT - 18}" width="16" height="16" rx="2"'
        f' transform="translate(-8 0)"/>'
        f'<text x="{times.place(mark.at):.2f}%" y="{HEIGHT - 6}"> {sign}</text></a>'
    )
