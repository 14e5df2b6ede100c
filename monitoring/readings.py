"""From a FHIR Observation to typed readings: one unit per measure, the original kept, doubt and refusal explained."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec

from fhir.outcome import Issue, Refusal
from monitoring.measures import (
    AIR,
    BY_CODE,
    IMPLIED,
    MDC,
    MEASURES,
    OXYGEN,
    SPECIFIC,
    Code,
    Measure,
    Unit,
    half_up_exact,
)

JSON = dict[str, Any]

FUTURE = timedelta(minutes=10)
"""How far ahead of our clock a device's may run before its reading is refused. Ours."""

LARGEST = 10**9
"""A number of this size is no measurement; keeping it as "check reading" would only break charts."""

LONGEST = 40
"""Characters kept of a number or unit as it was sent."""

OK, CHECK, SANDBOX, WRONG = "ok", "check", "sandbox", "wrong"

HTEST = "HTEST"

NO_TIME = "No time of day was given."
"""Why a reading that came with a day alone is doubtful: it may be charted, but not lined up with others."""


class ReadingRefused(Refusal):
    """An Observation that must not become a reading. `reason` is the code under which the hub files it:
    `wrong-unit`, `unknown-answer`, `impossible-value`, `future-time` or `no-time`."""

    def __init__(self, reason: str, diagnostics: str, expression: str) -> None:
        super().__init__(422, [Issue("value", diagnostics, expression)])
        self.reason = reason


class Reading(msgspec.Struct, frozen=True):
    """One measured value of one person.

    `value` is in the measure's unit (`MEASURES[measure].unit`), or None where the answer is a `word`. `given` is what
    the device sent. `quality`: `ok`, `check` (doubtful, `why` says so; charted, never evaluated), `sandbox` (a test
    reading of a real person), `wrong` (entered in error).
    """

    measure: str
    at: datetime
    value: float | None
    word: str | None = None
    given: str = ""
    quality: str = OK
    why: str | None = None
    observation_id: str = ""
    patient_id: str = ""
    device_id: str | None = None

    def show(self) -> str:
        """`91 %`, `newly confused`."""
        measure = MEASURES[self.measure]
        if self.value is None:
            return measure.words.get(self.word or "", self.word or "")
        return measure.show(self.value)


def readings(
    observation: JSON, now: datetime, *, from_device: bool = False, test: bool = False, synthetic: bool = False
) -> list[Reading]:
    """The readings that *observation* holds; an empty list when it measures nothing we know.

    *from_device*: the time of measuring must be there, to the second. Others may give a day: a doubtful reading.
    *test*: the device is a sandbox one. *synthetic*: the person is one; a test reading of a real person is `sandbox`.
    Raises `ReadingRefused` (422) for an unknown unit or answer, and for a time more than `FUTURE` after *now*.
    """
    parts = list(_parts(observation))
    if not parts:
        return []
    patient_id = _id(observation.get("subject"), "Patient/")
    status = observation.get("status")
    if not patient_id or status in ("cancelled", "registered"):
        return []
    at, exact = _when(observation)
    if at is None or (from_device and not exact):
        if from_device:
            raise ReadingRefused(
                "no-time",
                "A device's reading needs the time of measuring: effectiveDateTime with seconds and offset.",
                "Observation.effective",
            )
        return []
    if at - now > FUTURE:
        raise ReadingRefused(
            "future-time",
            f"Measured at {at.isoformat()}, which is ahead of our clock ({now.isoformat(timespec='seconds')}).",
            "Observation.effective",
        )
    if status == "entered-in-error":
        overall: str | None = WRONG
    elif test or (not synthetic and _is_test(observation)):
        overall = None if synthetic else SANDBOX
    else:
        overall = None
    why = None if exact else NO_TIME
    observation_id = observation.get("id", "")
    device_id = _id(observation.get("device"), "Device/") or None
    found: list[Reading] = []
    for measure, path, source in parts:
        measured = _measured(measure, path, source)
        if measured is None:
            continue
        value, word, given, doubt = measured
        doubt = doubt or why
        quality = overall or (CHECK if doubt else OK)
        found.append(
            Reading(measure.key, at, value, word, given, quality, doubt, observation_id, patient_id, device_id)
        )
    return found


def instant(observation: JSON) -> datetime | None:
    """When *observation* was measured; None when it does not say."""
    return _when(observation)[0]


def unknown_parts(observation: JSON) -> list[int]:
    """The places of the components whose code is of no measure that we know."""
    return [
        number
        for number, one in enumerate(observation.get("component", ()))
        if _measure(one.get("code")) is None and _oxygen_answer(one) is None and not _is_supplement(one)
    ]


