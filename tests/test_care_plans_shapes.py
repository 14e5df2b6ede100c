"""References, dates and extensions as FHIR JSON has them."""

from datetime import UTC, datetime

import pytest

from care_plans.shapes import (
    EXTENSION,
    codings,
    concept_text,
    extension_value,
    instant,
    literals,
    local_reference,
    nested,
    reference_id,
    set_extension,
)


class TestReference:
    @pytest.mark.parametrize(
        "reference",
        [
            None,
            "Patient/1",
            {},
            {"display": "Ann"},
            {"reference": "#ann"},
            {"reference": "urn:uuid:0"},
            {"reference": "https://elsewhere.example/fhir/Patient/1"},
            {"reference": "Patient/"},
            {"reference": "Patient/a b"},
            {"reference": "Patient/" + "x" * 65},
            {"reference": "Patient/1\n"},
            {"reference": 7},
        ],
    )
    def test_what_is_no_local_reference(self, reference: object) -> None:
        assert local_reference(reference) is None
        assert reference_id(reference, "Patient") is None

    def test_an_id(self) -> None:
        assert reference_id({"reference": "Patient/1"}, "Patient") == "1"
        assert reference_id({"reference": "Patient/1/_history/3"}, "Patient") == "1"
        assert reference_id({"reference": "PatientGroup/1"}, "Patient") is None

    def test_a_list(self) -> None:
        assert literals([{"reference": "Goal/a"}, {"reference": "#b"}, {"display": "c"}]) == ("Goal/a",)
        assert literals(None) == ()


class TestInstant:
    @pytest.mark.parametrize(
        "text", [None, "", "soon", "2026-13", "2026-02-30", "2026-11-21T10:00:00", 2026, "2026-11-21T"]
    )
    def test_what_is_no_date(self, text: object) -> None:
        assert instant(text) is None

    @pytest.mark.parametrize(
        ("text", "begins", "ends"),
        [
            ("2026", datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
            ("2026-11", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
            ("2026-12", datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
            ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)),
            ("2026-07-01", datetime(2026, 6, 30, 23, tzinfo=UTC), datetime(2026, 7, 1, 23, tzinfo=UTC)),
            # The nights in which the clocks change have 23 and 25 hours.
            ("2026-03-29", datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 3, 29, 23, tzinfo=UTC)),
            ("2026-10-25", datetime(2026, 10, 24, 23, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)),
        ],
    )
    def test_hazard_clock_a_day_is_a_day_in_london(self, text: str, begins: datetime, ends: datetime) -> None:
        assert (instant(text), instant(text, end=True)) == (begins, ends)

    def test_a_moment_is_itself(self) -> None:
        text = "2026-11-21T10:00:00+01:00"
        assert instant(text) == instant(text, end=True) == datetime(2026, 11, 21, 9, tzinfo=UTC)

    def test_the_end_of_time_has_none(self) -> None:
        assert instant("9999-12-31", end=True) is None


class TestWords:
    def test_of_a_concept(self) -> None:
        assert concept_text(None) is None
        assert concept_text({"coding": [{"code": "1"}, {"display": "Walk"}]}) == "Walk"
        assert concept_text({"text": "Walk daily", "coding": [{"display": "Walk"}]}) == "Walk daily"

    def test_codes_of_one_or_many(self) -> None:
        one = {"coding": [{"system": "s", "code": "1"}]}
        assert list(codings(one)) == list(codings([one])) == [("s", "1")]
        assert list(codings(None)) == []


class TestExtension:
    def test_put_replace_remove(self) -> None:
        element: dict[str, object] = {"extension": [{"url": "urn:a"}]}
        set_extension(element, "what-matters", {"valueString": "x"})
        set_extension(element, "what-matters", {"valueString": "y"})
        assert extension_value(element, "what-matters", "valueString") == "y"
        assert element["extension"] == [{"url": "urn:a"}, {"url": EXTENSION + "what-matters", "valueString": "y"}]
        set_extension(element, "what-matters", None)
        assert element == {"extension": [{"url": "urn:a"}]}

    def test_none_is_left_rather_than_an_empty_list(self) -> None:
        element: dict[str, object] = {}
        set_extension(element, "agreed", {"valueString": "x"})
        set_extension(element, "agreed", None)
        assert element == {}

    def test_a_part_that_is_absent(self) -> None:
        assert nested(None, "by") == {}
