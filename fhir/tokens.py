"""Conditions on tokens: codes looked up by key, by text, by value set and by hierarchy."""

from collections.abc import Sequence

from fhir.bodies import json_paths, some
from fhir.codes import CodeSets
from fhir.conditions import any_of, has_key, has_key_from, none_of
from fhir.index import key, normalised, normalised_sql
from fhir.registry import ResourceSpec, SearchParam
from fhir.store import Sql
from fhir.wire import encode
from fhir.written import Asked, bad, bar_split, split, unescaped

# Where HL7 keeps the systems of elements of type `code`: `status=http://hl7.org/fhir/observation-status|final`.
_HL7 = ("http://hl7.org/fhir/", "http://terminology.hl7.org/CodeSystem/", "http://unitsofmeasure.org")
_TRUTH = "http://terminology.hl7.org/CodeSystem/special-values"


def token(
    spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, values: Sequence[str], sets: CodeSets
) -> Sql:
    """The condition of *asked*, whatever its modifier. Refusal 400 for a value that says nothing to look for."""
    modifier = asked.modifier
    if modifier in ("in", "not-in"):
        codes = [one for value in values for one in sets.value_set(spec.type, asked.written, unescaped(value))]
        found = has_key(alias, [_key(param, name, *one) for one in codes for name in param.stored])
        return none_of(found) if modifier == "not-in" else found
    if any(not unescaped(one).strip(" |") for one in values):
        raise bad(spec.type, asked.written, f"'{asked.written}={asked.value[:100]}' says nothing to look for")
    if modifier in ("above", "below"):
        codes = [one for value in values for one in sets.hierarchy(spec.type, asked.written, modifier, value)]
        return has_key(alias, [_key(param, name, *one) for one in codes for name in param.stored])
    if modifier == "text":
        return any_of([_text(spec, alias, param, unescaped(value)) for value in values])
    if modifier == "of-type":
        return has_key(alias, [_of_type(spec, asked, name, value) for value in values for name in param.stored])
    found = _plain(alias, param, values)
    return none_of(found) if modifier == "not" else found


def _plain(alias: str, param: SearchParam, values: Sequence[str]) -> Sql:
    exact: list[str] = []
    scanned: list[str] = []
    for value in values:
        system, bar, code = bar_split(value)
        for name in param.stored:
            if not bar:
                exact.append(key(name, system))
            elif code:
                exact.append(_key(param, name, system, code))
            elif name == "identifier":
                exact.append(key(name, f"{system}|"))
            else:
                scanned.append(key(name, f"{system}|"))
    parts = [has_key(alias, exact)] if exact else []
    parts += [has_key_from(alias, [prefix]) for prefix in scanned]
    if ".exists() and " in param.expression and any(value.rpartition("|")[2] == "false" for value in values):
        parts.append(none_of(has_key(alias, [key(param.code, "true")])))
    return any_of(parts)


def _key(param: SearchParam, name: str, system: str, code: str) -> str:
    implied = param.bare and (not system or system.startswith(_HL7))
    implied |= code in ("true", "false") and system in ("", _TRUTH)
    return key(name, code if implied else f"{system}|{code}")


def _of_type(spec: ResourceSpec, asked: Asked, name: str, value: str) -> str:
    parts = split(value, "|")
    if len(parts) != 3 or not all(parts):
        said = f"'{value[:80]}' must be written system of the type|code of the type|identifier"
        raise bad(spec.type, asked.written, said)
    return key(f"{name}:of-type", "|".join(map(unescaped, parts)))


def _text(spec: ResourceSpec, alias: str, param: SearchParam, value: str) -> Sql:
    """Whether *value* begins a word of what the code says to people."""
    words = normalised_sql("w #>> '{}'")
    test = (
        "EXISTS (SELECT 1 FROM unnest(ARRAY['$.text', '$.coding[*].display', '$.display', '$.type.text']::jsonpath[])"
        f" AS t CROSS JOIN LATERAL jsonb_path_query(q, t) AS w WHERE strpos(' ' || {words}, ' ' || %s) > 0)"
    )
    return some(spec, alias, json_paths(param), Sql(test, (normalised(value),)))


def written_in(param: SearchParam, value: str) -> Sql:
    """Whether the jsonb `q` is the token that *value* says: for parts of composites, which no key holds together."""
    system, bar, code = bar_split(value)
    system, code = (system, code) if bar else ("", system)
    implied = param.bare and (not system or system.startswith(_HL7))
    tests = ["@.{0} == $code"] if code else ["exists(@.{0})"]
    if bar and not implied:
        tests.append("@.system == $system" if system else "!exists(@.system)")
    concept = " && ".join(tests)
    plain = " || @ == $code" if code and (not system or implied) else ""
    said = {"true": " || @ == true", "false": " || @ == false"}.get(code, "")
    path = (
        f"$ ? (exists(@.coding[*] ? ({concept.format('code')})) || ({concept.format('code')})"
        f" || ({concept.format('value')}){plain}{said})"
    )
    variables = encode({"code": code, "system": system}).decode()
    return Sql("jsonb_path_exists(q, %s::jsonpath, %s::jsonb)", (path, variables))
