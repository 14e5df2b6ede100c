"""`carehub user`, `carehub token` and `carehub device`: people, scripts and devices get in, and are shut out."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.table import Table

if TYPE_CHECKING:
    from hub.db import Database, Tx

Result = TypeVar("Result")

user = typer.Typer(help="Accounts of people and of other systems.", no_args_is_help=True)
system = typer.Typer(help="Other systems that sign in with a key of their own.", no_args_is_help=True)
device = typer.Typer(help="Devices and their keys.", no_args_is_help=True)

Username = Annotated[str, typer.Argument(help="The name they sign in with.")]
DeviceId = Annotated[str, typer.Argument(help="Id of the device, as `carehub device list` shows it.")]


def register(app: typer.Typer) -> None:
    """Put the commands on the command line."""
    app.add_typer(user, name="user")
    app.add_typer(device, name="device")
    app.add_typer(system, name="system")
    app.command()(token)
    app.command("access")(who_sees)


@user.command("add")
def add_user(
    username: Username,
    role: Annotated[str, typer.Option(help="Role, such as care-coordinator; `carehub user roles` lists them.")],
    name: Annotated[str, typer.Option(help="Full name, as colleagues and patients see it.")],
    reference: Annotated[
        str | None,
        typer.Option(help="Who they are: Practitioner/x, Patient/x or RelatedPerson/x. Staff need none."),
    ] = None,
    organisation: Annotated[
        list[str] | None,
        typer.Option(help="Id of a hub, practice or partner they work for (repeatable): they see its people."),
    ] = None,
    hub: Annotated[str | None, typer.Option(help="Id of their home hub, whose boards they open.")] = None,
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
) -> None:
    """Make an account. Asks for the password twice, or reads it from standard input with --password-stdin."""
    if password_stdin:
        password = typer.get_text_stream("stdin").readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)

    async def work(database: "Database", tx: "Tx") -> str:
        from hub import accounts

        who = await _person(tx, role, name, reference)
        organisations = [f"Organization/{one.removeprefix('Organization/')}" for one in organisation or ()]
        await _must_exist(tx, *organisations, *([f"Organization/{hub}"] if hub else []))
        if hub and f"Organization/{hub}" not in organisations:
            organisations.append(f"Organization/{hub}")
        await accounts.create_account(tx, username, password, name, role, who, organisations, hub)
        return who

    who = _in_transaction(work)
    typer.echo(f"{username} may sign in as {role} ({who}).")


@user.command("roles")
def list_roles() -> None:
    """List the roles that an account can have."""
    from hub.roles import ROLES, SYSTEM_ROLES

    table = Table("role", "what it is for")
    for role in ROLES.values():
        if role.name not in SYSTEM_ROLES:
            table.add_row(role.name, role.words)
    _print(table)


@user.command("list")
def list_users() -> None:
    """List the accounts."""
    from hub import accounts

    found = _in_transaction(lambda database, tx: accounts.list_accounts(tx.pg))
    table = Table("username", "name", "role", "is", "open")
    for one in found:
        table.add_row(one.username, one.name, one.role, one.reference, "yes" if one.active else "no")
    _print(table)


@user.command("close")
def close_user(username: Username) -> None:
    """Close an account: its sessions and tokens end at once. What it did stays in the record under its name."""
    from hub import accounts

    _in_transaction(lambda database, tx: accounts.close_account(tx, username))
    typer.echo(f"{username} can no longer sign in.")


def token(
    username: Annotated[str, typer.Argument(help="The account that the token acts as.")],
    label: Annotated[str, typer.Option(help="What it is for.")] = "script",
    days: Annotated[int | None, typer.Option(min=1, help="Days it is valid; without end when not given.")] = 90,
) -> None:
    """Print a bearer token for scripts. It is shown once and kept only as a hash.

    curl -H "Authorization: Bearer $(carehub token USERNAME)" http://127.0.0.1:8000/fhir/Patient
    """
    from datetime import timedelta

    from hub import accounts

    valid_for = timedelta(days=days) if days else None
    typer.echo(_in_transaction(lambda database, tx: accounts.issue_token(tx, username, label, valid_for)))


def who_sees(patient: Annotated[str, typer.Argument(help="Id of the person.")]) -> None:
    """Say who may see a person now, and why: the resource that says so, and until when."""
    from hub import access, audit
    from hub.identity import OPERATOR

    async def work(database: "Database", tx: "Tx") -> list[access.Relationship]:
        await _must_exist(tx, f"Patient/{patient}")
        await audit.record(tx.pg, [audit.entry(OPERATOR, "read", "Patient", patient, patient, detail={"of": "access"})])
        return await access.explain(tx.pg, patient)

    table = Table("who", "why", "because of", "until")
    for one in _in_transaction(work):
        table.add_row(one.subject, one.basis, one.source, one.until.isoformat() if one.until else "")
    _print(table)


@system.command("keys")
def give_keys(
    username: Username,
    jwks: Annotated[Path, typer.Argument(help="File with its public keys, a JWKS.", exists=True, dir_okay=False)],
) -> None:
    """Let a system sign in with its own key (SMART Backend Services), and print its client id.

    Make its account first: carehub user add NAME --role ehr-system --reference Device/ID. New keys replace the old
    ones; `carehub user close` shuts it out.
    """
    import json

    from hub import oauth
    from hub.cli import stop

    try:
        keys = json.loads(jwks.read_bytes())
    except ValueError as error:
        raise stop(f"{jwks} is not JSON: {error}") from error
    client_id = _in_transaction(lambda database, tx: oauth.register(tx, username, keys))
    typer.echo(f"{username} may ask /oauth/token for tokens, as client {client_id}.")


@device.command("add")
def add_device(
    name: Annotated[str, typer.Argument(help="What people call it, such as 'Scales, kitchen'.")],
    patient: Annotated[str | None, typer.Option(help="Id of the person who holds it.")] = None,
    serial: Annotated[str | None, typer.Option(help="Serial number.")] = None,
    kind: Annotated[str | None, typer.Option(help="Type in words, such as 'pulse oximeter'.")] = None,
    owner: Annotated[str | None, typer.Option(help="Id of the hub that owns it.")] = None,
    sandbox: Annotated[bool, typer.Option(help="For trying out: its readings raise no flags.")] = False,
) -> None:
    """Register a device, hand it to a person, and print its key. The key is shown once and kept only as a hash."""

    async def work(database: "Database", tx: "Tx") -> tuple[str, str]:
        from fhir.store import Change, new_id
        from hub import accounts, flows
        from hub.identity import IMPORTER

        await _must_exist(
            tx, *([f"Patient/{patient}"] if patient else []), *([f"Organization/{owner}"] if owner else [])
        )
        ident = new_id()
        resource = {
            "resourceType": "Device",
            "id": ident,
            **({"meta": {"security": [TEST]}} if sandbox else {}),
            **({"identifier": [{"value": serial}], "serialNumber": serial} if serial else {}),
            "status": "active",
            "deviceName": [{"name": name, "type": "user-friendly-name"}],
            **({"type": {"text": kind}} if kind else {}),
            **({"patient": {"reference": f"Patient/{patient}"}} if patient else {}),
            **({"owner": {"reference": f"Organization/{owner}"}} if owner else {}),
        }
        await flows.write(tx, IMPORTER, [Change("create", "Device", ident, resource)])
        return ident, await accounts.issue_device_key(tx, ident)

    ident, key = _in_transaction(work)
    typer.echo(f"Device/{ident}", err=True)
    typer.echo(key)


@device.command("list")
def list_devices() -> None:
    """List devices, who holds them, and how many keys each has."""

    async def work(database: "Database", tx: "Tx") -> list[tuple[str, str, str, str, int]]:
        rows = await tx.pg.execute(
            "SELECT device.id, device.name, device.status, coalesce(device.patient_id, '-'), count(credential.hash)"
            " FROM device LEFT JOIN credential ON credential.device_id = device.id AND credential.revoked IS NULL"
            " GROUP BY device.id ORDER BY device.name, device.id"
        )
        return await rows.fetchall()

    table = Table("id", "name", "status", "held by", "keys")
    for *texts, keys in _in_transaction(work):
        table.add_row(*texts, str(keys))
    _print(table)


@device.command("key")
def device_key(
    device_id: DeviceId,
    keep: Annotated[bool, typer.Option(help="Leave the keys it has valid, until the new one is in place.")] = False,
) -> None:
    """Print a new key of a device; those it had end at once, unless --keep is given."""
    from hub import accounts

    issue = accounts.issue_device_key if keep else accounts.rotate_device_key
    typer.echo(_in_transaction(lambda database, tx: issue(tx, device_id)))


@device.command("revoke")
def revoke_device(device_id: DeviceId) -> None:
    """End all keys of a device: nothing it sends is accepted any more."""
    from hub import accounts

    ended = _in_transaction(lambda database, tx: accounts.revoke_device_keys(tx, device_id))
    typer.echo(f"{ended} keys ended.")


TEST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}


async def _person(tx: "Tx", role: str, name: str, reference: str | None) -> str:
    """*reference* when it exists; a new Practitioner for staff who gave none."""
    from fhir.outcome import refuse
    from fhir.store import Change, new_id
    from hub import flows
    from hub.identity import IMPORTER

    if reference is not None:
        await _must_exist(tx, reference)
        return reference
    if role in ("patient", "carer"):
        raise refuse(422, "required", f"A {role} is somebody already: give --reference Patient/x or RelatedPerson/x.")
    ident = new_id()
    practitioner = {"resourceType": "Practitioner", "id": ident, "active": True, "name": [{"text": name}]}
    await flows.write(tx, IMPORTER, [Change("create", "Practitioner", ident, practitioner)])
    return f"Practitioner/{ident}"


async def _must_exist(tx: "Tx", *references: str) -> None:
    from fhir import store
    from fhir.outcome import refuse

    wanted = [(type_, ident) for type_, _, ident in (reference.partition("/") for reference in references)]
    found = await store.load(tx.pg, wanted)
    for key in wanted:
        if key not in found or found[key].body is None:
            raise refuse(404, "not-found", f"There is no {key[0]}/{key[1]}.")


def _in_transaction(work: "Callable[[Database, Tx], Awaitable[Result]]") -> Result:
    """Carry out *work* in one transaction on the database; a refusal ends the command with its reason."""
    import psycopg

    from fhir.outcome import Refusal
    from hub import embedded
    from hub.cli import stop
    from hub.db import Database, database_url, reach
    from hub.settings import settings

    async def run(url: str) -> Result:
        database = Database(url, pool_size=1)
        try:
            async with database.transaction() as tx:
                return await work(database, tx)
        finally:
            await database.close()

    try:
        with database_url(settings()) as url:
            reach(url)
            return asyncio.run(run(url))
    except Refusal as refusal:
        raise stop("; ".join(issue.diagnostics for issue in refusal.issues)) from refusal
    except (psycopg.Error, embedded.EmbeddedError) as error:
        raise stop(f"{error}; `carehub doctor` says more") from error


def _print(table: Table) -> None:
    from hub.cli import console

    console.print(table)
