"""From a resource to the row of its search table.

Keys are `param=value`, compared byte by byte:

    token      code=http://loinc.org|8867-4   code=8867-4   code=|8867-4 (said without a system)   identifier=sys|
    reference  subject=Patient/1   subject=https://elsewhere/Patient/1   subject:identifier=sys|value
    uri        url=http://x   (canonical references also without their |version)
    amounts    :unit=7   (the kind of UCUM unit of some amount: those that can be converted into each other)

Lexemes of strings are `param=word`, `param=the whole value` (casefolded, without accents) and `param:exact=As Written`.
Dates are ranges [low, high): `2024-05` is the whole of May. A time or date without a zone is read as UTC. A parameter
that finds several dates keeps the range that spans them all. Amounts are one span for all numbers and quantities.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from functools import cache
from math import inf
from typing import Any

from fhir.outcome import refuse
from fhir.paths import Path, alternatives, compile_path
from fhir.registry import AMOUNTS, INDEXED, SPECS, ResourceSpec, SearchParam
from fhir.tables import date_column
from fhir.units import known

Range = tuple[datetime | None, datetime | None]
Handler = Callable[[Any, "IndexRow"], None]

# PostgreSQL refuses a lexeme beyond 2,046 bytes, and a GIN key beyond about 2,700.
LEXEME_BYTES = 1_000
KEY_BYTES = 2_000
# Words of a text beyond this many are not indexed: a search parameter is a name or a title, not a library.
MOST_WORDS = 2_000
_PATIENT = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})(?:/_history/|\Z)")
_WORD = re.compile(r"\w+")
_NOT_TEXT = frozenset({"id", "use", "system", "type", "period", "extension", "rank"})


@dataclass(slots=True)
class IndexRow:
    """What is searchable of one resource. `dates` has `None` on a side that is open; `low` and `high` span amounts."""

    patient_id: str | None
    keys: list[str]
    strings: list[str]
    dates: dict[str, Range]
    low: float | None = None
    high: float | None = None


def index(spec: ResourceSpec, resource: dict[str, Any]) -> IndexRow:
    """The row of *resource*. Refusal 422 when a date in it cannot be read."""
    program = _program(spec.type)
    row = IndexRow(program.patient(resource), [], [], {})
    handlers = program.handlers
    for name, value in resource.items():
        found = handlers.get(name)
        if found is None:
            found = handlers[name] = program.named(name)
        for handle in found:
            handle(value, row)
    if len(row.keys) > 1:
        row.keys = list(dict.fromkeys(row.keys))
    return row


def patient_of(spec: ResourceSpec, resource: dict[str, Any]) -> str | None:
    """Id of the Patient that *resource* is about; a Patient is about itself. None when it names nobody of this hub."""
    return _program(spec.type).patient(resource)


class _Program:
    """The compiled parameters of one type, found by the resource's own members: what is absent costs nothing."""

    def __init__(self, spec: ResourceSpec) -> None:
        self.paths: list[tuple[Path, Callable[[Any, IndexRow], None]]] = []
        for param in spec.params.values():
            if param.type in INDEXED and param.stored == (param.code,) and param.code not in {"_id", "_lastUpdated"}:
                emit = _EMITTERS[param.type](param, spec.type)
                self.paths += [(compile_path(path), emit) for path in alternatives(param.expression)]
        if spec.amounts:
            amounts = [param.expression for param in spec.params.values() if param.type in AMOUNTS]
            found = dict.fromkeys(path for expression in amounts for path in alternatives(expression))
            self.paths += [(compile_path(path), _amount) for path in found if not path.endswith("as SampledData)")]
        self.about = [compile_path(path) for path in spec.patient_paths]
        self.type = spec.type
        # Names that resources really use. Validation has refused made-up ones, so this cannot grow without bound.
        self.handlers: dict[str, tuple[Handler, ...]] = {}

    def named(self, member: str) -> tuple[Handler, ...]:
        return tuple(_handler(path, emit) for path, emit in self.paths if path.head.named(member))

    def patient(self, resource: dict[str, Any]) -> str | None:
        if self.type == "Patient":
            return resource.get("id")
        for path in self.about:
            for value in path.values(resource):
                reference = value.get("reference") if isinstance(value, dict) else None
                if isinstance(reference, str) and (found := _PATIENT.match(reference)):
                    return found[1]
        return None


def _handler(path: Path, emit: Handler) -> Handler:
    tail = path.tail
    if path.truth:
        return lambda value, row: emit(any(found is not False for found in tail(value)), row)

    def handle(value: Any, row: IndexRow) -> None:
        for found in tail(value):
            emit(found, row)

    return handle


