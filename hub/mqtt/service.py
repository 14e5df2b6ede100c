"""`carehub broker`: the NATS server, the door to it and the bridge behind it, in one process of their own."""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from hub import identity
from hub.db import Database
from hub.faults import told
from hub.ingest import Submissions
from hub.live import Live
from hub.mqtt.bridge import Bridge
from hub.mqtt.broker import DEVICES, DOOR, SANDBOX, SANDBOX_ROOM, SYSTEM, Broker, Place
from hub.mqtt.door import Door
from hub.mqtt.inflow import Inflow
from hub.mqtt.tickets import Signer
from hub.settings import Settings

log = structlog.get_logger()


async def run(settings: Settings, url: str, place: Place, started: Callable[[], None] | None = None) -> None:
    """Until it is cancelled. *started* is called when devices are let in. Raises BrokerError before that."""
    signer = Signer()
    broker = Broker(place, signer.issuer)
    async with broker.running():
        database = Database(url, settings.pool_size, settings.statement_timeout_ms)
        submissions = Submissions(database)
        clients = {one: await broker.connect(one) for one in (DEVICES, SANDBOX, DOOR, SYSTEM)}
        door = Door(database, signer, clients[DOOR], clients[SYSTEM])
        live = Live(url, partial(_ended, database, door))
        base_url = f"{settings.base_url}/fhir" if settings.base_url else ""
        inflows = {
            DEVICES: Inflow(clients[DEVICES], place.room),
            SANDBOX: Inflow(clients[SANDBOX], SANDBOX_ROOM, ahead=50),
        }
        bridges = {
            name: Bridge(database, submissions, inflow, clients[name], base_url, name == SANDBOX)
            for name, inflow in inflows.items()
        }
        try:
            await live.start()
            for inflow in inflows.values():
                await inflow.open()
            await door.open()
            keeping = [
                asyncio.create_task(door.keep(), name="door"),
                *(asyncio.create_task(bridge.keep(), name=f"bridge of {name}") for name, bridge in bridges.items()),
            ]
            if started is not None:
                started()
            try:
                # Whichever ends first ends it all: what raised must not leave a broker that nobody empties.
                done, _ = await asyncio.wait(keeping, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is not None:
                        log.error("the broker ends", task=task.get_name(), **told(task.exception() or Exception()))
                    task.result()
            finally:
                for task in keeping:
                    task.cancel()
                await asyncio.gather(*keeping, return_exceptions=True)
        finally:
            await live.stop()
            await submissions.close()
            for client in clients.values():
                await client.close()
            await database.close()


def _ended(database: Database, door: Door, listening: bool) -> None:
    identity.forget(database, listening)
    door.look_again()
