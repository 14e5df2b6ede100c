"""What is done with a device: registered, handed to a person, taken back, lost. Who held it when follows by itself
(`hub.holding`), so that the same rules hold for whoever changes a Device through FHIR."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from care_plans.shapes import set_extension
from fhir import store
from fhir.outcome import refuse
from fhir.store import Change, Written, new_id
from hub import access, accounts, flows
from hub.db import Tx
from hub.device_rows import GONE, STATUS_REASON
from hub.holding import ASSIGNMENT, Assignment, holder, say
from hub.identity import IMPORTER, SANDBOX_PERSON, Actor
from hub.intake import TEST
from monitoring.instruments import INSTRUMENTS

JSON = dict[str, Any]

MOST_WORDS = 300
SERIAL = "https://carehub.example/fhir/Id/serial"


@dataclass(frozen=True, slots=True)
class Registration:
    """What is known of a new device. `kind` is a key of INSTRUMENTS, or words of one's own; `udi` what its barcode
    says (UDI, human readable form); `hub` the id of the Organization whose it is; `sandbox`: for trying out, its
    readings never alert."""

    name: str
    kind: str | None = None
    serial: str | None = None
    udi: str | None = None
    model: str | None = None
    manufacturer: str | None = None
    hub: str | None = None
    sandbox: bool = False


async def register(
    tx: Tx,
    actor: Actor,
    new: Registration,
    patient_id: str | None = None,
    why: str = "",
    since: datetime | None = None,
    now: datetime | None = None,
) -> Written:
    """A new device; *patient_id* holds it from the start, *since* then, or from now on. Refusal 409 for a serial number
    that another device of this kind has."""
    flows.demand(actor, "device.manage")
    name = new.name.strip()
    if not 0 < len(name) <= 100:
        raise refuse(422, "required", "A device has a name of 1 to 100 characters.", "Device.deviceName")
    resource = _device(new, name)
    if new.serial:
        rows = await tx.pg.execute(
            "SELECT id FROM device WHERE serial = %s AND kind IS NOT DISTINCT FROM %s LIMIT 1",
            (new.serial.strip().casefold()[:200], new.kind if new.kind in INSTRUMENTS else None),
        )
        if (row := await rows.fetchone()) is not None:
            raise refuse(409, "duplicate", f"Device/{row[0]} has this serial number already.", "Device.serialNumber")
    if patient_id:
        resource["patient"] = {"reference": f"Patient/{patient_id}"}
        said = Assignment(since=since or now or datetime.now(UTC), why=_said(why) if why else None)
        say(resource, said, actor.reference)
    return (await flows.write(tx, actor, [Change("create", "Device", resource["id"], resource)], now))[0]


async def assign(
    tx: Tx,
    actor: Actor,
    device_id: str,
    patient_id: str,
    why: str,
    since: datetime | None = None,
    now: datetime | None = None,
) -> Written:
    """Hand the device to a person, from now on or *since* then; whoever held it before no longer does.

    Refusal 409 when it is theirs already, or when readings since then lie on the record of the holder before.
    """
    resource, version = await _read(tx, actor, device_id)
    if resource.get("status", "active") != "active":
        raise refuse(409, "conflict", "This device is out of use: put it back into use first.", "Device.status")
    if holder(resource) == patient_id:
        raise refuse(409, "conflict", "This person holds the device already.", "Device.patient")
    resource["patient"] = {"reference": f"Patient/{patient_id}"}
    say(resource, Assignment(since=since, why=_said(why)), actor.reference)
    return await _write(tx, actor, resource, version, now)


async def give_back(
    tx: Tx,
    actor: Actor,
    device_id: str,
    why: str,
    until: datetime | None = None,
    *,
    end_keys: bool = True,
    now: datetime | None = None,
) -> Written:
    """The device is in stock again. *end_keys*: its keys end; kept, it can still send what it holds of its time."""
    resource, version = await _read(tx, actor, device_id)
    if holder(resource) is None:
        raise refuse(409, "conflict", "Nobody holds this device.", "Device.patient")
    del resource["patient"]
    say(resource, Assignment(until=until, why=_said(why)), actor.reference)
    written = await _write(tx, actor, resource, version, now)
    if end_keys:
        await accounts.revoke_device_keys(tx, device_id, actor)
    return written


async def withdraw(
    tx: Tx, actor: Actor, device_id: str, outcome: str, why: str, now: datetime | None = None
) -> Written:
    """The device is `lost` or `retired`: nobody's, and its keys end at once."""
    if outcome not in GONE:
        raise refuse(422, "code-invalid", f"A device is {' or '.join(GONE)}.", "Device.statusReason")
    resource, version = await _read(tx, actor, device_id)
    held = resource.pop("patient", None)
    resource["status"] = "inactive"
    resource["statusReason"] = [{"coding": [{"system": STATUS_REASON, "code": outcome}], "text": _said(why)}]
    if held is not None:
        say(resource, Assignment(why=_said(why)), actor.reference)
    written = await _write(tx, actor, resource, version, now)
    await accounts.revoke_device_keys(tx, device_id, actor)
    return written


