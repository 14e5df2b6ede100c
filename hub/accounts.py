"""Accounts, sign-in, sessions, tokens and device keys.

Passwords are hashed with argon2id (parameters of the OWASP cheat sheet: 19 MiB, two passes), off the event loop and by
few threads, so that a flood of sign-ins costs little memory. An unknown user costs the same work as a wrong password.
"""

import asyncio
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import psycopg
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fhir.outcome import Refusal, refuse
from hub import audit
from hub.db import Database, Tx
from hub.identity import (
    DEVICE_PREFIX,
    OPERATOR,
    SESSION_COOKIE,
    TOKEN_PREFIX,
    Actor,
    account_actor,
    fingerprint,
    new_secret,
)
from hub.roles import ROLES, SYSTEM_ROLES

FAILURES_ALLOWED = 10
LOCKED_FOR = timedelta(minutes=15)
SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 1024  # argon2 reads all of it

LONGEST_OVERLAP = 168
"""Hours that an old key of a device may go on beside the new one."""
SANDBOX_LASTS = timedelta(days=30)

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="password")

WRONG = (
    "The username or password is wrong. After several wrong passwords an account is closed for 15 minutes: "
    "wait, or ask an administrator."
)


# -- accounts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    id: str
    username: str
    name: str
    role: str
    reference: str
    organisations: tuple[str, ...]
    hub_id: str | None
    demonstration: bool
    active: bool


async def hash_password(password: str) -> str:
    """The argon2 hash. Raises Refusal 422 for a password that nobody should use."""
    if len(password) > LONGEST_PASSWORD:
        raise refuse(422, "too-long", f"A password has at most {LONGEST_PASSWORD} characters.")
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


async def create_account(
    tx: Tx,
    username: str,
    password: str,
    name: str,
    role: str,
    reference: str,
    organisations: Sequence[str] = (),
    hub_id: str | None = None,
    *,
    demonstration: bool = False,
    by: Actor = OPERATOR,
) -> str:
    """Make an account and give its id. Raises Refusal 422 (role, password) or 409 (the username is taken).

    *reference* is the FHIR resource the person is (`Practitioner/x`, `Patient/x`, `RelatedPerson/x`), *organisations*
    those they work for (`Organization/x`). Demonstration accounts may have short passwords: `serve` refuses to start
    where they can sign in.
    """
    if role not in ROLES or role in SYSTEM_ROLES:
        raise refuse(422, "value", f"There is no role {role!r}. Roles: {', '.join(sorted(set(ROLES) - SYSTEM_ROLES))}.")
    if not demonstration and len(password) < SHORTEST_PASSWORD:
        raise refuse(422, "value", f"A password has at least {SHORTEST_PASSWORD} characters.")
    (account_id,) = await create_accounts(
        tx,
        [NewAccount(username, name, role, reference, tuple(organisations), hub_id, await hash_password(password))],
        demonstration=demonstration,
        by=by,
    )
    return account_id


@dataclass(frozen=True, slots=True)
class NewAccount:
    username: str
    name: str
    role: str
    reference: str
    organisations: tuple[str, ...]
    hub_id: str | None
    password_hash: str


async def create_accounts(
    tx: Tx, new: Sequence[NewAccount], *, demonstration: bool = False, by: Actor = OPERATOR
) -> list[str]:
    """Make many accounts at once (demonstration people share a hash, so that making them takes no time).

    Raises Refusal 409 when a username is taken; the caller's transaction must then not be committed.
    """
    ids = [secrets.token_hex(8) for _ in new]
    cursor = tx.pg.cursor()
    await cursor.executemany(
        "INSERT INTO account (id, username, password_hash, name, role, reference, organisations, hub_id, demonstration)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (username) DO NOTHING",
        [
            (
                account_id,
                normalised(one.username),
                one.password_hash,
                one.name,
                one.role,
                one.reference,
                list(one.organisations),
                one.hub_id,
                demonstration,
            )
            for account_id, one in zip(ids, new, strict=True)
        ],
    )
    if cursor.rowcount != len(new):
        raise refuse(409, "duplicate", "This username is taken.")
    detail = [{"account": account_id, "role": one.role} for account_id, one in zip(ids, new, strict=True)]
    await audit.record(tx.pg, [audit.entry(by, "account-made", detail=one) for one in detail])
    return ids


