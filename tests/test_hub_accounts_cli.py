"""The commands that let people, scripts and devices in, run as an operator runs them."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from fhir import store
from fhir.outcome import Refusal
from fhir.store import Change
from hub import accounts
from hub.access import Grant, project_access, writable_patients
from hub.db import Database
from hub.identity import authenticate

PASSWORD = "a long enough passphrase"


@pytest.fixture(scope="module")
async def installation(fresh_url: Callable[[], str]) -> AsyncIterator[Database]:
    database = Database(fresh_url())
    people = [
        {"resourceType": "Patient", "id": "p1", "name": [{"family": "One"}]},
        {"resourceType": "Organization", "id": "hub-1", "name": "Hub"},
    ]
    async with database.transaction() as tx:
        changes = [Change("create", one["resourceType"], one["id"], one) for one in people]  # type: ignore[arg-type]
        await store.write(tx.pg, changes, "Device/test", datetime.now(UTC))
    yield database
    await database.close()


def carehub(database: Database, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CAREHUB_DATABASE_URL": database.url, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", *words],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )


def add_user(
    database: Database, username: str, *more: str, password: str = PASSWORD
) -> subprocess.CompletedProcess[str]:
    words = ("user", "add", username, "--name", "Ann Example", "--password-stdin", *more)
    return carehub(database, *words, stdin=password + "\n")


async def test_a_member_of_staff_gets_an_account_and_a_practitioner(installation: Database) -> None:
    done = add_user(installation, "ann", "--role", "care-coordinator", "--hub", "hub-1")
    assert done.returncode == 0, done.stderr
    signed = await accounts.sign_in(installation, "ann", PASSWORD, hours=1, demonstration=False)
    assert signed.actor.role == "care-coordinator"
    assert signed.actor.hub_id == "hub-1"
    assert "Organization/hub-1" in signed.actor.subjects
    assert signed.actor.reference.startswith("Practitioner/")
    assert signed.actor.reference in done.stdout
    async with installation.transaction() as tx:
        key = ("Practitioner", signed.actor.reference.partition("/")[2])
        assert (await store.load(tx.pg, [key]))[key].body is not None
        rows = await tx.pg.execute("SELECT action FROM audit WHERE actor = 'Device/care-hub-cli'")
        assert ("account-made",) in await rows.fetchall()
    listed = carehub(installation, "user", "list")
    assert "Ann Example" in listed.stdout


@pytest.mark.parametrize(
    ("words", "password", "reason"),
    [
        (("--role", "root"), PASSWORD, "no role"),
        (("--role", "engine"), PASSWORD, "no role"),
        (("--role", "clinician"), "short", "at least"),
        (("--role", "patient"), PASSWORD, "--reference"),
        (("--role", "patient", "--reference", "Patient/nobody"), PASSWORD, "There is no Patient/nobody"),
        (("--role", "clinician", "--hub", "nowhere"), PASSWORD, "There is no Organization/nowhere"),
    ],
)
async def test_what_cannot_be_an_account_is_refused_with_the_reason(
    installation: Database, words: tuple[str, ...], password: str, reason: str
) -> None:
    done = add_user(installation, "refused", *words, password=password)
    assert done.returncode == 1
    assert reason in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    with pytest.raises(Refusal):
        await accounts.sign_in(installation, "refused", password, hours=1, demonstration=False)


async def test_a_token_is_all_that_is_printed_and_it_works(installation: Database) -> None:
    add_user(installation, "script", "--role", "administrator")
    done = carehub(installation, "token", "script", "--label", "nightly", "--days", "1")
    assert done.returncode == 0, done.stderr
    token = done.stdout.strip()
    actor = await authenticate({"authorization": f"Bearer {token}"}, {}, installation)
    assert actor.role == "administrator"
    unknown = carehub(installation, "token", "nobody")
    assert unknown.returncode == 1
    assert unknown.stdout == ""


async def test_closing_an_account_ends_its_tokens(installation: Database) -> None:
    add_user(installation, "leaver", "--role", "clinician")
    token = carehub(installation, "token", "leaver").stdout.strip()
    assert carehub(installation, "user", "close", "leaver").returncode == 0
    with pytest.raises(Refusal):
        await authenticate({"authorization": f"Bearer {token}"}, {}, installation)


async def test_a_device_is_registered_handed_over_and_gets_a_key_once(installation: Database) -> None:
    done = carehub(installation, "device", "add", "Scales", "--patient", "p1", "--serial", "S1", "--sandbox")
    assert done.returncode == 0, done.stderr
    key, reference = done.stdout.strip(), done.stderr.strip()
    actor = await authenticate({"authorization": f"Bearer {key}"}, {}, installation)
    assert (actor.kind, actor.reference) == ("device", reference)
    async with installation.transaction() as tx:
        assert await writable_patients(tx.pg, actor, ["p1"]) == {"p1"}
        row = await (
            await tx.pg.execute("SELECT patient_id, sandbox FROM device WHERE id = %s", (actor.id,))
        ).fetchone()
        assert row == ("p1", True)
    listed = carehub(installation, "device", "list")
    assert actor.id in listed.stdout
    assert key not in listed.stdout
    new = carehub(installation, "device", "key", actor.id).stdout.strip()
    assert new != key
    assert (await authenticate({"authorization": f"Bearer {new}"}, {}, installation)).id == actor.id
    assert "1 keys ended" in carehub(installation, "device", "revoke", actor.id).stdout


async def test_a_device_is_handed_on_returned_and_lost(installation: Database) -> None:
    done = carehub(installation, "device", "add", "Cuff", "--kind", "cuff", "--serial", "S2")
    ident = done.stderr.strip().removeprefix("Device/")
    assert carehub(installation, "device", "assign", ident, "p1", "--why", "Starts").returncode == 0
    again = carehub(installation, "device", "assign", ident, "p1", "--why", "Again")
    assert again.returncode == 1 and "holds the device already" in again.stderr
    assert carehub(installation, "device", "return", ident, "--why", "Done", "--keep-keys").returncode == 0
    sandbox = carehub(installation, "device", "key", ident, "--sandbox").stdout.strip()
    assert (await authenticate({"authorization": f"Bearer {sandbox}"}, {}, installation)).sandbox
    assert carehub(installation, "device", "withdraw", ident, "lost", "--why", "On a bus").returncode == 0
    async with installation.transaction() as tx:
        rows = await tx.pg.execute("SELECT patient_id, until IS NULL FROM device_use WHERE device_id = %s", (ident,))
        assert await rows.fetchall() == [("p1", False)]
        gone = await tx.pg.execute("SELECT gone, patient_id FROM device WHERE id = %s", (ident,))
        assert await gone.fetchone() == ("lost", None)


async def test_a_device_for_an_unknown_person_is_not_made(installation: Database) -> None:
    done = carehub(installation, "device", "add", "Scales", "--patient", "nobody")
    assert done.returncode == 1
    assert "There is no Patient/nobody" in done.stderr
    assert done.stdout == ""


async def test_who_may_see_a_person_is_told_with_the_reason(installation: Database) -> None:
    async with installation.transaction() as tx:
        await project_access(tx.pg, {"CareTeam/t1": [Grant("Practitioner/cai", "p1", "team")]})
    done = carehub(installation, "access", "p1")
    assert done.returncode == 0, done.stderr
    assert ["Practitioner/cai", "team", "CareTeam/t1"] in [
        line.replace("│", " ").split() for line in done.stdout.splitlines()
    ]
    assert carehub(installation, "access", "nobody").returncode == 1


async def test_roles_are_listed_without_those_of_the_hub_itself(installation: Database) -> None:
    done = carehub(installation, "user", "roles")
    assert "care-coordinator" in done.stdout
    assert "engine" not in done.stdout


@pytest.mark.parametrize("words", [("user", "list"), ("audit", "verify")])
def test_a_database_that_does_not_answer_is_told_at_once_in_its_own_words(words: tuple[str, ...]) -> None:
    environment = {**os.environ, "CAREHUB_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    done = subprocess.run(
        [sys.executable, "-m", "hub.cli", *words], capture_output=True, text=True, env=environment, timeout=20
    )
    assert done.returncode == 1
    assert "refused" in done.stderr and "carehub doctor" in done.stderr
    assert "pool" not in done.stderr
