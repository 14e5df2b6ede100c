"""Some weeks of a small population, written through the flows with a clock of their own: resends, corrections, late and
disordered readings, limits and facts that change, flags that people answer."""

import asyncio
import contextlib
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from test_flow_readings import person

from fhir import store
from fhir.outcome import Refusal
from fhir.store import Change, new_id
from hub import answers, flows, intake, timers
from hub.db import Database, Tx
from hub.identity import IMPORTER, Actor
from monitoring import pregnancy
from monitoring.limits import Limits, Order, to_service_request
from monitoring.measures import MEASURES, UCUM

JSON = dict[str, Any]

END = datetime.now(UTC).replace(microsecond=0)
CLINICIAN = replace(IMPORTER, reference="Practitioner/gp", role="importer", name="Dr Vowles")

_USUAL = {"spo2": (95, 2.5), "pulse": (86, 16), "systolic": (146, 16), "diastolic": (88, 9), "weight": (80, 1.1),
          "glucose": (8, 3.4), "temperature": (37.2, 0.8), "respiratory-rate": (18, 3)}  # fmt: skip


class World:
    """People with a device each, and a random life of them, the same for the same *seed*."""

    def __init__(self, database: Database, people: int, days: int, seed: int = 1) -> None:
        self.database = database
        self.chance = random.Random(seed)
        self.since = END - timedelta(days=days)
        self.days = days
        self.size = people
        self.people: list[tuple[str, Actor]] = []
        self.sent: dict[str, list[JSON]] = {}

    async def live(self) -> None:
        async with self.database.transaction() as tx:
            self.people = [await person(tx) for _ in range(self.size)]
        self.sent = {patient_id: [] for patient_id, _ in self.people}
        now = self.since
        while now < END:
            now += timedelta(minutes=self.chance.choice([20, 50, 110, 240]))
            await self._moment(min(now, END))

    async def _moment(self, now: datetime) -> None:
        chance = self.chance
        batch: list[intake.Sent] = []
        for patient_id, device in chance.sample(self.people, max(1, self.size // 3)):
            for _ in range(chance.choice([1, 1, 2, 4])):
                batch.append(intake.sent(device, self._observation(patient_id, now), b"{}"))
            known = self.sent[patient_id]
            if known and chance.random() < 0.3:
                again = chance.choice(known)
                if chance.random() < 0.5:
                    again = {**again, "status": "corrected", "valueQuantity": self._quantity(_measure(again))}
                batch.append(intake.sent(device, again, b"{}"))
        chance.shuffle(batch)
        # At once, in the turns of the people: who comes first is not known beforehand, and must be on record.
        await asyncio.gather(self._receive(batch[::2], now), self._receive(batch[1::2], now), self._others(now))

    async def _receive(self, batch: list[intake.Sent], now: datetime) -> None:
        async with self.database.transaction() as tx:
            await flows.receive_readings(tx, batch, now)

    def _observation(self, patient_id: str, now: datetime) -> JSON:
        chance = self.chance
        key = chance.choice(list(_USUAL))
        ago = chance.choice([0, 0, 0, 1, 3, 40, 200, 23 * 60, 25 * 60, 60 * 60])
        made: JSON = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [MEASURES[key].coding]},
            "subject": {"reference": f"Patient/{patient_id}"},
            # Whole minutes, so that two measures often share an instant.
            "effectiveDateTime": (now - timedelta(minutes=ago)).replace(second=0).isoformat(),
            "valueQuantity": self._quantity(key),
        }
        self.sent[patient_id].append(made)
        return made

    def _quantity(self, key: str) -> JSON:
        measure = MEASURES[key]
        middle, spread = _USUAL[key]
        value = self.chance.gauss(middle, spread)
        if self.chance.random() < 0.01:
            value = measure.plausible[1] + 1
        text = f"{min(value, measure.plausible[1] + 1):.{measure.decimals}f}"
        return {"value": Decimal(text), "unit": measure.shown, "system": UCUM, "code": measure.unit}

    async def _others(self, now: datetime) -> None:
        chance = self.chance
        patient_id, _ = chance.choice(self.people)
        kind = chance.random()
        async with self.database.transaction() as tx:
            if kind < 0.14:
                await self._limits(tx, patient_id, now)
            elif kind < 0.17:
                day = now.date() - timedelta(days=30)
                made = pregnancy.new_condition(new_id(), patient_id, day, now.date(), CLINICIAN.reference, None)
                await flows.write(tx, CLINICIAN, [Change("create", "Condition", made["id"], made)], now)
            elif kind < 0.22:
                await self._wrong(tx, patient_id, now)
        async with self.database.transaction() as tx:
            if chance.random() < 0.5:
                await timers.fire_due(tx, now)
        async with self.database.transaction() as tx:
            await self._answer(tx, now)

    async def _wrong(self, tx: Tx, patient_id: str, now: datetime) -> None:
        rows = await tx.pg.execute("SELECT min(observation_id) FROM reading WHERE patient_id = %s", (patient_id,))
        row = await rows.fetchone()
        if row is None or row[0] is None:
            return
        if self.chance.random() < 0.5:
            await flows.write(tx, IMPORTER, [Change("delete", "Observation", row[0], None)], now)
            return
        stored = (await store.load(tx.pg, [("Observation", row[0])]))["Observation", row[0]]
        wrong = {**(stored.resource or {}), "status": "entered-in-error"}
        await flows.write(tx, IMPORTER, [Change("update", "Observation", row[0], wrong)], now)

    async def _limits(self, tx: Tx, patient_id: str, now: datetime) -> None:
        chance = self.chance
        key = chance.choice(["spo2", "pulse", "systolic", "glucose", "weight"])
        middle, spread = _USUAL[key]
        bounds = Limits(low_red=max(2, round(middle - 3 * spread)), high_amber=round(middle + spread))
        order = Order(
            service_request_id=new_id(),
            patient_id=patient_id,
            measure=key,
            limits=bounds if chance.random() < 0.8 else Limits(),
            scale=2 if key == "spo2" and chance.random() < 0.5 else None,
            every_hours=24.0,
            set_by=CLINICIAN.reference,
            reason="Agreed",
            review_on=now.date() + timedelta(days=60),
        )
        rows = await tx.pg.execute("SELECT service_request_id FROM monitoring_limit WHERE active ORDER BY 1")
        standing = [row[0] for row in await rows.fetchall()]
        if standing and chance.random() < 0.4:
            id_ = chance.choice(standing)
            await flows.write(tx, CLINICIAN, [Change("delete", "ServiceRequest", id_, None)], now)
            return
        resource = to_service_request(order)
        await flows.write(tx, CLINICIAN, [Change("create", "ServiceRequest", resource["id"], resource)], now)

    async def _answer(self, tx: Tx, now: datetime) -> None:
        """Somebody does something about one of the flags that wait."""
        chance = self.chance
        rows = await tx.pg.execute(
            "SELECT id, state FROM flag WHERE state NOT IN ('resolved', 'false-alarm', 'snoozed')"
            " ORDER BY opened, rule, patient_id LIMIT 20"
        )
        waiting = await rows.fetchall()
        if not waiting:
            return
        id_, state = chance.choice(waiting)
        if state == "confirming" and chance.random() < 0.9:
            return
        to, code, until = chance.choice(
            [*[("acknowledged", None, None)] * 4, ("resolved", "phone-call", None), ("false-alarm", "artefact", None),
             ("snoozed", None, now + timedelta(hours=chance.choice([2, 20])))]
        )  # fmt: skip
        if (to == "acknowledged" and state in ("acknowledged", "in-progress")) or (
            to == "snoozed" and state == "confirming"
        ):
            return
        stored = (await store.load(tx.pg, [("Flag", id_)]))["Flag", id_]
        assert stored.resource is not None
        changed = answers.moved(stored.resource, to, "Seen", code, until)
        # A reading may have opened or ended it in the meantime: then whoever answered looks again.
        with contextlib.suppress(Refusal):
            await flows.write(tx, CLINICIAN, [Change("update", "Flag", id_, changed, if_match=stored.version)], now)


def _measure(observation: JSON) -> str:
    coding = observation["code"]["coding"][0]
    return next(key for key in _USUAL if MEASURES[key].coding == coding)