async def list_accounts(pg: psycopg.AsyncConnection[Any]) -> list[Account]:
    rows = await pg.execute(
        "SELECT id, username, name, role, reference, organisations, hub_id, demonstration, active"
        " FROM account ORDER BY username"
    )
    return [replace(Account(*row), organisations=tuple(row[5])) for row in await rows.fetchall()]


async def close_account(tx: Tx, username: str, by: Actor = OPERATOR) -> None:
    """End an account, its sessions and its tokens at once. Raises Refusal 404."""
    row = await (
        await tx.pg.execute(
            "UPDATE account SET active = false WHERE username = %s RETURNING id", (normalised(username),)
        )
    ).fetchone()
    if row is None:
        raise refuse(404, "not-found", f"There is no account {username!r}.")
    await tx.pg.execute("DELETE FROM session WHERE account_id = %s", row)
    await tx.pg.execute("UPDATE credential SET revoked = now() WHERE account_id = %s AND revoked IS NULL", row)
    await audit.record(tx.pg, [audit.entry(by, "account-closed", detail={"account": row[0]})])


def normalised(username: str) -> str:
    return username.strip().casefold()


# -- sign-in and sessions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`secret` goes into the cookie and is kept nowhere else."""

    actor: Actor
    secret: str
    expires: datetime


_ATTEMPT = """
UPDATE account SET
    failures = CASE WHEN locked_until IS NULL THEN failures + 1 ELSE 1 END,
    locked_until = CASE WHEN locked_until IS NULL AND failures + 1 >= %(allowed)s THEN %(now)s + %(locked_for)s END
WHERE username = %(username)s AND active AND (locked_until IS NULL OR locked_until <= %(now)s)
RETURNING id, password_hash, name, role, reference, organisations, hub_id, demonstration
"""


async def sign_in(
    database: Database,
    username: str,
    password: str,
    *,
    hours: int,
    demonstration: bool,
    previous: str | None = None,
    now: datetime | None = None,
) -> SignedIn:
    """A new session after the right password. Raises Refusal 401 with the same words whatever was wrong.

    The attempt is counted before the password is looked at, so guesses made at the same time count as well. *previous*
    is the session cookie that came with the request: it is ended, so nobody can plant a session and wait for its owner
    to sign in to it. *demonstration*: whether demonstration accounts may sign in here.
    """
    now = now or datetime.now(UTC)
    values = {
        "username": normalised(username),
        "allowed": FAILURES_ALLOWED,
        "locked_for": LOCKED_FOR,
        "now": now,
    }
    async with database.transaction() as tx:
        row = await (await tx.pg.execute(_ATTEMPT, values)).fetchone()
    if row is not None and row[7] and not demonstration:
        row = None
    right, better_hash = await _check(row[1] if row else None, password)
    if row is None or not right:
        async with database.transaction() as tx:
            known = row[4] if row else "unknown"
            role = row[3] if row else "unknown"
            await audit.record(tx.pg, [audit.Entry(known, role, "sign-in", outcome="refused", at=now)])
        raise Refusal(401, refuse(401, "login", WRONG).issues)
    account_id, _, name, role, reference, organisations, hub_id, _ = row
    secret, csrf, expires = new_secret(), secrets.token_urlsafe(32), now + timedelta(hours=hours)
    async with database.transaction() as tx:
        await tx.pg.execute(
            "UPDATE account SET failures = 0, locked_until = NULL, password_hash = coalesce(%s, password_hash)"
            " WHERE id = %s",
            (better_hash, account_id),
        )
        await tx.pg.execute(
            "DELETE FROM session WHERE hash = %s OR (account_id = %s AND expires <= %s)",
            (fingerprint(previous or ""), account_id, now),
        )
        await tx.pg.execute(
            "INSERT INTO session (hash, account_id, csrf, created, expires) VALUES (%s, %s, %s, %s, %s)",
            (fingerprint(secret), account_id, csrf, now, expires),
        )
        await audit.record(tx.pg, [audit.Entry(reference, role, "sign-in", at=now)])
    actor = account_actor(account_id, name, role, reference, organisations, hub_id, csrf)
    return SignedIn(actor, secret, expires)


