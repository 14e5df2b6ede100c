"""Readings in other people's formats, turned into FHIR Observations: pure translators, one module for each format.

What they give goes through the same checks as an Observation that a device posts, so they look after shape alone;
believable values and times are judged there. What they cannot turn into one they refuse by name, never guess.
"""

from fhir.outcome import Issue, Refusal


class FormatRefused(Refusal):
    """What is no reading in the format that it came in. `reason` is the code under which the hub files it:
    `unknown-schema`, `structure`, `required`, `value`, `no-time`, `unknown-answer` or `unknown-file`."""

    def __init__(self, reason: str, diagnostics: str, expression: str) -> None:
        super().__init__(
            422, [Issue("required" if reason in ("required", "no-time") else "value", diagnostics, expression)]
        )
        self.reason = reason
