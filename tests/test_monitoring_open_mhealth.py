"""Open mHealth and IEEE 1752.1 data points, by the samples of openmhealth/schemas and by what they may not become."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fhir import validation, wire
from fhir.outcome import Refusal
from monitoring.formats import FormatRefused
from monitoring.formats.open_mhealth import is_data_point, observation
from monitoring.readings import readings

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def point(
    name: str, body: dict[str, Any], namespace: str = "omh", version: str = "2.0", **header: Any
) -> dict[str, Any]:
    schema = {"namespace": namespace, "name": name, "version": version}
    return {"header": {"uuid": "8a1d6a2e-1111-4222-8333-444455556666", "schema_id": schema, **header}, "body": body}


def read(found: dict[str, Any]) -> list[tuple[str, float | None, str | None]]:
    made = validation.parse(wire.encode(observation(found, "Patient/p1")), "Observation").resource
    return [(one.measure, one.value, one.word) for one in readings(made, NOW, from_device=True)]


def samples(shared: Path, verdict: str) -> list[Path]:
    return sorted((shared / "devices" / "openmhealth").glob(f"*/{verdict}/*.json"))


class TestSamples:
    def test_what_the_schemas_pass_is_taken(self, shared_data: Path) -> None:
        found = samples(shared_data, "shouldPass")
        for path in found:
            body = wire.decode(path.read_bytes())
            made = read(point(path.parents[1].name, body))
            assert bool(made) == ("descriptive_statistic" not in body), path
        assert len(found) > 20

    def test_what_they_fail_is_refused_with_its_place(self, shared_data: Path) -> None:
        found = samples(shared_data, "shouldFail")
        for path in found:
            body = wire.decode(path.read_bytes())
            with pytest.raises(Refusal) as refused:
                read(point(path.parents[1].name, body))
            assert str(refused.value.issues[0].expression).startswith("body."), path
        assert len(found) > 20


AT = {"effective_time_frame": {"date_time": "2026-11-21T09:30:00Z"}}


class TestReading:
    def test_a_blood_pressure(self) -> None:
        pressure = {
            "systolic_blood_pressure": {"value": 132, "unit": "mmHg"},
            "diastolic_blood_pressure": {"value": 78, "unit": "mmHg"},
            "body_posture": "sitting",
            **AT,
        }
        assert read(point("blood-pressure", pressure, version="4.0")) == [
            ("systolic", 132, None),
            ("diastolic", 78, None),
        ]
        assert observation(point("blood-pressure", pressure), "Patient/p1")["note"] == [
            {"text": "body posture: sitting"}
        ]

    @pytest.mark.parametrize(
        ("name", "body", "expected"),
        [
            (
                "body-temperature",
                {"body_temperature": {"value": Decimal("98.6"), "unit": "F"}},
                ("temperature", 37.0, None),
            ),
            ("body-weight", {"body_weight": {"value": Decimal("154.3"), "unit": "lb"}}, ("weight", 69.99, None)),
            ("blood-glucose", {"blood_glucose": {"value": 126, "unit": "mg/dL"}}, ("glucose", 6.99, None)),
            (
                "blood-glucose",
                {"blood_glucose": {"value": 7, "unit": "mmol/L"}, "specimen_source": "interstitial fluid"},
                ("glucose-sensor", 7, None),
            ),
        ],
    )
    def test_units_go_through_the_table_of_measures(
        self, name: str, body: dict[str, Any], expected: tuple[str, float, None]
    ) -> None:
        ((measure, value, word),) = read(point(name, {**body, **AT}))
        assert (measure, round(value or 0, 2), word) == expected

    def test_oxygen_beside_a_saturation(self) -> None:
        body = {
            "oxygen_saturation": {"value": 93, "unit": "%"},
            "supplemental_oxygen_flow_rate": {"value": 2, "unit": "L/min"},
            **AT,
        }
        assert read(point("oxygen-saturation", body)) == [("spo2", 93, None), ("oxygen", None, "oxygen")]

    def test_steps_of_ieee_1752_with_a_duration(self) -> None:
        start = {"start_date_time": "2026-11-20T00:00:00Z", "duration": {"value": 24, "unit": "h"}}
        body = {
            "activity_name": "walking",
            "base_movement_quantity": {"value": 5123, "unit": "steps"},
            "effective_time_frame": {"time_interval": start},
        }
        made = observation(point("physical-activity", body, "ieee", "1.0", modality="sensed"), "Patient/p1")
        assert made["effectivePeriod"]["end"] == "2026-11-21T00:00:00+00:00"
        assert read(point("physical-activity", body, "ieee", "1.0")) == [("steps", 5123, None)]
        short = {**start, "duration": {"value": 1, "unit": "h"}}
        made = observation(
            point("physical-activity", {**body, "effective_time_frame": {"time_interval": short}}, "ieee", "1.0"), "x"
        )
        assert made["code"]["coding"] == [{"system": "http://loinc.org", "code": "55423-8"}]

    def test_its_id_and_who_said_it(self) -> None:
        body = {"body_weight": {"value": 70, "unit": "kg"}, **AT}
        made = observation(point("body-weight", body), "Patient/p1")
        assert made["identifier"] == [
            {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:8a1d6a2e-1111-4222-8333-444455556666"}
        ]
        old = point("body-weight", body, version="1.0", acquisition_provenance={"modality": "self-reported"})
        old["header"]["id"] = "walk 17"
        del old["header"]["uuid"]
        made = observation(old, "Patient/p1")
        assert made["identifier"][0]["value"] == "walk 17"
        assert made["performer"] == [{"reference": "Patient/p1"}]


class TestHazardStatisticTakenForReading:
    """A month's lowest saturation, a pulse on the treadmill, or sugar in urine must not alarm, nor reassure."""

    @pytest.mark.parametrize(
        ("name", "body"),
        [
            (
                "oxygen-saturation",
                {"oxygen_saturation": {"value": 81, "unit": "%"}, "descriptive_statistic": "minimum"},
            ),
            (
                "heart-rate",
                {
                    "heart_rate": {"value": 171, "unit": "beats/min"},
                    "temporal_relationship_to_physical_activity": "active",
                },
            ),
            ("blood-glucose", {"blood_glucose": {"value": 2, "unit": "mmol/L"}, "specimen_source": "urine"}),
        ],
    )
    def test_it_is_kept_and_is_no_reading(self, name: str, body: dict[str, Any]) -> None:
        assert read(point(name, {**body, **AT})) == []

    def test_a_saturation_on_exertion_has_a_measure_of_its_own(self) -> None:
        body = {
            "oxygen_saturation": {"value": 88, "unit": "%"},
            "temporal_relationship_to_physical_activity": "after exercise",
            **AT,
        }
        assert read(point("oxygen-saturation", body)) == [("spo2-exertion", 88, None)]


