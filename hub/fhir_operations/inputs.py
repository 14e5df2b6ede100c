"""The parameters of a call: from the query of a GET, or the Parameters of a POST."""

from collections.abc import Mapping

from fhir.parameters import Input, Inputs, taken
from fhir.validation import parse
from hub.interactions import Call


def inputs(call: Call, known: Mapping[str, Input]) -> Inputs:
    """Refusal 400 for what is not understood: see `fhir.parameters.taken`."""
    resource = parse(call.raw, "Parameters").resource if call.raw.strip() else None
    return taken(call.query, resource, known)
