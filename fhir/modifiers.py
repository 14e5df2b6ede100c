"""Which modifiers each kind of search parameter takes: what is refused, what the CapabilityStatement says and what
docs/fhir.md says all stand here."""

MODIFIERS: dict[str, tuple[str, ...]] = {
    "token": ("missing", "text", "not", "in", "not-in", "above", "below", "of-type"),
    "reference": ("missing", "identifier", "above", "below"),
    "string": ("missing", "exact", "contains"),
    "date": ("missing",),
    "uri": ("missing", "above", "below"),
    "number": ("missing",),
    "quantity": ("missing",),
    "composite": (),
    "special": (),
}
# Ids and the hub's own words have no texts, value sets or hierarchies.
_OF_ONE: dict[str, tuple[str, ...]] = {"_id": ("missing", "not"), "_lastUpdated": ("missing",)}
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")


def modifiers(code: str, kind: str) -> tuple[str, ...]:
    """Those of the parameter *code*. A reference also takes `:Type`, for each type that it may name."""
    known = _OF_ONE.get(code, MODIFIERS[kind])
    return tuple(one for one in known if one != "of-type" or code == "identifier")
