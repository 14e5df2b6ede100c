"""Files as people export them: what is a reading, what is none, and what time it was."""

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from fhir import validation, wire
from monitoring.formats import FormatRefused
from monitoring.formats.csv_exports import Export, export, reasons

DEXCOM = (
    "\ufeffIndex,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Event Subtype,Patient Info,Device Info,Source Device ID,"
    "Glucose Value ({unit}),Insulin Value (u),Carb Value (grams),Duration (hh:mm:ss),"
    "Glucose Rate of Change (mg/dL/min)\n"
    "1,,FirstName,,Joe,,,,,,,\n2,,Alert,High,,,iPhone G6,200,,,,\n"
)


def dexcom(*rows: tuple[str, str], unit: str = "mg/dL", event: str = "EGV") -> Export:
    lines = [f"{n},{at},{event},,,,iPhone G6,{value},,,," for n, (at, value) in enumerate(rows, 3)]
    return export((DEXCOM.format(unit=unit) + "\n".join(lines)).encode(), "Patient/p1")


def table(*times: str) -> Export:
    rows = "\n".join(f"{time},pulse,{60 + n},bpm" for n, time in enumerate(times))
    return export(f"time,measure,value,unit\n{rows}\n".encode(), "Patient/p1")


def times(found: Export) -> list[str]:
    return [one["effectiveDateTime"] for one in found.readings]


class TestRealFiles:
    def test_dexcom(self, shared_data: Path) -> None:
        found = export((shared_data / "devices" / "dexcom-export.csv").read_bytes(), "Patient/p1")
        assert (found.kind, len(found.readings), len(found.aside)) == ("Dexcom", 2148, 11)
        assert len(found.rows) + len(found.aside) == 2159
        assert list(reasons(found.rows)) == []
        first = found.readings[0]
        assert first["effectiveDateTime"] == "2016-10-24T11:24:17+01:00"
        assert first["valueQuantity"] == {
            "value": Decimal(103), "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"
        }  # fmt: skip
        assert first["identifier"][0]["value"] == "iPhone G6"
        validation.parse(wire.encode(first), "Observation")
        # Over the end of summer time: every value has its own instant.
        assert max(Counter(times(found)).values()) == 1
        # The person's name and date of birth stand in the file and nowhere in what is made of it.
        assert "Schmoe" not in str(found.readings)

    def test_simglucose(self, shared_data: Path) -> None:
        found = export((shared_data / "devices" / "simglucose_adult001_3d.csv").read_bytes(), "Patient/p1")
        assert (found.kind, len(found.readings), len(found.aside)) == ("simglucose", 1441, 0)
        assert found.readings[0]["valueQuantity"]["value"] == Decimal("155.3")


class TestDexcom:
    def test_low_and_high_are_bounds(self) -> None:
        found = dexcom(("2026-11-20T08:00:00", "Low"), ("2026-11-20T08:05:00", "High"))
        quantities = [one["valueQuantity"] for one in found.readings]
        assert [(one["comparator"], one["value"]) for one in quantities] == [("<", 40), (">", 400)]
        (low,) = dexcom(("2026-11-20T08:00:00", "Low"), unit="mmol/L").readings
        assert (low["valueQuantity"]["value"], low["valueQuantity"]["code"]) == (Decimal("2.2"), "mmol/L")

    def test_hazard_wrong_unit_the_column_says_it(self) -> None:
        (one,) = dexcom(("2026-11-20T08:00:00", "6.1"), unit="mmol/L").readings
        assert (one["valueQuantity"]["value"], one["valueQuantity"]["code"]) == (Decimal("6.1"), "mmol/L")
        (row,) = dexcom(("2026-11-20T08:00:00", "6.1"), unit="g/L").rows
        assert row.refusal is not None and row.refusal.reason == "wrong-unit"

    def test_a_calibration_is_a_finger_prick(self) -> None:
        (sensor,) = dexcom(("2026-11-20T08:00:00", "100")).readings
        (finger,) = dexcom(("2026-11-20T08:00:00", "100"), event="Calibration").readings
        assert sensor["code"]["coding"] != finger["code"]["coding"]

    def test_what_is_no_reading_is_told_with_its_line(self) -> None:
        assert dexcom().aside == [(2, "FirstName: not a glucose value"), (3, "Alert: not a glucose value")]

    def test_a_bad_row_is_refused_alone_with_its_line(self) -> None:
        found = dexcom(
            ("2026-11-20T08:00:00", "100"), ("2026-11-20", "101"), ("soon", "102"), ("2026-11-20T08:15:00", "x,y"),
            ("2026-11-20T08:20:00", ""), ("2026-11-20T08:25:00", "NaN"),
        )  # fmt: skip
        assert len(found.readings) == 1
        told = list(reasons(found.rows))
        assert [line for line, _, _ in told] == [5, 6, 7, 8, 9]
        assert "day without a time" in told[0][2] and "columns" in told[2][2]


