"""From Observation to reading: every shape, refusals with their reason, doubts kept and never lost."""

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import pytest
from monitoring_cases import JSON, NOW, answer, blood_pressure, coding, observation, quantity

from monitoring.measures import LOCAL, LOINC, MDC, SNOMED
from monitoring.readings import FUTURE, ReadingRefused, digest, key, readings


def one(resource: JSON, **more: bool) -> tuple[str, float | None, str | None, str]:
    (found,) = readings(resource, NOW, **more)
    return found.measure, found.value, found.word, found.quality


def refused(resource: JSON, **more: bool) -> ReadingRefused:
    with pytest.raises(ReadingRefused) as caught:
        readings(resource, NOW, **more)
    assert caught.value.status == 422
    return caught.value


class TestShapes:
    def test_a_single_value(self) -> None:
        (found,) = readings(
            observation("59408-5", quantity(93, "%"), device={"reference": "Device/d1"}), NOW, from_device=True
        )
        assert found.at == datetime(2026, 11, 21, 11, 30, tzinfo=UTC)
        assert (found.measure, found.value, found.given, found.quality) == ("spo2", 93.0, "93 %", "ok")
        assert (found.observation_id, found.patient_id, found.device_id) == ("o1", "p1", "d1")

    def test_a_blood_pressure_panel_gives_two_readings(self) -> None:
        found = readings(blood_pressure(142, 88), NOW)
        assert [(one.measure, one.value) for one in found] == [("systolic", 142.0), ("diastolic", 88.0)]
        assert {one.observation_id for one in found} == {"o1"}

    def test_an_absent_component_gives_no_reading(self) -> None:
        resource = blood_pressure(107, None)
        absent = {"dataAbsentReason": {"coding": [{"code": "not-performed"}]}, "code": coding(LOINC, "8462-4")}
        resource["component"].append(absent)
        assert [one.measure for one in readings(resource, NOW)] == ["systolic"]

    def test_an_absent_value_gives_no_reading(self) -> None:
        assert readings(observation("8867-4", dataAbsentReason={"coding": [{"code": "error"}]}), NOW) == []

    def test_something_that_we_do_not_measure(self) -> None:
        assert readings(observation("4548-4", quantity(48, "mmol/mol")), NOW) == []

    def test_nothing_about_a_patient(self) -> None:
        resource = observation("8867-4", quantity(70, "/min"), subject={"reference": "Group/g"})
        assert readings(resource, NOW) == []

    def test_an_absolute_reference(self) -> None:
        resource = observation(
            "8867-4", quantity(70, "/min"), subject={"reference": "https://hub.example/fhir/Patient/p9"}
        )
        assert readings(resource, NOW)[0].patient_id == "p9"

    @pytest.mark.parametrize(
        ("system", "code", "measure"),
        [
            (SNOMED, "364075005", "pulse"),
            (MDC, "149530", "pulse"),
            (LOCAL, "pulse", "pulse"),
            (SNOMED, "86290005", "respiratory-rate"),
        ],
    )
    def test_other_code_systems(self, system: str, code: str, measure: str) -> None:
        assert one(observation(code, quantity(70, "/min"), system=system))[0] == measure

    @pytest.mark.parametrize(
        ("code", "unit"), [("8867-4", "{beats}/min"), ("9279-1", "{Breaths}/min"), ("8867-4", "/min")]
    )
    def test_uk_core_units(self, code: str, unit: str) -> None:
        assert one(observation(code, quantity(22, unit)))[1] == 22.0

    def test_the_special_code_wins_over_the_general_one(self) -> None:
        dry = observation("29463-7", quantity(78, "kg"))
        dry["code"]["coding"].append({"system": SNOMED, "code": "445541000"})
        exertion = observation("2708-6", quantity(86, "%"))
        exertion["code"]["coding"].insert(0, {"system": SNOMED, "code": "866681000000102"})
        assert one(dry)[0] == "dry-weight"
        assert one(exertion)[0] == "spo2-exertion"

    @pytest.mark.parametrize(
        ("code", "word"),
        [
            ("248234008", "alert"),
            ("130987000", "confused"),
            ("300202002", "voice"),
            ("450847001", "pain"),
            ("422768004", "unresponsive"),
        ],
    )
    def test_consciousness(self, code: str, word: str) -> None:
        assert one(observation("80288-4", valueCodeableConcept=answer(code))) == ("consciousness", None, word, "ok")

    def test_steps_as_an_integer(self) -> None:
        assert one(observation("41950-7", valueInteger=4210))[:2] == ("steps", 4210.0)

    def test_a_period_counts_by_its_end(self) -> None:
        resource = observation("41950-7", quantity(4210, "{steps}"))
        del resource["effectiveDateTime"]
        resource["effectivePeriod"] = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
        assert readings(resource, NOW)[0].at == datetime(2026, 11, 21, tzinfo=UTC)


