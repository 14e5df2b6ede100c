"""Readings over MQTT: who may connect and publish, what becomes of a message, and what being killed costs."""

import asyncio
import hashlib
import json
import os
import signal
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from factories import device, organisation, patient
from mqtt import Speaker, broker, place, until

from hub import accounts
from hub.db import Database
from hub.identity import SANDBOX_PERSON
from hub.mqtt.bridge import Bridge
from hub.mqtt.broker import Broker, BrokerError, Place
from hub.mqtt.tickets import Signer

NOW = datetime.now(UTC).replace(microsecond=0)
PAHO_REFUSED = "Not authorized"


@dataclass
class World:
    database: Database
    where: Place
    person: str
    cuff: str
    key: str
    other: str
    other_key: str

    def speaker(self, **more: Any) -> Speaker:
        return Speaker(**{"port": self.where.port, "device_id": self.cuff, "key": self.key, **more})

    async def values(self, minutes: set[int] | None = None) -> list[float]:
        async with self.database.reading() as pg:
            rows = await pg.execute(
                "SELECT value FROM reading WHERE patient_id = %s ORDER BY at DESC, value", (self.person,)
            )
            return [row[0] for row in await rows.fetchall()]

    async def refusals(self) -> list[tuple[str, bytes]]:
        async with self.database.reading() as pg:
            rows = await pg.execute("SELECT reason, raw FROM refusal WHERE device_id = %s ORDER BY at", (self.cuff,))
            return [(reason, bytes(raw)) for reason, raw in await rows.fetchall()]


@pytest.fixture(scope="module")
def folder() -> Any:
    with tempfile.TemporaryDirectory(prefix="carehub-mqtt-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
async def world(database: Database, folder: Path) -> AsyncIterator[World]:
    """One broker, and a person with a device whose id has a dot, as some makers number theirs."""
    async with database.transaction() as tx:
        hub = await organisation(tx)
        person = await patient(tx, hub=hub)
        cuff = await device(tx, person, id="cuff.7-a")
        other = await device(tx, await patient(tx, hub=hub))
        key, other_key = await accounts.issue_device_key(tx, cuff), await accounts.issue_device_key(tx, other)
    where = place(folder)
    async with broker(database.url, where):
        yield World(database, where, person, cuff, key, other, other_key)


def pulse(person: str, value: object, minutes: int, **more: Any) -> bytes:
    return json.dumps(
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "subject": {"reference": f"Patient/{person}"},
            "effectiveDateTime": (NOW - timedelta(minutes=minutes)).isoformat(),
            "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "/min"},
            **more,
        }
    ).encode()


class TestDoor:
    async def test_nobody_comes_in_with_a_wrong_key_or_anothers(self, world: World) -> None:
        for key in ("chd_wrong", world.other_key):
            async with world.speaker(key=key) as stranger:
                assert stranger.connects[0] == PAHO_REFUSED

    async def test_a_device_may_not_take_the_client_id_of_another(self, world: World) -> None:
        async with world.speaker(client_id=world.other) as thief:
            assert thief.connects[0] == PAHO_REFUSED

    async def test_a_device_hears_and_says_nothing_but_its_own(self, world: World) -> None:
        async with (
            world.speaker() as cuff,
            world.speaker(device_id=world.other, key=world.other_key) as other,
        ):
            for topic in ("#", "carehub/#", f"carehub/{world.other}/receipts", f"carehub/{world.other}/#", "$SYS/#"):
                assert "Unspecified error" in await cuff.listen(topic)
            assert "Unspecified error" in await other.listen(f"carehub/{world.cuff}/receipts")
            assert "Granted" in await other.listen()
            before = await world.refusals()
            await cuff.publish(pulse(world.person, 61, 61), topic=other.topic)
            await cuff.publish(b"x", topic=f"carehub/{world.other}/receipts")
            await cuff.publish(pulse(world.person, 62, 62))
            await until(lambda: _has(world, 62))
            assert 61 not in await world.values()
            assert other.receipts == []
            assert await world.refusals() == before

    async def test_a_connection_ends_with_its_key(self, world: World) -> None:
        async with world.database.transaction() as tx:
            key = await accounts.issue_device_key(tx, world.other)
        async with (
            world.speaker(device_id=world.other, key=key) as ended,
            world.speaker() as stays,
        ):
            async with world.database.transaction() as tx:
                await tx.pg.execute(
                    "UPDATE credential SET revoked = now() WHERE hash = %s", (hashlib.sha256(key.encode()).digest(),)
                )
            await until(lambda: ended.lost > 0)
            await until(lambda: ended.connects[-1] == PAHO_REFUSED)
            assert stays.lost == 0