@cache
def _program(type_: str) -> _Program:
    return _Program(SPECS[type_])


def _token(param: SearchParam, _: str) -> Handler:
    name = param.code
    whole_system = name == "identifier"
    implied = param.bare or name == "_id"

    def coding(system: Any, code: Any, keys: list[str]) -> None:
        if code is None:
            return
        keys.append(key(name, code))
        keys.append(key(name, f"{system or ''}|{code}"))

    def of_type(value: dict[str, Any], keys: list[str]) -> None:
        for item in value["type"].get("coding", ()):
            if "code" in item:
                keys.append(key(f"{name}:of-type", f"{item.get('system') or ''}|{item['code']}|{value['value']}"))

    def emit(value: Any, row: IndexRow) -> None:
        keys = row.keys
        if isinstance(value, dict):
            if "coding" in value:
                for item in value["coding"]:
                    if isinstance(item, dict):
                        coding(item.get("system"), item.get("code"), keys)
            elif "code" in value:
                coding(value.get("system"), value["code"], keys)
            elif "value" in value:
                system = value.get("system")
                coding(system, value["value"], keys)
                if whole_system:
                    if system:
                        keys.append(key(name, f"{system}|"))
                    if "type" in value:
                        of_type(value, keys)
        elif isinstance(value, bool):
            keys.append(f"{name}={'true' if value else 'false'}")
        elif value is not None:
            keys.append(key(name, value))
            if not implied:
                keys.append(key(name, f"|{value}"))

    return emit


def _reference(param: SearchParam, _: str) -> Handler:
    name = param.code

    def emit(value: Any, row: IndexRow) -> None:
        keys = row.keys
        if isinstance(value, str):
            keys.append(key(name, value))
            if "|" in value:
                keys.append(key(name, value.rsplit("|", 1)[0]))
            return
        if not isinstance(value, dict):
            return
        reference = value.get("reference")
        if isinstance(reference, str):
            if not reference.startswith("#"):
                keys.append(key(name, reference.split("/_history/", 1)[0]))
        elif "resourceType" in value and "id" in value:
            keys.append(key(name, f"{value['resourceType']}/{value['id']}"))
        identifier = value.get("identifier")
        if isinstance(identifier, dict) and identifier.get("value") is not None:
            keys.append(key(f"{name}:identifier", identifier["value"]))
            keys.append(key(f"{name}:identifier", f"{identifier.get('system') or ''}|{identifier['value']}"))

    return emit


def _uri(param: SearchParam, _: str) -> Handler:
    name = param.code

    def emit(value: Any, row: IndexRow) -> None:
        if isinstance(value, str):
            row.keys.append(key(name, value))

    return emit


def _string(param: SearchParam, _: str) -> Handler:
    name = param.code

    def emit(value: Any, row: IndexRow) -> None:
        for written in _texts(value):
            plain = normalised(written)
            row.strings.append(lexeme(name, plain))
            row.strings.append(lexeme(f"{name}:exact", written))
            words = _WORD.findall(plain)
            if len(words) > 1 or words != [plain]:
                row.strings += [lexeme(name, word) for word in words[:MOST_WORDS]]

    return emit


