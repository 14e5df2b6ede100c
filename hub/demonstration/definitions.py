"""Templates of plans of monitoring and questionnaires as FHIR resources, and what some people answered."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from hub.demonstration.codes import JSON, SYNTHETIC, reference
from hub.demonstration.people import Person
from monitoring.questionnaires import INSTRUMENTS
from monitoring.templates import TEMPLATES

ANSWERED = {
    "phq-9": ((1, 1, 2, 2, 1, 1, 1, 0, 0), (1, 1, 1, 2, 0, 1, 1, 0, 0)),
    "gad-7": ((2, 1, 1, 2, 1, 1, 1), (1, 1, 1, 1, 0, 1, 1)),
    "ucla-3": ((1, 2, 1), (1, 1, 1)),
    "mmrc": ((1,), (2,)),
}
"""The places of the chosen options, four weeks ago and lately. Nobody here answers question 9 with more than nothing:
a demonstration that begins with it would drown everything else."""


def definitions() -> Iterator[JSON]:
    yield from ({**one, "meta": SYNTHETIC} for one in TEMPLATES.values())
    yield from ({**one.definition, "meta": SYNTHETIC} for one in INSTRUMENTS.values())


def answers(person: Person, as_of: datetime) -> Iterator[JSON]:
    """What every third person of the complex tier answered with their coach."""
    if person.tier != "complex" or person.number % 3 or person.coach is None:
        return
    for key, rounds in ANSWERED.items():
        asked = INSTRUMENTS[key]
        if key == "mmrc" and person.profile is None:
            continue
        for number, places in enumerate(rounds):
            at = as_of - timedelta(days=33 - 28 * number, hours=person.number % 5)
            yield {
                "resourceType": "QuestionnaireResponse",
                "id": f"answers-{person.number:06d}-{key}-{number}",
                "meta": SYNTHETIC,
                "questionnaire": f"{asked.definition['url']}|{asked.definition['version']}",
                "status": "completed",
                "subject": reference(person.reference, person.name),
                "authored": at.isoformat(timespec="seconds"),
                "author": reference(person.coach.reference, person.coach.title),
                "item": [
                    {"linkId": link, "text": one["text"], "answer": [_answer(one, place)]}
                    for (link, one), place in zip(asked.items.items(), places, strict=True)
                ],
            }


def _answer(item: JSON, place: int) -> JSON:
    coding = item["answerOption"][place]["valueCoding"]
    return {"valueCoding": {name: coding[name] for name in ("system", "code", "display")}}
