"""Readings from a file: choose it, see what was understood of it and what will be refused, and only then keep it."""

import base64
import binascii
import zlib
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile

from fhir.outcome import Refusal, refuse
from hub import uploads
from hub.identity import Actor
from hub.pages import me, words
from hub.pages import person as persons
from hub.pages.door import Form, demand, form, runtime, signed_in, transaction
from hub.pages.errors import PageRoute
from hub.pages.person import Person
from hub.pages.rendering import page
from hub.uploads import LARGEST, SHOWN, Upload

router = APIRouter(route_class=PageRoute)

LISTED = 200
"""Refused lines that the page lists; all of them are filed."""


@router.get("/patients/{patient_id}/readings/upload")
async def choose(request: Request, patient_id: str) -> Response:
    return await _of_patient(request, patient_id, None)


@router.post("/patients/{patient_id}/readings/upload")
async def look_or_keep(request: Request, patient_id: str) -> Response:
    return await _of_patient(request, patient_id, await _came(request))


@router.get("/me/upload")
async def choose_mine(request: Request) -> Response:
    return await _mine(request, None)


@router.post("/me/upload")
async def look_or_keep_mine(request: Request) -> Response:
    return await _mine(request, await _came(request))


Came = tuple[Actor, Form, bytes]


async def _came(request: Request) -> Came:
    """Who sent which form, with the file that was chosen, or that the page before held."""
    actor = await signed_in(request)
    demand(actor, "reading.write")
    try:
        sent = await form(request, actor)
        chosen = (await request.form()).get("file")
        if isinstance(chosen, UploadFile):
            return actor, sent, await chosen.read(LARGEST + 1)
    finally:
        await request.close()
    return actor, sent, _unpacked(sent.text("content", 4 * LARGEST))


async def _of_patient(request: Request, patient_id: str, came: Came | None) -> Response:
    actor = came[0] if came else await signed_in(request)
    demand(actor, "person.search")
    demand(actor, "reading.write")
    now = persons.present()
    async with transaction(request) as tx:
        person = await persons.find(tx.pg, actor, patient_id)
    found = await _found(request, actor, person, came)
    if came is None:
        await runtime(request).reads.record(persons.looked(actor, patient_id, "upload"))
    here = f"/patients/{patient_id}/readings"
    more: dict[str, Any] = {"tab": "/readings", "person": person, "now": now, "own": False, "back": here}
    return page(request, "upload.html", actor, found.pop("status"), action=f"{here}/upload", **more, **found)


async def _mine(request: Request, came: Came | None) -> Response:
    actor = came[0] if came else await signed_in(request)
    demand(actor, "reading.write")
    async with transaction(request) as tx:
        mine = await me.own_record(request, tx, actor)
    found = await _found(request, actor, mine.person, came)
    if came is None:
        await runtime(request).reads.record(persons.looked(actor, mine.person.patient_id, "upload"))
    context = mine.context()
    addresses = {"action": f"/me/upload{context['which']}", "back": f"/me/readings{context['which']}"}
    status = found.pop("status")
    return page(request, "my_upload.html", actor, status, here="/me/readings", **addresses, **found, **context)


async def _found(request: Request, actor: Actor, person: Person, came: Came | None) -> dict[str, Any]:
    """What the page says of the file: nothing yet, why it is none, what is in it, or how much was kept."""
    said: dict[str, Any] = {"status": 200, "problem": None, "upload": None, "kept": None}
    said |= {"content": "", "most": LARGEST, "measures": [], "first": [], "refused": []}
    if came is None:
        return said
    _, sent, raw = came
    now = persons.present()
    try:
        if not raw.strip():
            raise refuse(422, "required", "No file was chosen, or it is empty. Choose the CSV file of your app.")
        if len(raw) > LARGEST:
            raise refuse(422, "too-long", f"The file is larger than {LARGEST // 1024**2} MB. Export a shorter time.")
        async with transaction(request) as tx:
            upload = await uploads.understood(tx, person.patient_id, raw, now, person.synthetic)
    except Refusal as refusal:
        if refusal.status not in (400, 413, 422):
            raise
        return said | {"status": 422, "problem": refusal.issues[0].diagnostics}
    said |= _words(upload)
    if "keep" in sent:
        said["kept"] = await uploads.take(runtime(request).database, actor, upload, now)
    else:
        said["content"] = _packed(raw)
    return said


def _words(upload: Upload) -> dict[str, Any]:
    return {
        "upload": upload,
        "measures": [
            {
                "name": one.name,
                "count": words.plural(one.count, "reading"),
                "time": f"{_at(one.first)} to {_at(one.last)}",
                "range": f"{one.low} to {one.high}",
            }
            for one in upload.sums
        ],
        "first": [
            {
                "line": one.line,
                "time": _at(one.readings[0].at) if one.readings else "",
                "what": "; ".join(reading.show() for reading in one.readings),
                "given": one.text,
                "doubt": next((reading.why for reading in one.readings if reading.why), None),
            }
            for one in upload.new[:SHOWN]
        ],
        "refused": [
            (line, text[:120], refusal.issues[0].diagnostics) for line, text, refusal in upload.refused[:LISTED]
        ],
    }


def _at(moment: Any) -> str:
    return f"{moment.astimezone(words.LONDON):%-d %b %Y %H:%M}"


def _packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def _unpacked(text: str) -> bytes:
    """What `_packed` packed, never more than LARGEST and a byte. Raises Refusal 400."""
    try:
        return zlib.decompressobj().decompress(base64.b64decode(text, validate=True), LARGEST + 1) if text else b""
    except (binascii.Error, zlib.error, ValueError) as error:
        raise refuse(400, "invalid", "The form was not complete. Choose the file again.") from error