SUPPLEMENT = "68193"
"""MDC_ATTR_SUPPLEMENTAL_TYPES: a component that says how a value was found (a stable spot, say), and is none itself."""


def _is_supplement(component: JSON) -> bool:
    codings = component.get("code", {}).get("coding", ())
    return any(one.get("system") == MDC and one.get("code") == SUPPLEMENT for one in codings)


def key(device_id: str, observation: JSON) -> bytes:
    """16 bytes, the same when *device_id* sends a measurement again: device, person, codes, instant, identifier.

    The person, so that a device that was handed on never corrects, nor repeats, a reading of its holder before.
    """
    at, _ = _when(observation)
    try:
        instant = at.astimezone(UTC).isoformat() if at else ""
    except OverflowError:
        instant = str(at)  # within a day of the years 1 and 9999; refused later as too old or not yet
    parts = [device_id, _id(observation.get("subject"), "Patient/"), instant]
    parts += [f"{coding.get('system')}|{coding.get('code')}" for coding in observation["code"].get("coding", ())]
    parts += [f"{one.get('system')}|{one.get('value')}" for one in observation.get("identifier", ())]
    return blake2b("\n".join(parts).encode(errors="surrogatepass"), digest_size=16).digest()


def digest(observation: JSON) -> bytes:
    """16 bytes over what was measured: the same for a resend, another for a correction."""
    parts = [observation.get("status", "")]
    for source in (observation, *observation.get("component", ())):
        parts += [coding.get("code", "") for coding in source.get("code", {}).get("coding", ())]
        parts += _plain(source)
    return blake2b("\n".join(parts).encode(errors="surrogatepass"), digest_size=16).digest()


def _plain(source: JSON) -> Iterator[str]:
    for name in sorted(source):
        if name.startswith("value"):
            value = source[name]
            if name == "valueQuantity":
                yield f"{value.get('comparator', '')}{value.get('value')} {value.get('code') or value.get('unit')}"
            elif name == "valueCodeableConcept":
                yield " ".join(f"{one.get('system')}|{one.get('code')}" for one in value.get("coding", ()))
                yield value.get("text", "")
            else:
                yield f"{name}={value}"


def _measure(concept: JSON | None) -> tuple[Measure, Code] | None:
    best = None
    if concept is not None:
        for coding in concept.get("coding", ()):
            code = (coding.get("system"), coding.get("code"))
            measure = BY_CODE.get(code)
            if measure is None:
                continue
            if best is None or measure.key in SPECIFIC or code in IMPLIED:
                best = measure, code
    return best


# Where the value stands: the path for a refusal, and either the JSON that holds value[x] or a word that was implied.
_Part = tuple[Measure, str, JSON | str]


def _parts(observation: JSON) -> Iterator[_Part]:
    own = _measure(observation.get("code"))
    components = observation.get("component")
    if own:
        measure, code = own
        yield measure, "Observation", observation
        if code in IMPLIED:
            other, word = IMPLIED[code]
            yield MEASURES[other], "Observation.code", word
    if components:
        seen = {own[0].key} if own else set()
        for number, component in enumerate(components):
            part = _measure(component.get("code"))
            inner = part[0] if part else _oxygen_answer(component)
            # A flow and a percentage both say "on oxygen": the first answer is enough.
            if inner is not None and inner.key not in seen:
                seen.add(inner.key)
                yield inner, f"Observation.component[{number}]", component


def _oxygen_answer(component: JSON) -> Measure | None:
    """A component of any code whose answer is 'breathing room air' or 'patient on oxygen'."""
    concept = component.get("valueCodeableConcept")
    oxygen = MEASURES["oxygen"]
    if concept is not None:
        for coding in concept.get("coding", ()):
            if (coding.get("system"), coding.get("code")) in oxygen.answers:
                return oxygen
    return None


