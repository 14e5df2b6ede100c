"""What devices tell of themselves by the way: last heard, battery, clock."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest import Caller, Rest, running
from test_hub_doubts import spo2

from fhir.wire import encode
from hub import hearing
from hub.hearing import battery_of, offset_of
from monitoring.doubts import CLOCK_OFF, clock_doubt

JSON = dict[str, Any]
NOW = datetime.now(UTC).replace(microsecond=0)
MDC = "urn:iso:std:iso:11073:10101"


@pytest.fixture(scope="module")
async def rest(fresh_url: Callable[[], str]) -> AsyncIterator[Rest]:
    async with running(fresh_url(), demonstration=True) as rest:
        yield rest


def about(patient_id: str, code: str, **value: Any) -> JSON:
    made = spo2(patient_id)
    del made["valueQuantity"]
    return {**made, "code": {"coding": [{"system": MDC, "code": code}]}, **value}


def percent(value: float) -> JSON:
    return {"value": value, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}


def clock(patient_id: str, ahead: timedelta) -> JSON:
    return about(patient_id, "67975", valueDateTime=(NOW + ahead).isoformat())


async def held(rest: Rest) -> tuple[str, Caller]:
    patient_id = await rest.patient()
    return patient_id, await rest.device(patient_id)


async def state(rest: Rest, device: Caller) -> Any:
    await hearing.of(rest.database).write()
    query = "SELECT heard > now() - interval '1 minute', battery, clock_off FROM device_state WHERE device_id = %s"
    return (await rest.rows(query, device.id))[0]


class TestReading:
    @pytest.mark.parametrize(
        ("observation", "expected"),
        [
            (about("p", "67996", valueQuantity=percent(41)), 41),
            (about("p", "67996", valueQuantity=percent(410)), None),
            (about("p", "67996", valueQuantity={"value": 3, "unit": "V", "code": "V"}), None),
            (spo2("p", extension=[{"url": hearing.BATTERY_EXTENSION, "valueInteger": 7}]), 7),
            (spo2("p", 97), None),
        ],
    )
    def test_battery(self, observation: JSON, expected: float | None) -> None:
        assert battery_of(observation) == expected

    def test_a_coincident_time_stamp_says_how_far_the_clock_is_off(self) -> None:
        behind = offset_of(clock("p", timedelta(minutes=-12)))
        assert behind is not None and abs(behind + 720) <= 2
        for said in (
            about("p", "67983", valueQuantity=percent(1)),
            about("p", "68226", valueDateTime="2026"),
            about("p", "67975", valueDateTime="1970-01-01T00:00:00Z"),
            spo2("p"),
        ):
            assert offset_of(said) is None

    def test_the_doubt_says_which_way(self) -> None:
        assert clock_doubt(None) is None and clock_doubt(-CLOCK_OFF) is None
        ahead, behind = clock_doubt(720), clock_doubt(-7 * 3600)
        assert ahead is not None and "12 minutes ahead" in ahead.text
        assert behind is not None and "7 hours behind" in behind.text


class TestHeard:
    async def test_a_reading_says_that_its_device_and_key_live(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        low = spo2(patient_id, extension=[{"url": hearing.BATTERY_EXTENSION, "valueQuantity": percent(12)}])
        assert (await device("POST", "/Observation", low)).status_code == 201
        assert await state(rest, device) == (True, 12, None)
        used = "SELECT used > now() - interval '1 minute' FROM credential WHERE device_id = %s"
        assert await rest.rows(used, device.id) == [(True,)]

    async def test_a_device_that_is_refused_is_heard_all_the_same(self, rest: Rest) -> None:
        _, device = await held(rest)
        assert (await device("POST", "/Observation", spo2("nobody"))).status_code == 422
        assert (await state(rest, device))[0] is True

    async def test_resends_and_records_are_noted_the_last_few(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        for _ in range(hearing.MOST_ASIDE + 5):
            await device("POST", "/Observation", spo2(patient_id))
        await device("POST", "/Observation", about(patient_id, "67996", valueQuantity=percent(80)))
        assert (await state(rest, device))[1] == 80
        query = "SELECT outcome, told FROM device_aside WHERE device_id = %s ORDER BY at DESC"
        noted = await rest.rows(query, device.id)
        assert noted[:2] == [("accepted", "battery 80 %"), ("duplicate", "")] and len(noted) <= hearing.MOST_ASIDE

    async def test_what_another_system_brings_was_heard_when_it_was_measured(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        old = spo2(patient_id, ago=timedelta(days=9), device={"reference": f"Device/{device.id}"})
        assert (await rest.system("POST", "/Observation", old)).status_code == 201
        ((heard,),) = await rest.rows("SELECT heard FROM device_state WHERE device_id = %s", device.id)
        assert heard.replace(microsecond=0) == datetime.fromisoformat(old["effectiveDateTime"])


class TestHazardTimezoneOrClockError:
    async def test_readings_of_a_clock_that_is_off_carry_a_doubt_and_are_evaluated(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        for minutes in (-20, -21, 400):
            said = {hearing.HEADER: (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()}
            ago = timedelta(minutes=minutes + 30) if minutes < 0 else timedelta(minutes=5)
            await device("POST", "/Observation", spo2(patient_id, 97, ago), headers=said)
            await state(rest, device)
        assert round((await state(rest, device))[2] / 60) == -20  # one that is far out does not move the median
        answer = await device("POST", "/Observation", spo2(patient_id, 80))
        assert answer.status_code == 201 and answer.headers["carehub-doubt"] == "device-clock"
        found = await rest.rows("SELECT quality, why FROM reading WHERE patient_id = %s AND value = 80", patient_id)
        assert found[0][0] == "ok" and "20 minutes behind" in found[0][1]
        assert await rest.rows("SELECT severity FROM flag WHERE patient_id = %s", patient_id) == [(3,)]

    async def test_a_clock_that_is_right_again_is_believed_again(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        for number, minutes in enumerate((30, 30, 0, 0, 0)):
            stamp = clock(patient_id, timedelta(minutes=minutes, seconds=-number))
            stamp["effectiveDateTime"] = (NOW - timedelta(seconds=number)).isoformat()
            await device("POST", "/$ingest", encode(stamp), {"content-type": "application/fhir+ndjson"})
            await state(rest, device)
        assert (await state(rest, device))[2] == 0

    async def test_a_time_that_is_none_costs_no_reading(self, rest: Rest) -> None:
        patient_id, device = await held(rest)
        for said in ("half past nine", "2026-11-21T09:30:00", "9999-12-31T23:59:59Z"):
            answer = await device("POST", "/Observation", spo2(patient_id), headers={hearing.HEADER: said})
            assert answer.status_code in (200, 201)
