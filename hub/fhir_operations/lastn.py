"""`Observation/$lastn`: the newest reading or result of each code, for the person who is named."""

from starlette.responses import Response

from fhir.latest import latest
from fhir.outcome import refuse
from fhir.page import Page, url_of
from fhir.validation import parse
from hub.access import visible
from hub.fhir_http import answer
from hub.fhir_reads import seen
from hub.interactions import Call

MOST = 1000
"""Of one code."""


async def carry_out(call: Call) -> Response:
    """`patient` or `subject` is required, `max` is 1 when it is not said; the rest are search parameters."""
    query = [*call.query, *_posted(call)]
    given = [value for name, value in query if name == "max"]
    criteria = [(name, value) for name, value in query if name != "max"]
    most = given[0] if given else "1"
    if len(given) > 1 or not (most.isascii() and most.isdigit() and 0 < int(most[:9]) <= MOST):
        raise refuse(400, "value", f"max is a whole number from 1 to {MOST:,}, once", "max")
    if not any(name.split(":")[0].split(".")[0] in ("patient", "subject") for name, _ in criteria):
        raise refuse(400, "required", "name the person: patient or subject is required", "patient")
    async with call.runtime.database.transaction() as tx:
        found = await latest(tx.pg, criteria, int(most), visible(call.actor), call.service.base_url)
    links = [("self", url_of(call.service.base_url, "Observation/$lastn", query))]
    page = Page("searchset", len(found), links, found, base_url=call.service.base_url)
    await call.runtime.reads.record(*seen(call.actor, "lastn", "Observation", None, page))
    return answer(200, page.as_bytes().decode())


def _posted(call: Call) -> list[tuple[str, str]]:
    if not call.raw.strip():
        return []
    found = []
    for place, one in enumerate(parse(call.raw, "Parameters").resource.get("parameter", ())):
        value = next((value for name, value in one.items() if name.startswith("value")), None)
        if isinstance(value, bool | dict) or value is None:
            where = f"Parameters.parameter[{place}].value"
            raise refuse(400, "value", f"{one['name'][:64]} is given as text, as in a search", where)
        found.append((one["name"], str(value)))
    return found
