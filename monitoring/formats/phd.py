"""What HL7's Personal Health Device guide asks of a server that takes its Observations, beyond plain FHIR.

A gateway gives each measurement an identifier made of device, person, code, time and value, and creates it on condition
that there is none with that identifier yet, because devices send again. A device searches nothing here; but whether
this very Observation was stored before is what its key tells (`monitoring.readings.key` holds the identifiers), so the
condition is met by what is done anyway, when it names an identifier of the Observation itself.

Source: HL7 Personal Health Device Implementation Guide 1.1.0 and 2.0.0 (PhdBaseObservation, conditional create).
"""

from collections.abc import Sequence
from typing import Any

JSON = dict[str, Any]


def names_itself(observation: JSON, query: Sequence[tuple[str, str]]) -> bool:
    """Whether the criteria of a conditional create are one identifier of *observation*: `identifier=system|value`,
    `|value` where it has no system, or `value`."""
    if len(query) != 1 or query[0][0] != "identifier":
        return False
    system, bar, value = query[0][1].rpartition("|")
    identifiers = observation.get("identifier")
    if not isinstance(identifiers, list) or not value:
        return False
    return any(
        isinstance(one, dict) and one.get("value") == value and (not bar or one.get("system", "") == system)
        for one in identifiers
    )
