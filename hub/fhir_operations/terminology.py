"""`$expand`, `$validate-code`, `$lookup` and `$subsumes`: over what is stored, bound by R4, and measured here."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import uuid4

from starlette.responses import Response

from fhir import parameters, store
from fhir.codes import stored_sets
from fhir.outcome import refuse
from fhir.parameters import Input, Inputs, part
from fhir.store import instant, permitted
from fhir.terminology import MOST_CODES, Concept, Terms, Verdict, judged, subsumed
from hub import audit
from hub.access import visible
from hub.fhir_http import answer
from hub.fhir_operations.inputs import inputs
from hub.interactions import Call
from monitoring.measures import LOCAL, LOINC, MEASURES

JSON = dict[str, Any]

_EXPAND = {
    "url": Input("uri"), "valueSet": Input("Resource"), "valueSetVersion": Input("string"), "filter": Input("string"),
    "offset": Input("unsignedInt"), "count": Input("unsignedInt"), "includeDesignations": Input("boolean"),
    "activeOnly": Input("boolean"), "excludeNested": Input("boolean"), "displayLanguage": Input("code"),
}  # fmt: skip
_CODE = {
    "code": Input("code"), "system": Input("uri"), "display": Input("string"), "coding": Input("Coding"),
    "codeableConcept": Input("CodeableConcept"),
}  # fmt: skip
_IN_SET = {**_CODE, "url": Input("uri"), "valueSet": Input("Resource"), "valueSetVersion": Input("string")}
_IN_SYSTEM = {**_CODE, "url": Input("uri"), "codeSystem": Input("Resource"), "version": Input("string")}
_LOOKUP = {
    "code": Input("code"), "system": Input("uri"), "version": Input("string"), "coding": Input("Coding"),
    "property": Input("code", many=True), "displayLanguage": Input("code"),
}  # fmt: skip
_SUBSUMES = {
    "codeA": Input("code"), "codeB": Input("code"), "system": Input("uri"), "version": Input("string"),
    "codingA": Input("Coding"), "codingB": Input("Coding"),
}  # fmt: skip


async def expand(call: Call) -> Response:
    """The codes of a ValueSet, as a ValueSet with its expansion."""
    given = inputs(call, _EXPAND)
    terms, value_set = await _value_set(call, given)
    found = await asyncio.to_thread(terms.codes, value_set)
    codes = [_in_language(one, given.text("displayLanguage")) for one in found]
    if given.one("activeOnly"):
        codes = [one for one in codes if not one.inactive]
    words = (given.text("filter") or "").casefold().split()
    codes = [one for one in codes if all(word in f"{one.code} {one.display or ''}".casefold() for word in words)]
    start, count = given.one("offset") or 0, given.one("count")
    if count is None and len(codes) > MOST_CODES:
        raise refuse(422, "too-costly", f"it has {len(codes):,} codes: ask for pages with count and offset", "count")
    shown = codes[start : start + min(MOST_CODES, MOST_CODES if count is None else count)]
    said = [
        {"name": name, f"value{kind}": given.one(name)}
        for name, kind in (("filter", "String"), ("activeOnly", "Boolean"), ("displayLanguage", "Code"))
        if name in given
    ]
    expansion: JSON = {
        "identifier": f"urn:uuid:{uuid4()}",
        "timestamp": instant(datetime.now(UTC)),
        "total": len(codes),
        "offset": start,
        **({"parameter": said} if said else {}),
        **({"contains": [one.contains(bool(given.one("includeDesignations"))) for one in shown]} if shown else {}),
    }
    kept = {name: value for name, value in value_set.items() if name not in ("compose", "expansion", "text")}
    return answer(200, {**kept, "expansion": expansion})


async def validate_in_set(call: Call) -> Response:
    """Whether a code is in a ValueSet."""
    given = inputs(call, _IN_SET)
    terms, value_set = await _value_set(call, given)
    codes = await asyncio.to_thread(terms.codes, value_set)
    where = f"the value set {value_set.get('url', 'given')}"
    return _judged(given, lambda system, code, display: judged(codes, system, code, display, where))


async def validate_in_system(call: Call) -> Response:
    """Whether a code is one of a CodeSystem."""
    given = inputs(call, _IN_SYSTEM)
    terms, url = await _system(call, given, given.text("url") or _coding(given).get("system"))
    codes = terms.concepts(url).values()
    return _judged(given, lambda _, code, display: judged(codes, None, code, display, url))


async def lookup(call: Call) -> Response:
    """What a code means: name of its system, display, designations, properties."""
    given = inputs(call, _LOOKUP)
    coding = _coding(given)
    terms, url = await _system(call, given, coding.get("system"))
    code = coding.get("code")
    if code is None:
        raise refuse(400, "required", "the parameter code or coding is required", "code")
    concept = terms.concepts(url).get(code)
    system = terms.system(url) or {}
    if concept is None:
        partly = ", of which the hub knows a part only" if system.get("content") != "complete" else ""
        raise refuse(404, "not-found", f"'{code[:80]}' is no code of {url}{partly}", "code")
    concept = _in_language(concept, given.text("displayLanguage"))
    parts = [part("name", "string", system.get("name") or system.get("title") or url)]
    parts += [part("version", "string", concept.version)] if concept.version else []
    parts.append(part("display", "string", concept.display or concept.code))
    parts += [
        _parts("designation", one, {"language": "Code", "use": "Coding", "value": "String"})
        for one in concept.designations
    ]
    parts += _properties(concept, set(given.every("property")))
    return answer(200, parameters.answer(parts))


async def subsumes(call: Call) -> Response:
    """How two codes of one CodeSystem stand to each other."""
    given = inputs(call, _SUBSUMES)
    one, other = (given.one(f"coding{which}") or {} for which in "AB")
    terms, url = await _system(call, given, given.text("system") or one.get("system"))
    codes = [given.text(f"code{which}") or coding.get("code") for which, coding in (("A", one), ("B", other))]
    concepts = terms.concepts(url)
    for name, code in zip(("codeA", "codeB"), codes, strict=True):
        if code is None or code not in concepts:
            raise refuse(404 if code else 400, "not-found", f"{name} must be a code of {url}", name)
    return answer(200, parameters.answer([part("outcome", "code", subsumed(concepts, str(codes[0]), str(codes[1])))]))


async def _value_set(call: Call, given: Inputs) -> tuple[Terms, JSON]:
    """The ValueSet that is asked about, and all that it needs."""
    posted = given.one("valueSet")
    if posted is not None and posted.get("resourceType") != "ValueSet":
        raise refuse(400, "value", "valueSet must be a ValueSet", "valueSet")
    version = given.text("valueSetVersion")
    url = given.text("url")
    id_ = _own_id(call)
    named = f"ValueSet/{id_}" if id_ is not None else f"{url}|{version}" if url and version else url
    if (named is None) is (posted is None):
        raise refuse(400, "required", "name one ValueSet: by its id in the address, by url, or as valueSet", "url")
    shown = visible(call.actor)
    async with call.runtime.database.transaction() as tx:
        permitted("ValueSet", "r", shown)
        urls, systems = _needs(posted) if posted is not None else ({str(named)}, set[str]())
        if id_ is not None:
            await store.read(tx.pg, "ValueSet", id_, shown)
        sets = await stored_sets(tx.pg, urls, systems, shown)
    await call.runtime.reads.record(
        audit.entry(call.actor, "terminology", "ValueSet", call.id if len(call.path) > 2 else None)
    )
    terms = Terms(sets.value_sets, sets.systems, own_systems())
    return terms, posted if posted is not None else terms.value_set(str(named))


def _own_id(call: Call) -> str | None:
    """The id of the resource that is asked about, when the operation is asked for at one."""
    return call.id if len(call.path) > 2 else None


def _needs(value_set: JSON) -> tuple[set[str], set[str]]:
    """The value sets and code systems that one which was posted is made of."""
    compose = value_set.get("compose", {})
    parts = [*compose.get("include", ()), *compose.get("exclude", ())]
    return {url for one in parts for url in one.get("valueSet", ())}, {
        one["system"] for one in parts if "system" in one
    }


async def _system(call: Call, given: Inputs, url: str | None) -> tuple[Terms, str]:
    shown = visible(call.actor)
    posted = given.one("codeSystem") if "codeSystem" in given else None
    id_ = _own_id(call)
    async with call.runtime.database.transaction() as tx:
        permitted("CodeSystem", "r", shown)
        if id_ is not None:
            posted = (await store.read(tx.pg, "CodeSystem", id_, shown)).resource
        if posted is not None:
            url = posted.get("url") or f"CodeSystem/{posted.get('id', 'given')}"
            posted = {**posted, "url": url}
        if url is None:
            raise refuse(
                400, "required", "name the CodeSystem: by system, url, coding, or its id in the address", "system"
            )
        sets = await stored_sets(tx.pg, set(), {url}, shown)
    await call.runtime.reads.record(audit.entry(call.actor, "terminology", "CodeSystem", id_))
    terms = Terms(sets.value_sets, {**sets.systems, url: posted} if posted else sets.systems, own_systems())
    found = terms.system(url)
    version = given.text("version")
    if version is not None and found is not None and found.get("version") != version:
        raise refuse(404, "not-found", f"version {version[:40]} of {url} is not here", "version")
    return terms, url


def _coding(given: Inputs) -> JSON:
    coding: JSON = given.one("coding") or {}
    return {
        "system": given.text("system") or coding.get("system"),
        "code": given.text("code") or coding.get("code"),
        "display": given.text("display") if "display" in given else coding.get("display"),
    }


def _judged(given: Inputs, judge: Any) -> Response:
    """The verdict on a code, a coding, or any coding of a concept."""
    concept = given.one("codeableConcept")
    codings: list[JSON] = concept.get("coding", []) if concept is not None else [_coding(given)]
    if not codings or any(one.get("code") is None for one in codings):
        raise refuse(
            400, "required", "the parameter code, coding or codeableConcept with its codes is required", "code"
        )
    verdicts: list[Verdict] = [judge(one.get("system"), one["code"], one.get("display")) for one in codings]
    verdict = next((one for one in verdicts if one.result), verdicts[0])
    parts = [part("result", "boolean", verdict.result)]
    parts += [part("message", "string", verdict.message)] if verdict.message else []
    if verdict.concept is not None and verdict.concept.display:
        parts.append(part("display", "string", verdict.concept.display))
    return answer(200, parameters.answer(parts))


def _in_language(concept: Concept, language: str | None) -> Concept:
    """With the name in that language, where there is one."""
    named = (one.get("value") for one in concept.designations if language and one.get("language") == language)
    name = next(named, None)
    return replace(concept, display=name) if name else concept


def _parts(name: str, holder: JSON, kinds: dict[str, str]) -> JSON:
    return {
        "name": name,
        "part": [{"name": key, f"value{kind}": holder[key]} for key, kind in kinds.items() if key in holder],
    }


def _properties(concept: Concept, wanted: set[str]) -> list[JSON]:
    found = [(one["code"], one) for one in concept.properties]
    found += [("parent", {"valueCode": code}) for code in concept.parents]
    found += [("definition", {"valueString": concept.definition})] if concept.definition else []
    shown = [(code, one) for code, one in found if not wanted or code in wanted]
    seen: list[JSON] = []
    for code, one in shown:
        value = {name: value for name, value in one.items() if name.startswith("value")}
        made = {"name": "property", "part": [part("code", "code", code), {"name": "value", **value}]}
        if made not in seen:
            seen.append(made)
    return seen


@cache
def own_systems() -> dict[str, JSON]:
    """What the hub knows of LOINC, and of its own measures: the codes it evaluates readings of."""
    concepts: dict[str, dict[str, str]] = {LOINC: {}, LOCAL: {}}
    for measure in MEASURES.values():
        for system, code in measure.codes:
            if system in concepts:
                concepts[system].setdefault(code, measure.name)
    return {
        url: {
            "resourceType": "CodeSystem", "url": url, "name": name, "status": "active", "content": "fragment",
            "concept": [{"code": code, "display": display} for code, display in found.items()],
        }
        for (url, found), name in zip(concepts.items(), ("LOINC", "CareHubMeasure"), strict=True)
    }  # fmt: skip
