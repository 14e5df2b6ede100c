"""From the server's stream into the flow of every other reading, and the receipts back to the devices."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import nats.errors
import psycopg
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from fhir import wire
from fhir.outcome import Issue, Refusal, refuse
from fhir.validation import parse
from hub import foreign, intake
from hub.db import Database
from hub.faults import told
from hub.fhir_http import localise
from hub.identity import Actor
from hub.ingest import Line, Submissions
from hub.intake import Receipt, Sent
from hub.mqtt import topics
from hub.mqtt.inflow import Inflow
from monitoring.formats import open_mhealth

BATCH = 500
LATER = 1.0
"""Seconds until a batch is tried again whose database was away for longer than `Submissions` has patience."""

log = structlog.get_logger()


@dataclass(slots=True)
class Bridge:
    """Takes from *inflow*, stores through *submissions*, answers over *client*. *base_url* is this hub's own `/fhir`,
    when it is known: what a device refers to by it, it refers to here. *sandbox*: all of it came with sandbox keys."""

    database: Database
    submissions: Submissions
    inflow: Inflow
    client: Client
    base_url: str = ""
    sandbox: bool = False
    _devices: dict[str, Actor] = field(default_factory=dict)

    async def keep(self) -> None:
        """For ever: one batch is stored while the next one is read and checked. A fault in either ends both."""
        turn = asyncio.Semaphore()
        async with asyncio.TaskGroup() as group:
            while True:
                messages = await self.inflow.take(BATCH)
                ready = await self._ready(messages)
                await turn.acquire()
                group.create_task(self._finish(messages, ready)).add_done_callback(lambda _: turn.release())

    async def _finish(self, messages: Sequence[Msg], ready: Sequence[Line]) -> None:
        """Store until it is stored; then tell the devices; then cross off. Whoever is killed in between does it all
        again, and finds it done: the keys of readings are idempotent."""
        while True:
            try:
                receipts = await self._stored(ready)
                break
            except psycopg.OperationalError as error:
                log.warning("mqtt waits for the database", kind=type(error).__name__, messages=len(messages))
                await asyncio.sleep(LATER)
        try:
            for message, receipt in zip(messages, receipts, strict=True):
                device_id, _ = topics.sender(message.subject)
                await self.client.publish(topics.subject(device_id, "receipts"), receipt_of(message.data, receipt))
            await self.inflow.cross_off(list(messages))
        except nats.errors.Error as error:
            log.warning("mqtt: receipts were not sent", kind=type(error).__name__)

    async def _ready(self, messages: Sequence[Msg]) -> list[Line]:
        senders = [topics.sender(message.subject) for message in messages]
        while True:
            try:
                await self._meet({device_id for device_id, _ in senders})
                known = await self._holders(messages, senders)
                break
            except psycopg.OperationalError as error:
                log.warning("mqtt waits for the database", kind=type(error).__name__)
                await asyncio.sleep(LATER)
        return [
            (number, _checked(self._devices[device_id], rest, message.data, self.base_url, known))
            for number, (message, (device_id, rest)) in enumerate(zip(messages, senders, strict=True))
        ]

    async def _holders(self, messages: Sequence[Msg], senders: Sequence[tuple[str, str]]) -> foreign.Holders:
        """Of whom a message in another format, which names nobody, may be; hardly any batch has one."""
        ids = {
            one for message, (one, _) in zip(messages, senders, strict=True) if b'"resourceType"' not in message.data
        }
        return await foreign.holders(self.database, ids) if ids else {}

    async def _meet(self, device_ids: set[str]) -> None:
        """Whoever published was let in with their key; what they are called is looked up once."""
        strangers = device_ids - self._devices.keys()
        if not strangers:
            return
        async with self.database.reading() as pg:
            rows = await pg.execute("SELECT id, name FROM device WHERE id = ANY(%s)", (sorted(strangers),))
            names = dict(await rows.fetchall())
        for one in strangers:
            # A device that is gone since is refused where every device is looked at.
            reference = f"Device/{one}"
            named = names.get(one, one)
            self._devices[one] = Actor("device", one, named, "device", reference, (reference,), sandbox=self.sandbox)

    async def _stored(self, ready: Sequence[Line]) -> list[Receipt]:
        good = [one for _, one in ready if isinstance(one, Sent)]
        try:
            receipts = iter(await self.submissions.submit_all(good))
        except psycopg.OperationalError:
            raise
        except Exception as error:  # the others of the batch must not wait for ever behind one that breaks the flow
            log.error("mqtt: a batch broke", **told(error))
            receipts = iter([await self._alone(one) for one in good])
        found = [next(receipts) if isinstance(one, Sent) else Receipt("refused", refusal=one[2]) for _, one in ready]
        bad = [one for _, one in ready if not isinstance(one, Sent)]
        broken = [
            (one.actor, one.raw, receipt.refusal)
            for (_, one), receipt in zip(ready, found, strict=True)
            if isinstance(one, Sent) and isinstance(receipt.refusal, Broken)
        ]
        if bad or broken:
            async with self.database.transaction() as tx:
                await intake.file_refusals(tx, [*bad, *broken])
        return found

    async def _alone(self, one: Sent) -> Receipt:
        try:
            return await self.submissions.submit(one)
        except psycopg.OperationalError:
            raise
        except Exception as error:  # whatever it is: the message is filed, logged, and told to its device
            log.error("mqtt: a reading broke the flow", device=one.actor.id, **told(error))
            return Receipt("refused", refusal=Broken())


class Broken(Refusal):
    """A reading that we failed at; it is kept as it came, for whoever mends the fault."""

    reason = "exception"

    def __init__(self) -> None:
        text = "Something went wrong here with this reading; it has been logged, and the message is kept."
        super().__init__(500, [Issue("exception", text)])


def _checked(
    actor: Actor, rest: str, raw: bytes, base_url: str, known: foreign.Holders
) -> Sent | tuple[Actor, bytes, Refusal]:
    try:
        if rest != "readings":
            below = f"carehub/{actor.id}/"
            raise refuse(404, "not-found", f"There is no topic {below}{rest}; readings go to {below}readings.")
        if b'"resourceType"' not in raw and open_mhealth.is_data_point(point := wire.decode(raw)):
            return foreign.translated(actor, raw, point, known, open_mhealth.observation)
        observation = parse(raw, "Observation").resource
        if base_url and base_url.encode() in raw:
            localise(observation, base_url)
        return intake.sent(actor, observation, raw)
    except Refusal as refusal:
        return actor, raw, refusal


def receipt_of(raw: bytes, receipt: Receipt) -> bytes:
    """What a device is told of one message: `outcome` (accepted, corrected, duplicate, refused), `sha256` of the
    message, which tells it from others, `reference` of what is stored, and `issue` as in an OperationOutcome."""
    told_: dict[str, Any] = {"outcome": receipt.outcome, "sha256": hashlib.sha256(raw).hexdigest()}
    if receipt.observation_id is not None:
        told_["reference"] = f"Observation/{receipt.observation_id}"
    issues = list(receipt.refusal.issues) if receipt.refusal is not None else []
    issues += [doubt.issue() for doubt in receipt.doubts]
    if issues:
        told_["issue"] = [issue.as_json() for issue in issues]
    return msgspec.json.encode(told_)
