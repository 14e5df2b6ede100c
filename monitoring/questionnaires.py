"""Questionnaires that become readings: what is asked (FHIR data files with their sources), and how answers are scored.

A total takes every answer: with one missing there is none, since a question left open is not a zero. An answer that is
a measure by itself (item 9 of the PHQ-9) counts as soon as it is given, finished or not. Scores are worked out from the
options of *our* definition, never from a total or a score that was sent along.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fhir.outcome import Refusal, refuse
from monitoring.measures import MEASURES, UCUM
from monitoring.readings import FUTURE, LARGEST

JSON = dict[str, Any]

DATA = Path(__file__).parent / "data"
ORDINAL = "http://hl7.org/fhir/StructureDefinition/ordinalValue"
SURVEY = {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "survey"}
DONE = frozenset({"completed", "amended"})
"""Statuses of a response in which nothing more is to come; only these have a total."""

LINK = "QuestionnaireResponse.item.where(linkId='{}').answer"

Bands = tuple[tuple[float, str], ...]
"""From this score on, the word: ((0, "minimal"), (5, "mild"))."""


@dataclass(frozen=True)
class Instrument:
    """One questionnaire. `total` is the measure of the sum of all answers, `parts` maps items (linkId) to the measure
    that their answer is by itself. `bands` are the words for the total, `aliases` other canonicals it goes by."""

    key: str
    total: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    bands: Bands = ()
    aliases: tuple[str, ...] = ()
    source: str = ""

    @cached_property
    def definition(self) -> JSON:
        """The FHIR Questionnaire."""
        found: JSON = json.loads((DATA / f"questionnaire-{self.key}.json").read_text(), parse_float=Decimal)
        return found

    @cached_property
    def items(self) -> Mapping[str, JSON]:
        """The questions by linkId, in their order."""
        return {one["linkId"]: one for one in self.definition["item"] if one["type"] != "display"}

    @property
    def measures(self) -> tuple[str, ...]:
        return (*((self.total,) if self.total else ()), *self.parts.values())

    def word(self, score: float) -> str:
        """What the total is called: `moderate`."""
        return next((word for least, word in reversed(self.bands) if score >= least), "")


_ALL = (
    Instrument(
        "phq-9",
        total="phq-9",
        parts={"44260-8": "phq-9-item-9"},
        bands=((0, "minimal"), (5, "mild"), (10, "moderate"), (15, "moderately severe"), (20, "severe")),
        aliases=("http://loinc.org/q/44249-1", "http://loinc.org/vs/44249-1"),
        source="Kroenke, Spitzer, Williams, J Gen Intern Med 2001;16:606: 5, 10, 15, 20",
    ),
    Instrument(
        "gad-7",
        total="gad-7",
        bands=((0, "minimal"), (5, "mild"), (10, "moderate"), (15, "severe")),
        aliases=("http://loinc.org/q/69737-5", "http://loinc.org/vs/69737-5"),
        source="Spitzer, Kroenke, Williams, Löwe, Arch Intern Med 2006;166:1092: 5, 10, 15",
    ),
    Instrument(
        "ucla-3",
        total="ucla-3",
        bands=((3, "not lonely"), (6, "lonely")),
        source="Steptoe and others, PNAS 2013;110:5797: 6 or more; the words are ours",
    ),
    Instrument("mmrc", total="mmrc", source="Bestall and others, Thorax 1999;54:581"),
    Instrument("eq-5d", parts={"index": "eq-5d-index", "vas": "eq-5d-vas"}, source="EuroQol: the result alone"),
)

INSTRUMENTS: Mapping[str, Instrument] = MappingProxyType({one.key: one for one in _ALL})

_BY_URL = {url: one for one in _ALL for url in (one.definition["url"], f"Questionnaire/{one.key}", *one.aliases)}


def instrument_of(response: JSON) -> Instrument | None:
    """What *response* answers: by its canonical, else by LOINC codes that it uses as link ids. None for another form,
    which is kept and not scored."""
    named = _BY_URL.get(str(response.get("questionnaire", "")).partition("|")[0])
    if named is not None:
        return named
    said = {_link(item) for item in _items(response)}
    for one in _ALL:
        known = {link for link, item in one.items.items() if item.get("code")}
        if known and (known <= said or any(link in said for link in one.parts if link in known)):
            return one
    return None


@dataclass(frozen=True, slots=True)
class Scored:
    """The values of one response by measure. `unanswered` are the questions (linkId) for which there is no total."""

    instrument: Instrument
    values: Mapping[str, Decimal]
    unanswered: tuple[str, ...] = ()


def score(response: JSON) -> Scored | None:
    """The scores of *response*; None when it is of a form that is not scored, or entered in error.

    Refusal 422 for an answer that is not among the options, a question answered twice, or a number beyond its range:
    to leave it out would make a lower total of it.
    """
    instrument = instrument_of(response)
    if instrument is None or response.get("status") == "entered-in-error":
        return None
    answers: dict[str, Decimal] = {}
    for item in _items(response):
        link = _link(item)
        if link not in instrument.items or not item.get("answer"):
            continue
        if link in answers or len(item["answer"]) > 1:
            raise _wrong(item, "has more than one answer; it takes one")
        answers[link] = _points(instrument, link, item)
    values: dict[str, Decimal] = {}
    unanswered = tuple(link for link in instrument.items if link not in answers)
    if instrument.total and not unanswered and response.get("status") in DONE:
        values[instrument.total] = sum(answers.values(), Decimal(0))
    values |= {measure: answers[link] for link, measure in instrument.parts.items() if link in answers}
    return Scored(instrument, values, unanswered if instrument.total else ())


def observations(response: JSON, now: datetime) -> list[JSON]:
    """The scores of *response* as FHIR Observations, with ids that follow from its own: answered once, scored once.

    Refusal 422 as in `score`, and when a scored form does not say when it was answered, or says a time to come.
    """
    scored = score(response)
    patient = str(response.get("subject", {}).get("reference", ""))
    if scored is None or not scored.values or not patient.startswith("Patient/"):
        return []
    at = _answered(response, now)
    who = response.get("author") or response.get("source")
    made = []
    for key, value in scored.values.items():
        measure = MEASURES[key]
        one: JSON = {
            "resourceType": "Observation",
            "id": observation_id(str(response["id"]), key),
            "status": "final",
            "category": [{"coding": [SURVEY]}],
            "code": {"coding": [measure.coding], "text": measure.name},
            "subject": {"reference": patient},
            "effectiveDateTime": at,
            "valueQuantity": {"value": value, "unit": "score", "system": UCUM, "code": measure.unit},
            "derivedFrom": [{"reference": f"QuestionnaireResponse/{response['id']}"}],
        }
        if who:
            one["performer"] = [who]
        if key == scored.instrument.total and (word := scored.instrument.word(float(value))):
            one["interpretation"] = [{"text": word}]
        if labels := response.get("meta", {}).get("security"):
            one["meta"] = {"security": labels}
        made.append(one)
    return made


def observation_id(response_id: str, measure: str) -> str:
    """The id of the Observation that holds the *measure* of a response."""
    return blake2b(f"{response_id}\n{measure}".encode(errors="surrogatepass"), digest_size=16).hexdigest()


def every_measure() -> Iterable[str]:
    """Every measure that some questionnaire gives."""
    return (measure for one in _ALL for measure in one.measures)


def _answered(response: JSON, now: datetime) -> str:
    text = str(response.get("authored", ""))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        said = "Say when it was answered: authored with day, time and offset, such as 2026-11-22T09:30:00Z."
        raise refuse(422, "required", said, "QuestionnaireResponse.authored")
    if at - now > FUTURE:
        said = f"Answered at {text}, which is ahead of our clock ({now.isoformat(timespec='seconds')})."
        raise refuse(422, "value", said, "QuestionnaireResponse.authored")
    return text


def _points(instrument: Instrument, link: str, item: JSON) -> Decimal:
    answer = item["answer"][0]
    asked = instrument.items[link]
    number = answer.get("valueDecimal", answer.get("valueInteger"))
    if asked["type"] != "choice":
        low, high = MEASURES[instrument.parts[link]].plausible
        if number is None or not -LARGEST < number < LARGEST or not low <= number <= high:
            raise _wrong(item, f"takes a number from {low:g} to {high:g}")
        return Decimal(number)
    options = {one["valueCoding"]["code"]: _ordinal(one["valueCoding"]) for one in asked["answerOption"]}
    if number is not None and Decimal(number) in options.values():
        return Decimal(number)
    code = answer.get("valueCoding", {}).get("code")
    if code not in options:
        accepted = ", ".join(f"{one} ({points})" for one, points in options.items())
        raise _wrong(item, f"has an answer that is not among its options: {accepted}")
    return options[code]


def _ordinal(coding: JSON) -> Decimal:
    return next(Decimal(one["valueDecimal"]) for one in coding["extension"] if one["url"] == ORDINAL)


def _wrong(item: JSON, why: str) -> Refusal:
    link = _link(item)
    return refuse(422, "value", f"The question {link} {why}.", LINK.format(link))


def _items(holder: JSON) -> Iterator[JSON]:
    for item in holder.get("item", ()):
        yield item
        yield from _items(item)


def _link(item: JSON) -> str:
    # The National Library of Medicine writes LOINC link ids with a slash before the code.
    return str(item.get("linkId", "")).rpartition("/")[2]
