"""Units: what is converted into what, exactly, and what is not."""

import importlib.util
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

from fhir import units
from fhir.index import index
from fhir.registry import SPECS


def generator() -> ModuleType:
    path = Path(units.__file__).parent / "data" / "units_of_measure.py"
    spec = importlib.util.spec_from_file_location("units_of_measure", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def converted(value: str, code: str, other: str) -> Decimal:
    one, two = units.UNITS[code], units.UNITS[other]
    assert one.kind == two.kind
    return (Decimal(value) * one.factor + one.offset - two.offset) / two.factor


@pytest.mark.parametrize(
    ("value", "code", "other", "expected"),
    [
        ("120", "mm[Hg]", "kPa", "15.99864"),
        ("98.6", "[degF]", "Cel", "37"),
        ("310.15", "K", "Cel", "37"),
        ("1", "g/dL", "g/L", "10"),
        ("5.5", "mmol/L", "umol/L", "5500"),
        ("72", "/min", "Hz", "1.2"),
        ("1", "[lb_av]", "g", "453.59237"),
        ("1", "[in_i]", "cm", "2.54"),
        ("7", "d", "wk", "1"),
        ("4", "10*3/uL", "10*9/L", "4"),
        ("1", "kat/L", "U/L", "60000000"),
    ],
)
def test_ucum_says(value: str, code: str, other: str, expected: str) -> None:
    assert abs(converted(value, code, other) - Decimal(expected)) < Decimal("1e-12")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mmol/L", "mg/dL"),  # only with the weight of a molecule
        ("[iU]/L", "U/L"),
        ("[iU]/mL", "10*9/L"),  # an international unit is no count
        ("mmol/mol", "%"),  # HbA1c: two scales
        ("mmol/L", "10*9/L"),
        ("kg", "kg/m2"),
        ("Cel", "mm[Hg]"),
    ],
)
def test_what_is_another_kind(one: str, other: str) -> None:
    assert units.UNITS[one].kind != units.UNITS[other].kind


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("{beats}/min", "1/min"),
        ("/min{beats}", "/min"),
        ("mL/min/{1.73_m2}", "mL/min"),
        ("{score}", "1"),
        ("10*3/uL{cells}", "10*3/uL"),
        ("mm[Hg]", "mm[Hg]"),
    ],
)
def test_annotations_count_nothing(written: str, plain: str) -> None:
    assert units.plain(written) == plain
    assert units.unit(written) is not None


def test_what_is_no_unit_is_not_converted() -> None:
    assert [units.unit(code) for code in ("", "mmHg", "[pH]", "dB", "banana")] == [None] * 5
    pressure = units.key(units.UNITS["mm[Hg]"])
    assert units.known("banana", "mm[Hg]") == ((pressure,), ())
    assert units.known("kPa", "kPa") == units.known("kPa", None)
    keys, factors = units.known("kPa", None)
    assert (keys, len(factors)) == ((pressure,), 1)
    assert units.known("banana", None) == ((), ())


def test_the_span_holds_what_is_written_and_what_it_comes_to() -> None:
    def span(*amounts: dict[str, object], **more: object) -> tuple[float | None, float | None]:
        parts = [{"valueQuantity": amount} for amount in amounts]
        row = index(SPECS["Observation"], {"resourceType": "Observation", "component": parts, **more})
        return row.low, row.high

    assert span() == (None, None)
    assert span({"value": Decimal("120"), "code": "mm[Hg]"}) == (120, 120)
    assert span({"value": 120}, {"value": 80}) == (80, 120)
    low, high = span({"value": Decimal("16"), "code": "kPa"})
    assert low == 16 and high == pytest.approx(120.01, abs=0.01)
    assert span({"value": 5, "comparator": "<"}) == (float("-inf"), 5)
    assert span({"value": 5, "comparator": ">="}) == (5, float("inf"))
    assert span({"unit": "no value"}) == (None, None)
    assert span(valueInteger=7) == (None, None)
    sampled = {"origin": {"value": 1}, "period": 1, "dimensions": 1, "data": "1 2"}
    assert span(valueSampledData=sampled) == (None, None)
    risk = {"resourceType": "RiskAssessment", "prediction": [{"probabilityDecimal": Decimal("0.2")}]}
    assert (index(SPECS["RiskAssessment"], risk).low, index(SPECS["RiskAssessment"], risk).high) == (0.2, 0.2)


def test_every_preferred_unit_is_one_of_its_kind() -> None:
    for code, unit in units.UNITS.items():
        assert unit.factor > 0, code
        assert units.of_kind(unit.kind)[code] == [unit.factor, unit.offset]
    module = generator()
    assert all(units.UNITS[code].preferred for code in module.PREFERRED.split())


def test_the_maker_reads_products_quotients_and_powers(tmp_path: Path) -> None:
    (tmp_path / "ucum-essence.xml").write_text(
        '<root xmlns="http://unitsofmeasure.org/ucum-essence"><prefix Code="k"><value value="1e3"/></prefix>'
        '<base-unit Code="m"/><base-unit Code="s"/><base-unit Code="g"/>'
        '<unit Code="N" isMetric="yes"><value Unit="kg.m/s2" value="1"/></unit>'
        '<unit Code="[x]" isArbitrary="yes"><value Unit="1" value="1"/></unit>'
        '<unit Code="Cel" isSpecial="yes"><value Unit="cel(1 K)"/></unit></root>'
    )
    ucum = generator().Ucum(tmp_path / "ucum-essence.xml")
    assert ucum.size("N") == (1000, (("g", 1), ("m", 1), ("s", -2)))
    assert ucum.size("kN/(m.s)") == (10**6, (("g", 1), ("s", -3)))
    assert ucum.size("/s") == (1, (("s", -1),))
    assert ucum.size("[x]") == (1, (("[x]", 1),))
    for code in ("Cel", "kk", "m//s", "?"):
        with pytest.raises(ValueError, match=r"\w|\?"):
            ucum.size(code)