def _texts(value: Any) -> list[str]:
    """The text in a string, a HumanName, an Address or a CodeableConcept's text."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        return [
            text for name, item in value.items() if name not in _NOT_TEXT and name[0] != "_" for text in _texts(item)
        ]
    return []


def _date(param: SearchParam, type_: str) -> Handler:
    column = date_column(param.code)

    def emit(value: Any, row: IndexRow) -> None:
        found = _range(value, f"{type_}.{param.code}")
        if found is not None:
            before = row.dates.get(column)
            row.dates[column] = _hull(before, found) if before else found

    return emit


def _amount(value: Any, row: IndexRow) -> None:
    if isinstance(value, dict):
        if "low" in value or "high" in value:
            # A Range without one end reaches as far as it likes.
            for end, open_ in (("low", -inf), ("high", inf)):
                _amount(value.get(end, open_), row)
            return
        number = value.get("value")
        if number is None:
            return
        low = high = exact = float(number)
        keys, factors = known(value.get("code") or value.get("currency"), value.get("unit"))
        row.keys.extend(keys)
        # Found by either: as written, and in the unit that most others have.
        for factor, offset in factors:
            low, high = min(low, exact * factor + offset), max(high, exact * factor + offset)
        if comparator := value.get("comparator"):
            low, high = (-inf, high) if comparator[0] == "<" else (low, inf)
    elif isinstance(value, bool | str):
        return
    else:
        low = high = float(value)
    if row.low is None or low < row.low:
        row.low = low
    if row.high is None or high > row.high:
        row.high = high


_EMITTERS: dict[str, Callable[[SearchParam, str], Handler]] = {
    "token": _token,
    "reference": _reference,
    "uri": _uri,
    "string": _string,
    "date": _date,
}


def key(name: str, value: Any) -> str:
    """`param=value`, cut to what a GIN index holds, without the control characters that text columns refuse."""
    made = f"{name}={value}"
    if len(made) > KEY_BYTES // 4:
        made = made.encode()[:KEY_BYTES].decode(errors="ignore")
    return made if made.isprintable() else "".join(c for c in made if c >= " ")


def lexeme(name: str, value: str) -> str:
    """`param=text`, cut to what a tsvector holds. Text is compared by its first thousand bytes."""
    made = key(name, " ".join(value.split()))
    return made if len(made) <= LEXEME_BYTES // 4 else made.encode()[:LEXEME_BYTES].decode(errors="ignore")


def normalised(text: str) -> str:
    """Casefolded, without accents, single spaces: `Zoë  O'Neill` -> `zoe o'neill`."""
    if text.isascii():
        return " ".join(text.lower().split())
    decomposed = unicodedata.normalize("NFKD", text)
    return " ".join("".join(c for c in decomposed if not unicodedata.combining(c)).casefold().split())


def normalised_sql(text: str) -> str:
    """`normalised` of the SQL *text*."""
    plain = rf"regexp_replace(normalize({text}, NFKD), '[\u0300-\u036f]', '', 'g')"
    return rf"btrim(regexp_replace(lower({plain}), '\s+', ' ', 'g'))"


def _range(value: Any, expression: str) -> Range | None:
    """The range of a date, dateTime, instant, Period or Timing; None for anything else (a scheduled string, an Age)."""
    if isinstance(value, str):
        try:
            return instants(value)
        except ValueError:
            return None
    if not isinstance(value, dict):
        return None
    if "event" in value or "repeat" in value:
        ranges = [_range(event, expression) for event in value.get("event", ())]
        ranges.append(_range((value.get("repeat") or {}).get("boundsPeriod"), expression))
        spanned: Range | None = None
        for found in ranges:
            if found is not None:
                spanned = _hull(spanned, found) if spanned else found
        return spanned
    if "start" not in value and "end" not in value:
        return None
    try:
        low = instants(value["start"])[0] if "start" in value else None
        high = instants(value["end"])[1] if "end" in value else None
    except ValueError:
        raise refuse(422, "value", f"the period at {expression} is not made of dates", expression) from None
    if low and high and high <= low:
        raise refuse(422, "value", f"the period at {expression} ends before it starts", expression)
    return low, high


def _hull(a: Range, b: Range) -> Range:
    low = None if a[0] is None or b[0] is None else min(a[0], b[0])
    high = None if a[1] is None or b[1] is None else max(a[1], b[1])
    return low, high


def instants(text: str) -> tuple[datetime, datetime | None]:
    """The instants that a FHIR date, dateTime or instant covers: `2024-05` -> 1 May until before 1 June, UTC.

    The end is None beyond the year 9999. ValueError when it is no date.
    """
    size = len(text)
    if size > 10:
        return _clock(text)
    if size == 10:
        day = datetime(int(text[:4]), int(text[5:7]), int(text[8:]), tzinfo=UTC)
        return day, None if text == "9999-12-31" else day + timedelta(days=1)
    if size not in (4, 7):
        raise ValueError(f"not a date: {text}")
    year, month = int(text[:4]), int(text[5:] or 1)
    after = (year + month // 12, month % 12 + 1) if size == 7 else (year + 1, 1)
    end = datetime(*after, 1, tzinfo=UTC) if after[0] <= MAXYEAR else None
    return datetime(year, month, 1, tzinfo=UTC), end


def _clock(text: str) -> tuple[datetime, datetime | None]:
    leap = text[17:19] == "60"
    low = datetime.fromisoformat(text[:17] + "59" + text[19:] if leap else text)
    if low.tzinfo is None:
        low = low.replace(tzinfo=UTC)
    if text[16:17] != ":":
        step = timedelta(minutes=1)
    elif text[19:20] != ".":
        step = timedelta(seconds=1)
    else:
        digits = len(text[20:]) - len(text[20:].lstrip("0123456789"))
        step = timedelta(microseconds=max(1, 10 ** (6 - digits)))
    try:
        low += timedelta(seconds=1) if leap else timedelta()
        return low, low + step
    except OverflowError:
        # 9999-12-31T23:59:59Z is how many systems write "for ever".
        return low, None