class TestHazardTimezoneOrClockError:
    def test_local_times_are_those_of_the_united_kingdom(self) -> None:
        assert times(table("2026-01-10 08:00", "2026-07-10 08:00")) == [
            "2026-01-10T08:00:00+00:00",
            "2026-07-10T08:00:00+01:00",
        ]

    def test_an_hour_that_the_clocks_left_out_is_refused(self) -> None:
        found = table("2026-03-29T00:59:00", "2026-03-29T01:30:00", "2026-03-29T02:00:00")
        assert times(found) == ["2026-03-29T00:59:00+00:00", "2026-03-29T02:00:00+01:00"]
        ((line, text, why),) = reasons(found.rows)
        assert line == 3 and "01:30" in text and "did not exist" in why

    def test_the_hour_that_comes_twice_is_summer_time_until_the_file_goes_back(self) -> None:
        found = table(
            "2026-10-25T00:55", "2026-10-25T01:05", "2026-10-25T01:55", "2026-10-25T01:00", "2026-10-25T01:10",
            "2026-10-25T02:00", "2027-10-31T01:30",
        )  # fmt: skip
        assert [one[11:16] + one[19:] for one in times(found)] == [
            "00:55+01:00", "01:05+01:00", "01:55+01:00", "01:00+00:00", "01:10+00:00", "02:00+00:00", "01:30+01:00",
        ]  # fmt: skip

    def test_an_offset_is_taken_as_it_stands(self) -> None:
        assert times(table("2026-10-25T01:30:00Z", "2026-10-25T03:30:00+02:00")) == [
            "2026-10-25T01:30:00+00:00",
            "2026-10-25T03:30:00+02:00",
        ]

    @pytest.mark.parametrize("time", ["0001-01-01 00:00", "9999-12-31 23:59:59"])
    def test_the_ends_of_time_break_nothing(self, time: str) -> None:
        assert len(table(time).rows) == 1


class TestFiles:
    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"", "unknown-file"),
            (b"a,b\n1,2", "unknown-file"),
            (b"\xff\xfe", "structure"),
            (b"time,measure,value,unit\n\0", "structure"),
            (b'time,measure,value,unit\n"2026', "structure"),
        ],
    )
    def test_a_file_that_is_none_is_refused_whole(self, raw: bytes, reason: str) -> None:
        with pytest.raises(FormatRefused) as refused:
            export(raw, "Patient/p1")
        assert refused.value.reason == reason

    def test_an_unknown_file_says_which_are_known(self) -> None:
        with pytest.raises(FormatRefused, match=r"Dexcom .*Event Type.*simglucose"):
            export(b"Device,Serial\n", "Patient/p1")

    def test_a_table_of_ones_own_takes_every_measure_by_its_key(self) -> None:
        rows = ("weight,11.2,st", "colour,3,x", "weight,3,x")
        raw = "time,measure,value,unit\n" + "\n".join(f"2026-11-20 08:00,{row}" for row in rows)
        found = export(raw.encode(), "Patient/p1")
        assert [one["valueQuantity"]["code"] for one in found.readings] == ["[stone_av]"]
        assert [row.refusal.reason for row in found.rows if row.refusal] == ["unknown-answer", "wrong-unit"]