async def _has(world: World, value: float) -> bool:
    return value in await world.values()


class TestFlow:
    async def test_a_reading_is_stored_and_its_receipt_comes_back(self, world: World) -> None:
        async with world.speaker() as cuff:
            assert "Granted" in await cuff.listen(qos=1)
            good = pulse(world.person, 71, 10)
            sent = (good, good, pulse(world.person, 72, 10), pulse(world.person, 73, 10, status="corrected"))
            for number, payload in enumerate(sent, 1):
                await cuff.publish(payload)
                await until(lambda number=number: len(cuff.receipts) == number)
            assert [one["outcome"] for one in cuff.receipts] == ["accepted", "duplicate", "refused", "corrected"]
            assert cuff.receipts[0]["sha256"] == hashlib.sha256(good).hexdigest()
            assert cuff.receipts[0]["reference"] == cuff.receipts[3]["reference"]
            assert cuff.receipts[2]["issue"][0]["code"] == "conflict"
            assert (await world.values()).count(73) == 1
            async with world.database.reading() as pg:
                rows = await pg.execute(
                    "SELECT DISTINCT actor FROM audit WHERE patient_id = %s AND type = 'Observation'",
                    (world.person,),
                )
                assert await rows.fetchall() == [(f"Device/{world.cuff}",)]

    async def test_what_is_refused_is_filed_and_told(self, world: World) -> None:
        bad = [
            (b"{", "structure", None),
            (pulse(world.person, 70, -60), "future-time", None),
            (pulse("somebody-else", 70, 11), "unknown-patient", None),
            (pulse(world.person, 70, 12), "not-found", f"carehub/{world.cuff}/reading"),
        ]
        before = len(await world.refusals())
        async with world.speaker() as cuff:
            await cuff.listen()
            for payload, _, topic in bad:
                await cuff.publish(payload, topic)
            await until(lambda: len(cuff.receipts) == len(bad))
        assert {one["outcome"] for one in cuff.receipts} == {"refused"}
        filed = (await world.refusals())[before:]
        assert sorted(filed) == sorted((reason, payload) for payload, reason, _ in bad)

    async def test_a_data_point_of_open_mhealth_is_the_holders(self, world: World) -> None:
        schema = {"namespace": "omh", "name": "heart-rate", "version": "2.0"}
        header = {"uuid": "8a1d6a2e-1111-4222-8333-444455556666", "schema_id": schema}
        time = {"date_time": (NOW - timedelta(minutes=44)).isoformat()}
        body = {"heart_rate": {"value": 144, "unit": "beats/min"}, "effective_time_frame": time}
        async with world.speaker() as cuff:
            await cuff.listen()
            await cuff.publish(json.dumps({"header": header, "body": body}).encode())
            await cuff.publish(json.dumps({"header": {}, "body": body}).encode())
            await until(lambda: len(cuff.receipts) == 2)
        assert [one["outcome"] for one in cuff.receipts] == ["accepted", "refused"]
        assert cuff.receipts[1]["issue"][0]["expression"] == ["header.schema_id"]
        assert 144 in await world.values()

    async def test_doubt_is_told_as_everywhere(self, world: World) -> None:
        async with world.speaker() as cuff:
            await cuff.listen()
            await cuff.publish(pulse(world.person, 12, 60 * 30))
            await until(lambda: bool(cuff.receipts))
        assert [one["severity"] for one in cuff.receipts[0]["issue"]] == ["warning", "warning"]

    async def test_what_comes_with_a_sandbox_key_is_a_test_and_says_so(self, world: World) -> None:
        async with world.database.transaction() as tx:
            key = await accounts.issue_device_key(tx, world.other, sandbox=True)
        async with world.speaker(device_id=world.other, key=key) as tester:
            await tester.listen()
            await tester.publish(pulse(SANDBOX_PERSON, 191, 15))
            await until(lambda: bool(tester.receipts))
        assert tester.receipts[0]["outcome"] == "accepted"
        async with world.database.reading() as pg:
            rows = await pg.execute("SELECT value, quality FROM reading WHERE patient_id = %s", (SANDBOX_PERSON,))
            assert await rows.fetchall() == [(191.0, "sandbox")]

    async def test_qos_0_and_2_are_taken_too(self, world: World) -> None:
        async with world.speaker() as cuff:
            await cuff.publish(pulse(world.person, 80, 20), qos=0)
            await cuff.publish(pulse(world.person, 82, 22), qos=2)
            await until(lambda: _has(world, 80))
            await until(lambda: _has(world, 82))


