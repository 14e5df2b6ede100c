"""What devices tell of themselves by the way: when they were last heard, their battery, how far their clock is off.

A reading costs no write for it: each process gathers what it hears and writes it every few seconds, for all devices in
one statement each, and for a device or key at most once a minute. What a process loses when it is killed is a minute of
this, never a reading.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import msgspec
import psycopg
import structlog
from psycopg.types.json import Jsonb
from psycopg_pool import PoolClosed

from hub.db import Database
from monitoring.doubts import CLOCK_OFF
from monitoring.readings import instant

if TYPE_CHECKING:
    from hub.intake import Receipt, Sent

log = structlog.get_logger()
JSON = dict[str, Any]

HEADER = "carehub-device-time"
"""Request header in which a device says what its clock shows as it sends: `2026-11-21T09:30:00Z`."""

PAUSE = 2.0
"""Seconds between hearing something and writing it down."""
AGAIN = 60.0
"""Seconds for which nothing further is written of one device, or key, that goes on."""
MOST_ASIDE = 20
"""Messages that leave no other trace (resends, records of no measure) kept of each device."""
LARGEST_OFFSET = 10 * 365 * 86_400.0

MDC = "urn:iso:std:iso:11073:10101"
BATTERY = {(MDC, "67996")}
"""MDC_ATTR_VAL_BATT_CHARGE, in per cent."""
CLOCK = {(MDC, "67975"), (MDC, "68226"), (MDC, "67983"), (MDC, "68072")}
"""Coincident time stamps of HL7's PHD guide: `effective` is the gateway's time, `valueDateTime` the device's.
MDC_ATTR_TIME_ABS and TIME_BO; of the relative ones nothing can be worked out, and nothing is."""
BATTERY_EXTENSION = "https://carehub.example/fhir/StructureDefinition/battery"
"""On an Observation: valueQuantity (%) or valueInteger."""

Aside = tuple[str, datetime, str, str | None, str]


@dataclass(slots=True)
class _Heard:
    """Of one device, since it was last written."""

    battery: float | None = None
    offset: float | None = None
    asides: list[Aside] = field(default_factory=list)


class Hearing:
    """What one process hears. `close` writes down what is left."""

    def __init__(self, database: Database) -> None:
        self._database = ref(database)
        self._keys: set[bytes] = set()
        self._devices: dict[str, _Heard] = {}
        self._known: dict[bytes | str, float] = {}
        self._writing: asyncio.Task[None] | None = None

    def key(self, hash_: bytes) -> None:
        """This key, or token, was used."""
        if hash_ not in self._known:
            self._known[hash_] = time.monotonic()
            self._keys.add(hash_)
            self._soon()

    def clock(self, device_id: str, said: str) -> None:
        """The device says what its clock shows now. What cannot be read is left aside: a reading comes with it."""
        try:
            at = datetime.fromisoformat(said)
        except ValueError:
            return
        offset = (at - datetime.now(UTC)).total_seconds() if at.tzinfo is not None else LARGEST_OFFSET
        if abs(offset) < LARGEST_OFFSET:
            self._of(device_id).offset = offset
            self._soon()

    def sent(self, batch: Sequence["Sent"], receipts: Sequence["Receipt"]) -> None:
        """These came in, and this became of them."""
        for one, receipt in zip(batch, receipts, strict=True):
            device = one.actor.id
            # Nearly every reading ends here.
            if receipt.outcome == "accepted" and not receipt.doubts and "extension" not in one.observation:
                if device not in self._known:
                    self._known[device] = time.monotonic()
                    self._of(device)
                    self._soon()
                continue
            if one.actor.kind == "device":
                self._look(self._of(device), device, one.observation, receipt)
                self._soon()

    def _look(self, heard: _Heard, device: str, observation: JSON, receipt: "Receipt") -> None:
        if receipt.outcome == "refused":
            return
        battery, offset = battery_of(observation), offset_of(observation)
        heard.battery = heard.battery if battery is None else battery
        heard.offset = heard.offset if offset is None else offset
        told = ""
        if battery is not None and receipt.outcome != "duplicate":
            told = f"battery {battery:g} %"
        elif any(one.code == "no-reading" for one in receipt.doubts):
            told = "a record, and no reading"
        if receipt.outcome == "duplicate" or told:
            heard.asides.append((device, datetime.now(UTC), receipt.outcome, receipt.observation_id, told))
            del heard.asides[:-MOST_ASIDE]

    def _of(self, device_id: str) -> _Heard:
        found = self._devices.get(device_id)
        if found is None:
            found = self._devices[device_id] = _Heard()
        return found

    def _soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._later(), name="hearing")

    async def _later(self) -> None:
        while self._keys or self._devices:
            await asyncio.sleep(PAUSE)
            await self.write()

    async def write(self) -> None:
        """Write down what was heard. A database that is away loses it: it is heard again."""
        now = time.monotonic()
        self._known = {one: at for one, at in self._known.items() if now - at < AGAIN}
        keys, devices, self._keys, self._devices = self._keys, self._devices, set(), {}
        database = self._database()
        if database is None or not (keys or devices):
            return
        try:
            async with database.transaction() as tx:
                await _write(tx.pg, keys, devices)
        except (psycopg.Error, PoolClosed) as error:
            log.warning("what devices said of themselves is lost", kind=type(error).__name__, devices=len(devices))

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        await self.write()


_USED = """
WITH used AS (
    UPDATE credential SET used = now() WHERE hash = ANY(%s) RETURNING device_id
)
SELECT device_id FROM used WHERE device_id IS NOT NULL"""

# Rows in one order everywhere, so that two processes never wait for each other.
STATE = """
INSERT INTO device_state AS state (device_id, heard, battery, battery_at, offsets, clock_off, clock_at)
SELECT said.device_id, now(), said.battery, CASE WHEN said.battery IS NOT NULL THEN now() END,
       CASE WHEN said.clock IS NOT NULL THEN ARRAY[said.clock] END, said.clock,
       CASE WHEN said.clock IS NOT NULL THEN now() END
