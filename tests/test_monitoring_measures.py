"""The table of measures: codes that pass their check digits, units that convert exactly, ranges that make sense."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from monitoring import measures
from monitoring.measures import IMPLIED, LOINC, MEASURES, SNOMED, half_up

_D = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_P = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 5, 7, 6, 2, 8, 3, 0, 9, 4),
    (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7),
    (9, 4, 5, 3, 1, 2, 6, 8, 7, 0),
    (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5),
    (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)


def verhoeff(number: str) -> bool:
    check = 0
    for place, digit in enumerate(reversed(number)):
        check = _D[check][_P[place % 8][int(digit)]]
    return check == 0


def mod_10(code: str) -> bool:
    """LOINC's check digit (Luhn) after the hyphen."""
    body, _, check = code.partition("-")
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return (10 - total % 10) % 10 == int(check)


CODES = sorted({code for measure in MEASURES.values() for code in (*measure.codes, *measure.answers)} | set(IMPLIED))


class TestCodes:
    @pytest.mark.parametrize("code", [code for system, code in CODES if system == SNOMED])
    def test_snomed_codes_pass_verhoeff(self, code: str) -> None:
        assert verhoeff(code)

    @pytest.mark.parametrize("code", [code for system, code in CODES if system == LOINC and not code.startswith("LA")])
    def test_loinc_codes_pass_mod_10(self, code: str) -> None:
        assert mod_10(code)

    def test_the_checks_find_a_wrong_digit(self) -> None:
        assert not verhoeff("390296002")  # Interweave's "assistive equipment", known to be wrong
        assert not mod_10("8867-5")

    def test_every_code_written_in_the_package_is_in_the_table_or_checked(self) -> None:
        """A code that somebody writes elsewhere in monitoring escapes neither check."""
        folder = Path(measures.__file__).parent
        found = {
            number
            for file in folder.glob("*.py")
            for number in re.findall(r'"(\d{6,18})"', file.read_text())
            if file.name not in ("measures.py", "instruments.py")  # devices are MDC: no check digit
        }
        assert all(verhoeff(number) for number in found), found

    def test_each_measure_has_its_own_loinc_code_to_write(self) -> None:
        assert MEASURES["spo2"].coding == {"system": LOINC, "code": "59408-5", "display": "Oxygen saturation"}
        assert MEASURES["dry-weight"].coding["system"] == measures.LOCAL


class TestUnits:
    @pytest.mark.parametrize(
        ("measure", "unit", "sent", "kept"),
        [
            ("weight", "[lb_av]", "1", "0.45359237"),
            ("weight", "[stone_av]", "1", "6.35029318"),
            ("weight", "g", "82400", "82.4"),
            ("temperature", "[degF]", "98.6", "37"),
            ("temperature", "[degF]", "-40", "-40"),
            ("temperature", "K", "310.15", "37"),
            ("glucose", "mg/dL", "18.016", "1"),
            ("glucose", "mg/dL", "99.088", "5.5"),
            ("peak-flow", "L/s", "7.5", "450"),
        ],
    )
    def test_conversions_are_exact(self, measure: str, unit: str, sent: str, kept: str) -> None:
        conversion = MEASURES[measure].accepts[unit]
        assert conversion is not None
        assert conversion.convert(Decimal(sent)) == Decimal(kept)

    @pytest.mark.parametrize("key", MEASURES)
    def test_each_spelling_leads_to_an_accepted_unit(self, key: str) -> None:
        measure = MEASURES[key]
        assert set(measure.spellings.values()) <= {measure.unit, *measure.accepts}

    @pytest.mark.parametrize("key", MEASURES)
    def test_each_measure_says_where_it_comes_from(self, key: str) -> None:
        measure = MEASURES[key]
        assert measure.source
        assert bool(measure.answers) != bool(measure.unit)
        assert measure.answers or measure.plausible[0] < measure.plausible[1]

    def test_words_are_named_for_people(self) -> None:
        for measure in MEASURES.values():
            assert set(measure.words) == set(measure.answers.values())


class TestRounding:
    @pytest.mark.parametrize(
        ("value", "decimals", "rounded"),
        [
            (38.05, 1, 38.1),
            (38.04, 1, 38.0),
            (35.05, 1, 35.1),
            (94.5, 0, 95),
            (94.49, 0, 94),
            (2.95, 1, 3.0),
            (8.5, 0, 9),
        ],
    )
    def test_halves_go_up_as_on_paper(self, value: float, decimals: int, rounded: float) -> None:
        assert half_up(value, decimals) == rounded

    def test_shown_with_unit(self) -> None:
        assert MEASURES["spo2"].show(91) == "91 %"
        assert MEASURES["weight"].show(82.44) == "82.4 kg"