class TestKilled:
    """Hazard: a reading that a device was told had arrived is lost, or stored twice."""

    async def test_a_full_broker_acknowledges_no_more_and_goes_on_when_there_is_room(
        self, world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with world.database.transaction() as tx:
            person = await patient(tx)
            scale = await device(tx, person)
            key = await accounts.issue_device_key(tx, scale)
        where = place(folder / "full", room=40_000)
        with monkeypatch.context() as patched:
            patched.setattr(Bridge, "keep", lambda self: asyncio.Event().wait())
            stalled = broker(world.database.url, where)
            await stalled.__aenter__()
        async with Speaker(where.port, scale, key) as speaker:
            for n in range(150):
                speaker.send(pulse(person, 40 + n, n))
            await until(lambda: speaker.lost > 0)
            assert 0 < len(speaker.acknowledged) < 150
            await stalled.__aexit__(None, None, None)
            async with broker(world.database.url, where):
                await until(lambda: len(speaker.acknowledged) == 150)

                async def all_there() -> bool:
                    async with world.database.reading() as pg:
                        rows = await pg.execute("SELECT value FROM reading WHERE patient_id = %s", (person,))
                        return sorted(row[0] for row in await rows.fetchall()) == [40 + n for n in range(150)]

                await until(all_there)

    @pytest.mark.fault
    async def test_every_acknowledged_reading_is_stored_once_though_broker_and_bridge_are_killed(
        self, world: World, folder: Path
    ) -> None:
        async with world.database.transaction() as tx:
            person = await patient(tx)
            scale = await device(tx, person)
            key = await accounts.issue_device_key(tx, scale)
        where = place(folder / "killed" / "mqtt")
        async with _process(world.database.url, where) as first, Speaker(where.port, scale, key) as speaker:
            sent = {speaker.send(pulse(person, 40 + n, n)): 40 + n for n in range(150)}
            await until(lambda: len(speaker.acknowledged) > 20)
            (server,) = _children(first.pid)
            os.kill(server, signal.SIGKILL)
            await until(lambda: len(speaker.connects) > 1)
            sent |= {speaker.send(pulse(person, 40 + n, n)): 40 + n for n in range(150, 200)}
            await until(lambda: len(speaker.acknowledged) > 155)
            first.kill()
            await first.wait()
            acknowledged = {sent[number] for number in speaker.acknowledged}
        async with broker(world.database.url, where):
            stored: list[float] = []

            async def all_there() -> bool:
                async with world.database.reading() as pg:
                    rows = await pg.execute("SELECT value FROM reading WHERE patient_id = %s", (person,))
                    stored[:] = [row[0] for row in await rows.fetchall()]
                return acknowledged <= set(stored)

            await until(all_there)
        assert len(stored) == len(set(stored))


@asynccontextmanager
async def _process(url: str, where: Place) -> AsyncIterator[asyncio.subprocess.Process]:
    """`carehub broker` as it is run, ended by its own id."""
    environment = os.environ | {"CAREHUB_DATABASE_URL": url, "CAREHUB_DATA_DIR": str(where.folder.parent)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hub.cli", "broker", "--port", str(where.port)),
        env=environment | {"CAREHUB_DEMONSTRATION": "true"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        assert b"MQTT is taken" in await asyncio.wait_for(process.stdout.readline(), 30)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class TestPlace:
    def test_beyond_this_machine_only_with_tls(self, tmp_path: Path) -> None:
        with pytest.raises(BrokerError, match="--tls-cert"):
            Place(tmp_path, host="0.0.0.0").check()
        with pytest.raises(BrokerError, match="both"):
            Place(tmp_path, certificate=tmp_path / "c").check()
        with pytest.raises(BrokerError, match="cannot be read"):
            Place(tmp_path, "0.0.0.0", certificate=tmp_path / "c", key=tmp_path / "k").check()
        Place(tmp_path, host="localhost").check()

    async def test_with_tls_nobody_speaks_in_the_clear_and_each_message_may_be_forced_to_disk(
        self, tmp_path: Path
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        made = made.serial_number(1).not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        certificate = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        (tmp_path / "chain.pem").write_bytes(certificate)
        (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        files = {"certificate": tmp_path / "chain.pem", "key": tmp_path / "key.pem"}
        where = place(tmp_path / "mqtt", sync="always", **files)
        async with Broker(where, Signer().issuer).running():
            trusting = ssl.create_default_context(cafile=str(tmp_path / "chain.pem"))
            _, safe = await asyncio.open_connection("localhost", where.port, ssl=trusting)
            safe.close()
            reader, plain = await asyncio.open_connection("127.0.0.1", where.port)
            plain.write(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
            assert await asyncio.wait_for(reader.read(10), 10) == b""
            plain.close()
