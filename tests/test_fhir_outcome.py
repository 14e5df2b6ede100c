"""Every refusal says where: the element, or the part of the request."""

import pytest

from fhir.outcome import outcome_of, refuse


@pytest.mark.parametrize(
    ("status", "where"),
    [
        (400, "Resource"),
        (401, "http.Authorization"),
        (404, "http.url"),
        (405, "http.method"),
        (406, "http.Accept"),
        (409, "Resource"),
        (412, "http.If-Match"),
        (415, "http.Content-Type"),
        (422, "Resource"),
    ],
)
def test_a_refusal_about_no_element_names_the_part_of_the_request(status: int, where: str) -> None:
    assert outcome_of(refuse(status, "invalid", "no"))["issue"][0]["expression"] == [where]


def test_an_element_stays_what_is_named() -> None:
    refusal = refuse(422, "value", "no", "Observation.value")
    assert outcome_of(refusal)["issue"][0]["expression"] == ["Observation.value"]


def test_a_failure_on_our_side_blames_no_part() -> None:
    assert "expression" not in outcome_of(refuse(503, "transient", "later"))["issue"][0]
