"""What one request asks for, alone or as an entry of a bundle: its place, its criteria and its conditions.

Pure: nothing is searched or written here. A request over HTTP and an entry of a bundle are read by the same `step`, so
that what one of them can do, the other can.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from fhir.compartments import OWNERS
from fhir.outcome import refuse
from fhir.patch import Patch, of_resource
from fhir.store import ID, new_id
from fhir.types import SERVED

JSON = dict[str, Any]
Query = Sequence[tuple[str, str]]

WRITES = ("POST", "PUT", "PATCH", "DELETE")
LOOKS = ("GET", "HEAD")

# Parameters that shape an answer; none of them says which resource is meant.
_SHAPING = frozenset(
    (
        "_count", "_sort", "_include", "_revinclude", "_total", "_summary", "_elements", "_contained", "_containedType",
        "_format", "_pretty", "_cursor",
    )
)  # fmt: skip
# Over HTTP they shape the answer; in a bundle it has the format of the bundle.
FORMATTING = frozenset({"_format", "_pretty"})
# The name of each condition in a bundle, and as a header.
CONDITIONS = {
    "ifMatch": "If-Match",
    "ifNoneMatch": "If-None-Match",
    "ifNoneExist": "If-None-Exist",
    "ifModifiedSince": "If-Modified-Since",
}
_ALLOWED = {
    "POST": {"ifNoneExist"},
    "PUT": {"ifMatch", "ifNoneMatch"},
    "PATCH": {"ifMatch"},
    "DELETE": {"ifMatch"},
    "GET": {"ifNoneMatch", "ifModifiedSince"},
    "HEAD": {"ifNoneMatch", "ifModifiedSince"},
}
_ETAG = re.compile(r'\A(?:W/)?"?([1-9][0-9]{0,8})"?\Z')
_VERSION = re.compile("[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Condition:
    """A search that must name one resource: criteria instead of an id, or in a reference (`Patient?identifier=a|b`)."""

    type: str
    query: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.type}?{urlencode(self.query)}"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `position` is its place in a bundle, None outside of one.

    A write has an `id`, or `where`: a POST creates unless something meets it, the others change what meets it, and
    `existing` is the id of what did. `if_match` are versions, one of which it must be. `exists` False: only when there
    is no such resource yet; True: only when there is. A look has `path` (the parts of the address) and `query`; `known`
    is a version that the asker has, "*" any.
    """

    method: str
    type: str
    position: int | None = None
    id: str | None = None
    resource: JSON | None = None
    patch: Patch | None = None
    where: Condition | None = None
    existing: str | None = None
    if_match: tuple[int, ...] = ()
    exists: bool | None = None
    path: tuple[str, ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    known: int | Literal["*"] | None = None
    since: datetime | None = None

    @property
    def name(self) -> str:
        return f"{self.type}/{self.id}"

    @property
    def criteria_at(self) -> str:
        """The expression of the criteria."""
        return self.at("request.ifNoneExist" if self.method == "POST" else "request.url")

    def at(self, part: str) -> str:
        """The expression of *part* of the entry (`request.url`, `resource`), or of the request outside of a bundle."""
        return place(self.position, part, self.type)


def place(position: int | None, part: str, type_: str = "Resource") -> str:
    if position is not None:
        return f"Bundle.entry[{position}].{part}"
    first, _, rest = part.partition(".")
    if first == "resource":
        return f"{type_}.{rest}" if rest else type_
    return f"http.{CONDITIONS.get(rest, rest)}"


def entry_of(entry: JSON, position: int, base_url: str) -> Step:
    """What one entry of a bundle asks for. Refusal 400 with the expression of what is wrong."""
    request = entry.get("request")
    if request is None:
        said = f"Bundle.entry[{position}] needs a request with method and url"
        raise refuse(400, "required", said, place(position, "request"))
    url = str(request.get("url", ""))
    path, _, query = url.removeprefix(base_url).lstrip("/").partition("?")
    pairs = [pair for pair in parameters(query, place(position, "request.url")) if pair[0] not in FORMATTING]
    conditions = {name: str(request[name]) for name in CONDITIONS if name in request}
    parts = [part for part in path.split("/") if part]
    return step(request.get("method", ""), parts, pairs, entry.get("resource"), conditions, position)


def step(
    method: str,
    path: Sequence[str],
    query: Query,
    carried: JSON | Patch | None,
    conditions: Mapping[str, str],
    position: int | None = None,
) -> Step:
    """The step of a request: *path* are the parts below the service's address, *carried* a valid resource or a patch,
    *conditions* the texts of `CONDITIONS` by their names in a bundle. Refusal 400 with the expression of what is wrong.
    """
    if method not in _ALLOWED:
        known = ", ".join(_ALLOWED)
        said = f"{str(method)[:16] or 'no method'} is not supported here; {known} are"
        raise refuse(400, "not-supported", said, place(position, "request.method"))
    for name in conditions.keys() - _ALLOWED[method]:
        said = f"{CONDITIONS[name] if position is None else name} has no meaning for {method}"
        raise refuse(400, "not-supported", said, place(position, f"request.{name}"))
    if method in LOOKS:
        return _look(Step(method, path[0] if path else "", position, path=tuple(path), query=tuple(query)), conditions)
    type_ = path[0] if path else ""
    if type_ not in SERVED:
        raise refuse(
            400, "not-supported", f"{type_[:64]!r} is no resource type served here", place(position, "request.url")
        )
    made = Step(method, type_, position)
    if "ifMatch" in conditions:
        made = _matched(made, conditions["ifMatch"])
    if "ifNoneMatch" in conditions:
        if conditions["ifNoneMatch"].strip() != "*":
            said = (
                "a write takes * here, for what does not exist yet; to change the version that you know, send If-Match"
            )
            raise refuse(400, "not-supported", said, made.at("request.ifNoneMatch"))
        made = replace(made, exists=False)
    return _carrying(_placed(made, path[1:], query, conditions), carried)


def _placed(made: Step, rest: Sequence[str], query: Query, conditions: Mapping[str, str]) -> Step:
    """The step with its id or its criteria."""
    if made.method == "POST":
        if rest or query:
            said = f"POST takes a type, not {'/'.join((made.type, *rest))[:200]!r}{' and parameters' if query else ''}"
            raise refuse(400, "value", said, made.at("request.url"))
        where = None
        if "ifNoneExist" in conditions:
            at = made.at("request.ifNoneExist")
            # Clients send it with and without what stands before the criteria in an address.
            criteria = conditions["ifNoneExist"].removeprefix(made.type).removeprefix("?")
            where = condition(made.type, parameters(criteria, at), at)
        return replace(made, id=new_id(), where=where)
    if len(rest) == 1 and not query and ID.fullmatch(rest[0]):
        return replace(made, id=rest[0])
    if not rest and query:
        return replace(made, where=condition(made.type, query, made.at("request.url")))
    said = f"{made.method} takes {made.type}/id, or {made.type}? and criteria that name one resource"
    raise refuse(400, "required" if not rest else "value", said, made.at("request.url"))


def _carrying(made: Step, carried: JSON | Patch | None) -> Step:
    if made.method == "DELETE":
        return made
    if made.method == "PATCH":
        if carried is None:
            raise refuse(400, "required", "PATCH needs a patch", made.at("resource"))
        patch = carried if isinstance(carried, Patch) else of_resource(carried, made.type, made.at("resource"))
        return replace(made, patch=patch)
    if not isinstance(carried, dict):
        raise refuse(400, "required", f"{made.method} needs a resource", made.at("resource"))
    found = carried.get("resourceType")
    if found != made.type:
        raise refuse(400, "invalid", f"the url says {made.type}, the resource is a {found}", made.at("request.url"))
    if made.method == "PUT" and made.id is not None and carried.get("id") != made.id:
        said = f"the resource must have the id of the address, {made.id}; it has {carried.get('id') or 'none'}"
        raise refuse(400, "invalid", said, made.at("resource.id"))
    return replace(made, resource=carried)


def _matched(made: Step, text: str) -> Step:
    if text.strip() == "*":
        return replace(made, exists=True)
    at = made.at("request.ifMatch")
    return replace(made, if_match=tuple(etag(one, at) for one in text.split(",")))


def _look(made: Step, conditions: Mapping[str, str]) -> Step:
    if not _answered(made):
        said = (
            "GET takes Type?search, ?search, Type/id, Type/id/_history/version, a history, or a search in a compartment"
            f" such as Patient/id/Type?search here, not {'/'.join(made.path)[:200]!r}"
        )
        raise refuse(400, "not-supported", said, made.at("request.url"))
    if "ifNoneMatch" in conditions:
        text = conditions["ifNoneMatch"].strip()
        known: int | Literal["*"] = "*" if text == "*" else etag(text, made.at("request.ifNoneMatch"))
        made = replace(made, known=known)
    if "ifModifiedSince" in conditions:
        made = replace(made, since=_instant(conditions["ifModifiedSince"], made.at("request.ifModifiedSince")))
    return made


def _answered(made: Step) -> bool:
    """Whether there is something at the address of a look."""
    match made.path:
        case []:
            return bool(made.query)
        case ["_history"]:
            return True
        case [type_] | [type_, "_history"]:
            return type_ in SERVED
        case [type_, id_] | [type_, id_, "_history"]:
            return type_ in SERVED and bool(ID.fullmatch(id_)) and (len(made.path) == 3 or not made.query)
        case [type_, id_, "_history", version]:
            known = type_ in SERVED and ID.fullmatch(id_) and _VERSION.fullmatch(version)
            return bool(known) and not made.query
        case [owner, id_, within]:
            return owner in OWNERS and (within in SERVED or within == "*") and bool(ID.fullmatch(id_))
    return False


def _instant(text: str, at: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise refuse(400, "value", f"{text[:40]!r} is no instant such as 2026-11-21T09:00:00Z", at)
    return found


def etag(text: str, expression: str | None = None) -> int:
    """The version in `W/"3"`. Refusal 400 for anything else."""
    match = _ETAG.match(text.strip())
    if match is None:
        raise refuse(400, "value", f'{text[:64]!r} is no version: expected the form W/"3"', expression)
    return int(match[1])


def condition(type_: str, query: Query, expression: str | None = None) -> Condition:
    """The criteria of a conditional write. Refusal 400 when empty or asking for results instead of a resource."""
    shaping = sorted(_SHAPING & {name for name, _ in query})
    if not query or shaping:
        why = f": {', '.join(shaping)} shapes an answer" if shaping else ""
        said = f"{urlencode(tuple(query))[:200]!r} does not say which {type_} is meant{why}"
        raise refuse(400, "value", said, expression)
    return Condition(type_, tuple(sorted(query)))


def condition_of(reference: str) -> Condition | None:
    """The criteria of a conditional reference; None for a reference of another kind."""
    type_, mark, query = reference.partition("?")
    return condition(type_, parameters(query, None)) if mark and type_ in SERVED else None


def parameters(query: str, expression: str | None) -> list[tuple[str, str]]:
    """The parameters of a query. Refusal 400 when it is not URL-encoded UTF-8, or holds NUL."""
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=500
        )
    except ValueError:
        pairs = None
    if pairs is None or any("\x00" in name or "\x00" in value for name, value in pairs):
        raise refuse(400, "value", f"{query[:200]!r} are no search parameters", expression)
    return pairs