class TestOxygen:
    AIR: ClassVar[JSON] = answer("722742002")
    OXYGEN: ClassVar[JSON] = answer("371825009")

    def words(self, resource: JSON) -> dict[str, str | None]:
        return {one.measure: one.word for one in readings(resource, NOW)}

    @pytest.mark.parametrize(("concept", "word"), [(AIR, "air"), (OXYGEN, "oxygen")])
    def test_as_a_component_of_spo2(self, concept: JSON, word: str) -> None:
        component = {"code": coding(SNOMED, "371825009"), "valueCodeableConcept": concept}
        assert self.words(observation("59408-5", quantity(94, "%"), component=[component])) == {
            "spo2": None,
            "oxygen": word,
        }

    def test_as_an_answer_to_a_component_of_any_code(self) -> None:
        component = {"code": {"text": "Inspired oxygen"}, "valueCodeableConcept": self.AIR}
        assert self.words(observation("59408-5", quantity(94, "%"), component=[component]))["oxygen"] == "air"

    @pytest.mark.parametrize(("code", "word"), [("866661000000106", "air"), ("866701000000100", "oxygen")])
    def test_in_the_code_itself(self, code: str, word: str) -> None:
        found = self.words(observation(code, quantity(94, "%"), system=SNOMED))
        assert found == {"spo2": None, "oxygen": word}

    @pytest.mark.parametrize(
        ("value", "word"),
        [
            (quantity(2, "L/min"), "oxygen"),
            (quantity(2, "l/min"), "oxygen"),
            (quantity(0, "L/min"), "air"),
            (quantity(28, "%"), "oxygen"),
            (quantity(21, "%"), "air"),
        ],
    )
    def test_as_a_flow_or_a_percentage(self, value: JSON, word: str) -> None:
        assert self.words(observation("371825009", value, system=SNOMED)) == {"oxygen": word}
        flow = {"code": coding(LOINC, "3151-8"), "valueQuantity": value}
        assert self.words(observation("2708-6", quantity(94, "%"), component=[flow]))["oxygen"] == word

    def test_in_an_unknown_unit(self) -> None:
        assert refused(observation("3151-8", quantity(2, "mL/min"))).reason == "wrong-unit"


class TestUnits:
    def test_pounds_become_kilograms_and_the_original_stays(self) -> None:
        (found,) = readings(observation("29463-7", quantity(Decimal("208.1"), "[lb_av]")), NOW)
        assert (found.value, found.given) == (94.39, "208.1 [lb_av]")

    def test_milligrams_become_millimoles(self) -> None:
        (found,) = readings(observation("2339-0", quantity(100, "mg/dL")), NOW)
        assert (found.value, found.given) == (5.55, "100 mg/dL")

    def test_fahrenheit(self) -> None:
        assert one(observation("8310-5", quantity(Decimal("101.3"), "[degF]")))[1] == 38.5

    def test_a_spelled_unit_without_a_code(self) -> None:
        assert one(observation("8867-4", {"value": 71, "unit": "bpm"}))[1] == 71.0

    @pytest.mark.parametrize(
        "value", [{"value": 80, "unit": "lbs", "code": "lb"}, {"value": 80}, {"value": 80, "unit": "stones and pounds"}]
    )
    def test_hazard_wrong_unit(self, value: JSON) -> None:
        refusal = refused(observation("29463-7", value))
        assert refusal.reason == "wrong-unit"
        assert "kg, g, [lb_av], [stone_av]" in refusal.issues[0].diagnostics
        assert refusal.issues[0].code == "value"

    def test_hazard_wrong_unit_in_a_component_names_the_component(self) -> None:
        resource = blood_pressure(120, 80)
        resource["component"][1]["valueQuantity"]["code"] = "kPa"
        assert refused(resource).issues[0].expression == "Observation.component[1].value.ofType(Quantity).code"

    def test_hazard_wrong_unit_mixed_up_glucose(self) -> None:
        """110 "mmol/L" is a mg/dL number: kept, shown as doubtful, never evaluated."""
        (found,) = readings(observation("14743-9", quantity(110, "mmol/L")), NOW)
        assert found.quality == "check"
        assert found.why == "Glucose of 110 mmol/L is outside the believable range 0.6 to 45 mmol/L."

    def test_what_is_told_back_stays_short(self) -> None:
        assert len(str(refused(observation("8867-4", {"value": 1, "code": "x" * 10_000})))) < 200
        digits = Decimal("72." + "3" * 10_000)
        (found,) = readings(observation("8867-4", quantity(digits, "/min")), NOW)
        assert len(found.given) < 60
        (found,) = readings(observation("29463-7", quantity(Decimal("180." + "3" * 10_000), "[lb_av]")), NOW)
        assert found.value == 81.8

    def test_a_number_next_to_nothing(self) -> None:
        (found,) = readings(observation("29463-7", quantity(Decimal("1E-999999"), "[lb_av]")), NOW)
        assert (found.value, found.quality) == (0, "check")

    def test_an_unknown_answer(self) -> None:
        assert refused(observation("80288-4", valueCodeableConcept=answer("73211009"))).reason == "unknown-answer"


