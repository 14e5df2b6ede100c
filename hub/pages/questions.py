"""A questionnaire, filled in by the person, a carer, or a coach with them: the form, and the response it becomes."""

import hashlib
from decimal import Decimal, InvalidOperation
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from fhir.outcome import Refusal, refuse
from fhir.store import Change
from hub import flows
from hub.db import Tx
from hub.identity import Actor
from hub.pages import me
from hub.pages import person as persons
from hub.pages.door import Form, demand, demand_sight, form, runtime, signed_in, told, transaction
from hub.pages.errors import PageRoute
from hub.pages.rendering import fresh, page
from hub.roles import ROLES, TYPE_AREAS
from monitoring.questionnaires import INSTRUMENTS, Instrument, observation_id, score

router = APIRouter(route_class=PageRoute)

JSON = dict[str, Any]
TYPE = "QuestionnaireResponse"


def may_answer(actor: Actor) -> bool:
    """Whether the actor's role writes responses, and readings, which its scores are to whoever reads them."""
    role = ROLES[actor.role]
    return actor.can("reading.write") and (TYPE_AREAS[TYPE] in role.writes or TYPE in role.also_writes)


def _instrument(key: str) -> Instrument:
    found = INSTRUMENTS.get(key)
    if found is None:
        raise refuse(404, "not-found", "There is no such questionnaire.")
    return found


def _demand(actor: Actor) -> None:
    if not may_answer(actor):
        raise refuse(403, "forbidden", "Your role does not open this page.")


@router.get("/patients/{patient_id}/questions/{questionnaire}")
async def questions(request: Request, patient_id: str, questionnaire: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "person.search")
    demand_sight(actor, "Observation")
    _demand(actor)
    return await _staff(request, actor, patient_id, _instrument(questionnaire))


async def _staff(
    request: Request, actor: Actor, patient_id: str, asked: Instrument, sent: Form | None = None, problem: str = ""
) -> Response:
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
    await runtime(request).reads.record(persons.looked(actor, patient_id, "questionnaire", TYPE))
    action = f"/patients/{patient_id}/questions/{asked.key}"
    return page(
        request,
        "questions.html",
        actor,
        422 if problem else 200,
        tab="/monitoring",
        person=person,
        now=persons.present(),
        **_fields(asked, action, sent, problem),
    )


def _fields(asked: Instrument, action: str, sent: Form | None, problem: str) -> JSON:
    items = asked.definition["item"]
    return {
        "title": asked.definition["title"],
        "copyright": asked.definition["copyright"],
        "intro": next((one["text"] for one in items if one["type"] == "display"), None),
        "action": action,
        "once": (sent.text("once", 80) if sent else "") or fresh(),
        "problem": problem,
        "questions": [
            {
                "link": link,
                "text": one["text"],
                "given": sent.text(link, 40) if sent else "",
                "options": [
                    {"code": option["valueCoding"]["code"], "text": option["valueCoding"]["display"]}
                    for option in one.get("answerOption", ())
                ],
            }
            for link, one in asked.items.items()
        ],
    }


@router.post("/patients/{patient_id}/questions/{questionnaire}")
async def answer(request: Request, patient_id: str, questionnaire: str) -> Response:
    actor = await signed_in(request)
    demand(actor, "person.search")
    _demand(actor)
    sent = await form(request, actor)
    asked = _instrument(questionnaire)
    try:
        async with transaction(request) as tx:
            await persons.find(tx.pg, actor, patient_id)
            await _save(tx, actor, patient_id, asked, sent)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await _staff(request, actor, patient_id, asked, sent, refusal.issues[0].diagnostics)
    return told(f"/patients/{patient_id}/readings", "answers-saved")


@router.get("/me/questions/{questionnaire}")
async def my_questions(request: Request, questionnaire: str) -> Response:
    actor = await signed_in(request)
    _demand(actor)
    return await _mine(request, actor, _instrument(questionnaire))


async def _mine(
    request: Request, actor: Actor, asked: Instrument, sent: Form | None = None, problem: str = ""
) -> Response:
    async with transaction(request) as tx:
        mine = await me.own_record(request, tx, actor)
    await runtime(request).reads.record(persons.looked(actor, mine.person.patient_id, "my questionnaire", TYPE))
    context = mine.context()
    action = f"/me/questions/{asked.key}{context['which']}"
    return page(
        request,
        "my_questions.html",
        actor,
        422 if problem else 200,
        here="/me",
        **_fields(asked, action, sent, problem),
        **context,
    )


@router.post("/me/questions/{questionnaire}")
async def my_answer(request: Request, questionnaire: str) -> Response:
    actor = await signed_in(request)
    _demand(actor)
    sent = await form(request, actor)
    asked = _instrument(questionnaire)
    try:
        async with transaction(request) as tx:
            mine = await me.own_record(request, tx, actor)
            made = await _save(tx, actor, mine.person.patient_id, asked, sent)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return await _mine(request, actor, asked, sent, refusal.issues[0].diagnostics)
    shown = "&".join(f"reading={one}" for one in made)
    more = f"for={mine.person.patient_id}" if mine.everyone else ""
    address = "/me/saved" if made else "/me"
    return RedirectResponse(f"{address}?{'&'.join(filter(None, (shown, more)))}", 303)


async def _save(tx: Tx, actor: Actor, patient_id: str, asked: Instrument, sent: Form) -> list[str]:
    """Write what was answered; the ids of the Observations that hold its scores. A form that is sent twice makes one
    response. Refusal 422 when nothing was answered."""
    items = [{"linkId": link, "text": one["text"], "answer": [_answer(one, given)]}
             for link, one in asked.items.items() if (given := sent.text(link, 40))]  # fmt: skip
    if not items:
        raise refuse(422, "required", "No question was answered. Answer at least one.")
    once = sent.text("once", 80) or fresh()
    id_ = hashlib.blake2b(f"{actor.reference} {patient_id} {once}".encode(), digest_size=16).hexdigest()
    response: JSON = {
        "resourceType": TYPE,
        "id": id_,
        "questionnaire": f"{asked.definition['url']}|{asked.definition['version']}",
        "status": "completed" if len(items) == len(asked.items) else "stopped",
        "subject": {"reference": f"Patient/{patient_id}"},
        "authored": persons.present().isoformat(timespec="seconds"),
        "author": {"reference": actor.reference, "display": actor.name},
        "item": items,
    }
    await flows.write(tx, actor, [Change("update", TYPE, id_, response)])
    scored = score(response)
    return [observation_id(id_, measure) for measure in (scored.values if scored else ())]


def _answer(item: JSON, given: str) -> JSON:
    if item["type"] == "choice":
        for option in item["answerOption"]:
            coding = option["valueCoding"]
            if coding["code"] == given:
                return {"valueCoding": {name: coding[name] for name in ("system", "code", "display")}}
        raise refuse(422, "value", f"Choose one of the answers to “{item['text']}”.")
    try:
        number = Decimal(given.replace(",", "."))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or (item["type"] == "integer" and number != number.to_integral_value()):
        raise refuse(422, "value", f"“{given}” is not a number for “{item['text']}”.")
    return {"valueInteger": int(number)} if item["type"] == "integer" else {"valueDecimal": number}