async def sign_out(database: Database, actor: Actor, secret: str) -> None:
    """End the session of this cookie."""
    async with database.transaction() as tx:
        await tx.pg.execute("DELETE FROM session WHERE hash = %s", (fingerprint(secret),))
        await audit.record(tx.pg, [audit.entry(actor, "sign-out")])


def cookie(secret: str, hours: int, *, secure: bool) -> dict[str, Any]:
    """Arguments of `response.set_cookie`. *secure*: the hub is reached over https."""
    return {
        "key": SESSION_COOKIE,
        "value": secret,
        "max_age": hours * 3600,
        "path": "/",
        "httponly": True,
        "samesite": "lax",
        "secure": secure,
    }


# Compared with when there is no such account, so that its absence cannot be told by the clock.
@cache
def _nobody() -> str:
    return _hasher.hash(secrets.token_urlsafe(16))


async def _check(password_hash: str | None, password: str) -> tuple[bool, str | None]:
    return await asyncio.get_running_loop().run_in_executor(_threads, _compare, password_hash, password)


def _compare(password_hash: str | None, password: str) -> tuple[bool, str | None]:
    """Whether the password is right, and a new hash when the old one was made with weaker parameters."""
    if len(password) > LONGEST_PASSWORD:
        password_hash, password = None, ""
    try:
        _hasher.verify(password_hash or _nobody(), password)
    except (VerificationError, InvalidHashError):
        return False, None
    if password_hash is None:
        return False, None
    return True, _hasher.hash(password) if _hasher.check_needs_rehash(password_hash) else None


# -- tokens and device keys --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credential:
    """A token or key as lists show it: `id` is the beginning of its fingerprint, never of the secret."""

    id: str
    kind: str
    owner: str
    label: str
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    sandbox: bool
    used: datetime | None


async def issue_token(
    tx: Tx, username: str, label: str, valid_for: timedelta | None = None, by: Actor = OPERATOR
) -> str:
    """A bearer token that acts as this account; shown once. Raises Refusal 404."""
    row = await (
        await tx.pg.execute("SELECT id FROM account WHERE username = %s AND active", (normalised(username),))
    ).fetchone()
    if row is None:
        raise refuse(404, "not-found", f"There is no account {username!r}.")
    return await _issue(tx, TOKEN_PREFIX, "token", row[0], None, label, valid_for, by)


async def issue_scoped(tx: Tx, actor: Actor, scope: str, valid_for: timedelta) -> str:
    """A token that acts as *actor*, within *scope*. Those that have run out a day ago are removed on the way: the
    audit trail keeps that they were."""
    await tx.pg.execute("DELETE FROM credential WHERE scope IS NOT NULL AND expires < now() - interval '1 day'")
    return await _issue(tx, TOKEN_PREFIX, "token", actor.id, None, "SMART", valid_for, actor, scope)


async def issue_device_key(
    tx: Tx,
    device_id: str,
    label: str = "key",
    valid_for: timedelta | None = None,
    by: Actor = OPERATOR,
    *,
    sandbox: bool = False,
) -> str:
    """A further key of a device, valid beside those it has; shown once. Raises Refusal 404.

    What a *sandbox* key sends is a test reading, whoever it is about: no rule ever looks at it.
    """
    if await (await tx.pg.execute("SELECT 1 FROM device WHERE id = %s", (device_id,))).fetchone() is None:
        raise refuse(404, "not-found", f"There is no device {device_id!r}.")
    return await _issue(tx, DEVICE_PREFIX, "device", None, device_id, label, valid_for, by, sandbox=sandbox)