class TestDoubt:
    @pytest.mark.parametrize(
        ("code", "unit", "value", "quality"),
        [
            ("59408-5", "%", 49, "check"),
            ("59408-5", "%", 50, "ok"),
            ("59408-5", "%", 100, "ok"),
            ("59408-5", "%", 101, "check"),
            ("8310-5", "Cel", Decimal("29.9"), "check"),
            ("8310-5", "Cel", 30, "ok"),
            ("8310-5", "Cel", 45, "ok"),
            ("8310-5", "Cel", Decimal("45.1"), "check"),
            ("29463-7", "kg", 0, "check"),
        ],
    )
    def test_the_believable_range(self, code: str, unit: str, value: float, quality: str) -> None:
        assert one(observation(code, quantity(value, unit)))[3] == quality

    def test_hazard_false_reassurance_by_a_bound(self) -> None:
        """ "<96 %" may be any lower number; read as 96 % it would say that all is well."""
        assert one(observation("59408-5", quantity(96, "%") | {"comparator": "<"}))[3] == "check"

    @pytest.mark.parametrize(
        ("comparator", "value", "quality"), [("<", Decimal("1.1"), "ok"), (">", 33, "ok"), ("<", 7, "check")]
    )
    def test_a_meter_that_says_low_or_high(self, comparator: str, value: Decimal, quality: str) -> None:
        resource = observation("14743-9", quantity(value, "mmol/L") | {"comparator": comparator})
        (found,) = readings(resource, NOW)
        assert found.quality == quality
        assert found.given == f"{comparator}{value} mmol/L"

    @pytest.mark.parametrize("value", [Decimal("1E+400"), 10**400, -(10**12)])
    def test_a_number_that_nothing_measures(self, value: Decimal) -> None:
        assert refused(observation("8867-4", quantity(value, "/min"))).reason == "impossible-value"

    def test_entered_in_error_is_wrong_and_not_lost(self) -> None:
        assert one(observation("8867-4", quantity(70, "/min"), status="entered-in-error"))[3] == "wrong"

    @pytest.mark.parametrize("status", ["cancelled", "registered"])
    def test_nothing_was_measured(self, status: str) -> None:
        assert readings(observation("8867-4", quantity(70, "/min"), status=status), NOW) == []


class TestTime:
    def test_hazard_clock_error_in_the_future(self) -> None:
        at = NOW + FUTURE + timedelta(seconds=1)
        refusal = refused(observation("8867-4", quantity(70, "/min"), at=at.isoformat()))
        assert refusal.reason == "future-time"

    def test_a_clock_a_little_ahead(self) -> None:
        at = (NOW + FUTURE).isoformat()
        assert one(observation("8867-4", quantity(70, "/min"), at=at))[3] == "ok"

    @pytest.mark.parametrize("at", ["2026-11-21", "2026-11", "2026", "2026-11-21T11:30:00", "yesterday"])
    def test_a_device_must_say_when(self, at: str) -> None:
        assert refused(observation("8867-4", quantity(70, "/min"), at=at), from_device=True).reason == "no-time"

    def test_a_device_must_say_when_at_all(self) -> None:
        resource = observation("8867-4", quantity(70, "/min"))
        del resource["effectiveDateTime"]
        assert refused(resource, from_device=True).reason == "no-time"
        assert readings(resource, NOW) == []

    def test_a_day_alone_from_others_is_charted_as_doubtful(self) -> None:
        (found,) = readings(observation("8867-4", quantity(70, "/min"), at="2026-11-20"), NOW)
        assert (found.at, found.quality) == (datetime(2026, 11, 20, tzinfo=UTC), "check")

    def test_hazard_timezone_error(self) -> None:
        """The same instant with another offset is the same instant; 01:30 comes twice when the clocks go back."""
        summer, winter = (
            readings(observation("8867-4", quantity(70, "/min"), at=f"2026-10-25T01:30:00{offset}"), NOW)[0].at
            for offset in ("+01:00", "+00:00")
        )
        assert winter - summer == timedelta(hours=1)


