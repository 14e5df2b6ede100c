"""Every rule, as data. Adding one is one entry in `RULES`, and two examples in its test: one fires, one is silent.

A change of what a rule says needs a new `version`: flags store it, and replay must give the same answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from monitoring import blood_pressure, glucose, news2, thresholds, weight
from monitoring.case import Case, Verdict, reason
from monitoring.limits import INFORMATION
from monitoring.measures import MEASURES

CLINICAL, OPERATIONAL = "clinical", "operational"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and what it needs.

    `triggers` are the measures whose new reading makes it look, `needs` how far back it looks per measure. `personal`
    rules look only where a clinician set limits for that measure. `quiet`: while its flag is open and no worse,
    readings closer than this to the last refresh add nothing, since a sensor that reads every three minutes would
    rewrite the flag each time.
    """

    id: str
    version: int
    name: str
    sentence: str
    triggers: frozenset[str]
    needs: Mapping[str, timedelta]
    evaluate: Callable[[Case], Verdict | None]
    source: str
    kind: str = CLINICAL
    personal: bool = False
    quiet: timedelta = timedelta(0)


def doubtful(case: Case) -> Verdict | None:
    """A reading that cannot be believed is no clinical alert, but somebody should know that it came."""
    if not case.doubtful:
        return None
    reasons = tuple(reason(one, one.why or "Doubtful reading") for one in case.doubtful)
    return Verdict(INFORMATION, reasons[0]["text"], reasons, thresholds.MEASURE_AGAIN, repeat=True)


_NUMBERS = tuple(key for key, measure in MEASURES.items() if not measure.answers and key != "dry-weight")

RULES: tuple[Rule, ...] = (
    Rule(
        id="news2",
        version=1,
        name="NEWS2",
        sentence=(
            "The NEWS2 score of readings taken within one hour is 7 or more (red), 5 or 6, or 3 in a single part "
            "(amber). With parts missing there is no total; what is there counts as a lower bound, which may raise but "
            "never reassure."
        ),
        triggers=frozenset(news2.PARAMETERS),
        needs={parameter: news2.WINDOW for parameter in news2.PARAMETERS},
        evaluate=news2.evaluate,
        source="Royal College of Physicians, National Early Warning Score 2, 2017; window of one hour ours",
    ),
    Rule(
        id="oximetry-at-home",
        version=1,
        name="Oxygen level at home",
        sentence=(
            "Oxygen saturation of 92 % or less (red at once), or 93 to 94 % (amber when the reading next to it is as "
            "low, else a repeat is asked for). On SpO2 scale 2: 83 % or less red, 84 to 87 % amber when repeated, and "
            "95 % or more on oxygen amber. Silent where a clinician set personal limits."
        ),
        triggers=frozenset({"spo2"}),
        needs={"spo2": thresholds.CONFIRM_WITHIN, "oxygen": thresholds.OXYGEN_WINDOW},
        evaluate=thresholds.oximetry,
        source="NHS COVID Oximetry @home C1396 v1.3 and its diary; scale 2 from NEWS2 (RCP 2017)",
    ),
    Rule(
        id="hf-weight",
        version=1,
        name="Weight change",
        sentence=(
            "Weight more than 2 kg above the lowest or below the highest of the last 3 days, or more than 2 kg from "
            "the agreed dry weight (amber). A change of more than 7 kg asks first whether somebody else was weighed."
        ),
        triggers=frozenset({"weight"}),
        needs={"weight": weight.WINDOW, "dry-weight": weight.DRY_WEIGHT_AGE},
        evaluate=weight.evaluate,
        source=f"{weight.DEFAULT.source}; the fall, the dry weight's margin and 7 kg are ours, unverified",
    ),
    Rule(
        id="home-bp-high",
        version=1,
        name="Very high blood pressure",
        sentence=(
            "One reading of 170 systolic or 115 diastolic or more: amber, and a repeat is asked for. "
            "The threshold is unverified. Silent for a number with personal limits."
        ),
        triggers=frozenset({"systolic", "diastolic"}),
        needs={},
        evaluate=blood_pressure.very_high,
        source="home equivalent of NICE NG136's clinic 180/120; unverified",
    ),
    Rule(
        id="home-bp-week",
        version=1,
        name="Blood pressure over a week",
        sentence=(
            "The average of a week's home readings, first day left out, is 150/95 or more (amber) or 135/85 or more "
            "(information). Never with fewer than 4 days of at least 2 readings."
        ),
        triggers=frozenset({"systolic"}),
        needs={"systolic": blood_pressure.WEEK, "diastolic": blood_pressure.WEEK},
        evaluate=blood_pressure.average,
        source="NICE NG136; two readings for a day to count: ours",
        quiet=timedelta(hours=20),
    ),
    Rule(
        id="glucose",
        version=1,
        name="Glucose",
        sentence=(
            "Glucose below 3.0 mmol/L red, below 3.9 amber; above 13.9 information with a repeat asked for, amber when "
            "the reading next to it is as high; above 10.0 information when it stays so for 6 hours and 3 readings. "
            "Silent where a clinician set personal limits."
        ),
        triggers=frozenset({"glucose"}),
        needs={"glucose": glucose.WINDOW},
        evaluate=glucose.evaluate,
        source="international consensus levels, PMC8481000 table 1; the waiting times are ours",
        quiet=timedelta(minutes=15),
    ),
    *(
        Rule(
            id=f"limit-{key}",
            version=1,
            name=f"Personal limits: {MEASURES[key].name.lower()}",
            sentence=(
                f"{MEASURES[key].name} at or beyond the limits that a named clinician set for this person: red at "
                "once, amber when the reading next to it is beyond them too, else a repeat is asked for."
            ),
            triggers=frozenset({key}),
            needs={key: thresholds.CONFIRM_WITHIN},
            evaluate=partial(thresholds.personal, measure=key),
            source="the clinician's order (ServiceRequest), with reason and review date",
            personal=True,
            quiet=timedelta(minutes=15) if key == "glucose" else timedelta(0),
        )
        for key in _NUMBERS
    ),
    Rule(
        id="check-reading",
        version=1,
        name="Check the reading",
        sentence=(
            "A reading outside the believable range, or that is only a bound, is charted but not evaluated; "
            "a repeat is asked for (information)."
        ),
        triggers=frozenset(),
        needs={},
        evaluate=doubtful,
        source="ranges ours, unverified (see Measures)",
        kind=OPERATIONAL,
    ),
)

BY_ID: dict[str, Rule] = {rule.id: rule for rule in RULES}

if len(BY_ID) != len(RULES):
    raise ValueError("two rules have one id")


def name_of(rule_id: str) -> str:
    """How people call a rule; also for flags of rules that failed or are no more."""
    working = rule_id.removeprefix("failed-")
    rule = BY_ID.get(working)
    name = rule.name if rule else working
    return name if working == rule_id else f"{name} (could not be worked out)"