class TestRefused:
    @pytest.mark.parametrize(
        ("found", "reason", "place"),
        [
            (point("sleep-duration", AT), "unknown-schema", "header.schema_id"),
            (point("body-weight", AT, "granola"), "unknown-schema", "header.schema_id"),
            (point("body-weight", AT, version="9.0"), "unknown-schema", "header.schema_id.version"),
            ({"header": {}, "body": AT}, "required", "header.schema_id"),
            ({"body": AT}, "required", "header"),
            ([], "structure", "header"),
            (point("body-weight", AT), "required", "body.body_weight"),
            (
                point("body-weight", {"body_weight": {"value": "70", "unit": "kg"}, **AT}),
                "value",
                "body.body_weight.value",
            ),
            (
                point("body-weight", {"body_weight": {"value": True, "unit": "kg"}, **AT}),
                "value",
                "body.body_weight.value",
            ),
            (point("body-weight", AT, uuid=""), "required", "header.uuid"),
        ],
    )
    def test_by_name(self, found: Any, reason: str, place: str) -> None:
        with pytest.raises(FormatRefused) as refused:
            observation(found, "Patient/p1")
        assert (refused.value.reason, refused.value.issues[0].expression) == (reason, place)

    def test_an_unknown_schema_says_what_is_known(self) -> None:
        with pytest.raises(FormatRefused, match=r"omh: blood-glucose, blood-pressure, .*ieee: physical-activity"):
            observation(point("sleep-episode", AT), "Patient/p1")

    @pytest.mark.parametrize("said", ["2026-11-21T09:30:00", "2026-11-21", 17, None, "yesterday, half past nine"])
    def test_a_time_without_offset_is_no_time(self, said: object) -> None:
        body = {"body_weight": {"value": 70, "unit": "kg"}, "effective_time_frame": {"date_time": said}}
        with pytest.raises(FormatRefused) as refused:
            observation(point("body-weight", body), "Patient/p1")
        assert refused.value.reason == "no-time"

    def test_what_is_a_data_point(self) -> None:
        assert is_data_point(point("x", {}))
        assert not is_data_point({"resourceType": "Observation", "header": {}})
        assert not is_data_point([])