class TestSandbox:
    LABEL: ClassVar[JSON] = {
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]
    }

    def test_a_test_reading_of_a_real_person(self) -> None:
        assert one(observation("8867-4", quantity(70, "/min"), meta=self.LABEL))[3] == "sandbox"

    def test_a_sandbox_device_of_a_real_person(self) -> None:
        assert one(observation("8867-4", quantity(70, "/min")), test=True)[3] == "sandbox"

    def test_a_synthetic_person_is_all_test(self) -> None:
        assert one(observation("8867-4", quantity(70, "/min"), meta=self.LABEL), synthetic=True)[3] == "ok"


class TestReceipts:
    BASE: ClassVar[JSON] = observation("59408-5", quantity(93, "%"))

    def test_hazard_duplicate_device_readings(self) -> None:
        """Sent again, even with the offset written in another way, it has the same key and digest."""
        again = {**self.BASE, "id": "other", "effectiveDateTime": "2026-11-21T12:30:00+01:00"}
        assert key("d1", again) == key("d1", self.BASE)
        assert digest(again) == digest(self.BASE)
        assert len(key("d1", again)) == len(digest(again)) == 16

    def test_a_correction_has_the_key_and_another_digest(self) -> None:
        corrected = {**self.BASE, "valueQuantity": quantity(94, "%")}
        assert key("d1", corrected) == key("d1", self.BASE)
        assert digest(corrected) != digest(self.BASE)

    @pytest.mark.parametrize(
        "other",
        [
            {**BASE, "effectiveDateTime": "2026-11-21T11:30:01Z"},
            {**BASE, "code": coding(LOINC, "8867-4")},
            {**BASE, "identifier": [{"system": "urn:x", "value": "2"}]},
        ],
    )
    def test_another_measurement_has_another_key(self, other: JSON) -> None:
        assert key("d1", other) != key("d1", self.BASE)
        assert key("d2", self.BASE) != key("d1", self.BASE)

    def test_a_corrected_component_shows(self) -> None:
        assert digest(blood_pressure(120, 80)) != digest(blood_pressure(120, 81))
        assert digest(observation("80288-4", valueCodeableConcept=answer("248234008"))) != digest(
            observation("80288-4", valueCodeableConcept=answer("130987000"))
        )


class TestRealInput:
    def test_synthea_vitals(self, shared_data: Path) -> None:
        measured: dict[str, int] = {}
        for file in sorted((shared_data / "synthea").glob("*.json"))[:12]:
            for entry in json.loads(file.read_text(), parse_float=Decimal).get("entry", []):
                resource = entry["resource"]
                if resource["resourceType"] == "Observation":
                    resource["subject"] = {"reference": "Patient/p1"}
                    for found in readings(resource, NOW):
                        assert found.quality == "ok"
                        measured[found.measure] = measured.get(found.measure, 0) + 1
        assert {"systolic", "diastolic", "weight", "glucose"} <= measured.keys()
        assert measured["systolic"] == measured["diastolic"]

    def test_no_official_example_is_refused(self, shared_data: Path) -> None:
        files = sorted((shared_data / "hl7-examples" / "Observation").glob("*.json"))
        found = [
            reading for file in files for reading in readings(json.loads(file.read_text(), parse_float=Decimal), NOW)
        ]
        assert {"weight", "temperature", "systolic", "glucose"} == {one.measure for one in found}
        assert next(one for one in found if one.measure == "weight").value == 83.91


def test_reading_keeps_up_with_ingestion() -> None:
    """A device's Observation costs a few microseconds; the bound is low enough for a busy machine."""
    sent = observation("59408-5", quantity(93, "%"), device={"reference": "Device/d1"})
    started = time.process_time()
    for _ in range(5000):
        readings(sent, NOW, from_device=True)
    assert (time.process_time() - started) / 5000 < 15e-6