def _measured(
    measure: Measure, path: str, source: JSON | str
) -> tuple[float | None, str | None, str, str | None] | None:
    """value, word, as given, doubt; None when the value is absent."""
    if isinstance(source, str):
        return None, source, source, None
    if measure.answers:
        quantity = source.get("valueQuantity")
        if quantity is not None and measure.key == "oxygen":
            return _oxygen_amount(quantity, path)
        return _answer(measure, path, source)
    quantity = source.get("valueQuantity")
    if quantity is None:
        whole = source.get("valueInteger")
        if whole is None or not measure.counted:
            return None
        quantity = {"value": whole, "code": measure.unit}
    number = quantity.get("value")
    if number is None:
        return None
    if not -LARGEST < number < LARGEST:
        raise ReadingRefused(
            "impossible-value",
            f"{measure.name} is not a number that anything measures.",
            f"{path}.value.ofType(Quantity)",
        )
    conversion, unit = _unit(measure, path, quantity)
    comparator = quantity.get("comparator", "")
    given = f"{comparator}{_short(number)} {unit}"
    if conversion is None:
        value = float(number)
    else:
        # One decimal more than we show, so that 208.1 lb and 94.4 kg stay one weight.
        value = float(half_up_exact(conversion.convert(Decimal(number)), measure.decimals + 1))
    low, high = measure.plausible
    doubt = None
    if not low <= value <= high:
        doubt = f"{measure.name} of {given} is outside the believable range {low:g} to {high:g} {measure.shown}."
    elif comparator and not _bound_says_enough(measure, comparator, value):
        doubt = f"{given} is only a bound."
    return value, None, given, doubt


def _bound_says_enough(measure: Measure, comparator: str, value: float) -> bool:
    # "<2.0" from a meter is at least as low as 2.0, so 2.0 alarms rightly; "<96 %" read as 96 % would reassure falsely.
    if measure.bounds is None:
        return False
    low, high = measure.bounds
    return value <= low if comparator.startswith("<") else value >= high


def _short(sent: object) -> str:
    # What a device sends may be megabytes long; the Observation keeps it whole.
    text = str(sent)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _unit(measure: Measure, path: str, quantity: JSON) -> tuple[Unit | None, str]:
    code: str = quantity.get("code") or measure.spellings.get(quantity.get("unit", ""), "")
    if code == measure.unit:
        return None, code
    if code in measure.accepts:
        return measure.accepts[code], code
    sent = _short(quantity.get("code") or quantity.get("unit") or "no unit")
    accepted = ", ".join(dict.fromkeys((measure.unit, *measure.accepts)))
    raise ReadingRefused(
        "wrong-unit",
        f"{measure.name} came in {sent!r}; accepted UCUM codes: {accepted}.",
        f"{path}.value.ofType(Quantity).code",
    )


def _answer(measure: Measure, path: str, source: JSON) -> tuple[None, str, str, None] | None:
    concept = source.get("valueCodeableConcept")
    if concept is None:
        return None
    for coding in concept.get("coding", ()):
        word = measure.answers.get((coding.get("system"), coding.get("code")))
        if word:
            return None, word, _short(coding.get("display") or coding["code"]), None
    accepted = ", ".join(f"{code} ({word})" for (_, code), word in measure.answers.items())
    raise ReadingRefused(
        "unknown-answer",
        f"{measure.name} has an answer that we do not know; accepted codes: {accepted}.",
        f"{path}.value.ofType(CodeableConcept)",
    )


def _oxygen_amount(quantity: JSON, path: str) -> tuple[None, str, str, None] | None:
    """A flow in L/min (0 is air) or an inspired percentage (21 % is air)."""
    amount = quantity.get("value")
    if amount is None:
        return None
    unit = quantity.get("code") or quantity.get("unit")
    if unit in ("L/min", "l/min"):
        word = OXYGEN if amount > 0 else AIR
    elif unit == "%":
        word = OXYGEN if amount > 21 else AIR
    else:
        raise ReadingRefused(
            "wrong-unit",
            f"Oxygen came in {_short(unit)!r}; accepted UCUM codes: L/min, l/min, %.",
            f"{path}.value.ofType(Quantity).code",
        )
    return None, word, f"{_short(amount)} {unit}", None


def _when(observation: JSON) -> tuple[datetime | None, bool]:
    """The instant of measuring, and whether it was given to the second. A day alone becomes its midnight in UTC.

    Of a period, the end counts: a day's steps are known when the day is over.
    """
    text = observation.get("effectiveDateTime") or observation.get("effectiveInstant")
    if text is None:
        period = observation.get("effectivePeriod") or {}
        text = period.get("end") or period.get("start")
    if not isinstance(text, str):
        return None, False
    try:
        if len(text) > 10:
            at = datetime.fromisoformat(text)
            return (at, True) if at.tzinfo else (None, False)
        if len(text) == 10:
            return datetime.fromisoformat(text).replace(tzinfo=UTC), False
    except ValueError:
        pass
    return None, False


def _is_test(observation: JSON) -> bool:
    meta = observation.get("meta")
    return meta is not None and any(one.get("code") == HTEST for one in meta.get("security", ()))


def _id(reference: JSON | None, kind: str) -> str:
    if reference is None:
        return ""
    text: str = reference.get("reference", "")
    if text.startswith(kind):
        return text[len(kind) :]
    _, found, rest = text.rpartition("/" + kind)
    return rest if found else ""
