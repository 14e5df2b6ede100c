"""What `$apply` and `$populate` begin with: the definition that is asked for, and the person it is for."""

from collections.abc import Sequence
from typing import Any

from fhir import store
from fhir.codes import stored_named
from fhir.outcome import refuse
from fhir.parameters import Inputs
from fhir.store import ID, Visible
from hub.db import Tx
from hub.interactions import Call

JSON = dict[str, Any]


async def person(tx: Tx, call: Call, given: Inputs, shown: Visible) -> str:
    """The id of the one subject, a Patient that the caller may see."""
    subjects = given.every("subject")
    if len(subjects) != 1:
        raise refuse(400, "required", f"name one subject, a Patient; {len(subjects)} are given", "subject")
    return (await reference(tx, call, subjects[0], "subject", "Patient", shown)).partition("/")[2]


async def reference(tx: Tx, call: Call, given: JSON, name: str, type_: str, shown: Visible) -> str:
    """`Type/id` of a reference to something that the caller may see."""
    text = str(given.get("reference", "")).removeprefix(f"{call.service.base_url}/")
    kind, _, id_ = text.rpartition("/")
    if kind not in (type_, "") or not ID.fullmatch(id_):
        raise refuse(400, "value", f"{name} is a reference such as {type_}/1, not '{text[:80]}'", name)
    await store.read(tx.pg, type_, id_, shown)
    return f"{type_}/{id_}"


async def definition(tx: Tx, call: Call, posted: JSON | None, url: str | None, shown: Visible) -> JSON:
    """The definition in the address, by url, or as it was posted."""
    id_ = call.id if len(call.path) > 2 else None
    if [id_, url, posted].count(None) != 2:
        said = f"name one {call.type}: by its id in the address, by url, or as a resource"
        raise refuse(400, "required", said, "url")
    if posted is not None:
        if posted.get("resourceType") != call.type:
            raise refuse(400, "value", f"a {call.type} is expected", "Parameters.parameter.resource")
        return posted
    if id_ is not None:
        return (await store.read(tx.pg, call.type, id_, shown)).resource or {}
    assert url is not None
    found = chosen(await stored_named(tx.pg, call.type, [url], shown), url)
    if found is None:
        raise refuse(404, "not-found", f"no {call.type} '{url[:200]}' is stored here that you may see", "url")
    return found


def chosen(stored: Sequence[JSON], name: str) -> JSON | None:
    """The one that *name* means; of several versions the one that was written last."""
    url, _, version = name.partition("|")
    fitting = [
        one
        for one in stored
        if (one.get("url") == url and version in ("", one.get("version")))
        or f"{one['resourceType']}/{one['id']}" == name
    ]
    return fitting[-1] if fitting else None
