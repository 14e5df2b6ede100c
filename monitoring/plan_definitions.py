"""Rules of a hub as FHIR: PlanDefinitions of type eca-rule. The versions of a rule share their `url`, whose last part
is the id that flags bear."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

from fhir.outcome import Issue, Refusal
from monitoring.composed import (
    LONGEST,
    LOOKS,
    MOST_CLAUSES,
    SEVERITIES,
    SEVERITY_WORDS,
    SHORTEST,
    Clause,
    Composed,
    Match,
    span,
)
from monitoring.limits import EXT
from monitoring.local_rules import (
    DRAFT,
    LIVE,
    MOST_CODES,
    MOST_NAME,
    MOST_TOLD,
    MOST_WHY,
    RETIRED,
    LocalRule,
    Scope,
    Step,
    Who,
    problems,
    unit_of,
)
from monitoring.measures import AGREED, LOCAL, MEASURES, UCUM
from monitoring.rules import BY_ID

JSON = dict[str, Any]

URL = "https://carehub.example/fhir/PlanDefinition/"
ECA_RULE = ("http://terminology.hl7.org/CodeSystem/plan-definition-type", "eca-rule")
RULE, APPLIES, STEP = EXT + "rule", EXT + "applies-to", EXT + "step"


def is_rule(resource: Mapping[str, Any] | None) -> bool:
    """Whether a PlanDefinition means to be a rule of this hub, well made or not. Other plans are not ours to judge."""
    return resource is not None and (
        str(resource.get("url", "")).startswith(URL)
        or any(one.get("url") == RULE for one in resource.get("extension", ()))
    )


def url(key: str) -> str:
    """The canonical address of all versions of a rule; a ServiceRequest names it to order the rule for one person."""
    return URL + key


# -- FHIR to rule ------------------------------------------------------------------------------------------------------


class _Reader:
    """Collects every issue, each with where it is."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def wrong(self, code: str, text: str, where: str) -> None:
        self.issues.append(Issue(code, text, f"PlanDefinition.{where}"))


def from_plan_definition(resource: JSON) -> LocalRule:
    """The rule that *resource* is. Raises Refusal 422 with every issue: content that cannot be evaluated is never
    stored as a rule."""
    reader = _Reader()
    key = str(resource.get("url", "")).removeprefix(URL)
    if not str(resource.get("url", "")).startswith(URL) or not key or len(key) > 64 or "/" in key or "|" in key:
        reader.wrong("value", f"A rule of a hub has a url of {URL}<id>, at most 64 characters of id.", "url")
    if not any((one.get("system"), one.get("code")) == ECA_RULE for one in _codings(resource.get("type"))):
        reader.wrong("value", f"A rule is of type {ECA_RULE[0]}|{ECA_RULE[1]}.", "type")
    version = str(resource.get("version", ""))
    if not version.isascii() or not version.isdigit() or not 1 <= int(version or 0) <= 9999:
        reader.wrong("value", "The version of a rule is a whole number from 1 on.", "version")
    if resource.get("status") not in (DRAFT, LIVE, RETIRED):
        reader.wrong("value", "A rule is draft, active or retired.", "status")
    name = str(resource.get("title", "")).strip()
    if not name or len(name) > MOST_NAME:
        reader.wrong("value", f"A rule needs a title of at most {MOST_NAME} characters.", "title")
    scope = _scope(_parts(resource, APPLIES), reader)
    parts = _parts(resource, RULE)
    shipped = _one(parts, "shipped", "valueCode")
    off = bool(_one(parts, "off", "valueBoolean"))
    what: Composed | None = None
    if shipped is None:
        what = _composed(parts, reader)
        if off:
            reader.wrong("invariant", "Only a shipped rule is switched off; a rule of your own is retired.", _of(RULE))
    else:
        _check_shipped(str(shipped), off, parts, scope, reader)
    steps = _steps(resource, reader)
    if reader.issues:
        raise Refusal(422, reader.issues)
    assert scope is not None
    return LocalRule(
        id=str(resource.get("id", "")),
        key=key,
        version=int(version),
        status=str(resource["status"]),
        name=name,
        scope=scope,
        what=what,
        shipped=str(shipped) if shipped is not None else None,
        off=off,
        steps=steps,
    )