async def put_back(tx: Tx, actor: Actor, device_id: str, why: str, now: datetime | None = None) -> Written:
    """A device that was lost or retired is in stock again. It needs a new key."""
    resource, version = await _read(tx, actor, device_id)
    if resource.get("status") == "active":
        raise refuse(409, "conflict", "This device is in use.", "Device.status")
    resource["status"] = "active"
    resource.pop("statusReason", None)
    resource.pop("patient", None)
    resource["note"] = [*resource.get("note", ()), {"text": f"Back in use: {_said(why)}"}]
    return await _write(tx, actor, resource, version, now)


async def issue_key(
    tx: Tx, actor: Actor, device_id: str, label: str = "key", *, sandbox: bool = False, overlap_hours: float = 0
) -> str:
    """A new key, shown once; the ones before it end, after *overlap_hours* or at once. A *sandbox* key ends none."""
    await _read(tx, actor, device_id)
    if sandbox:
        await sandbox_person(tx)
        return await accounts.issue_device_key(tx, device_id, label, accounts.SANDBOX_LASTS, actor, sandbox=True)
    return await accounts.rotate_device_key(tx, device_id, label, actor, overlap_hours)


async def end_keys(tx: Tx, actor: Actor, device_id: str) -> int:
    """Every key of the device ends now: nothing it sends is accepted any more."""
    await _read(tx, actor, device_id)
    return await accounts.revoke_device_keys(tx, device_id, actor)


async def sandbox_person(tx: Tx) -> str:
    """The made-up person for whom every sandbox key may send; made when first needed. In nobody's care."""
    rows = await tx.pg.execute("SELECT 1 FROM person WHERE patient_id = %s", (SANDBOX_PERSON,))
    if await rows.fetchone() is None:
        resource = {
            "resourceType": "Patient",
            "id": SANDBOX_PERSON,
            "meta": {"security": [TEST]},
            "name": [{"use": "official", "family": "Sandbox", "given": ["Test"]}],
        }
        await flows.write(tx, IMPORTER, [Change("create", "Patient", SANDBOX_PERSON, resource)])
    return SANDBOX_PERSON


def _device(new: Registration, name: str) -> JSON:
    kind = INSTRUMENTS.get(new.kind or "")
    resource: JSON = {
        "resourceType": "Device",
        "id": new_id(),
        "status": "active",
        "deviceName": [{"name": name, "type": "user-friendly-name"}],
    }
    if new.sandbox:
        resource["meta"] = {"security": [TEST]}
    if new.serial:
        resource["serialNumber"] = new.serial.strip()
        resource["identifier"] = [{"system": SERIAL, "value": new.serial.strip()}]
    if new.udi:
        resource["udiCarrier"] = [{"carrierHRF": new.udi.strip()}]
    if new.model:
        resource["modelNumber"] = new.model.strip()
    if new.manufacturer:
        resource["manufacturer"] = new.manufacturer.strip()
    if kind or new.kind:
        resource["type"] = kind.concept if kind else {"text": new.kind}
    if new.hub:
        resource["owner"] = {"reference": f"Organization/{new.hub}"}
    return resource


async def _read(tx: Tx, actor: Actor, device_id: str) -> tuple[JSON, int]:
    flows.demand(actor, "device.manage")
    stored = await store.read(tx.pg, "Device", device_id, access.visible(actor))
    if stored.resource is None:
        raise refuse(410, "deleted", f"Device/{device_id} was deleted.")
    resource = dict(stored.resource)
    set_extension(resource, ASSIGNMENT, None)
    return resource, stored.version


async def _write(tx: Tx, actor: Actor, resource: JSON, version: int, now: datetime | None) -> Written:
    change = Change("update", "Device", resource["id"], resource, if_match=version)
    return (await flows.write(tx, actor, [change], now))[0]


def _said(why: str) -> str:
    if not 0 < len(why.strip()) <= MOST_WORDS:
        raise refuse(422, "required", f"Say why, in 1 to {MOST_WORDS} characters.", "Device.note")
    return why.strip()
