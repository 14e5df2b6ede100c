"""Every rule that is shipped, as data: a kind with its parameters, a sentence, a source. Adding one is one entry in
`SHIPPED`, and two examples in its test: one fires, one is silent.

A change of what a rule says needs a new `version`: flags store it, and replay must give the same answer. Rules that a
hub composes for itself stand in `monitoring.composed` and `monitoring.local_rules`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from monitoring import blood_pressure, glucose, news2, peak_flow, scores, thresholds, weight
from monitoring.case import Case, Verdict, reason
from monitoring.kind import WorstOf
from monitoring.limits import INFORMATION
from monitoring.measures import AGREED, MEASURES
from monitoring.rule import CLINICAL, OPERATIONAL, Rule
from monitoring.rules_on_request import ON_REQUEST

__all__ = ("BY_ID", "CLINICAL", "OPERATIONAL", "RULES", "SHIPPED", "Rule", "name_of")


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A reading that cannot be believed is no clinical alert, but somebody should know that it came."""

    @property
    def triggers(self) -> frozenset[str]:
        return frozenset()

    @property
    def needs(self) -> Mapping[str, timedelta]:
        return {}

    def evaluate(self, case: Case) -> Verdict | None:
        if not case.doubtful:
            return None
        reasons = tuple(reason(one, one.why or "Doubtful reading") for one in case.doubtful)
        return Verdict(INFORMATION, reasons[0]["text"], reasons, thresholds.MEASURE_AGAIN, repeat=True)


_NUMBERS = tuple(key for key, measure in MEASURES.items() if not measure.answers and key not in AGREED)

_EVERYBODY: tuple[Rule, ...] = (
    Rule(
        id="news2",
        version=1,
        name="NEWS2",
        sentence=(
            "The NEWS2 score of readings taken within one hour is 7 or more (red), 5 or 6, or 3 in a single part "
            "(amber). With parts missing there is no total; what is there counts as a lower bound, which may raise but "
            "never reassure."
        ),
        how=news2.EarlyWarning(),
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
        how=WorstOf(
            (
                thresholds.Threshold("spo2", if_red=thresholds.RECHECK_RED, if_amber=thresholds.RECHECK_AMBER),
                thresholds.TooMuchOxygen(),
            )
        ),
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
        how=weight.WeightChange(kg=2.0, days=3),
        source=(
            "heartfailurematters.org (ESC/HFA): more than 2 kg in 3 days; the fall, the dry weight's margin and 7 kg "
            "are ours, unverified"
        ),
    ),
    Rule(
        id="home-bp-high",
        version=1,
        name="Very high blood pressure",
        sentence=(
            "One reading of 170 systolic or 115 diastolic or more: amber, and a repeat is asked for. "
            "The threshold is unverified. Silent for a number with personal limits."
        ),
        how=blood_pressure.VeryHigh(),
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
        how=blood_pressure.WeekAverage(),
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
        how=glucose.GlucoseLevels(),
        source="international consensus levels, PMC8481000 table 1; the waiting times are ours",
        quiet=timedelta(minutes=15),
    ),
    Rule(
        id="peak-flow",
        version=1,
        name="Peak flow of personal best",
        sentence=(
            "Peak flow below 40 % of the personal best red, below 60 % amber at once, below 80 % amber when the "
            "reading next to it is as low, else a repeat is asked for. A best of more than 2 years ago is said to be "
            "old. Silent without a personal best, and where a clinician set limits."
        ),
        how=peak_flow.ShareOfBest(),
        source="Breathe 2015 table 2 (80, 60 and 40 % of the personal best); the colours and the repeat are ours",
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
            how=thresholds.PersonalLimits(key),
            source="the clinician's order (ServiceRequest), with reason and review date",
            personal=True,
            quiet=timedelta(minutes=15) if key in ("glucose", "glucose-sensor") else timedelta(0),
        )
        for key in _NUMBERS
    ),
    Rule(
        id="phq-9-item-9",
        version=1,
        name="PHQ-9 question 9",
        sentence=(
            "Question 9 of the PHQ-9 (thoughts of being better off dead, or of self-harm) answered with more than “not "
            "at all”, whatever the total: red, with a task for a person to speak with them on the same day."
        ),
        how=scores.ScoreFrom("phq-9-item-9", red=1, advice=scores.CRISIS, ask="Speak with the person today."),
        source="any answer above 0 is a safety review by a human on the same day; the colour is ours",
    ),
    Rule(
        id="phq-9",
        version=1,
        name="PHQ-9",
        sentence="PHQ-9 total of 15 or more (amber), or 10 to 14 (information). Never with an answer missing.",
        how=scores.ScoreFrom("phq-9", amber=15, information=10),
        source="bands of Kroenke 2001 (10 moderate, 15 moderately severe, 20 severe); the colours are ours, unverified",
    ),
    Rule(
        id="gad-7",
        version=1,
        name="GAD-7",
        sentence="GAD-7 total of 15 or more (amber), or 10 to 14 (information). Never with an answer missing.",
        how=scores.ScoreFrom("gad-7", amber=15, information=10),
        source="bands of Spitzer 2006 (10 moderate, 15 severe); the colours are ours, unverified",
    ),
    Rule(
        id="ucla-3",
        version=1,
        name="Loneliness",
        sentence="UCLA three-item loneliness of 6 or more (information). Never with an answer missing.",
        how=scores.ScoreFrom("ucla-3", information=6),
        source="6 or more: Steptoe 2013; the colour is ours",
    ),
    Rule(
        id="breathlessness",
        version=1,
        name="Breathlessness rising",
        sentence="The mMRC grade is one or more above the lowest of the last 90 days (amber).",
        how=scores.GradeRises("mmrc", by=1, within=timedelta(days=90)),
        source=(
            "rising breathlessness goes before admission in heart failure (Howie-Esquivel 2019); one grade and 90 days "
            "are ours, unverified"
        ),
    ),
    Rule(
        id="fall",
        version=1,
        name="Fall",
        sentence=(
            "A fall was told (amber), with the number in 12 months: two or more meet the criteria for a comprehensive "
            "falls assessment, and so does one with frailty, injury, loss of consciousness or inability to get up."
        ),
        how=scores.Fell(),
        source="NICE NG249, 1.1.1: case finding by criteria, no tool that predicts falls",
    ),
    Rule(
        id="check-reading",
        version=1,
        name="Check the reading",
        sentence=(
            "A reading outside the believable range, or that is only a bound, is charted but not evaluated; "
            "a repeat is asked for (information)."
        ),
        how=Doubtful(),
        source="ranges ours, unverified (see Measures)",
        kind=OPERATIONAL,
    ),
)


SHIPPED: tuple[Rule, ...] = (*_EVERYBODY, *ON_REQUEST)
"""All that are shipped, whether they are on or not."""

RULES: tuple[Rule, ...] = tuple(rule for rule in SHIPPED if rule.on)
"""What watches everybody unless a hub decided otherwise."""

BY_ID: dict[str, Rule] = {rule.id: rule for rule in SHIPPED}

if len(BY_ID) != len(SHIPPED):
    raise ValueError("two rules have one id")


_ELSEWHERE = {"missed-readings": "Missed readings"}
"""What raises flags without being a rule on readings (`hub.followup`)."""


def name_of(rule_id: str) -> str:
    """How people call a rule; also for flags of rules that failed or are no more."""
    working = rule_id.removeprefix("failed-")
    rule = BY_ID.get(working)
    name = rule.name if rule else _ELSEWHERE.get(working, working)
    return name if working == rule_id else f"{name} (could not be worked out)"