FROM jsonb_to_recordset(%s) AS said(device_id text, battery float8, clock float8) JOIN device ON device.id = device_id
ORDER BY said.device_id COLLATE "C"
ON CONFLICT (device_id) DO UPDATE SET
    heard = excluded.heard,
    battery = coalesce(excluded.battery, state.battery),
    battery_at = coalesce(excluded.battery_at, state.battery_at),
    clock_at = coalesce(excluded.clock_at, state.clock_at),
    offsets = CASE WHEN excluded.clock_off IS NULL THEN state.offsets
                   ELSE (coalesce(state.offsets, '{}') || excluded.offsets)
                        [greatest(1, coalesce(cardinality(state.offsets), 0) - 7):] END,
    clock_off = CASE WHEN excluded.clock_off IS NULL THEN state.clock_off ELSE (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY one) FROM unnest((coalesce(state.offsets, '{}')
            || excluded.offsets)[greatest(1, coalesce(cardinality(state.offsets), 0) - 7):]) AS one) END"""


_CLOCKS = """
UPDATE device SET clock_off = state.off
FROM (SELECT device_id, CASE WHEN abs(clock_off) > %s THEN clock_off END AS off FROM device_state
      WHERE device_id = ANY(%s)) AS state
WHERE device.id = state.device_id AND device.clock_off IS DISTINCT FROM state.off"""


async def _write(pg: psycopg.AsyncConnection[Any], keys: Iterable[bytes], devices: dict[str, _Heard]) -> None:
    rows = await pg.execute(_USED, (sorted(keys),))
    for (device_id,) in await rows.fetchall():
        devices.setdefault(device_id, _Heard())
    said = [{"device_id": id_, "battery": one.battery, "clock": one.offset} for id_, one in devices.items()]
    if said:
        await pg.execute(STATE, (Jsonb(said),))
    if clocks := [id_ for id_, one in devices.items() if one.offset is not None]:
        await pg.execute(_CLOCKS, (CLOCK_OFF, clocks))
    asides = [aside for one in devices.values() for aside in one.asides]
    if asides:
        await pg.execute(
            "INSERT INTO device_aside (device_id, at, outcome, observation_id, told)"
            " SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::text[])",
            [list(column) for column in zip(*asides, strict=True)],
        )
        await pg.execute(
            "DELETE FROM device_aside USING unnest(%s::text[]) AS one(id) WHERE device_id = one.id AND at <"
            " (SELECT at FROM device_aside kept WHERE kept.device_id = one.id ORDER BY at DESC OFFSET %s LIMIT 1)",
            (sorted({one[0] for one in asides}), MOST_ASIDE - 1),
        )


def battery_of(observation: JSON) -> float | None:
    """Per cent, of a battery Observation or from the extension on another; None when it says nothing credible."""
    values = [one for one in observation.get("extension", ()) if one.get("url") == BATTERY_EXTENSION]
    if not values and _coded(observation, BATTERY):
        values = [observation]
    for one in values:
        quantity = one.get("valueQuantity") or {}
        number = one.get("valueInteger", quantity.get("value"))
        if number is not None and quantity.get("code", quantity.get("unit", "%")) in ("%", "percent"):
            return float(number) if 0 <= number <= 100 else None
    return None


def offset_of(observation: JSON) -> float | None:
    """Seconds by which the device's clock is ahead, of a coincident time stamp; None when it is none."""
    if not _coded(observation, CLOCK):
        return None
    said, here = observation.get("valueDateTime"), instant(observation)
    if not isinstance(said, str) or "T" not in said or here is None:
        return None
    at = datetime.fromisoformat(said)
    offset = (at - here).total_seconds() if at.tzinfo else None
    return offset if offset is not None and abs(offset) < LARGEST_OFFSET else None


def _coded(observation: JSON, codes: set[tuple[str, str]]) -> bool:
    return any((one.get("system"), one.get("code")) in codes for one in observation.get("code", {}).get("coding", ()))


_hearings: WeakKeyDictionary[Database, Hearing] = WeakKeyDictionary()


def of(database: Database) -> Hearing:
    """The one of this process on *database*."""
    found = _hearings.get(database)
    if found is None:
        found = _hearings[database] = Hearing(database)
    return found


async def imported(pg: psycopg.AsyncConnection[Any], measured: dict[str, datetime]) -> None:
    """Devices whose readings another way brought: they were heard when they last measured. One statement."""
    rows = [{"device_id": id_, "at": at.isoformat()} for id_, at in sorted(measured.items())]
    await pg.execute(
        "INSERT INTO device_state AS state (device_id, heard) SELECT device_id, least(at, now())"
        ' FROM jsonb_to_recordset(%s) AS said(device_id text, at timestamptz) ORDER BY device_id COLLATE "C"'
        " ON CONFLICT (device_id) DO UPDATE SET heard = greatest(state.heard, excluded.heard)",
        (Jsonb(rows, dumps=msgspec.json.encode),),
    )
