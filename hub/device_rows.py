"""The rows of devices, kept in step with Device and DeviceUseStatement in the transaction that writes these."""

from collections.abc import Sequence
from typing import Any

import psycopg

from care_plans.projections import Changed
from care_plans.shapes import codings, instant, local_reference, reference_id
from hub.holding import assignment, holder, is_assignment
from hub.watch import is_test
from monitoring.instruments import instrument_of

JSON = dict[str, Any]

STATUS_REASON = "https://carehub.example/fhir/CodeSystem/device-status-reason"
GONE = ("lost", "retired")
"""Codes of STATUS_REASON: why a device that is not active is out of use."""


async def project_devices(pg: psycopg.AsyncConnection[Any], changed: Sequence[Changed]) -> None:
    if gone := [one.id for one in changed if one.resource is None]:
        await pg.execute("DELETE FROM device WHERE id = ANY(%s)", (gone,))
        for table in ("device_state", "device_aside"):
            await pg.execute(f"DELETE FROM {table} WHERE device_id = ANY(%s)", (gone,))
    rows = [_device(one.resource) for one in changed if one.resource]
    if rows:
        await pg.execute(
            "INSERT INTO device (id, patient_id, name, status, sandbox, since, kind, serial, model, hub_id, gone,"
            "   passed_on)"
            " SELECT row.*, EXISTS (SELECT 1 FROM device_use WHERE device_id = row.id AND until IS NOT NULL)"
            " FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::bool[], %s::timestamptz[], %s::text[],"
            "   %s::text[], %s::text[], %s::text[], %s::text[])"
            "   AS row(id, patient_id, name, status, sandbox, since, kind, serial, model, hub_id, gone)"
            " ON CONFLICT (id) DO UPDATE SET"
            " (patient_id, name, status, sandbox, since, kind, serial, model, hub_id, gone) ="
            " (excluded.patient_id, excluded.name, excluded.status, excluded.sandbox, excluded.since, excluded.kind,"
            "  excluded.serial, excluded.model, excluded.hub_id, excluded.gone)",
            [list(column) for column in zip(*rows, strict=True)],
        )


async def project_uses(pg: psycopg.AsyncConnection[Any], changed: Sequence[Changed]) -> None:
    """The DeviceUseStatements that say who held a device when; others are records, and no more."""
    await pg.execute("DELETE FROM device_use WHERE id = ANY(%s)", ([one.id for one in changed],))
    rows = [row for one in changed if one.resource and (row := _use(one.resource))]
    if rows:
        await pg.execute(
            "INSERT INTO device_use (id, device_id, patient_id, since, until) SELECT * FROM"
            " unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])",
            [list(column) for column in zip(*rows, strict=True)],
        )
    if over := sorted({device for _, device, _, _, until in rows if until is not None}):
        await pg.execute("UPDATE device SET passed_on = true WHERE id = ANY(%s) AND NOT passed_on", (over,))


def _device(device: JSON) -> tuple[Any, ...]:
    names = [one.get("name") for one in device.get("deviceName", ())]
    owner = local_reference(device.get("owner")) or ""
    kind = instrument_of(device)
    held = holder(device)
    return (
        device["id"],
        held,
        next(filter(None, names), None) or device.get("type", {}).get("text") or "Device",
        device.get("status", "active"),
        is_test(device),
        assignment(device).since if held else None,
        kind.key if kind else None,
        _serial(device),
        device.get("modelNumber") or None,
        owner.removeprefix("Organization/") if owner.startswith("Organization/") else None,
        next((code for system, code in codings(device.get("statusReason")) if system == STATUS_REASON), None),
    )


def _serial(device: JSON) -> str | None:
    """Serial number, else the first identifier: what stands on the device, for who holds it in their hands."""
    values = [device.get("serialNumber"), *(one.get("value") for one in device.get("identifier", ()))]
    found: str | None = next((one for one in values if one), None)
    return found.casefold()[:200] if found else None


def _use(statement: JSON) -> tuple[Any, ...] | None:
    device, patient = reference_id(statement.get("device"), "Device"), reference_id(statement.get("subject"), "Patient")
    if not is_assignment(statement) or statement.get("status") not in ("active", "completed") or not device:
        return None
    period = statement.get("timingPeriod", {})
    return statement["id"], device, patient, instant(period.get("start")), instant(period.get("end"))
