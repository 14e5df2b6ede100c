"""`Patient/x/$everything`: a person's whole record, page by page, as far as the caller may see it."""

from starlette.responses import Response

from fhir import everything
from fhir.asked import size_of
from fhir.outcome import refuse
from fhir.paging import Cursor, verify
from fhir.parameters import Input, Inputs, instant_of
from fhir.types import SERVED
from hub.access import visible
from hub.fhir_http import answer
from hub.fhir_operations.inputs import inputs
from hub.fhir_reads import seen
from hub.interactions import Call

COUNT = 100
"""Resources on a page when `_count` says nothing."""
_KNOWN = {
    "start": Input("date"),
    "end": Input("date"),
    "_since": Input("instant"),
    "_type": Input("code", many=True, commas=True),
    "_count": Input("integer"),
}


async def carry_out(call: Call) -> Response:
    scope = f"Patient/{call.id}/$everything"
    cursors = [value for name, value in call.query if name == "_cursor"]
    if cursors and len(call.query) > 1:
        raise refuse(400, "invalid", "a _cursor holds the whole question: send it alone", "_cursor")
    if cursors:
        cursor = verify(cursors[0], scope, call.service.secret)
        call.query = cursor.query
        given = inputs(call, _KNOWN)
    else:
        given = inputs(call, _KNOWN)
        cursor = Cursor(scope, _said(given), [])
    wanted = _wanted(call.id, given, call.service.max_page)
    async with call.runtime.database.transaction() as tx:
        page = await everything.everything(
            tx.pg, wanted, visible(call.actor), call.service.base_url, call.service.secret, cursor
        )
    # Of no type: a person who asks who has looked is told "your record", not "your details".
    await call.runtime.reads.record(*seen(call.actor, "everything", None, call.id, page))
    return answer(200, page.as_bytes().decode())


def _wanted(patient: str, given: Inputs, most: int) -> everything.Wanted:
    start, end, since = (given.text(name) for name in ("start", "end", "_since"))
    types = frozenset(given.every("_type"))
    for type_ in sorted(types - SERVED):
        raise refuse(400, "value", f"_type names resource types that are served here, not '{type_[:64]}'", "_type")
    return everything.Wanted(
        patient,
        max(1, size_of(str(given.one("_count") or COUNT), most)),
        instant_of("start", start)[0] if start else None,
        instant_of("end", end)[1] if end else None,
        instant_of("_since", since)[0] if since else None,
        types,
    )


def _said(given: Inputs) -> list[tuple[str, str]]:
    """The question as a query, so that a POSTed one can be followed by links."""
    return [(name, str(value)) for name in _KNOWN for value in given.every(name)]