def _check_shipped(
    shipped: str, off: bool, parts: Mapping[str, list[JSON]], scope: Scope | None, reader: _Reader
) -> None:
    rule = BY_ID.get(shipped)
    where = _of(RULE, "shipped")
    if rule is None:
        reader.wrong("value", f"There is no shipped rule of the id {shipped[:80]}.", where)
        return
    if parts.get("clause"):
        reader.wrong("invariant", "A rule has conditions of its own, or switches a shipped one; not both.", _of(RULE))
    if rule.personal or rule.kind != "clinical":
        reader.wrong("business-rule", f"{rule.name} is not switched by hubs: it looks after itself.", where)
    elif rule.on and not off:
        reader.wrong("business-rule", f"{rule.name} is on for everybody already.", where)
    elif not rule.on and off:
        reader.wrong("business-rule", f"{rule.name} watches nobody unless it is switched on.", where)
    if off and scope is not None and scope.who != "hub":
        reader.wrong(
            "invariant", "A shipped rule is switched off for the whole hub, or not at all.", _of(APPLIES, "who")
        )


def _scope(parts: Mapping[str, list[JSON]], reader: _Reader) -> Scope | None:
    hub = str((_one(parts, "hub", "valueReference") or {}).get("reference", ""))
    who = _one(parts, "who", "valueCode")
    if not hub.startswith("Organization/") or len(hub) < 14:
        reader.wrong("required", "A rule says to which hub (Organization) it applies.", _of(APPLIES, "hub"))
        return None
    if who not in get_args(Who):
        reader.wrong("value", f"who is one of {', '.join(get_args(Who))}.", _of(APPLIES, "who"))
        return None
    hub_id = hub.removeprefix("Organization/")
    if who == "condition":
        concept = _one(parts, "condition", "valueCodeableConcept") or {}
        codes = tuple(
            (str(one["system"]), str(one["code"]))
            for one in concept.get("coding", ())
            if one.get("system") and one.get("code")
        )
        if not codes or len(codes) > MOST_CODES:
            text = f"Say the condition by 1 to {MOST_CODES} codes with their systems."
            reader.wrong("required", text, _of(APPLIES, "condition"))
        return Scope(hub_id, "condition", codes, str(concept.get("text") or (codes[0][1] if codes else "")))
    if who == "monitored":
        measure = _measure(_one(parts, "measure", "valueCoding"))
        if measure is None:
            reader.wrong("value", f"measure is a code of {LOCAL}.", _of(APPLIES, "measure"))
        return Scope(hub_id, "monitored", measure=measure)
    return Scope(hub_id, "hub" if who == "hub" else "chosen")


def _composed(parts: Mapping[str, list[JSON]], reader: _Reader) -> Composed | None:
    before = len(reader.issues)
    match = _one(parts, "match", "valueCode")
    severity = SEVERITIES.get(str(_one(parts, "severity", "valueCode")))
    together = _duration(_one(parts, "together", "valueDuration"))
    told = _one(parts, "told", "valueString")
    clauses = parts.get("clause", [])
    if match not in get_args(Match):
        reader.wrong("value", "match is all or any.", _of(RULE, "match"))
    if severity is None:
        reader.wrong("value", f"severity is one of {', '.join(SEVERITIES)}.", _of(RULE, "severity"))
    if together is None or not SHORTEST <= together <= LONGEST:
        text = f"together is a duration from {span(SHORTEST)} to {span(LONGEST)}, in min, h or d."
        reader.wrong("value", text, _of(RULE, "together"))
    if told is not None and not 0 < len(str(told).strip()) <= MOST_TOLD:
        reader.wrong("value", f"What the person is told has at most {MOST_TOLD} characters.", _of(RULE, "told"))
    if not 1 <= len(clauses) <= MOST_CLAUSES:
        reader.wrong("value", f"A rule has 1 to {MOST_CLAUSES} conditions.", _of(RULE, "clause"))
    found = [
        _clause(one, f"{_of(RULE, 'clause')}[{number}]", reader) for number, one in enumerate(clauses[:MOST_CLAUSES])
    ]
    if len(reader.issues) > before or together is None or severity is None:
        return None
    said = str(told).strip() if told is not None else None
    return Composed("all" if match == "all" else "any", tuple(one for one in found if one), severity, together, said)


