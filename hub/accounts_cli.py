"""`carehub user`, `carehub token` and `carehub system`: people and scripts get in, and are shut out."""

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

Username = Annotated[str, typer.Argument(help="The name they sign in with.")]


def register(app: typer.Typer) -> None:
    """Put the commands on the command line."""
    app.add_typer(user, name="user")
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
        await must_exist(tx, *organisations, *([f"Organization/{hub}"] if hub else []))
        if hub and f"Organization/{hub}" not in organisations:
            organisations.append(f"Organization/{hub}")
        await accounts.create_account(tx, username, password, name, role, who, organisations, hub)
        return who

    who = in_transaction(work)
    typer.echo(f"{username} may sign in as {role} ({who}).")


@user.command("roles")
def list_roles() -> None:
    """List the roles that an account can have."""
    from hub.roles import ROLES, SYSTEM_ROLES

    table = Table("role", "what it is for")
    for role in ROLES.values():
        if role.name not in SYSTEM_ROLES:
            table.add_row(role.name, role.words)
    show(table)


@user.command("list")
def list_users() -> None:
    """List the accounts."""
    from hub import accounts

    found = in_transaction(lambda database, tx: accounts.list_accounts(tx.pg))
    table = Table("username", "name", "role", "is", "open")
    for one in found:
        table.add_row(one.username, one.name, one.role, one.reference, "yes" if one.active else "no")
    show(table)


@user.command("close")
def close_user(username: Username) -> None:
    """Close an account: its sessions and tokens end at once. What it did stays in the record under its name."""
    from hub import accounts

    in_transaction(lambda database, tx: accounts.close_account(tx, username))
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
    typer.echo(in_transaction(lambda database, tx: accounts.issue_token(tx, username, label, valid_for)))


def who_sees(patient: Annotated[str, typer.Argument(help="Id of the person.")]) -> None:
    """Say who may see a person now, and why: the resource that says so, and until when."""
    from hub import access, audit
    from hub.identity import OPERATOR

    async def work(database: "Database", tx: "Tx") -> list[access.Relationship]:
        await must_exist(tx, f"Patient/{patient}")
        await audit.record(tx.pg, [audit.entry(OPERATOR, "read", "Patient", patient, patient, detail={"of": "access"})])
        return await access.explain(tx.pg, patient)

    table = Table("who", "why", "because of", "until")
    for one in in_transaction(work):
        table.add_row(one.subject, one.basis, one.source, one.until.isoformat() if one.until else "")
    show(table)


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
    client_id = in_transaction(lambda database, tx: oauth.register(tx, username, keys))
    typer.echo(f"{username} may ask /oauth/token for tokens, as client {client_id}.")


async def _person(tx: "Tx", role: str, name: str, reference: str | None) -> str:
    """*reference* when it exists; a new Practitioner for staff who gave none."""
    from fhir.outcome import refuse
    from fhir.store import Change, new_id
    from hub import flows
    from hub.identity import IMPORTER

    if reference is not None:
        await must_exist(tx, reference)
        return reference
    if role in ("patient", "carer"):
        raise refuse(422, "required", f"A {role} is somebody already: give --reference Patient/x or RelatedPerson/x.")
    ident = new_id()
    practitioner = {"resourceType": "Practitioner", "id": ident, "active": True, "name": [{"text": name}]}
    await flows.write(tx, IMPORTER, [Change("create", "Practitioner", ident, practitioner)])
    return f"Practitioner/{ident}"


async def must_exist(tx: "Tx", *references: str) -> None:
    """Refusal 404 for the first of *references* that is not there."""
    from fhir import store
    from fhir.outcome import refuse

    wanted = [(type_, ident) for type_, _, ident in (reference.partition("/") for reference in references)]
    found = await store.load(tx.pg, wanted)
    for key in wanted:
        if key not in found or found[key].body is None:
            raise refuse(404, "not-found", f"There is no {key[0]}/{key[1]}.")


def in_transaction(work: "Callable[[Database, Tx], Awaitable[Result]]") -> Result:
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


def show(table: Table) -> None:
    """Print *table* as wide as the terminal."""
    from hub.cli import console

    console.print(table)
