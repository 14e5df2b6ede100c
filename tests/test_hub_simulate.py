"""Simulated devices: the same day from the same seed, nobody real, and nothing lost when the service fails."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import factories
import httpx
import pytest
from conftest import Fresh

from fhir import validation
from hub import importer, population, simulate, sources
from hub.demonstration import vitals
from hub.demonstration.vitals import Profile
from hub.population import Recipe
from hub.simulate import Kit, Tally
from monitoring.readings import readings

NOW = datetime.now(UTC)
USUAL = Profile(0, 128, 74, 70, 97, 16, 36.6, 80.0, 6.4, False, (), None)


def kits(people: int) -> list[Kit]:
    devices: list[tuple[str, tuple[vitals.Kind, ...]]] = [
        ("cuff", ("blood-pressure",)),
        ("oximeter", ("spo2", "pulse")),
        ("tablet", ("respiratory-rate", "temperature", "consciousness")),
    ]
    return [
        Kit(f"{name}-{number:03d}", f"key-{name}-{number}", f"p{number:03d}", kinds, USUAL)
        for number in range(people)
        for name, kinds in devices
    ]


class TestDay:
    def test_the_same_seed_gives_the_same_day(self) -> None:
        assert simulate.day(kits(20), 4) == simulate.day(kits(20), 4)
        assert simulate.day(kits(20), 4) != simulate.day(kits(20), 5)
        assert simulate.day(kits(20), 4, number=2) != simulate.day(kits(20), 4)

    def test_a_day_is_plausible(self) -> None:
        events = simulate.day(kits(20), 1)
        assert [event.minute for event in events] == sorted(event.minute for event in events)
        assert 6 * 60 < events[0].minute < events[-1].minute < 21 * 60
        observations = [validation.parse(simulate.body_of(event, NOW)).resource for event in events]
        found = [reading for one in observations for reading in readings(one, NOW, from_device=True, synthetic=True)]
        assert {reading.quality for reading in found} == {"ok"}
        assert len(found) >= len(events)

    def test_some_get_worse_as_the_day_goes_on(self) -> None:
        events = [event for event in simulate.day(kits(28), 1) if event.kind == "spo2"]
        lowest = {event.kit.patient: int(event.values[0]) for event in events}
        worse = {patient for patient, value in lowest.items() if value < 94}
        assert 1 <= len(worse) <= 2
        first = {event.kit.patient: int(event.values[0]) for event in reversed(events)}
        assert all(first[patient] > lowest[patient] for patient in worse)

    def test_days_follow_one_another(self) -> None:
        one_day = len(simulate.day(kits(3), 1))
        found = list(islice(simulate.days(kits(3), 1), 2 * one_day))
        assert found[0][0] == 0
        assert [minutes for minutes, _ in found] == sorted(minutes for minutes, _ in found)
        assert list(simulate.days([], 1)) == []


class TestKits:
    async def test_devices_get_keys_and_keep_to_what_their_people_usually_read(
        self, fresh_database: Fresh, tmp_path: Path
    ) -> None:
        database = await fresh_database()
        moment = NOW.replace(second=0, microsecond=0)
        population.write(Recipe(20, moment, days=4), tmp_path)
        await importer.run(database, sources.discover([tmp_path]))
        found = await simulate.kits(database, 500)
        recipe = Recipe(20, moment, days=4)
        profiles = {person.id: person.profile for person, _ in recipe.people(recipe.staff())}
        assert {kit.patient for kit in found} == {ident for ident, profile in profiles.items() if profile}
        assert len({kit.key for kit in found}) == len(found)
        for kit in found:
            drawn = profiles[kit.patient]
            assert drawn is not None
            if drawn.trouble is None and "weight" in kit.kinds:
                assert abs(kit.usual.weight - drawn.weight) < 0.5
            if drawn.trouble is None and "blood-pressure" in kit.kinds:
                assert abs(kit.usual.systolic - drawn.systolic) < 8
        assert [simulate.from_json(json.loads(json.dumps(simulate.as_json(kit)))) for kit in found[:3]] == found[:3]
        await simulate.kits(database, 500)
        async with database.transaction() as tx:
            rows = await tx.pg.execute("SELECT count(*) FROM credential WHERE revoked IS NULL")
            assert await rows.fetchone() == (len(found),)

    async def test_wrong_patient_a_real_persons_device_takes_no_part(self, fresh_database: Fresh) -> None:
        """Hazard: invented readings in a real record."""
        database = await fresh_database()
        async with database.transaction() as tx:
            real = await factories.patient(tx, meta={})
            await factories.device(tx, real, meta={})
            sandbox = await factories.device(tx, real)
            person = await factories.patient(tx)
            device = await factories.device(tx, person, meta={})
        assert {kit.device for kit in await simulate.kits(database, 10)} == {sandbox, device}


def service(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://hub")


class TestRun:
    async def test_every_reading_is_posted_with_its_devices_key(self) -> None:
        seen: list[tuple[str, str]] = []

        def answer(request: httpx.Request) -> httpx.Response:
            body = json.loads(request.content)
            seen.append((request.headers["authorization"], body["device"]["reference"]))
            return httpx.Response(201)

        events = simulate.day(kits(2), 1)
        tally = Tally()
        async with service(answer) as client:
            await simulate.run(client, ((0.0, event) for event in events), tally, rate=10_000)
        assert tally.accepted == tally.sent == len(events) == len(seen)
        assert all(
            key.removeprefix("Bearer key-") == device.removeprefix("Device/").replace("-00", "-")
            for key, device in seen
        )

    async def test_what_finds_no_answer_is_sent_again_as_it_was(self) -> None:
        bodies: list[bytes] = []

        def answer(request: httpx.Request) -> httpx.Response:
            bodies.append(request.content)
            if len(bodies) == 1:
                raise httpx.ConnectError("down")
            return httpx.Response(503 if len(bodies) == 2 else 201)

        tally = Tally()
        async with service(answer) as client:
            await simulate.run(client, iter([(0.0, simulate.day(kits(1), 1)[0])]), tally)
        assert (tally.sent, tally.resent, tally.accepted) == (1, 2, 1)
        assert len(set(bodies)) == 1

    async def test_what_was_never_answered_is_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(simulate, "LAST_ANSWERS", 0.1)
        tally = Tally()
        async with service(lambda request: httpx.Response(500)) as client:
            plan = ((0.0, event) for event in simulate.day(kits(20), 1))
            await simulate.run(client, plan, tally, rate=1000, duration=0.3)
        assert tally.unanswered == tally.sent == simulate.CONNECTIONS

    async def test_a_refusal_is_told_with_its_reason_and_not_repeated(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(422, json={"issue": [{"code": "value", "diagnostics": "no such unit"}]})

        tally = Tally()
        async with service(answer) as client:
            await simulate.run(client, iter([(0.0, simulate.day(kits(1), 1)[0])]), tally)
        assert tally.reasons == {"422 value: no such unit": 1}
        assert (tally.accepted, tally.resent) == (0, 0)

    @pytest.mark.parametrize("options", [{"speed": 1.0}, {"rate": 20.0}])
    async def test_it_stops_when_its_time_is_over(self, options: dict[str, float]) -> None:
        tally = Tally()
        began = datetime.now(UTC)
        async with service(lambda request: httpx.Response(201)) as client:
            await simulate.run(client, simulate.days(kits(2), 1), tally, duration=0.4, **options)
        assert (datetime.now(UTC) - began).total_seconds() < 3
        assert 1 <= tally.sent <= 9
