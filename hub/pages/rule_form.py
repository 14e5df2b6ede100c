"""The form by which a rule is composed: what was typed, as a rule, with every problem beside the field it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from hub.pages.door import Form
from monitoring.composed import (
    LOOKS,
    MOST_CLAUSES,
    SEVERITIES,
    SEVERITY_WORDS,
    Clause,
    Composed,
    Match,
    span,
)
from monitoring.local_rules import MOST_NAME, MOST_TOLD, LocalRule, Scope, allowed, problems
from monitoring.measures import AGREED, MEASURES, SNOMED, Code

OVERS = {minutes: span(timedelta(minutes=minutes)) for minutes in (60, 360, 720, 1440, 4320, 10080, 20160)}
TOGETHERS = {minutes: span(timedelta(minutes=minutes)) for minutes in (15, 60, 360, 1440, 4320)}
COUNTS = {1: "one reading", 2: "2 readings on end", 3: "3 readings on end", 4: "4 readings on end"}
MEASURED = {key: measure.name for key, measure in MEASURES.items() if key not in AGREED}
WORDS = {key: measure.words for key, measure in MEASURES.items() if measure.words}

CONDITIONS: dict[str, tuple[str, tuple[Code, ...]]] = {
    "copd": ("COPD", ((SNOMED, "13645005"),)),
    "heart-failure": ("heart failure", ((SNOMED, "84114007"), (SNOMED, "88805009"))),
    "asthma": ("asthma", ((SNOMED, "195967001"),)),
    "diabetes": ("diabetes", ((SNOMED, "44054006"), (SNOMED, "46635009"), (SNOMED, "73211009"))),
    "hypertension": ("high blood pressure", ((SNOMED, "38341003"), (SNOMED, "59621000"))),
    "atrial-fibrillation": ("atrial fibrillation", ((SNOMED, "49436004"),)),
    "kidney-disease": ("chronic kidney disease", ((SNOMED, "709044004"),)),
}
"""What a rule may go by. Exactly these codes count, not what SNOMED CT files below them; unverified."""


@dataclass(frozen=True, slots=True)
class Row:
    """One condition as it was typed."""

    measure: str = ""
    look: str = "at-least"
    value: str = ""
    over: str = "1440"
    count: str = "1"


@dataclass(slots=True)
class Typed:
    """What the form holds. `problems` are (field, text)."""

    name: str = ""
    who: str = "hub"
    condition: str = "copd"
    measure: str = "spo2"
    match: str = "all"
    together: str = "60"
    severity: str = "amber"
    told: str = ""
    rows: list[Row] = field(default_factory=lambda: [Row(), Row()])
    problems: list[tuple[str, str]] = field(default_factory=list)


def typed(form: Form) -> Typed:
    """What was sent, row by row; rows left empty are kept, so that what follows stays where it was."""
    columns = [form.texts(name) for name in ("measure", "look", "value", "over", "count")]
    number = min(max((len(one) for one in columns), default=0), MOST_CLAUSES)
    rows = [Row(*(one[index][:40] if index < len(one) else "" for one in columns)) for index in range(number)]
    return Typed(
        name=form.text("name", 500),
        who=form.text("who", 20),
        condition=form.text("condition", 40),
        measure=form.text("scope-measure", 40),
        match=form.text("match", 10),
        together=form.text("together", 10),
        severity=form.text("severity", 20),
        told=form.text("told", 1000),
        rows=rows or [Row(), Row()],
    )


def as_typed(rule: LocalRule) -> Typed:
    """*rule*, which is composed, as its form shows it."""
    what = rule.what or Composed("all", (), SEVERITIES["amber"])
    rows = [_row(one) for one in what.clauses]
    known = (key for key, (_, codes) in CONDITIONS.items() if set(codes) == set(rule.scope.codes))
    return Typed(
        name=rule.name,
        who=rule.scope.who,
        condition=next(known, "copd"),
        measure=rule.scope.measure or "spo2",
        match=what.match,
        together=str(_minutes(what.together)),
        severity=SEVERITY_WORDS[what.severity],
        told=what.told or "",
        rows=rows + [Row()] * max(0, 2 - len(rows)),
    )


def _row(clause: Clause) -> Row:
    value = clause.word or ("" if clause.value is None else f"{clause.value:g}")
    return Row(clause.measure, clause.look, value, str(_minutes(clause.over)), str(clause.count))


def _minutes(within: timedelta) -> int:
    return round(within.total_seconds() / 60)


def read(found: Typed, rule: LocalRule) -> LocalRule | None:
    """*rule* with what was typed; None when something is wrong, which then stands in `found.problems`."""
    wrong = found.problems
    if not found.name or len(found.name) > MOST_NAME:
        wrong.append(("name", f"Give the rule a name of at most {MOST_NAME} characters."))
    scope = _scope(found, rule.scope.hub_id)
    clauses = [
        clause for index, row in enumerate(found.rows, 1) if row.measure and (clause := _clause(row, index, wrong))
    ]
    if not any(row.measure for row in found.rows):
        wrong.append(("measure-1", "Choose at least one measure."))
    severity = SEVERITIES.get(found.severity)
    if severity is None:
        wrong.append(("severity", "Choose how grave it is."))
    together = _chosen(found.together, TOGETHERS, "together", "Choose how far apart the readings may be.", wrong)
    if len(found.told) > MOST_TOLD:
        wrong.append(("told", f"What the person is told has at most {MOST_TOLD} characters."))
    if scope is None:
        wrong.append(("who", "Choose whom the rule watches."))
    if found.match not in ("all", "any"):
        wrong.append(("match", "Choose whether all or any of the conditions count."))
    if wrong or scope is None or severity is None or together is None:
        return None
    match: Match = "any" if found.match == "any" else "all"
    what = Composed(match, tuple(clauses), severity, timedelta(minutes=together), found.told or None)
    return LocalRule(rule.id, rule.key, rule.version, rule.status, found.name, scope, what)


def _scope(found: Typed, hub_id: str) -> Scope | None:
    match found.who:
        case "hub":
            return Scope(hub_id)
        case "chosen":
            return Scope(hub_id, "chosen")
        case "condition" if found.condition in CONDITIONS:
            name, codes = CONDITIONS[found.condition]
            return Scope(hub_id, "condition", codes, name)
        case "monitored" if found.measure in MEASURES:
            return Scope(hub_id, "monitored", measure=found.measure)
        case _:
            return None


def _clause(row: Row, index: int, wrong: list[tuple[str, str]]) -> Clause | None:
    measure = MEASURES.get(row.measure)
    if measure is None or row.measure in AGREED:
        wrong.append((f"measure-{index}", f"Condition {index}: choose a measure from the list."))
        return None
    # A word has one way to be looked at, whatever is chosen beside it.
    look = "is" if measure.answers else row.look
    if look not in LOOKS:
        wrong.append((f"look-{index}", f"Condition {index}: choose how it is looked at."))
        return None
    over = _chosen(row.over, OVERS, f"over-{index}", f"Condition {index}: choose a time to look back over.", wrong)
    count = _chosen(row.count, COUNTS, f"count-{index}", f"Condition {index}: choose how many readings.", wrong)
    if over is None or count is None:
        return None
    value, word = None, None
    if look == "is":
        word = _word(row.value, measure.words)
    else:
        value = _number(row.value)
    counted = count if LOOKS[look].several else 1
    clause = Clause(row.measure, look, value, word, timedelta(minutes=over), counted)
    for text, part in problems(clause):
        if part == "value" and value is None and row.value:
            text = f"“{row.value}” is not a number."
        fields = {"look": "look", "over": "over", "count": "count"}
        wrong.append((f"{fields.get(part, 'value')}-{index}", f"Condition {index}: {text}"))
    return clause


def _word(text: str, words: Mapping[str, str]) -> str | None:
    said = text.casefold().strip()
    return next((key for key, name in words.items() if said in (key, name.casefold())), None)


def _number(text: str) -> float | None:
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    return number if -1e6 < number < 1e6 else None


def _chosen(text: str, among: Mapping[int, str], name: str, problem: str, wrong: list[tuple[str, str]]) -> int | None:
    if text.isascii() and text.isdigit() and int(text[:9]) in among:
        return int(text)
    wrong.append((name, problem))
    return None


def hint(row: Row) -> str:
    """What may stand as the value of a condition: `20 to 250 /min`, or the words."""
    measure = MEASURES.get(row.measure)
    if measure is None or row.measure in AGREED:
        return ""
    if measure.answers:
        return ", ".join(measure.words.values())
    look = LOOKS.get(row.look)
    if look is None or row.look == "is" or (look.only and row.measure not in look.only):
        return ""
    low, high = allowed(row.measure, row.look)
    return f"{low:g} to {high:g} {look.unit or measure.shown}".strip()


def numbered(rows: Sequence[Row]) -> list[tuple[int, Row, str]]:
    return [(index, row, hint(row)) for index, row in enumerate(rows, 1)]
