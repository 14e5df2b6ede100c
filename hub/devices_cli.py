"""`carehub device`: devices are registered, handed to people, taken back, and given keys."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hub.accounts_cli import in_transaction, must_exist, show

if TYPE_CHECKING:
    from hub.db import Database, Tx

device = typer.Typer(help="Devices and their keys.", no_args_is_help=True)

DeviceId = Annotated[str, typer.Argument(help="Id of the device, as `carehub device list` shows it.")]
Why = Annotated[str, typer.Option(help="Why, for the record.")]
When = Annotated[datetime | None, typer.Option(help="Local time of the hand-over, such as 2026-11-21T09:30; else now.")]


def register(app: typer.Typer) -> None:
    """Put the commands on the command line."""
    app.add_typer(device, name="device")


@device.command("add")
def add_device(
    name: Annotated[str, typer.Argument(help="What people call it, such as 'Scales, kitchen'.")],
    patient: Annotated[str | None, typer.Option(help="Id of the person who holds it.")] = None,
    since: When = None,
    serial: Annotated[str | None, typer.Option(help="Serial number.")] = None,
    udi: Annotated[str | None, typer.Option(help="What its barcode says.")] = None,
    kind: Annotated[str | None, typer.Option(help="A kind of `carehub device kinds`, or words of one's own.")] = None,
    model: Annotated[str | None, typer.Option(help="Model.")] = None,
    owner: Annotated[str | None, typer.Option(help="Id of the hub that owns it.")] = None,
    sandbox: Annotated[bool, typer.Option(help="For trying out: its readings raise no flags.")] = False,
) -> None:
    """Register a device, hand it to a person, and print its key. The key is shown once and kept only as a hash."""

    async def work(database: "Database", tx: "Tx") -> tuple[str, str]:
        from hub import accounts, devices
        from hub.identity import OPERATOR

        await must_exist(
            tx, *([f"Patient/{patient}"] if patient else []), *([f"Organization/{owner}"] if owner else [])
        )
        new = devices.Registration(name, kind, serial, udi, model, hub=owner, sandbox=sandbox)
        ident = (await devices.register(tx, OPERATOR, new, patient, since=_local(since))).change.id
        return ident, await accounts.issue_device_key(tx, ident)

    ident, key = in_transaction(work)
    typer.echo(f"Device/{ident}", err=True)
    typer.echo(key)


@device.command("kinds")
def list_kinds() -> None:
    """List the kinds of devices, and what each measures."""
    from monitoring.instruments import INSTRUMENTS

    table = Table("kind", "name", "measures")
    for one in INSTRUMENTS.values():
        table.add_row(one.key, one.name, "everything" if len(one.measures) > 6 else ", ".join(one.measures))
    show(table)


@device.command("list")
def list_devices() -> None:
    """List devices, who holds them, and how many keys each has."""

    async def work(database: "Database", tx: "Tx") -> list[tuple[str, str, str, str, str, int]]:
        rows = await tx.pg.execute(
            "SELECT device.id, device.name, coalesce(device.gone, device.status), coalesce(device.patient_id, '-'),"
            " coalesce(to_char(state.heard AT TIME ZONE 'Europe/London', 'YYYY-MM-DD HH24:MI'), 'never'),"
            " count(credential.hash) FROM device LEFT JOIN device_state state ON state.device_id = device.id"
            " LEFT JOIN credential ON credential.device_id = device.id AND credential.revoked IS NULL"
            "  AND (credential.expires IS NULL OR credential.expires > now())"
            " GROUP BY device.id, state.heard ORDER BY device.name, device.id"
        )
        return await rows.fetchall()

    table = Table("id", "name", "status", "held by", "last heard", "keys")
    for *texts, keys in in_transaction(work):
        table.add_row(*texts, str(keys))
    show(table)


@device.command("assign")
def assign_device(
    device_id: DeviceId,
    patient: Annotated[str, typer.Argument(help="Id of the person who holds it from then on.")],
    why: Why,
    since: When = None,
) -> None:
    """Hand a device to a person. Whoever held it before no longer does; what it measured before stays theirs."""
    from hub import devices
    from hub.identity import OPERATOR

    async def work(database: "Database", tx: "Tx") -> None:
        await must_exist(tx, f"Patient/{patient}")
        await devices.assign(tx, OPERATOR, device_id, patient, why, _local(since))

    in_transaction(work)
    typer.echo(f"Patient/{patient} holds Device/{device_id}.")


@device.command("return")
def return_device(
    device_id: DeviceId,
    why: Why,
    until: When = None,
    keep_keys: Annotated[bool, typer.Option(help="Its keys stay, so that it can send what it still holds.")] = False,
) -> None:
    """Take a device back into stock. Its keys end, unless --keep-keys is given."""
    from hub import devices
    from hub.identity import OPERATOR

    in_transaction(
        lambda database, tx: devices.give_back(tx, OPERATOR, device_id, why, _local(until), end_keys=not keep_keys)
    )
    typer.echo(f"Device/{device_id} is in stock.")


@device.command("withdraw")
def withdraw_device(
    device_id: DeviceId,
    outcome: Annotated[str, typer.Argument(help="lost or retired.")],
    why: Why,
) -> None:
    """A device is lost or retired: nobody holds it, and its keys end at once."""
    from hub import devices
    from hub.identity import OPERATOR

    in_transaction(lambda database, tx: devices.withdraw(tx, OPERATOR, device_id, outcome, why))
    typer.echo(f"Device/{device_id} is out of use.")


@device.command("key")
def device_key(
    device_id: DeviceId,
    keep: Annotated[bool, typer.Option(help="Leave the keys it has valid.")] = False,
    overlap: Annotated[float, typer.Option(help="Hours for which the keys it has go on, 168 at most.")] = 0,
    sandbox: Annotated[bool, typer.Option(help="For trying out: what it sends is a test, and alerts nobody.")] = False,
) -> None:
    """Print a new key of a device; those it had end at once, or after --overlap hours, or stay with --keep."""
    from hub import accounts, devices
    from hub.identity import OPERATOR

    async def work(database: "Database", tx: "Tx") -> str:
        if keep and not sandbox:
            return await accounts.issue_device_key(tx, device_id)
        return await devices.issue_key(tx, OPERATOR, device_id, sandbox=sandbox, overlap_hours=overlap)

    typer.echo(in_transaction(work))


@device.command("revoke")
def revoke_device(device_id: DeviceId) -> None:
    """End all keys of a device: nothing it sends is accepted any more."""
    from hub import accounts

    ended = in_transaction(lambda database, tx: accounts.revoke_device_keys(tx, device_id))
    typer.echo(f"{ended} keys ended.")


def _local(at: datetime | None) -> datetime | None:
    from zoneinfo import ZoneInfo

    return at.replace(tzinfo=ZoneInfo("Europe/London")) if at is not None and at.tzinfo is None else at