def _clause(extension: JSON, where: str, reader: _Reader) -> Clause | None:
    parts = _by_url(extension.get("extension", ()))
    measure = _measure(_one(parts, "measure", "valueCoding"))
    look = str(_one(parts, "look", "valueCode"))
    if measure is None or measure in AGREED:
        reader.wrong("value", f"measure is a code of {LOCAL} that is measured.", f"{where}.extension('measure')")
        return None
    if look not in LOOKS:
        reader.wrong("value", f"look is one of {', '.join(LOOKS)}.", f"{where}.extension('look')")
        return None
    quantity = _one(parts, "value", "valueQuantity")
    word = _one(parts, "word", "valueCode")
    over = _duration(_one(parts, "over", "valueDuration")) or timedelta(hours=24)
    count = _one(parts, "count", "valuePositiveInt") or 1
    value = None if quantity is None or quantity.get("value") is None else float(quantity["value"])
    unit = unit_of(measure, look)
    if value is not None and quantity is not None and quantity.get("code") != unit:
        text = f"The value is in {quantity.get('code') or 'no unit'}; this is in {unit}."
        reader.wrong("value", text, f"{where}.extension('value')")
        return None
    clause = Clause(measure, look, value, str(word) if word is not None else None, over, int(count))
    for text, part in problems(clause):
        reader.wrong("value", text, f"{where}.extension('{part}')")
    return clause


def _steps(resource: JSON, reader: _Reader) -> tuple[Step, ...]:
    found: list[Step] = []
    for number, one in enumerate(one for one in resource.get("extension", ()) if one.get("url") == STEP):
        parts = _by_url(one.get("extension", ()))
        to, why = _one(parts, "to", "valueCode"), str(_one(parts, "why", "valueString") or "").strip()
        by = str((_one(parts, "by", "valueReference") or {}).get("reference", ""))
        at = _one(parts, "at", "valueDateTime")
        if to not in (LIVE, RETIRED) or not by or not why or len(why) > MOST_WHY or at is None or "T" not in str(at):
            text = f"A step says to (active, retired), by, at (an instant) and why (at most {MOST_WHY} characters)."
            reader.wrong("required", text, f"{_of(STEP)}[{number}]")
            continue
        found.append(Step(str(to), by, datetime.fromisoformat(str(at)), why))
    return tuple(found)


def _codings(concept: JSON | None) -> Sequence[JSON]:
    found: Sequence[JSON] = (concept or {}).get("coding", ())
    return found


def _measure(coding: JSON | None) -> str | None:
    known = coding is not None and coding.get("system") == LOCAL and coding.get("code") in MEASURES
    return str(coding["code"]) if known and coding is not None else None


def _duration(quantity: JSON | None) -> timedelta | None:
    minutes = {"min": 1, "h": 60, "d": 1440}.get(str((quantity or {}).get("code")))
    value = (quantity or {}).get("value")
    if minutes is None or value is None or not 0 < float(value) < 1e5:
        return None
    return timedelta(minutes=float(value) * minutes)


def _by_url(extensions: Iterable[JSON]) -> dict[str, list[JSON]]:
    found: dict[str, list[JSON]] = {}
    for one in extensions:
        found.setdefault(str(one.get("url")), []).append(one)
    return found


def _parts(resource: JSON, address: str) -> dict[str, list[JSON]]:
    whole: JSON = next((one for one in resource.get("extension", ()) if one.get("url") == address), {})
    return _by_url(whole.get("extension", ()))


def _one(parts: Mapping[str, list[JSON]], name: str, value: str) -> Any:
    found = parts.get(name)
    return found[0].get(value) if found else None


def _of(address: str, part: str | None = None) -> str:
    inner = f".extension('{part}')" if part else ""
    return f"extension('{address}'){inner}"


# -- rule to FHIR ------------------------------------------------------------------------------------------------------


