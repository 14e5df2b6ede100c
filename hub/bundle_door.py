"""The door for bundles: opened, carried out in one transaction, and the operations of a batch after its commit."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from fhir.outcome import Refusal, refuse
from fhir.steps import FORMATTING, parameters, place
from fhir.validation import check
from fhir.wire import decode, encode
from hub import bundles, intake, operations
from hub.fhir_http import answer, localise
from hub.interactions import LARGE, Call, kept_if_refused, looking, no_parameters
from hub.operations import Operation
from hub.steps import LARGEST_ANSWER, Answer, Answers, settled

JSON = dict[str, Any]
MOST_OPERATIONS = 50
"""Operations that one batch may ask for."""


async def bundle(call: Call) -> Response:
    """POST of a batch or transaction."""
    no_parameters(call)
    async with kept_if_refused(call):
        resource = await asyncio.to_thread(_opened, call.raw) if len(call.raw) > LARGE else _opened(call.raw)
        kind = resource.get("type")
        if kind not in ("batch", "transaction"):
            text = f"a batch or transaction is posted here, not a {kind}; others are stored at /fhir/Bundle"
            raise refuse(400, "invalid", text, "Bundle.type")
        call.raw = call.raw[: intake.LARGEST_KEPT]
        localise(resource, call.service.base_url)
        asked = _operations(call, resource) if kind == "batch" else {}

        async def attempt() -> Answers:
            async with looking(call) as (tx, seen):
                if kind == "transaction":
                    return await bundles.transaction(tx, call.actor, resource, call.service, seen)
                return await bundles.batch(tx, call.actor, resource, call.service, seen, asked)

        answers = await settled(attempt)
    answers |= await _asked(call, asked)
    return answer(200, bundles.response(f"{kind}-response", answers, call.service, call.prefer))


def _opened(raw: bytes) -> JSON:
    """The valid Bundle in *raw*. The resources of a batch are checked later, each by itself: a bad one fails alone."""
    resource = decode(raw)
    if resource.get("resourceType") != "Bundle":
        raise refuse(400, "invalid", "a Bundle is posted here", "Resource.resourceType")
    check(_without_resources(resource) if resource.get("type") == "batch" else resource)
    return resource


def _without_resources(batch: JSON) -> JSON:
    entries = batch.get("entry")
    if not isinstance(entries, list):
        return batch
    framed = [
        {key: value for key, value in entry.items() if key != "resource"} if isinstance(entry, dict) else entry
        for entry in entries
    ]
    return {**batch, "entry": framed}


# -- operations --------------------------------------------------------------------------------------------------------


def _operations(call: Call, batch: JSON) -> Mapping[int, tuple[Operation, JSON]]:
    """The entries that ask for an operation which changes nothing, by their positions."""
    if call.actor.kind == "device":
        return {}
    found: dict[int, tuple[Operation, JSON]] = {}
    for position, entry in enumerate(batch.get("entry", ())):
        path, _ = _address(call, entry)
        operation = operations.asked(path)
        if operation is not None and operation.looks and entry["request"].get("method") in ("GET", "POST"):
            found[position] = operation, entry
    if len(found) > MOST_OPERATIONS:
        said = f"a batch asks for at most {MOST_OPERATIONS} operations here, not {len(found)}: send it in several"
        raise refuse(413, "too-costly", said, "Bundle.entry")
    return found


def _address(call: Call, entry: JSON) -> tuple[list[str], str]:
    """The parts of the path below the service's address, and the query."""
    url = str(entry.get("request", {}).get("url", ""))
    path, _, query = url.removeprefix(call.service.base_url).partition("?")
    return [part for part in path.split("/") if part], query


async def _asked(call: Call, asked: Mapping[int, tuple[Operation, JSON]]) -> Answers:
    """What each operation answers: as if it had been asked for by itself, once the other entries are committed."""
    answers: Answers = {}
    size = 0
    for position, (operation, entry) in asked.items():
        path, query = _address(call, entry)
        try:
            pairs = [one for one in parameters(query, place(position, "request.url")) if one[0] not in FORMATTING]
            raw = encode(entry["resource"]) if "resource" in entry else b""
            alone = Call(call.request, {}, call.runtime, call.actor, call.service, pairs, path, None, raw)
            response = await operation.handler(alone)
        except Refusal as refusal:
            answers[position] = Answer(refusal.status, refusal=refusal)
            continue
        body = bytes(response.body).decode()
        size += len(body)
        if size > LARGEST_ANSWER:
            said = f"the answer is larger than {LARGEST_ANSWER // 2**20} MB: ask for less at a time"
            raise refuse(413, "too-costly", said, place(position, "request.url"))
        answers[position] = Answer(response.status_code, body=body or None, looked=True)
    return answers
