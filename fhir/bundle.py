"""Batch and transaction bundles: what each entry asks for, in which order, with references between entries resolved.

Pure: nothing is searched or written here. `plan` reads a bundle; whoever carries it out looks up `Plan.conditions` and
hands the answers to `Plan.bound`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fhir.outcome import Issue, Refusal, refuse
from fhir.store import ID, new_id
from fhir.types import SERVED

JSON = dict[str, Any]

# DELETE, POST, PUT, GET: the order that FHIR sets (http.html#trules), whatever order the entries have.
_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "GET": 3, "HEAD": 3}

_ETAG = re.compile(r'\A(?:W/)?"?([1-9][0-9]{0,8})"?\Z')
_REST_URL = re.compile(r"\A(?P<base>[a-z][a-z0-9+.\-]*://\S+)/[A-Z][A-Za-z]+/[A-Za-z0-9.\-]{1,64}\Z")
_VERSION = re.compile(r"/_history/[A-Za-z0-9.\-]{1,64}\Z")
_LINKS = frozenset({"reference", "uri", "url", "valueUri", "valueUrl", "valueUuid", "valueOid"})
_NARRATIVE_LINK = re.compile(r"""((?:href|src)\s*=\s*["'])([^"']+)""")


@dataclass(frozen=True, slots=True)
class Condition:
    """A search that must name one resource: of `ifNoneExist`, or of a reference such as `Patient?identifier=a|b`."""

    type: str
    query: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.type}?{urlencode(self.query)}"


@dataclass(frozen=True, slots=True)
class Step:
    """What one entry asks for. `position` is its place in the bundle; `id` is given to a POST.

    `query` are the parameters of a search; `unless` the criteria of a conditional create, and `existing` the id of the
    resource that met them, in which case nothing is written.
    """

    position: int
    method: str
    type: str
    id: str | None = None
    version: int | None = None
    resource: JSON | None = None
    query: tuple[tuple[str, str], ...] = ()
    if_match: int | None = None
    if_none_match: int | None = None
    unless: Condition | None = None
    existing: str | None = None

    @property
    def path(self) -> str:
        return f"Bundle.entry[{self.position}]"


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in the order in which they are carried out, and what the entries call one another.

    `names` are the `fullUrl`s by position, `bases` the servers that entries come from: `https://a.example/fhir` for
    `https://a.example/fhir/Patient/7`. Only there does `Patient/7` mean that entry; elsewhere it is the hub's own.
    """

    kind: str
    steps: tuple[Step, ...]
    names: Mapping[str, int] = field(default_factory=dict)
    bases: Mapping[int, str] = field(default_factory=dict)

    def conditions(self) -> list[Condition]:
        """Condition of conditional creates, each once, in one order for everybody who locks them."""
        return sorted({step.unless for step in self.steps if step.unless}, key=str)

    def sought(self) -> set[Condition]:
        """Condition that references name."""
        return {named for step in self.steps if step.resource for named in _sought(step)}

    def bound(self, found: Mapping[Condition, str | None]) -> "Plan":
        """References resolved: *found* holds the id that each criteria met, None for none (refused for a reference)."""
        steps = [replace(step, existing=found[step.unless]) if step.unless else step for step in self.steps]
        at = {step.position: f"{step.type}/{step.existing or step.id}" for step in steps}
        links = {name: at[position] for name, position in self.names.items()}

        def resolve(step: Step) -> Callable[[str, str], str]:
            base = self.bases.get(step.position)

            def link(key: str, text: str) -> str:
                named = condition_of(text) if key == "reference" else None
                if named is None:
                    plain = _VERSION.sub("", text)
                    return links.get(plain) or links.get(f"{base}/{plain}") or text
                if found.get(named) is None:
                    raise refuse(412, "not-found", f"nothing matches {named}", f"{step.path}.resource")
                return f"{named.type}/{found[named]}"

            return link

        return replace(
            self,
            steps=tuple(
                replace(step, resource=relinked(step.resource, resolve(step))) if step.resource else step
                for step in steps
            ),
        )


def plan(bundle: JSON, base_url: str) -> Plan:
    """The plan of a validated batch or transaction. Absolute URLs under *base_url* (ends in `/fhir`) are our own.

    Refusal 400 with an issue for every entry that cannot be understood. A batch is planned entry by entry instead, with
    `entry_of` and `alone`, so that one bad entry does not harm the others.
    """
    kind = bundle.get("type")
    if kind != "transaction":
        raise refuse(400, "invalid", f"expected a transaction, the bundle is a {kind}", "Bundle.type")
    steps: list[Step] = []
    issues: list[Issue] = []
    for position, entry in enumerate(bundle.get("entry", ())):
        try:
            steps.append(entry_of(entry, position, base_url))
        except Refusal as refusal:
            issues += refusal.issues
    issues += _written_twice(steps)
    if issues:
        raise Refusal(400, issues)
    names, bases = _names(bundle.get("entry", ()), steps)
    return Plan(kind, tuple(sorted(steps, key=order)), names, bases)


def order(step: Step) -> tuple[int, int]:
    """What steps are sorted by before they are carried out."""
    return _ORDER[step.method], step.position


def alone(step: Step, names: frozenset[str], own: str | None = None) -> Plan:
    """The plan of one batch entry. Refusal 400 when it refers to another: *names* are all `fullUrl`s, *own* its own."""
    if step.resource is not None:
        for text in _references(step.resource):
            if text in names and text != own:
                said = f"an entry of a batch cannot refer to another ({text}): send a transaction"
                raise refuse(400, "invalid", said, f"{step.path}.resource")
    return Plan("batch", (step,))


def entry_of(entry: JSON, position: int, base_url: str) -> Step:
    """What one entry asks for. Refusal 400 with the expression of what is wrong."""
    at = f"Bundle.entry[{position}]"
    request = entry.get("request")
    if request is None:
        raise refuse(400, "required", f"{at} needs a request with method and url", f"{at}.request")
    method = request.get("method", "")
    if method not in _ORDER:
        raise refuse(400, "not-supported", f"{method or 'no method'} is not supported here", f"{at}.request.method")
    url = str(request.get("url", "")).removeprefix(base_url).lstrip("/")
    path, _, query = url.partition("?")
    type_, *rest = path.split("/")
    if type_ not in SERVED:
        raise refuse(400, "not-supported", f"{type_[:64]!r} is no resource type served here", f"{at}.request.url")
    parameters = tuple(_parameters(query, f"{at}.request.url"))
    step = Step(position, method, type_, resource=entry.get("resource"), query=parameters)
    if method == "POST":
        return _create(step, rest, request, url)
    if method in ("GET", "HEAD"):
        return _look(step, rest, request, url)
    if len(rest) != 1 or parameters or not ID.fullmatch(rest[0]):
        said = f"{method} takes Type/id here, not {url[:200]!r}; conditional {method} is not supported"
        raise refuse(400, "not-supported" if parameters else "value", said, f"{at}.request.url")
    if_match = etag(request["ifMatch"], f"{at}.request.ifMatch") if "ifMatch" in request else None
    step = replace(step, id=rest[0], if_match=if_match)
    if method == "DELETE":
        return replace(step, resource=None)
    resource = _resource(step)
    if resource.get("id") != step.id:
        said = f"the resource must have the id of the url, {step.id}; it has {resource.get('id')}"
        raise refuse(400, "invalid", said, f"{at}.resource.id")
    return step


def _create(step: Step, rest: list[str], request: JSON, url: str) -> Step:
    if rest or step.query:
        raise refuse(400, "value", f"POST takes a type, not {url[:200]!r}", f"{step.path}.request.url")
    _resource(step)
    unless = None
    if "ifNoneExist" in request:
        unless = condition(step.type, str(request["ifNoneExist"]), f"{step.path}.request.ifNoneExist")
    return replace(step, id=new_id(), unless=unless)


def _look(step: Step, rest: list[str], request: JSON, url: str) -> Step:
    at = f"{step.path}.request"
    step = replace(step, resource=None)
    if "ifNoneMatch" in request:
        step = replace(step, if_none_match=etag(request["ifNoneMatch"], f"{at}.ifNoneMatch"))
    if not rest:
        return step
    if ID.fullmatch(rest[0]) and not step.query:
        if len(rest) == 1:
            return replace(step, id=rest[0])
        if len(rest) == 3 and rest[1] == "_history" and (version := re.fullmatch("[1-9][0-9]{0,8}", rest[2])):
            return replace(step, id=rest[0], version=int(version[0]))
    said = f"GET takes Type?search, Type/id or Type/id/_history/version here, not {url[:200]!r}"
    raise refuse(400, "not-supported", said, f"{at}.url")


def _resource(step: Step) -> JSON:
    if step.resource is None:
        raise refuse(400, "required", f"{step.method} needs a resource", f"{step.path}.resource")
    found = step.resource.get("resourceType")
    if found != step.type:
        said = f"the url says {step.type}, the resource is a {found}"
        raise refuse(400, "invalid", said, f"{step.path}.request.url")
    return step.resource


def etag(text: str, expression: str | None = None) -> int:
    """The version in `W/"3"`. Refusal 400 for anything else."""
    match = _ETAG.match(text.strip())
    if match is None:
        raise refuse(400, "value", f'{text[:64]!r} is no version: expected the form W/"3"', expression)
    return int(match[1])


def condition(type_: str, query: str, expression: str | None = None) -> Condition:
    """The criteria of a conditional create. Refusal 400 when empty or asking for results instead of a resource."""
    parameters = _parameters(query.rpartition("?")[2], expression)
    if not parameters or any(name in ("_count", "_sort", "_include", "_revinclude") for name, _ in parameters):
        raise refuse(400, "value", f"{query[:200]!r} does not say which {type_} is meant", expression)
    return Condition(type_, tuple(sorted(parameters)))


def condition_of(reference: str) -> Condition | None:
    """The criteria of a conditional reference; None for a reference of another kind."""
    type_, mark, query = reference.partition("?")
    return condition(type_, query) if mark and type_ in SERVED else None


def _parameters(query: str, expression: str | None) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        pairs = None
    if pairs is None or any("\x00" in name or "\x00" in value for name, value in pairs):
        raise refuse(400, "value", f"{query[:200]!r} are no search parameters", expression)
    return pairs


def _written_twice(steps: list[Step]) -> Iterator[Issue]:
    written: dict[str, Step] = {}
    for step in steps:
        if step.method not in ("PUT", "DELETE"):
            continue
        name = f"{step.type}/{step.id}"
        if name in written:
            first = written[name]
            said = f"{name} is written twice: {first.path} ({first.method}) and {step.path} ({step.method})"
            yield Issue("invalid", said, f"{step.path}.request.url")
        written[name] = step
    conditions: dict[Condition, Step] = {}
    for step in steps:
        if step.unless is None:
            continue
        if step.unless in conditions:
            said = f"{conditions[step.unless].path} and {step.path} create under the same condition {step.unless}"
            yield Issue("invalid", said, f"{step.path}.request.ifNoneExist")
        conditions[step.unless] = step


def _names(entries: list[JSON], steps: list[Step]) -> tuple[dict[str, int], dict[int, str]]:
    """The `fullUrl`s of entries that write, and the bases of those that are addresses. Refusal 400 for one twice."""
    names: dict[str, int] = {}
    bases: dict[int, str] = {}
    issues = []
    for step in steps:
        full_url = entries[step.position].get("fullUrl")
        if full_url is None or step.resource is None:
            continue
        if full_url in names:
            said = f"Bundle.entry[{names[full_url]}] and {step.path} have the same fullUrl"
            issues.append(Issue("invalid", said, f"{step.path}.fullUrl"))
        names[full_url] = step.position
        if match := _REST_URL.match(full_url):
            bases[step.position] = match["base"]
    if issues:
        raise Refusal(400, issues)
    return names, bases


def _sought(step: Step) -> Iterator[Condition]:
    for text in _references(step.resource):
        if "?" in text and (named := condition_of(text)):
            yield named


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "reference" and isinstance(value, str):
                yield value
            elif isinstance(value, dict | list):
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def relinked(node: JSON, link: Callable[[str, str], str]) -> JSON:
    """A copy of *node* in which *link*(key, text) has replaced references, uris, urls and the links of narrative.

    `Identifier.value` is text, not a link: a `urn:uuid:` there is somebody's identifier and stays.
    """
    changed: JSON = {}
    for key, value in node.items():
        if isinstance(value, str):
            if key in _LINKS:
                value = link(key, value)
            elif key == "div" and ("href" in value or "src" in value):
                value = _NARRATIVE_LINK.sub(lambda match: match[1] + link("href", match[2]), value)
        elif isinstance(value, dict):
            value = relinked(value, link)
        elif isinstance(value, list):
            value = [relinked(item, link) if isinstance(item, dict) else item for item in value]
        changed[key] = value
    return changed
