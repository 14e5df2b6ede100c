"""What an operation is given and gives back: the Parameters resource, and the same in the query of a GET."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from fhir.index import instants
from fhir.outcome import Refusal, refuse

JSON = dict[str, Any]

# Types whose values are text, and stand for each other: clients send a `valueUri` where a `valueCanonical` is meant.
_TEXTS = frozenset(
    ("string", "code", "uri", "url", "canonical", "id", "oid", "uuid", "markdown", "date", "dateTime", "instant")
)
_DATES = frozenset(("date", "dateTime", "instant"))
_WHOLE = frozenset(("integer", "positiveInt", "unsignedInt"))


@dataclass(frozen=True, slots=True)
class Input:
    """One parameter that an operation takes: its FHIR type (`Resource` for a whole one), and whether it may repeat.
    A *many* of texts may also be said at once, parted by commas, as `_type` is."""

    type: str
    many: bool = False
    commas: bool = False


class Inputs:
    """The values that were given, by name. Texts are `str`, numbers `int` or `Decimal`, the rest as in JSON."""

    def __init__(self, values: Mapping[str, list[Any]]) -> None:
        self._values = values

    def one(self, name: str) -> Any:
        """The value of *name*; None when it was not given."""
        found = self._values.get(name)
        return found[0] if found else None

    def text(self, name: str) -> str | None:
        value = self.one(name)
        return value if isinstance(value, str) else None

    def every(self, name: str) -> list[Any]:
        return list(self._values.get(name, ()))

    def required(self, name: str) -> Any:
        value = self.one(name)
        if value is None:
            raise refuse(400, "required", f"the parameter {name} is required", name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self._values.get(name))


def taken(query: Iterable[tuple[str, str]], resource: JSON | None, known: Mapping[str, Input]) -> Inputs:
    """What the *query* and a valid Parameters *resource* give of the *known* parameters.

    Refusal 400 for a name that is not known, with the list of those that are, for a value of another type, and for a
    second value where there may be one.
    """
    values: dict[str, list[Any]] = {}
    for name, text in query:
        wanted = _wanted(name, known)
        texts = [part for part in text.split(",") if part] if wanted.commas else [text]
        values.setdefault(name, []).extend(_of_text(name, one, wanted) for one in texts)
    for place, given in enumerate((resource or {}).get("parameter", ())):
        name = given["name"]
        values.setdefault(name, []).extend(_of_parameter(name, given, _wanted(name, known), place))
    for name, found in values.items():
        if len(found) > 1 and not known[name].many:
            raise refuse(400, "invalid", f"the parameter {name} is given {len(found)} times; it takes one value", name)
    return Inputs(values)


def _wanted(name: str, known: Mapping[str, Input]) -> Input:
    wanted = known.get(name)
    if wanted is None:
        there = ", ".join(sorted(known)) or "none"
        raise refuse(400, "not-supported", f"'{name[:80]}' is no parameter of this operation; there are {there}", name)
    return wanted


def _of_text(name: str, text: str, wanted: Input) -> Any:
    """A value as it stands in a query."""
    if not text:
        raise refuse(400, "value", f"the parameter {name} has no value", name)
    if wanted.type in _TEXTS:
        return _checked(name, text, wanted)
    if wanted.type == "boolean" and text in ("true", "false"):
        return text == "true"
    if wanted.type in _WHOLE and text.lstrip("-").isascii() and text.lstrip("-").isdigit() and len(text) < 10:
        return _checked(name, int(text), wanted)
    if wanted.type == "decimal":
        try:
            return Decimal(text)
        except InvalidOperation:
            raise _wrong(name, wanted) from None
    if wanted.type == "Reference":
        return {"reference": text}
    if wanted.type == "Coding":
        system, bar, code = text.partition("|")
        return {"system": system, "code": code} if bar else {"code": text}
    if wanted.type[0].isupper():
        raise refuse(400, "not-supported", f"the parameter {name} is a {wanted.type}: POST it in a Parameters", name)
    raise _wrong(name, wanted)


def _of_parameter(name: str, given: JSON, wanted: Input, place: int) -> list[Any]:
    where = f"Parameters.parameter[{place}]"
    if wanted.type == "Resource":
        if "resource" not in given:
            raise refuse(400, "required", f"the parameter {name} holds a resource", f"{where}.resource")
        return [given["resource"]]
    key = next((one for one in given if one.startswith("value")), None)
    if key is None:
        raise refuse(400, "required", f"the parameter {name} has no value[x]", f"{where}.value")
    value, kind = given[key], key.removeprefix("value")
    if wanted.type == "Reference" and isinstance(value, str):
        return [{"reference": value}]
    if kind[0].lower() + kind[1:] in _TEXTS and wanted.type in _TEXTS:
        texts = [part for part in value.split(",") if part] if wanted.commas else [value]
        return [_checked(name, text, wanted) for text in texts]
    if wanted.type in _WHOLE and isinstance(value, int) and not isinstance(value, bool):
        return [_checked(name, value, wanted)]
    if wanted.type == "decimal" and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return [Decimal(value)]
    if kind == wanted.type[0].upper() + wanted.type[1:]:
        return [value]
    raise refuse(400, "value", f"the parameter {name} is a {wanted.type}, not a {kind}", f"{where}.{key}")


def _checked(name: str, value: Any, wanted: Input) -> Any:
    if wanted.type in _DATES:
        instant_of(name, value)
    if wanted.type in ("positiveInt", "unsignedInt") and value < (wanted.type == "positiveInt"):
        raise _wrong(name, wanted)
    return value


def instant_of(name: str, text: str) -> Any:
    """The instants that a date or time covers, [low, high); Refusal 400 naming the parameter."""
    try:
        return instants(text)
    except ValueError:
        said = f"the parameter {name} is a date or time such as 2026-11-21 or 2026-11-21T09:00:00Z, not '{text[:40]}'"
        raise refuse(400, "value", said, name) from None


def _wrong(name: str, wanted: Input) -> Refusal:
    return refuse(400, "value", f"the parameter {name} is a {wanted.type}", name)


def part(name: str, type_: str, value: Any) -> JSON:
    """One parameter of an answer: `part("match", "boolean", True)`."""
    return {"name": name, f"value{type_[0].upper()}{type_[1:]}": value}


def answer(parts: Sequence[JSON]) -> JSON:
    """The Parameters of *parts*."""
    return {"resourceType": "Parameters", "parameter": list(parts)} if parts else {"resourceType": "Parameters"}