def to_plan_definition(rule: LocalRule, names: Mapping[str, str] | None = None) -> JSON:
    """*rule* as FHIR; *names* of whom its steps refer to. Raises Refusal 422 where it could not be read back."""
    names = names or {}
    applies: list[JSON] = [
        {"url": "hub", "valueReference": {"reference": f"Organization/{rule.scope.hub_id}"}},
        {"url": "who", "valueCode": rule.scope.who},
    ]
    if rule.scope.who == "condition":
        codings = [{"system": system, "code": code} for system, code in rule.scope.codes]
        applies.append({"url": "condition", "valueCodeableConcept": {"coding": codings, "text": rule.scope.condition}})
    if rule.scope.measure is not None:
        applies.append({"url": "measure", "valueCoding": _coding(rule.scope.measure)})
    extensions: list[JSON] = [
        {"url": RULE, "extension": _content(rule)},
        {"url": APPLIES, "extension": applies},
        *(_step(one, names) for one in rule.steps),
    ]
    resource: JSON = {
        "resourceType": "PlanDefinition",
        "id": rule.id,
        "extension": extensions,
        "url": url(rule.key),
        "version": str(rule.version),
        "title": rule.name,
        "type": {"coding": [{"system": ECA_RULE[0], "code": ECA_RULE[1]}]},
        "status": rule.status,
    }
    if rule.what is not None:
        # What other systems can read of it: on which data it looks, and what it says, in words.
        resource["description"] = rule.sentence()
        resource["action"] = [
            {
                "title": rule.name,
                "textEquivalent": rule.what.sentence(),
                "priority": {"red": "stat", "amber": "urgent"}.get(SEVERITY_WORDS[rule.what.severity], "routine"),
                "trigger": [_trigger(measure) for measure in sorted(rule.what.triggers)],
            }
        ]
    from_plan_definition(resource)
    return resource


def _content(rule: LocalRule) -> list[JSON]:
    if rule.what is None:
        off: list[JSON] = [{"url": "off", "valueBoolean": True}] if rule.off else []
        return [{"url": "shipped", "valueCode": rule.shipped}, *off]
    told: list[JSON] = [{"url": "told", "valueString": rule.what.told}] if rule.what.told else []
    return [
        {"url": "match", "valueCode": rule.what.match},
        {"url": "severity", "valueCode": SEVERITY_WORDS[rule.what.severity]},
        {"url": "together", "valueDuration": _minutes(rule.what.together)},
        *told,
        *({"url": "clause", "extension": _clause_parts(one)} for one in rule.what.clauses),
    ]


def _clause_parts(clause: Clause) -> list[JSON]:
    look = LOOKS[clause.look]
    found: list[JSON] = [
        {"url": "measure", "valueCoding": _coding(clause.measure)},
        {"url": "look", "valueCode": clause.look},
    ]
    if clause.value is not None:
        unit = unit_of(clause.measure, clause.look)
        shown = look.unit or MEASURES[clause.measure].shown
        quantity: JSON = {"value": _number(clause.value), "system": UCUM, "code": unit}
        found.append({"url": "value", "valueQuantity": {**quantity, **({"unit": shown} if shown else {})}})
    if clause.word is not None:
        found.append({"url": "word", "valueCode": clause.word})
    if look.window or clause.count > 1:
        found.append({"url": "over", "valueDuration": _minutes(clause.over)})
    if clause.count > 1:
        found.append({"url": "count", "valuePositiveInt": clause.count})
    return found


def _step(step: Step, names: Mapping[str, str]) -> JSON:
    by: JSON = {"reference": step.by, **({"display": names[step.by]} if step.by in names else {})}
    return {
        "url": STEP,
        "extension": [
            {"url": "to", "valueCode": step.to},
            {"url": "by", "valueReference": by},
            {"url": "at", "valueDateTime": step.at.isoformat()},
            {"url": "why", "valueString": step.why},
        ],
    }


def _coding(measure: str) -> JSON:
    return {"system": LOCAL, "code": measure, "display": MEASURES[measure].name}


def _minutes(within: timedelta) -> JSON:
    return {"value": round(within.total_seconds() / 60), "unit": "min", "system": UCUM, "code": "min"}


def _number(value: float) -> Decimal | int:
    return int(value) if value == int(value) else Decimal(str(value))


def _trigger(measure: str) -> JSON:
    return {
        "type": "data-added",
        "data": [{"type": "Observation", "codeFilter": [{"path": "code", "code": [MEASURES[measure].coding]}]}],
    }
