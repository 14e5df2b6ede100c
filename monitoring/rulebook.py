"""docs/clinical-rules.md from the rules themselves: `python -m monitoring.rulebook > docs/clinical-rules.md`."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import timedelta
from math import inf
from textwrap import wrap
from typing import Any, cast

from monitoring import (
    baseline,
    blood_pressure,
    composed,
    evaluation,
    glucose,
    news2,
    pregnancy,
    readings,
    thresholds,
    weight,
)
from monitoring.extents import NEWS2, STEPS, Side, Step
from monitoring.kind import Kind, WorstOf
from monitoring.limits import DEFAULTS, RED, SCALE_2_DEFAULT, Limits
from monitoring.measures import LOCAL, MEASURES, UCUM, Code
from monitoring.rules import SHIPPED, Rule

_SYSTEMS = {"http://loinc.org": "LOINC", "http://snomed.info/sct": "SNOMED CT", "urn:iso:std:iso:11073:10101": "MDC"}


def render() -> str:
    """The page, in Markdown."""
    return (
        "\n".join(
            (
                *_intro(),
                *_rules(),
                *_composed(),
                *_thresholds(),
                *_steps(),
                *_news2(),
                *_weight(),
                *_pressure(),
                *_measures(),
            )
        )
        + "\n"
    )


def _intro() -> Iterable[str]:
    yield "# Clinical rules"
    yield ""
    yield from _text(
        "Written from the code by `python -m monitoring.rulebook`; a test fails when this page is stale. Whatever is "
        "marked *unverified* or *ours* must be confirmed by the deploying organisation's clinical safety officer. "
        "Sources in short: UKC = UK Core, R4 = HL7 FHIR R4, CGM = HL7 CGM guide, PH = several public repositories, "
        "SYN = Synthea."
    )
    yield "What holds for every rule:"
    yield ""
    yield from _list(
        "A missing value is never scored as normal. A value is used only within the window that the rule names.",
        f"A reading that is older than {_span(evaluation.LATE)} when it arrives is charted but raises nothing.",
        f"A reading more than {_span(readings.FUTURE)} in the future is refused. One outside the believable range is "
        'kept as "check reading": charted, never evaluated clinically.',
        "Test readings (HTEST) of real persons are kept apart and raise nothing.",
        "Personal limits, set by a named clinician with reason and review date, replace the default thresholds of that "
        "measure.",
        "Red opens at once. Amber from limits counts when the reading next to it is beyond them too, no more than "
        f"{_span(thresholds.CONFIRM_WITHIN)} away; a first one waits while a repeat is asked for, and falls "
        "away when none confirms it.",
        "One live flag per rule and person. Later readings add to it; its severity rises, never falls. A rise opens an "
        "acknowledged flag again, and so does a value that is a step worse than what was acknowledged (below). Only a "
        "person ends a flag that somebody has to look at, saying why ([alerts](alerts.md)). A flag keeps the rule's "
        "version and the readings behind it.",
        "A rule that fails costs no reading: the failure is a flag of its own.",
    )


def _rules() -> Iterable[str]:
    yield "## The rules"
    yield ""
    yield from _text(
        "Each is an entry of data: a kind with its parameters, a sentence, a source, a version. They watch everybody "
        "unless a hub decided otherwise."
    )
    yield from _table(rule for rule in SHIPPED if rule.on)
    yield "## Rules that a hub may switch on"
    yield ""
    yield from _text(
        "They watch nobody until a clinician of the hub makes them live, for everybody of the hub, for people with a "
        "condition or a plan of monitoring, or for people chosen one by one. Those that compare with the person's own "
        f"baseline take the last {_span(baseline.LENGTH)} without the latest {_span(baseline.LEFT_OUT)} and without "
        "days on which a limit was crossed: the median, and as spread 1.4826 times the median absolute deviation, with "
        f"a least value for each measure. Below {baseline.FEWEST_READINGS} readings on {baseline.FEWEST_DAYS} days "
        "there is no baseline yet, and they are silent."
    )
    yield from _table(rule for rule in SHIPPED if not rule.on)
    yield "## The kinds"
    yield ""
    yield "| kind | what it says | parameters |"
    yield "|---|---|---|"
    for kind in sorted({type(one) for rule in SHIPPED for one in _parts(rule.how)}, key=lambda one: one.__name__):
        names = ", ".join(f"`{one.name}`" for one in fields(cast(Any, kind)))
        yield f"| `{kind.__name__}` | {' '.join((kind.__doc__ or '').split())} | {names or 'none'} |"
    yield ""


def _composed() -> Iterable[str]:
    yield "## Rules that a hub composes"
    yield ""
    yield from _text(
        f"Up to {composed.MOST_CLAUSES} conditions, of which all or any must hold, each on the newest reading of its "
        "measure, at most so far apart as the rule says (from "
        f"{_span(composed.SHORTEST)} to {_span(composed.LONGEST)}). What was not measured, or has nothing to be "
        "compared with, meets no condition, and no condition is met by absence. A draft watches nobody; a clinician of "
        "the hub makes it live, saying why; a change is a next version."
    )
    yield "| look | a reading | for | looks back | several on end |"
    yield "|---|---|---|---|---|"
    for key, look in composed.LOOKS.items():
        words = look.words.format(value="*value*", over="*time*")
        unit = f" (in {look.unit})" if look.unit else ""
        only = tuple(baseline.FLOORS) if look.unit == "spreads" else look.only or ()
        names = ", ".join(MEASURES[one].name.lower() for one in only) or ("words" if key == "is" else "every number")
        yield f"| `{key}` | {words}{unit} | {names} | {_yes(look.window)} | {_yes(look.several)} |"
    yield ""


def _yes(told: bool) -> str:
    return "as chosen" if told else "no"


def _table(rules: Iterable[Rule]) -> Iterable[str]:
    yield "| rule | version | says | kind and parameters | looks back | source |"
    yield "|---|---|---|---|---|---|"
    personal: list[Rule] = []
    for rule in rules:
        if rule.personal:
            personal.append(rule)
            continue
        yield (
            f"| `{rule.id}` {rule.name} | {rule.version} | {rule.sentence} | {in_code(rule.how)} | {_needs(rule)} |"
            f" {rule.source} |"
        )
    if personal:
        versions = ", ".join(sorted({str(rule.version) for rule in personal}))
        names = ", ".join(f"`{rule.id}`" for rule in personal)
        yield (
            f"| {names} | {versions} | A value at or beyond the limits that a named clinician set for this person: red"
            " at once, amber when the reading next to it is beyond them too, else a repeat is asked for. |"
            f" `{type(personal[0].how).__name__}` of the measure | {_needs(personal[0])} | {personal[0].source} |"
        )
    yield ""


def _parts(kind: Kind) -> Sequence[Kind]:
    return kind.kinds if isinstance(kind, WorstOf) else (kind,)


def in_code(kind: Kind) -> str:
    """`Change`: measure weight, way rises, by 2, within 3 days"""
    return "; ".join(_in_code(one) for one in _parts(kind))


def _in_code(kind: Kind) -> str:
    given = [(one.name, getattr(kind, one.name)) for one in fields(cast(Any, kind))]
    shown = [f"{name.replace('_', ' ')} {_value(value)}" for name, value in given if not _told(value)]
    return f"`{type(kind).__name__}`{': ' if shown else ''}{', '.join(shown)}"


def _told(value: object) -> bool:
    """Whether it is nothing, or what people are told: a sentence and no number."""
    return value is None or value is False or (isinstance(value, str) and " " in value)


def _value(value: object) -> str:
    if isinstance(value, timedelta):
        return _span(value)
    if isinstance(value, tuple):
        return " and ".join(_value(one) for one in value)
    return f"{value:g}" if isinstance(value, (int, float)) and value is not True else str(value)


def _thresholds() -> Iterable[str]:
    yield "## Default thresholds"
    yield ""
    yield from _text(
        "At or below the low, at or above the high ones, on the value as shown. A measure that is not listed has none: "
        "nothing watches its level until a clinician sets limits (NEWS2 apart)."
    )
    yield "| measure | low red | low amber | high amber | high red | source |"
    yield "|---|---|---|---|---|---|"
    for key, limits in DEFAULTS.items():
        yield _row(MEASURES[key].name, key, limits)
    yield _row("Oxygen saturation, scale 2", "spo2", SCALE_2_DEFAULT)
    yield ""
    yield from _text(
        f"Level 1 high glucose (at or above {glucose.LEVEL_1_HIGH} mmol/L) is told when {glucose.PERSISTS_READINGS} "
        f"readings over {_span(glucose.PERSISTS)} are all high. On scale 2, {thresholds.TOO_MUCH_OXYGEN} % or more on "
        "oxygen is amber."
    )


def _row(name: str, key: str, limits: Limits) -> str:
    shown = " | ".join("" if bound is None else MEASURES[key].show(bound) for bound in limits.bounds)
    return f"| {name} | {shown} | {limits.source} |"


def _steps() -> Iterable[str]:
    yield "## What opens an acknowledged flag again"
    yield ""
    yield from _text(
        "A rise in severity; a value beyond the limit on the other side; or a value this much worse than the one that "
        "was acknowledged, which is kept with the flag. Amber counts only on a side where no default has a red."
    )
    yield "| measure | lower by | higher by | source |"
    yield "|---|---|---|---|"
    for key, step in STEPS.items():
        name = MEASURES[key].name if key in MEASURES else "NEWS2 total"
        low = "" if key == NEWS2 else _step(step, "low")
        yield f"| {name} | {low} | {_step(step, 'high')} | {step.source} |"
    yield ""


def _step(step: Step, side: Side) -> str:
    much, least = step.of(side)
    return f"{much:g} {step.unit}{'' if least == RED else ', also amber'}"


def _news2() -> Iterable[str]:
    yield "## NEWS2"
    yield ""
    yield from _text(
        "Royal College of Physicians, 2017. Values are rounded half-up first (temperature to one decimal). The seven "
        f"belong together when measured within {_span(news2.WINDOW)} (ours). {news2.EMERGENCY} or more is red; "
        f"{news2.URGENT} or more, or a single {news2.SINGLE}, is amber. Not for people under {news2.YOUNGEST}, nor "
        f"while a named clinician's record of a pregnancy (SNOMED CT {pregnancy.PREGNANT}) stands, "
        f"{pregnancy.LONGEST.days // 7} weeks from its first day at most (ours, unverified). Scale 2 only where a "
        "named clinician ordered it with a reason."
    )
    yield "| part | bands: points |"
    yield "|---|---|"
    bands = dict(news2.BANDS)
    for key, found in bands.items():
        yield f"| {MEASURES[key].name}{', scale 1' if key == 'spo2' else ''} | {_bands(key, found)} |"
    yield f"| Oxygen saturation, scale 2, on air | {_bands('spo2', news2.SPO2_SCALE_2_AIR)} |"
    yield f"| Oxygen saturation, scale 2, on oxygen | {_bands('spo2', news2.SPO2_SCALE_2_OXYGEN)} |"
    for key, scored in (("oxygen", news2.OXYGEN_POINTS), ("consciousness", news2.CONSCIOUSNESS_POINTS)):
        words = "; ".join(f"{MEASURES[key].words[word]}: {points}" for word, points in scored.items())
        yield f"| {MEASURES[key].name} | {words} |"
    yield ""


def _bands(key: str, bands: news2.Bands) -> str:
    places = MEASURES[key].decimals
    step = 10.0**-places
    parts: list[str] = []
    low: float | None = None
    for high, points in bands:
        if low is None:
            text = f"{high:.{places}f} or less"
        elif high == inf:
            text = f"{low:.{places}f} or more"
        else:
            text = f"{low:.{places}f} to {high:.{places}f}"
        parts.append(f"{text}: {points}")
        low = high + step
    return "; ".join(parts)


def _weight() -> Iterable[str]:
    yield "## Weight in heart failure"
    yield ""
    yield from _text(
        "Published rules disagree, so each is a rule of its own; one is on, a hub may switch another on. The agreed "
        f"dry weight counts for {_span(weight.DRY_WEIGHT_AGE)} (ours). A change of more than "
        f"{weight.ANOTHER_PERSON:g} kg asks first whether somebody else was weighed (ours, unverified)."
    )


def _pressure() -> Iterable[str]:
    yield "## Home blood pressure"
    yield ""
    yield from _text(
        f"At least {blood_pressure.FEWEST_DAYS} days of {blood_pressure.READINGS_A_DAY} or more readings in "
        f"{_span(blood_pressure.WEEK)}; the first is left out, the rest averaged. Stage 1 from "
        f"{_pair(blood_pressure.STAGE_1)}, stage 2 from {_pair(blood_pressure.STAGE_2)} mmHg (NICE NG136). Days are "
        "those of Europe/London."
    )


def _pair(stage: tuple[int, int]) -> str:
    return f"{stage[0]}/{stage[1]}"


def _measures() -> Iterable[str]:
    yield "## Measures"
    yield ""
    yield from _text(
        f"Units are UCUM (`{UCUM}`). A reading in any other unit is refused. Each measure also has the code of its key "
        f"in `{LOCAL}`."
    )
    yield "| key | measure | codes | unit kept | also accepted | believable | source |"
    yield "|---|---|---|---|---|---|---|"
    for measure in MEASURES.values():
        codes = "; ".join(_codes(measure.codes))
        accepted = ", ".join(f"`{unit}`" for unit in measure.accepts)
        unit = f"`{measure.unit}`" if measure.unit else "a word: " + ", ".join(measure.words)
        low, high = measure.plausible
        believable = "" if measure.answers else f"{low:g} to {high:g}"
        yield (
            f"| `{measure.key}` | {measure.name} | {codes} | {unit} | {accepted} | {believable} | {measure.source} |"
        )


def _codes(codes: Iterable[Code]) -> Iterable[str]:
    by_system: dict[str, list[str]] = {}
    for system, code in codes:
        by_system.setdefault(_SYSTEMS[system], []).append(code)
    return (f"{system} {', '.join(found)}" for system, found in by_system.items())


def _text(text: str) -> Iterable[str]:
    yield from wrap(text, 118, break_long_words=False, break_on_hyphens=False)
    yield ""


def _list(*items: str) -> Iterable[str]:
    for item in items:
        yield from wrap(f"- {item}", 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    yield ""


def _needs(rule: Rule) -> str:
    if not rule.needs:
        return "the reading alone"
    spans = {within for within in rule.needs.values()}
    if len(spans) == 1:
        return _span(spans.pop())
    return ", ".join(f"{MEASURES[key].name.lower()} {_span(within)}" for key, within in rule.needs.items())


def _span(within: timedelta) -> str:
    hours, rest = divmod(within, timedelta(hours=1))
    if rest or not hours:
        return f"{within // timedelta(minutes=1)} minutes"
    if hours % 24 == 0 and hours > 24:
        return f"{hours // 24} days"
    return f"{hours} hour{'s' if hours > 1 else ''}"


if __name__ == "__main__":
    print(render(), end="")
