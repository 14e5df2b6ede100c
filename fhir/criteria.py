"""What a FHIR search asks for, as one SQL condition on a search table.

Tokens, references and uris are looked up in `keys`, strings in `strings`, dates in their range columns, amounts by the
span in `low` and `high`, all by an index. A chain (`subject:Patient.name=`) becomes an array of the references that its
inner search finds, a `_has` the set of ids that are referred to, so both are evaluated once, never per row. Every table
that is touched carries the actor's own condition: nobody learns through a chain what they could not read.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import count

from fhir import filters, quantities, specials
from fhir.codes import CodeSets
from fhir.composites import composite
from fhir.conditions import (
    ALWAYS,
    NEVER,
    all_of,
    any_of,
    any_start,
    dated,
    has_key_from,
    none_of,
    overlapping,
    term,
    updated,
)
from fhir.index import instants
from fhir.modifiers import PREFIXES, modifiers
from fhir.references import about_patient, identified, in_hierarchy, to_any_of
from fhir.registry import AMOUNTS, ONLY_PATIENT, SPECS, ResourceSpec, SearchParam
from fhir.store import ID, Sql, Visible
from fhir.strings import string, uri
from fhir.tables import date_column
from fhir.tokens import token
from fhir.written import Asked, NotUnderstood, bad, bar_split, listed, split, too_much, unescaped, unknown

# How many links a chain may have, and how many values one parameter: beyond it a search only costs.
LONGEST_CHAIN = 4
MOST_VALUES = 2_000
# References beyond so many are not expected to leave few rows.
MANY = 50
# Rows: enough to fill a page of what one in a hundred is, few enough to cost two milliseconds; and where a row is told
# by its own columns alone, enough for what one in a thousand is.
FEW_ROWS, MORE_ROWS = 3_000, 20_000


class Criteria:
    """Turns conditions on a type into SQL for one actor. *base_url* makes absolute references to this hub relative."""

    def __init__(
        self, visible: Visible, base_url: str = "", sets: CodeSets | None = None, now: datetime | None = None
    ) -> None:
        self.visible = visible
        self.base_url = base_url.rstrip("/") + "/" if base_url else ""
        self.sets = sets or CodeSets()
        self.now = now or datetime.now(UTC)
        # Whether some condition leaves so little that PostgreSQL should begin with it, whatever the order asked for.
        self.selective = False
        # Where whoever asks takes it by itself: what the stored JSON has to decide of the rows that the conditions
        # leave, the dear part, so that it is asked last.
        self.late: list[Sql] | None = None
        # Whether the rows are those of one person, which an index has in the order of dates.
        self.one_person = False
        # What leaves few rows by its kind may leave half the table: a reference to many, whom many refer to. So many
        # rows are then looked at in their order, before it is asked for all that match.
        self.first = 0
        # `_filter` compares in ways that no modifier says.
        self._filtering = False
        self._numbers = count(1)

    def where(self, spec: ResourceSpec, alias: str, query: Iterable[tuple[str, str]], depth: int = 0) -> Sql:
        """All of *query* at once. Refusal 400 naming the first thing that is not understood."""
        return all_of([self.condition(spec, alias, name, value, depth) for name, value in query])

    def condition(self, spec: ResourceSpec, alias: str, written: str, value: str, depth: int = 0) -> Sql:
        if "\x00" in value:
            raise bad(spec.type, written, f"the value of '{written}' holds a NUL character")
        if value == "":
            raise bad(spec.type, written, f"'{written}' has no value: an empty condition would match everything")
        if depth > LONGEST_CHAIN:
            raise too_much(spec.type, written, f"'{written}' goes through more than {LONGEST_CHAIN} references")
        self.selective |= depth == 0 and is_selective(spec, written)
        if written.startswith("_has:"):
            return self._has(spec, alias, written, value, depth)
        asked = Asked.of(written, value)
        param = parameter(spec, asked.name)
        if asked.chain is not None:
            return self._chain(spec, alias, param, asked, depth)
        self._check_modifier(spec, param, asked)
        if asked.modifier == "missing":
            return self._missing(spec, alias, param, asked)
        if param.code == "_filter":
            return self._filter(spec, alias, asked, depth)
        if param.code in ("_text", "_content"):
            return specials.words_of(spec, alias, asked)
        values = split(value)
        if len(values) > MOST_VALUES:
            raise too_much(spec.type, written, f"'{written}' has more than {MOST_VALUES} values")
        if "" in values:
            raise bad(spec.type, written, f"'{written}={value[:100]}' has an empty value between its commas")
        return self._plain(spec, alias, param, asked, values)

    def _plain(self, spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, values: Sequence[str]) -> Sql:
        if param.code == "_id":
            return _id(spec, alias, asked, values)
        if param.code == "_list":
            return specials.listed_in(spec, alias, asked, self.visible, self._alias())
        if param.type == "special":
            return any_of([specials.near(spec, alias, asked, one) for one in values])
        if param.type == "reference":
            return self._reference(spec, alias, param, asked, values)
        if param.type == "date":
            return any_of([self._date(spec, alias, param, asked, one) for one in values])
        if param.type == "token":
            return token(spec, alias, param, asked, values, self.sets)
        if param.type == "uri":
            return uri(alias, param, asked.modifier, [unescaped(one) for one in values])
        if param.type == "string":
            if any(not unescaped(one).strip(" |") for one in values):
                said = f"'{asked.written}={asked.value[:100]}' says nothing to look for"
                raise bad(spec.type, asked.written, said)
            return string(alias, param, asked.modifier, [unescaped(one) for one in values])
        indexed, exact = self._in_two(spec, alias, param, asked, values)
        if self.late is not None and alias == "r" and not self._filtering:
            self.late.append(exact)
            return indexed
        return all_of([indexed, exact])

    def _in_two(
        self, spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, values: Sequence[str]
    ) -> tuple[Sql, Sql]:
        """What an index tells of an amount or a composite, and what only the JSON decides."""
        if param.type in AMOUNTS:
            return quantities.fitting(spec, alias, param, [_amount(spec, param, asked, one) for one in values])

        def one(part: SearchParam, value: str) -> tuple[Sql, Sql]:
            alone = Asked(part.code, None, None, value, asked.written)
            if part.type in AMOUNTS:
                return self._in_two(spec, alias, part, alone, [value])
            return self._plain(spec, alias, part, alone, [value]), ALWAYS

        both = [composite(spec, alias, param, asked, value, one) for value in values]
        if len(both) == 1:
            return both[0]
        return any_of([indexed for indexed, _ in both]), any_of([all_of(one) for one in both])

    def _check_modifier(self, spec: ResourceSpec, param: SearchParam, asked: Asked) -> None:
        if asked.modifier is None or asked.modifier in modifiers(param.code, param.type):
            return
        if self._filtering and asked.modifier in filters.COMPARISONS.get(param.type, ()):
            return
        if param.type != "reference" or asked.modifier not in self._possible(param):
            raise self._no_modifier(spec, param, asked)

    def _no_modifier(self, spec: ResourceSpec, param: SearchParam, asked: Asked) -> NotUnderstood:
        if param.type == "reference" and asked.modifier in SPECS:
            said = f"'{param.code}' refers to {listed(self._possible(param))}, never to {asked.modifier}"
            return unknown(spec.type, asked.written, said)
        allowed = [f":{name}" for name in modifiers(param.code, param.type)]
        if param.type == "reference":
            allowed += [f":{target}" for target in sorted(param.targets)] or [":Type"]
        there = f"there are {listed(allowed)}" if allowed else "it takes none"
        said = f"'{asked.modifier}' is no modifier of '{param.code}', a {param.type}; {there}"
        return unknown(spec.type, asked.written, said)

    def _reference(
        self, spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, values: Sequence[str]
    ) -> Sql:
        if asked.modifier == "identifier":
            return identified(alias, param, values)
        targets = self._targets(param, asked)
        wanted = [one for value in values for one in self._references(spec, param, asked, unescaped(value), targets)]
        if asked.modifier in ("above", "below"):
            return any_of([in_hierarchy(spec, alias, param, asked, one, self.visible, self._alias()) for one in wanted])
        if alias == "r":
            self.one_person |= len(wanted) == 1 and about_patient(spec, param)
            if len(values) > MANY:
                self.first = MORE_ROWS
        return to_any_of(spec, alias, param, wanted)

    def _references(
        self, spec: ResourceSpec, param: SearchParam, asked: Asked, value: str, targets: Sequence[str]
    ) -> list[str]:
        """The references that *value* stands for: `1` may be of any of *targets*."""
        if self.base_url and value.startswith(self.base_url):
            value = value[len(self.base_url) :]
        value = value.split("/_history/", 1)[0]
        if "/" not in value and ":" not in value:
            if not ID.fullmatch(value):
                said = f"'{value[:80]}' is neither an id nor a reference such as Patient/1"
                raise bad(spec.type, asked.written, said)
            return [f"{target}/{value}" for target in targets]
        type_ = value.split("/", 1)[0]
        if type_ in SPECS and type_ not in targets and (asked.modifier or param.stored != (param.code,)):
            return []
        return [value]

    def _possible(self, param: SearchParam) -> list[str]:
        return sorted(param.targets & SPECS.keys()) if param.targets else sorted(SPECS)

    def _targets(self, param: SearchParam, asked: Asked) -> list[str]:
        """The types a chain or a bare id may lead to; only the one that `:Type` names when there is one."""
        return [asked.modifier] if asked.modifier in SPECS else self._possible(param)

    def _date(self, spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, value: str) -> Sql:
        prefix, text = (value[:2], value[2:]) if value[:2] in PREFIXES else ("eq", value)
        try:
            low, high = instants(text)
            if prefix == "ap":
                # Approximately: within a tenth of how long ago it is, as FHIR proposes.
                margin = abs(self.now - low) / 10
                low, high = low - margin, high + margin if high else None
        except (ValueError, OverflowError):
            said = (
                f"'{value[:40]}' is no date: say 2026, 2026-11, 2026-11-21 or 2026-11-21T09:00:00Z,"
                f" after one of {listed(PREFIXES)} or nothing"
            )
            raise bad(spec.type, asked.written, said) from None
        if param.code == "_lastUpdated":
            return updated(alias, prefix, low, high)
        column = f"{alias}.{date_column(param.code)}"
        return overlapping(column, low, high) if asked.modifier == "overlaps" else dated(column, prefix, low, high)

    def _missing(self, spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked) -> Sql:
        if asked.value not in ("true", "false"):
            said = f"'{asked.written}' is true or false, not '{asked.value[:40]}'"
            raise bad(spec.type, asked.written, said)
        if param.code in ("_id", "_lastUpdated"):
            return NEVER if asked.value == "true" else ALWAYS
        if param.type in AMOUNTS:
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

    def _filter(self, spec: ResourceSpec, alias: str, asked: Asked, depth: int) -> Sql:
        def one(name: str, value: str) -> Sql:
            return self.condition(spec, alias, name, value, depth)

        def kind(path: str) -> str:
            return self._kind(spec, path)

        # One of several alternatives leaves nothing out.
        before = self.selective, self.one_person
        self._filtering = True
        try:
            return filters.condition(spec.type, asked.value, kind, one)
        finally:
            self._filtering = False
            self.selective, self.one_person = before

    def _kind(self, spec: ResourceSpec, path: str) -> str:
        """Of the search parameter at the end of a chain."""
        head, dot, rest = path.partition(".")
        name, _, modifier = head.partition(":")
        param = parameter(spec, name)
        if not dot:
            return param.type
        following = rest.partition(".")[0].partition(":")[0]
        for target in [modifier] if modifier in SPECS else self._possible(param):
            if following in SPECS[target].params:
                return self._kind(SPECS[target], rest)
        raise unknown(spec.type, path, f"'{following}' is no search parameter of what '{name}' refers to")

    def _chain(self, spec: ResourceSpec, alias: str, param: SearchParam, asked: Asked, depth: int) -> Sql:
        if param.type != "reference":
            said = f"'{param.code}' of {spec.type} is a {param.type}: only references can be chained"
            raise bad(spec.type, asked.written, said)
        assert asked.chain is not None
        if not param.targets and asked.modifier is None:
            said = f"'{param.code}' may refer to anything: name the type, as in {param.code}:Patient.{asked.chain[:40]}"
            raise bad(spec.type, asked.written, said)
        if asked.modifier is not None and asked.modifier not in self._possible(param):
            raise self._no_modifier(spec, param, asked)
        following = asked.chain.split(".")[0].split(":")[0]
        found: list[Sql] = []
        understood = False
        targets = self._targets(param, asked)
        for target in targets:
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
            said = f"'{following}' is no search parameter of {listed(targets[:12])}"
            raise unknown(spec.type, asked.written, said)
        return any_of(found)

    def _has(self, spec: ResourceSpec, alias: str, written: str, value: str, depth: int) -> Sql:
        parts = written.split(":", 3)
        if len(parts) != 4 or parts[1] not in SPECS:
            said = f"'{written}' must be written _has:Type:reference:parameter, such as _has:Observation:patient:code"
            raise unknown(spec.type, written, said)
        _, type_, reference, rest = parts
        inner = SPECS[type_]
        param = parameter(inner, reference)
        if param.type != "reference" or (param.targets and spec.type not in param.targets):
            raise bad(spec.type, written, f"'{reference}' of {type_} does not refer to {spec.type}")
        condition = self._inner(inner, [(rest, value)], depth)
        if condition is None:
            return NEVER
        name, where = condition
        if spec.type == "Patient" and about_patient(inner, param):
            ids = f"{name}.patient_id FROM r_{type_.lower()} {name} WHERE {where.text}"
            if alias == "r" and not self._filtering:
                # Of a code that everybody has, a page of people is found before all who have it.
                self.first = FEW_ROWS
                return Sql(f"{alias}.id IN (SELECT {ids})", where.params)
            return Sql(f"{alias}.id = ANY(ARRAY(SELECT DISTINCT {ids}))", where.params)
        prefixes = [f"{stored}={spec.type}/" for stored in param.stored]
        key_ = f"key{next(self._numbers)}"
        ids = (
            f"SELECT DISTINCT split_part({key_}, '/', 2) FROM r_{type_.lower()} {name}, unnest({name}.keys) AS {key_}"
            f" WHERE {any_start(key_, prefixes)} AND {where.text}"
        )
        return Sql(f"{alias}.id = ANY(ARRAY({ids}))", (*prefixes, *where.params))

    def _inner(self, spec: ResourceSpec, query: Sequence[tuple[str, str]], depth: int) -> tuple[str, Sql] | None:
        """Alias and condition of a search inside the search; None when the actor may see nothing of the type."""
        alias = self._alias()
        limit = self.visible(spec.type, alias)
        where = self.where(spec, alias, query, depth + 1)
        return None if limit is None else (alias, all_of([Sql(*limit), where]))

    def _alias(self) -> str:
        return f"t{next(self._numbers)}"


def parameter(spec: ResourceSpec, code: str) -> SearchParam:
    """The search parameter *code*. Refusal 400 with the list of those there are."""
    param = spec.params.get(code)
    if param is not None:
        return param
    said = f"'{code[:80]}' is no search parameter of {spec.type}; there are {listed([*spec.params, '_has'])}"
    raise unknown(spec.type, code, said)


def is_selective(spec: ResourceSpec, written: str) -> bool:
    """References, chains, names and identifiers find few rows of many; a code, a status or a date may find half."""
    name, _, modifier = written.partition(".")[0].partition(":")
    if written.startswith("_has:") or name in ("_id", "identifier", "_list"):
        return modifier != "not"
    param = spec.params.get(name)
    return param is not None and param.type in ("reference", "string") and modifier not in ("missing", "contains")


def _id(spec: ResourceSpec, alias: str, asked: Asked, values: Sequence[str]) -> Sql:
    for value in values:
        if not ID.fullmatch(value):
            raise bad(spec.type, asked.written, f"'{value[:80]}' is no id")
    found = Sql(f"{alias}.id = ANY(%s::text[])", (list(values),))
    return none_of(found) if asked.modifier == "not" else found


def _amount(spec: ResourceSpec, param: SearchParam, asked: Asked, value: str) -> quantities.Amount:
    """`5.4`, `gt5.4|http://unitsofmeasure.org|mmol/L`, `5.4||mmol/L`; a number has no unit."""
    number, _, unit = bar_split(value)
    system, _, code = bar_split(unit)
    if unit and (param.type == "number" or not code):
        said = "no unit" if param.type == "number" else "write 5.4, 5.4||mmol/L or 5.4|http://unitsofmeasure.org|mmol/L"
        raise bad(spec.type, asked.written, f"'{value[:80]}' is not understood: {said}")
    try:
        return quantities.Amount.of(number, system, code)
    except ValueError as error:
        raise bad(spec.type, asked.written, str(error)) from None
