"""What a FHIR search asks for, as one SQL condition on a search table.

Tokens, references and uris are looked up in `keys`, strings in `strings`, dates in their range columns, by an index.
A chain (`subject:Patient.name=`) becomes an array of the references that its inner search finds, a `_has` the set of
ids that are referred to, so both are evaluated once, never per row. Every table that is touched carries the actor's own
condition: nobody learns through a chain what they could not read.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

from fhir import quantities
from fhir.conditions import (
    ALWAYS,
    NEVER,
    all_of,
    any_of,
    any_start,
    contains,
    dated,
    has_key,
    has_key_from,
    none_of,
    term,
    updated,
)
from fhir.index import instants, key, lexeme, normalised
from fhir.outcome import Refusal, refuse
from fhir.registry import ONLY_PATIENT, SPECS, ResourceSpec, SearchParam
from fhir.store import ID, Sql, Visible
from fhir.tables import date_column

MODIFIERS = {
    "token": ("missing", "not"),
    "reference": ("missing", "identifier"),
    "string": ("missing", "exact", "contains"),
    "date": ("missing",),
    "uri": ("missing",),
    "number": ("missing",),
    "quantity": ("missing",),
}
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
# How many links a chain may have, and how many values one parameter: beyond it a search only costs.
LONGEST_CHAIN = 4
MOST_VALUES = 2_000

# Where HL7 keeps the systems of elements of type `code`: `status=http://hl7.org/fhir/observation-status|final`.
_HL7 = "http://hl7.org/fhir/"

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Asked:
    """One condition of a search as it was written, taken apart: `name:modifier.chain=value`."""

    name: str
    modifier: str | None
    chain: str | None
    value: str
    written: str

    @classmethod
    def of(cls, written: str, value: str) -> "Asked":
        head, dot, chain = written.partition(".")
        name, colon, modifier = head.partition(":")
        return cls(name, modifier if colon else None, chain if dot else None, value, written)


class Criteria:
    """Turns conditions on a type into SQL for one actor. *base_url* makes absolute references to this hub relative."""

    def __init__(self, visible: Visible, base_url: str = "", now: datetime | None = None) -> None:
        self.visible = visible
        self.base_url = base_url.rstrip("/") + "/" if base_url else ""
        self.now = now or datetime.now(UTC)
        # Whether some condition leaves so little that PostgreSQL should begin with it, whatever the order asked for.
        self.selective = False
        # Whether the rows are those of one person, which an index has in the order of dates.
        self.one_person = False
        self._numbers = count(1)

    def where(self, spec: ResourceSpec, alias: str, query: Iterable[tuple[str, str]], depth: int = 0) -> Sql:
        """All of *query* at once. Refusal 400 naming the first thing that is not understood."""
        return all_of([self.condition(spec, alias, name, value, depth) for name, value in query])

    def condition(self, spec: ResourceSpec, alias: str, written: str, value: str, depth: int = 0) -> Sql:
        if "\x00" in value:
            raise _bad(spec, written, f"the value of '{written}' holds a NUL character")
        if value == "":
            raise _bad(spec, written, f"'{written}' has no value: an empty condition would match everything")
        if depth > LONGEST_CHAIN:
            raise _bad(spec, written, f"'{written}' goes through more than {LONGEST_CHAIN} references")
        self.selective |= depth == 0 and is_selective(spec, written)
        if written.startswith("_has:"):
            return self._has(spec, alias, written, value, depth)
        asked = Asked.of(written, value)
        param = parameter(spec, asked.name)
        if asked.chain is not None:
            return self._chain(spec, alias, param, asked, depth)
        if asked.modifier == "missing":
            return self._missing(spec, alias, param, asked)
        values = split(value)
        if len(values) > MOST_VALUES:
            raise _bad(spec, written, f"'{written}' has more than {MOST_VALUES} values")
        if "" in values:
            raise _bad(spec, written, f"'{written}={value[:100]}' has an empty value between its commas")
        if param.type == "reference":
            return self._reference(spec, alias, param, asked, values)
        if asked.modifier and asked.modifier not in MODIFIERS[param.type]:
            raise _modifier(spec, param, asked)
        if param.code == "_id":
            return self._id(spec, alias, asked, values)
        if param.type in ("number", "quantity"):
            return _quantity(spec, alias, param, asked, values)
        if param.type == "date":
            return any_of([self._date(spec, alias, param, asked, one) for one in values])
        if param.type in ("string", "token") and any(not unescaped(one).strip(" |") for one in values):
            raise _bad(spec, written, f"'{written}={value[:100]}' says nothing to look for")
        if param.type == "string":
            return self._string(alias, param, asked.modifier, values)
        if param.type == "uri":
            return has_key(alias, [key(name, unescaped(one)) for one in values for name in param.stored])
        return self._token(alias, param, asked, values)

    def _id(self, spec: ResourceSpec, alias: str, asked: Asked, values: Sequence[str]) -> Sql:
        for value in values:
            if not ID.fullmatch(value):
                raise _bad(spec, asked.written, f"'{value[:80]}' is no id")
        found = Sql(f"{alias}.id = ANY(%s::text[])", (list(values),))
        return none_of(found) if asked.modifier == "not" else found

    def _token(self, alias: str, param: SearchParam, asked: Asked, values: Sequence[str]) -> Sql:
        exact: list[str] = []
        scanned: list[str] = []
        for value in values:
            system, bar, code = bar_split(value)
            for name in param.stored:
                if not bar:
                    exact.append(key(name, system))
                elif code:
                    implied = param.bare and (not system or system.startswith(_HL7))
                    exact.append(key(name, code if implied else f"{system}|{code}"))
                elif name == "identifier":
                    exact.append(key(name, f"{system}|"))
                else:
                    scanned.append(key(name, f"{system}|"))
        parts = [has_key(alias, exact)] if exact else []
        parts += [has_key_from(alias, [prefix]) for prefix in scanned]
        if ".exists() and " in param.expression and "false" in values:
            parts.append(none_of(has_key(alias, [key(param.code, "true")])))
        found = any_of(parts)
        return none_of(found) if asked.modifier == "not" else found

    def _string(self, alias: str, param: SearchParam, modifier: str | None, values: Sequence[str]) -> Sql:
        if modifier == "contains":
            return any_of([contains(alias, name, unescaped(value)) for value in values for name in param.stored])
        terms = []
        for value in map(unescaped, values):
            for name in param.stored:
                if modifier == "exact":
                    terms.append(term(lexeme(f"{name}:exact", value)))
                else:
                    terms.append(term(lexeme(name, normalised(value))) + ":*")
        return Sql(f"{alias}.strings @@ %s::tsquery", (" | ".join(terms),))

    def _reference(
        self, spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, values: Sequence[str]
    ) -> Sql:
        modifier = asked.modifier
        if modifier == "identifier":
            return has_key(alias, [key(f"{n}:identifier", _token_text(v)) for v in values for n in param.stored])
        targets = self._targets(spec, param, asked) if modifier else sorted(param.targets) or sorted(SPECS)
        wanted: list[str] = []
        for value in map(unescaped, values):
            wanted += self._references(spec, param, asked, value, targets)
        patients = [reference.removeprefix("Patient/") for reference in wanted]
        if about_patient(spec, param) and all(f"Patient/{id_}" in wanted and ID.fullmatch(id_) for id_ in patients):
            # The same rows as by the key, through an index that is smaller and in the order of dates.
            if len(patients) == 1:
                self.one_person |= alias == "r"
                return Sql(f"{alias}.patient_id = %s", (patients[0],))
            return Sql(f"{alias}.patient_id = ANY(%s::text[])", (patients,)) if patients else NEVER
        return has_key(alias, [key(name, reference) for reference in wanted for name in param.stored])

    def _references(
        self, spec: ResourceSpec, param: SearchParam, asked: Asked, value: str, targets: Sequence[str]
    ) -> list[str]:
        """The references that *value* stands for: `1` may be of any type that the parameter allows."""
        if self.base_url and value.startswith(self.base_url):
            value = value[len(self.base_url) :]
        value = value.split("/_history/", 1)[0]
        if "/" not in value and ":" not in value:
            if not ID.fullmatch(value):
                raise _bad(spec, asked.written, f"'{value[:80]}' is neither an id nor a reference such as Patient/1")
            return [f"{target}/{value}" for target in targets]
        type_ = value.split("/", 1)[0]
        if type_ in SPECS and type_ not in targets and (asked.modifier or param.stored != (param.code,)):
            return []
        return [value]

    def _targets(self, spec: ResourceSpec, param: SearchParam, asked: Asked) -> list[str]:
        """The types a chain or a bare id may lead to; only the one that `:Type` names when there is one."""
        possible = sorted(param.targets & SPECS.keys()) if param.targets else sorted(SPECS)
        if asked.modifier is None:
            return possible
        if asked.modifier not in possible:
            if asked.modifier in SPECS:
                raise _bad(
                    spec, asked.written, f"'{param.code}' refers to {_listed(possible)}, never to {asked.modifier}"
                )
            raise _modifier(spec, param, asked)
        return [asked.modifier]

    def _date(self, spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, value: str) -> Sql:
        prefix, text = (value[:2], value[2:]) if value[:2] in PREFIXES else ("eq", value)
        try:
            low, high = instants(text)
            if prefix == "ap":
                # Approximately: within a tenth of how long ago it is, as FHIR proposes.
                margin = abs(self.now - low) / 10
                low, high = low - margin, high + margin if high else None
        except (ValueError, OverflowError):
            raise _bad(
                spec,
                asked.written,
                f"'{value[:40]}' is no date: say 2026, 2026-11, 2026-11-21 or 2026-11-21T09:00:00Z,"
                f" after one of {_listed(PREFIXES)} or nothing",
            ) from None
        if param.code == "_lastUpdated":
            return updated(alias, prefix, low, high)
        return dated(f"{alias}.{date_column(param.code)}", prefix, low, high)

    def _missing(self, spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked) -> Sql:
        if asked.value not in ("true", "false"):
            raise _bad(spec, asked.written, f"'{asked.written}' is true or false, not '{asked.value[:40]}'")
        if param.code in ("_id", "_lastUpdated"):
            return NEVER if asked.value == "true" else ALWAYS
        if param.type in ("number", "quantity"):
            present = quantities.present(spec, alias, param)
        elif param.type == "date":
            present = Sql(f"{alias}.{date_column(param.code)} IS NOT NULL")
        elif param.type == "string":
            terms = " | ".join(term(f"{name}=") + ":*" for name in param.stored)
            present = Sql(f"coalesce({alias}.strings @@ %s::tsquery, FALSE)", (terms,))
        else:
            kept = [f"{name}=" for name in param.stored]
            if ONLY_PATIENT in param.expression and param.stored != (param.code,):
                kept = [f"{name}Patient/" for name in kept]
            elif param.type == "reference":
                kept += [f"{name}:identifier=" for name in param.stored]
            present = has_key_from(alias, kept)
        return none_of(present) if asked.value == "true" else present

    def _chain(self, spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, depth: int) -> Sql:
        if param.type != "reference":
            raise _bad(
                spec, asked.written, f"'{param.code}' of {spec.type} is a {param.type}: only references can be chained"
            )
        assert asked.chain is not None
        if not param.targets and asked.modifier is None:
            said = f"'{param.code}' may refer to anything: name the type, as in {param.code}:Patient.{asked.chain[:40]}"
            raise _bad(spec, asked.written, said)
        following = asked.chain.split(".")[0].split(":")[0]
        found: list[Sql] = []
        understood = False
        for target in self._targets(spec, param, asked):
            inner = SPECS[target]
            if following not in inner.params and not following.startswith("_has"):
                continue
            understood = True
            condition = self._inner(inner, [(asked.chain, asked.value)], depth)
            if condition is None:
                continue
            name, where = condition
            if target == "Patient" and about_patient(spec, param):
                ids = f"SELECT {name}.id FROM r_patient {name} WHERE {where.text}"
                found.append(Sql(f"{alias}.patient_id = ANY(ARRAY({ids}))", where.params))
                continue
            for stored in param.stored:
                references = f"SELECT %s || {name}.id FROM r_{target.lower()} {name} WHERE {where.text}"
                prefix = f"{stored}={target}/"
                found.append(Sql(f"{alias}.keys && ARRAY({references})", (prefix, *where.params)))
        if not understood:
            targets = self._targets(spec, param, asked)
            raise _bad(spec, asked.written, f"'{following}' is no search parameter of {_listed(targets[:12])}")
        return any_of(found)

    def _has(self, spec: ResourceSpec, alias: str, written: str, value: str, depth: int) -> Sql:
        parts = written.split(":", 3)
        if len(parts) != 4 or parts[1] not in SPECS:
            raise _bad(
                spec,
                written,
                f"'{written}' must be written _has:Type:reference:parameter, such as _has:Observation:patient:code",
            )
        _, type_, reference, rest = parts
        inner = SPECS[type_]
        param = parameter(inner, reference)
        if param.type != "reference" or (param.targets and spec.type not in param.targets):
            raise _bad(spec, written, f"'{reference}' of {type_} does not refer to {spec.type}")
        condition = self._inner(inner, [(rest, value)], depth)
        if condition is None:
            return NEVER
        name, where = condition
        if spec.type == "Patient" and about_patient(inner, param):
            ids = f"SELECT DISTINCT {name}.patient_id FROM r_{type_.lower()} {name} WHERE {where.text}"
            return Sql(f"{alias}.id = ANY(ARRAY({ids}))", where.params)
        prefixes = [f"{stored}={spec.type}/" for stored in param.stored]
        key_ = f"key{next(self._numbers)}"
        ids = (
            f"SELECT DISTINCT split_part({key_}, '/', 2) FROM r_{type_.lower()} {name}, unnest({name}.keys) AS {key_}"
            f" WHERE {any_start(key_, prefixes)} AND {where.text}"
        )
        return Sql(f"{alias}.id = ANY(ARRAY({ids}))", (*prefixes, *where.params))

    def _inner(self, spec: ResourceSpec, query: Sequence[tuple[str, str]], depth: int) -> tuple[str, Sql] | None:
        """Alias and condition of a search inside the search; None when the actor may see nothing of the type."""
        alias = f"t{next(self._numbers)}"
        limit = self.visible(spec.type, alias)
        where = self.where(spec, alias, query, depth + 1)
        return None if limit is None else (alias, all_of([Sql(*limit), where]))


def parameter(spec: ResourceSpec, code: str) -> SearchParam:
    """The search parameter *code*. Refusal 400 with the list of those there are."""
    param = spec.params.get(code)
    if param is not None:
        return param
    if code in spec.refused:
        raise _bad(
            spec,
            code,
            f"'{code}' is a {spec.refused[code]} parameter, which the hub cannot search by yet;"
            f" {spec.type} can be searched by {_listed(spec.params)}",
        )
    raise _bad(spec, code, f"'{code[:80]}' is no search parameter of {spec.type}; there are {_listed(spec.params)}")


def is_selective(spec: ResourceSpec, written: str) -> bool:
    """References, chains, names and identifiers find few rows of many; a code, a status or a date may find half."""
    name, _, modifier = written.partition(".")[0].partition(":")
    if written.startswith("_has:") or name in ("_id", "identifier"):
        return True
    param = spec.params.get(name)
    return param is not None and param.type in ("reference", "string") and modifier not in ("missing", "contains")


def about_patient(spec: ResourceSpec, param: SearchParam) -> bool:
    """Whether a reference to a Patient that *param* finds is what `patient_id` holds, and the other way round."""
    return spec.one_patient and param.expression.removesuffix(ONLY_PATIENT) == spec.patient_paths[0]


def split(value: str) -> list[str]:
    r"""The values between the commas, still escaped: `a\,b,c` -> `["a\\,b", "c"]`."""
    if "," not in value:
        return [value]
    values, start, escaped = [], 0, False
    for position, character in enumerate(value):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ",":
            values.append(value[start:position])
            start = position + 1
    return [*values, value[start:]]


def unescaped(value: str) -> str:
    r"""`a\,b\|c\$d\\e` -> `a,b|c$d\e`."""
    return _ESCAPE.sub(r"\1", value) if "\\" in value else value


def bar_split(value: str) -> tuple[str, bool, str]:
    """`system|code` as system, whether there was a bar, and code; a value without one comes first, alone."""
    match = re.match(r"((?:[^|\\]|\\.)*)(\|?)(.*)", value, re.DOTALL)
    assert match is not None
    return unescaped(match[1]), bool(match[2]), unescaped(match[3])


def _token_text(value: str) -> str:
    system, bar, code = bar_split(value)
    return f"{system}|{code}" if bar else system


def _quantity(spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, values: Sequence[str]) -> Sql:
    """`5.4`, `gt5.4|http://unitsofmeasure.org|mmol/L`, `5.4||mmol/L`; a number has no unit."""
    parts = []
    for value in values:
        number, _, unit = bar_split(value)
        system, _, code = bar_split(unit)
        if unit and (param.type == "number" or not code):
            said = (
                "write 5.4, 5.4||mmol/L or 5.4|http://unitsofmeasure.org|mmol/L"
                if param.type != "number"
                else "no unit"
            )
            raise _bad(spec, asked.written, f"'{value[:80]}' is not understood: {said}")
        parts.append((number, system, code))
    try:
        return quantities.compared(spec, alias, param, parts)
    except ValueError as error:
        raise _bad(spec, asked.written, str(error)) from None


def _modifier(spec: ResourceSpec, param: SearchParam, asked: Asked) -> Refusal:
    allowed = [f":{name}" for name in MODIFIERS[param.type]]
    if param.type == "reference":
        allowed += [f":{target}" for target in sorted(param.targets)] or [":Type"]
    return _bad(
        spec,
        asked.written,
        f"'{asked.modifier}' is no modifier of '{param.code}', a {param.type}; there are {_listed(allowed)}",
    )


def _bad(spec: ResourceSpec, name: str, why: str) -> Refusal:
    return refuse(400, "invalid", why, f"{spec.type}?{name.split('=')[0][:120]}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