async def rotate_device_key(
    tx: Tx, device_id: str, label: str = "key", by: Actor = OPERATOR, overlap_hours: float = 0
) -> str:
    """A new key; every other key of the device but its sandbox keys ends now, or after *overlap_hours* (a week at
    most), so that the device can be set up meanwhile."""
    if not 0 <= overlap_hours <= LONGEST_OVERLAP:
        raise refuse(422, "value", f"Keys overlap by 0 to {LONGEST_OVERLAP} hours.")
    if overlap_hours:
        ending = await tx.pg.execute(
            "UPDATE credential SET expires = now() + %s WHERE device_id = %s AND revoked IS NULL AND NOT sandbox"
            " AND (expires IS NULL OR expires > now() + %s)",
            (timedelta(hours=overlap_hours), device_id, timedelta(hours=overlap_hours)),
        )
        detail = {"of": device_id, "keys": ending.rowcount, "hours": overlap_hours}
        await audit.record(tx.pg, [audit.entry(by, "key-ending", detail=detail)])
    else:
        await _revoke(tx, "NOT sandbox AND device_id = %s", device_id, by)
    return await issue_device_key(tx, device_id, label, by=by)


async def revoke_device_keys(tx: Tx, device_id: str, by: Actor = OPERATOR) -> int:
    """End every key of a device. Gives how many were ended."""
    return await _revoke(tx, "device_id = %s", device_id, by)


async def revoke(tx: Tx, credential_id: str, by: Actor = OPERATOR) -> int:
    """End the token or key that lists show as *credential_id*."""
    return await _revoke(tx, "left(encode(hash, 'hex'), 12) = %s", credential_id, by)


async def list_credentials(pg: psycopg.AsyncConnection[Any], device_id: str | None = None) -> list[Credential]:
    """Tokens and keys, newest first; those of one device when it is given."""
    rows = await pg.execute(
        "SELECT left(encode(credential.hash, 'hex'), 12), kind,"
        " coalesce('Device/' || device_id, account.username, 'unknown'), label, credential.created, expires, revoked,"
        " sandbox, used"
        " FROM credential LEFT JOIN account ON account.id = credential.account_id"
        " WHERE %(device)s::text IS NULL OR device_id = %(device)s ORDER BY credential.created DESC",
        {"device": device_id},
    )
    return [Credential(*row) for row in await rows.fetchall()]


async def _issue(
    tx: Tx,
    prefix: str,
    kind: str,
    account_id: str | None,
    device_id: str | None,
    label: str,
    valid_for: timedelta | None,
    by: Actor,
    scope: str | None = None,
    sandbox: bool = False,
) -> str:
    secret = new_secret(prefix)
    await tx.pg.execute(
        "INSERT INTO credential (hash, kind, account_id, device_id, label, scope, expires, sandbox)"
        " VALUES (%s, %s, %s, %s, %s, %s, now() + %s, %s)",
        (fingerprint(secret), kind, account_id, device_id, label, scope, valid_for, sandbox),
    )
    about: dict[str, Any] = {"account": account_id} if account_id else {"device": device_id}
    if scope is not None:
        about["scope"] = scope
    await audit.record(tx.pg, [audit.entry(by, f"{kind}-key-issued", detail={**about, "key": _shown(secret)})])
    return secret


def _shown(secret: str) -> str:
    return fingerprint(secret).hex()[:12]


async def _revoke(tx: Tx, condition: str, value: str, by: Actor) -> int:
    ended = await tx.pg.execute(
        f"UPDATE credential SET revoked = now() WHERE revoked IS NULL AND {condition}", (value,)
    )
    if ended.rowcount:
        await audit.record(tx.pg, [audit.entry(by, "key-ended", detail={"of": value, "keys": ended.rowcount})])
    return ended.rowcount
