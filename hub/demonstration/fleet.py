"""What makes a fleet believable: silent devices, a weak battery, a wrong clock, a swap, a pause, stock and a loss.

Done once, after the people are loaded, through the same flows as by staff, so that every step has its record.
"""

from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from fhir.store import Change, new_id
from hub import devices, flows, hearing, intake
from hub.db import Tx
from hub.demonstration.codes import JSON, SYNTHETIC
from hub.devices import Registration
from hub.identity import IMPORTER, OPERATOR, Actor
from hub.intake import Sent
from monitoring.pauses import Pause, to_service_request

DAY = timedelta(days=1)
MARK = "DEMO-STOCK-1"
MODEL = "Demonstration"
"""What these devices are called; `hub.simulate` leaves them as they are."""


async def stage(tx: Tx, now: datetime) -> bool:
    """True when it was done; False when it had been, or there are too few devices to show anything with."""
    rows = await tx.pg.execute("SELECT 1 FROM device WHERE serial = %s", (MARK.casefold(),))
    found = await tx.pg.execute(
        "SELECT id, patient_id FROM device WHERE patient_id IS NOT NULL AND status = 'active' AND kind <> 'cuff'"
        " AND id NOT LIKE '%%-000001' ORDER BY id LIMIT 12"
    )
    held = await found.fetchall()
    if await rows.fetchone() is not None or len(held) < 6:
        return False
    people = list(dict.fromkeys(patient for _, patient in held))
    await _silent(tx, people, now)
    await _state(tx, held[0][0], battery=9)
    await _state(tx, held[1][0], offset=-840.0)
    await _state(tx, held[2][0], battery=64)
    await _swapped(tx, people, now)
    await _refused(tx, held[3], people, now)
    await _paused(tx, held[4], now)
    await _stock(tx, now)
    return True


async def _silent(tx: Tx, people: list[str], now: datetime) -> None:
    kinds = (("peak-flow", "Peak flow meter"), ("thermometer", "Thermometer"), ("steps", "Step counter"))
    for number, ((kind, name), patient_id) in enumerate(zip(kinds, people, strict=False), 1):
        new = Registration(f"{name} {60 + number}", kind, serial=f"DEMO-{kind}-{number}", model=MODEL)
        since = now - timedelta(days=25 + number)
        id_ = (await devices.register(tx, OPERATOR, new, patient_id, "Lent at the first visit", since, now)).change.id
        await hearing.imported(tx.pg, {id_: now - timedelta(days=3 + 3 * number, hours=number)})


async def _state(tx: Tx, device_id: str, battery: int | None = None, offset: float | None = None) -> None:
    said = [{"device_id": device_id, "battery": battery, "clock": offset}]
    await tx.pg.execute(hearing.STATE, (Jsonb(said),))
    await tx.pg.execute("UPDATE device SET clock_off = %s WHERE id = %s", (offset, device_id))


async def _swapped(tx: Tx, people: list[str], now: datetime) -> None:
    new = Registration("Oximeter 71", "oximeter", serial="DEMO-SWAP-1", model=MODEL)
    id_ = (await devices.register(tx, OPERATOR, new, people[0], "Oximetry at home", now - 40 * DAY, now)).change.id
    if len(people) > 1:
        await devices.assign(tx, OPERATOR, id_, people[1], "The first person has one of their own", now - 12 * DAY, now)
    await hearing.imported(tx.pg, {id_: now - timedelta(hours=6)})


async def _refused(tx: Tx, held: tuple[Any, ...], people: list[str], now: datetime) -> None:
    """A device that is set up for somebody else, and one that sends kilopascals as per cent."""
    device_id, patient_id = held
    reference = f"Device/{device_id}"
    actor = Actor("device", device_id, "Device", "device", reference, (reference,))
    other = next(one for one in people if one != patient_id)
    sent: list[Sent] = []
    for subject, unit, hours in ((other, "%", 20), (patient_id, "kPa", 6)):
        observation: JSON = {
            "resourceType": "Observation",
            "meta": SYNTHETIC,
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
            "subject": {"reference": f"Patient/{subject}"},
            "effectiveDateTime": (now - timedelta(hours=hours)).isoformat(timespec="seconds"),
            "valueQuantity": {"value": 96, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        }
        sent.append(intake.sent(actor, observation, b"{}"))
    await flows.receive_readings(tx, sent, now)


async def _paused(tx: Tx, held: tuple[Any, ...], now: datetime) -> None:
    reason = "Two weeks with her daughter in Leeds"
    pause = Pause(new_id(), held[1], now - 2 * DAY, now + 12 * DAY, reason, OPERATOR.reference)
    resource = {**to_service_request(pause, "holiday", now - 3 * DAY, "Her coordinator"), "meta": SYNTHETIC}
    await flows.write(tx, IMPORTER, [Change("create", "ServiceRequest", pause.id, resource)], now)
    # Nothing was heard since she left.
    await tx.pg.execute(
        "UPDATE device_state SET heard = %s WHERE device_id IN (SELECT id FROM device WHERE patient_id = %s)",
        (now - 2 * DAY, held[1]),
    )


async def _stock(tx: Tx, now: datetime) -> None:
    for number, (name, kind) in enumerate((("Scales 81", "scales"), ("Oximeter 82", "oximeter")), 1):
        new = Registration(name, kind, serial=f"DEMO-STOCK-{number}", model=MODEL)
        await devices.register(tx, OPERATOR, new, now=now)
    lost = Registration("Thermometer 83", "thermometer", serial="DEMO-LOST-1", model=MODEL)
    id_ = (await devices.register(tx, OPERATOR, lost, now=now)).change.id
    await devices.withdraw(tx, OPERATOR, id_, "lost", "Not found after a house move", now)
