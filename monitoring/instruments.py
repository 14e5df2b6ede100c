"""Kinds of home devices, and what each measures. Adding a kind is one entry."""

from dataclasses import dataclass
from typing import Any

from monitoring.measures import MEASURES

MDC = "urn:iso:std:iso:11073:10101"
LOCAL = "https://carehub.example/fhir/CodeSystem/device-kind"


@dataclass(frozen=True, slots=True)
class Instrument:
    """A kind of device. `code` is its IEEE 11073 device specialization (MDC), where there is one; `measures` are keys
    of MEASURES. A device is not tied to them: a cuff may send a saturation, and the hub takes it."""

    key: str
    name: str
    measures: tuple[str, ...]
    code: str | None = None

    @property
    def concept(self) -> dict[str, Any]:
        """As `Device.type`: the local code, and that of IEEE 11073 beside it."""
        codings = [{"system": LOCAL, "code": self.key, "display": self.name}]
        if self.code:
            codings.append({"system": MDC, "code": self.code})
        return {"coding": codings, "text": self.name}


# MDC codes: ISO/IEEE 11073-10101, device specializations of partition 8 (infrastructure), such as 8 * 65536 + 4100.
_KINDS = (
    Instrument("cuff", "Blood pressure monitor", ("systolic", "diastolic", "pulse"), "528391"),
    Instrument("oximeter", "Pulse oximeter", ("spo2", "spo2-exertion", "pulse"), "528388"),
    Instrument("thermometer", "Thermometer", ("temperature",), "528392"),
    Instrument("scales", "Scales", ("weight",), "528399"),
    Instrument("meter", "Glucose meter", ("glucose",), "528401"),
    Instrument("sensor", "Glucose sensor", ("glucose-sensor",), "528409"),
    Instrument("peak-flow", "Peak flow meter", ("peak-flow",), "528405"),
    Instrument("respiration", "Respiration monitor", ("respiratory-rate",), "528397"),
    Instrument("steps", "Step counter", ("steps",), "528488"),
    Instrument("falls", "Fall sensor", ("falls",), "528501"),
    Instrument("tablet", "Tablet for the daily questions", ("respiratory-rate", "temperature", "consciousness")),
    Instrument("gateway", "Gateway for several devices", tuple(MEASURES)),
)

INSTRUMENTS: dict[str, Instrument] = {one.key: one for one in _KINDS}
_BY_CODE = {(LOCAL, one.key): one for one in _KINDS} | {(MDC, one.code): one for one in _KINDS if one.code}


def instrument_of(device: dict[str, Any]) -> Instrument | None:
    """The kind of a FHIR Device by the codes of its type, or of what it is specialized in; None when none is known."""
    concepts = [device.get("type") or {}, *(one.get("systemType") or {} for one in device.get("specialization", ()))]
    for concept in concepts:
        for coding in concept.get("coding", ()):
            found = _BY_CODE.get((coding.get("system"), coding.get("code")))
            if found is not None:
                return found
    return None
